//! Currency and country codes, checked once where they come in. Their errors say which code was likely meant.

use std::{fmt, str::FromStr};

use iso_country::Country;
use iso_currency::Currency;
use serde::Serialize;
use utoipa::ToSchema;

use crate::nearest::nearest;

/// Why a text is not a code; fit to be shown to the caller who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCode(pub String);

/// A currency in use, by its ISO 4217 code: `KES`. Funds, metals, test codes and superseded currencies are not money
/// that a household pays with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(into = "&'static str")]
#[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "KES")]
pub struct CurrencyCode(Currency);

/// How people write a currency who do not write its code.
const EVERYDAY_NAMES: [(&str, &str); 12] = [
    ("ksh", "KES"),
    ("kshs", "KES"),
    ("tsh", "TZS"),
    ("tshs", "TZS"),
    ("ush", "UGX"),
    ("ugs", "UGX"),
    ("naira", "NGN"),
    ("n", "NGN"),
    ("birr", "ETB"),
    ("cedi", "GHS"),
    ("kwacha", "ZMW"),
    ("cfa", "XOF"),
];

impl CurrencyCode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0.code()
    }

    fn in_use(code: &str) -> Option<Self> {
        Currency::from_code(code)
            .filter(|found| !found.is_fund() && !found.is_special() && found.is_superseded().is_none())
            .map(Self)
    }

    /// The code that was likely meant. The codes are found by trying all of three letters, because the list has no
    /// iterator; only errors pay for it.
    fn likely(text: &str) -> Option<&'static str> {
        let lower = text.to_lowercase();
        if let Some((_, code)) = EVERYDAY_NAMES.iter().find(|(name, _)| *name == lower) {
            return Some(code);
        }
        let letters = || b'A'..=b'Z';
        let codes = letters()
            .flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])))
            .filter_map(|code| std::str::from_utf8(&code).ok().and_then(Self::in_use))
            .map(Self::as_str)
            .collect::<Vec<_>>();
        nearest(text, codes)
    }
}

impl FromStr for CurrencyCode {
    type Err = InvalidCode;

    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        Self::in_use(text).ok_or_else(|| {
            let meant = Self::likely(text).map_or(String::new(), |code| format!("; did you mean {code}?"));
            InvalidCode(format!(
                "{text:?} is not an ISO 4217 code of a currency in use, such as KES, NGN or TZS{meant}"
            ))
        })
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<CurrencyCode> for &'static str {
    fn from(code: CurrencyCode) -> Self {
        code.as_str()
    }
}

/// A country by its ISO 3166-1 alpha-2 code: `KE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(into = "String")]
#[schema(value_type = String, pattern = "^[A-Z]{2}$", example = "KE")]
pub struct CountryCode(String);

impl CountryCode {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CountryCode {
    type Err = InvalidCode;

    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        if text.len() == 2 && text.parse::<Country>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let upper = text.to_uppercase();
        let meant = if upper.len() == 2 && upper.parse::<Country>().is_ok() {
            format!("; did you mean {upper}?")
        } else {
            String::new()
        };
        Err(InvalidCode(format!("{text:?} is not an ISO 3166-1 code of two letters, such as KE, NG or TZ{meant}")))
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CountryCode> for String {
    fn from(code: CountryCode) -> Self {
        code.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_everyday_name_leads_to_its_code() {
        let message = |text: &str| text.parse::<CurrencyCode>().unwrap_err().0;
        assert!(message("KSH").ends_with("did you mean KES?"), "{}", message("KSH"));
        assert!(message("Naira").ends_with("did you mean NGN?"));
        assert!(message("kes").ends_with("did you mean KES?"));
        assert!("KES".parse::<CurrencyCode>().is_ok());
    }

    #[test]
    fn what_nobody_pays_with_is_no_currency() {
        for code in ["XAU", "XXX", "XTS", "", "CHE"] {
            assert!(code.parse::<CurrencyCode>().is_err(), "{code}");
        }
    }

    #[test]
    fn a_country_is_two_capitals() {
        assert!("KE".parse::<CountryCode>().is_ok());
        assert!("SS".parse::<CountryCode>().is_ok());
        assert!("ke".parse::<CountryCode>().unwrap_err().0.ends_with("did you mean KE?"));
        for bad in ["", "KEN", "QQ"] {
            assert!(bad.parse::<CountryCode>().is_err(), "{bad}");
        }
    }
}
