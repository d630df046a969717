//! How a file of payments may be packed, and how that is told: by its name, and by its first bytes.

use super::definition::FILE_NAME;

/// Bytes of a packed file's start that tell how it is packed.
pub const MAGIC_BYTES: usize = 4;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame that holds no text, as some packers put before their first; its first byte is 0x50 to 0x5f (RFC 8878, 3.1.2).
const SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// How a file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    #[default]
    Plain,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
}

impl Packing {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Zstd];

    /// The one name that a file so packed has.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plain => FILE_NAME,
            Self::Gzip => "ELECTRICITY_PAYMENT.csv.gz",
            Self::Zstd => "ELECTRICITY_PAYMENT.csv.zst",
        }
    }

    /// What a file of that name is to be; none where it is not a name of a payment file.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|packing| packing.file_name() == name)
    }

    /// Why a file of another name is refused, for a person.
    #[must_use]
    pub fn wrong_name(name: &str) -> String {
        let [plain, gzip, zstd] = Self::ALL.map(Self::file_name);
        let shown: String = name.chars().take(100).collect();
        format!("the file is named {shown:?}; its name must be exactly {plain}, or packed {gzip} or {zstd}")
    }

    /// What its bytes are, in HTTP.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "text/csv; charset=utf-8",
            Self::Gzip => "application/gzip",
            Self::Zstd => "application/zstd",
        }
    }

    /// In a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain CSV",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What a file that starts with these bytes is packed with, if it is packed.
    #[must_use]
    pub fn of_content(start: &[u8]) -> Option<Self> {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|packing| start.len() >= packing.magic_length() && packing.begins(start))
    }

    /// Whether a file so packed can begin with `start`, which may be shorter than what tells.
    pub(super) fn begins(self, start: &[u8]) -> bool {
        let agrees = |magic: &[u8], start: &[u8]| magic.iter().zip(start).all(|(one, other)| one == other);
        match self {
            Self::Plain => true,
            Self::Gzip => agrees(&GZIP_MAGIC, start),
            Self::Zstd => {
                agrees(&ZSTD_MAGIC, start)
                    || matches!(start, [0x50..=0x5f, rest @ ..] if agrees(&SKIPPABLE_MAGIC, rest))
            }
        }
    }

    fn magic_length(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Gzip => GZIP_MAGIC.len(),
            Self::Zstd => ZSTD_MAGIC.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_its_file_is_packed_and_only_the_exact_names_do() {
        for packing in Packing::ALL {
            assert_eq!(Packing::of_file_name(packing.file_name()), Some(packing));
            assert!(packing.file_name().starts_with(FILE_NAME));
        }
        for other in ["", "electricity_payment.csv.gz", "ELECTRICITY_PAYMENT.csv.GZ", "ELECTRICITY_PAYMENT.gz"] {
            assert_eq!(Packing::of_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_bytes_of_a_packed_file_tell_its_packing() {
        assert_eq!(Packing::of_content(b"\x1f\x8b\x08\0"), Some(Packing::Gzip));
        assert_eq!(Packing::of_content(b"\x28\xb5\x2f\xfd"), Some(Packing::Zstd));
        assert_eq!(Packing::of_content(b"\x50\x2a\x4d\x18\0"), Some(Packing::Zstd));
        for other in [&b""[..], b"\x1f", b"\x28\xb5\x2f", b"TIMESTAMP", b"PK\x03\x04", b"P*M"] {
            assert_eq!(Packing::of_content(other), None, "{other:?}");
        }
        assert!(Packing::Gzip.begins(b"\x1f") && !Packing::Gzip.begins(b"T"));
        assert!(
            Packing::Zstd.begins(b"\x28\xb5") && Packing::Zstd.begins(b"\x5f\x2a") && !Packing::Zstd.begins(b"\x5fx")
        );
    }
}
