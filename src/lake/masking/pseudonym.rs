//! Pseudonyms: for each value another text that is always the same, and that nobody without the secret can turn back.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringViewBuilder},
    datatypes::DataType,
};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use hmac::{Hmac, Mac, digest::InvalidLength};
use sha2::Sha256;

use crate::access::MaskKey;

/// What a value names. The same text has another pseudonym as the name of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Customer,
    Meter,
    Payment,
}

impl Kind {
    /// What pseudonyms of the kind begin with, so that nobody takes one for an ID of the file.
    fn prefix(self) -> &'static str {
        match self {
            Self::Customer => "cus_",
            Self::Meter => "met_",
            Self::Payment => "pay_",
        }
    }
}

/// The function that turns a text into its pseudonym, and null into null: the first 128 bits of the HMAC-SHA-256 (RFC 2104)
/// of kind and text, in hexadecimal.
pub(super) fn pseudonym(key: MaskKey, kind: Kind) -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Utf8View], Volatility::Immutable);
    Arc::new(ScalarUDF::from(Pseudonym { key, kind, signature }))
}

/// Two are equal where they make the same pseudonyms.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pseudonym {
    key: MaskKey,
    kind: Kind,
    signature: Signature,
}

impl Pseudonym {
    fn of_all(&self, texts: &ArrayRef) -> Result<ArrayRef, InvalidLength> {
        let texts = texts.as_string_view();
        let keyed = Hmac::<Sha256>::new_from_slice(&self.key.0)?;
        let mut known: HashMap<&str, String> = HashMap::new();
        let mut made = StringViewBuilder::with_capacity(texts.len()).with_deduplicate_strings();
        for text in texts {
            made.append_option(text.map(|text| known.entry(text).or_insert_with(|| self.of(&keyed, text)).as_str()));
        }
        Ok(Arc::new(made.finish()))
    }

    fn of(&self, keyed: &Hmac<Sha256>, text: &str) -> String {
        let mut keyed = keyed.clone();
        keyed.update(self.kind.prefix().as_bytes());
        keyed.update(text.as_bytes());
        format!("{}{}", self.kind.prefix(), hex::encode(&keyed.finalize().into_bytes()[..16]))
    }
}

impl ScalarUDFImpl for Pseudonym {
    fn name(&self) -> &'static str {
        "pseudonym"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&arguments.args)?;
        let made = texts.first().map(|texts| self.of_all(texts)).transpose();
        let made = made.map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
        made.map(ColumnarValue::Array)
            .ok_or_else(|| datafusion::common::internal_datafusion_err!("a pseudonym of nothing"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    fn made(key: u8, kind: Kind, texts: &[Option<&str>]) -> Vec<Option<String>> {
        let signature = Signature::exact(vec![DataType::Utf8View], Volatility::Immutable);
        let function = Pseudonym { key: MaskKey([key; 32]), kind, signature };
        let texts: ArrayRef = Arc::new(texts.iter().copied().collect::<StringViewArray>());
        let made = function.of_all(&texts).unwrap();
        made.as_string_view().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn a_pseudonym_is_the_hmac_of_the_value_and_differs_by_secret_and_kind() {
        let of_meters = made(7, Kind::Meter, &[Some("0042"), None, Some("43"), Some("0042")]);
        // python3 -c 'import hmac; print(hmac.new(b"\x07" * 32, b"met_0042", "sha256").hexdigest()[:32])'
        assert_eq!(of_meters[0].as_deref(), Some("met_d0a11e7aad09057f70da06842628b98a"));
        assert_eq!((&of_meters[0], &of_meters[1]), (&of_meters[3], &None));
        assert_ne!(of_meters[0], of_meters[2]);
        assert_ne!(made(8, Kind::Meter, &[Some("0042")])[0], of_meters[0]);
        let of_customer = made(7, Kind::Customer, &[Some("0042")])[0].clone().unwrap();
        assert_ne!(of_customer[4..], of_meters[0].as_ref().unwrap()[4..]);
    }
}
