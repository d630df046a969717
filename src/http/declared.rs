//! What an upload declares of the form of its file: a form or a plain body, its Content-Type, its Content-Encoding, its
//! name. A body of another type is refused before it is read, because it is certain not to be the file.

use axum::http::{HeaderMap, header};

use super::Problem;
use crate::{error::ErrorKind, payments::packing::Packing};

/// The types of a plain body that is taken for the file. The last is what curl says where nobody says anything.
const MEDIA_TYPES: [&str; 5] = [
    "text/csv",
    "application/octet-stream",
    "application/gzip",
    "application/zstd",
    "application/x-www-form-urlencoded",
];

/// The encodings of text in which every file of ASCII and of UTF-8 is right.
const CHARSETS: [&str; 2] = ["utf-8", "us-ascii"];

/// How a file comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    /// As a part of a form, which has a name and says no more.
    Form,
    Plain {
        /// Of the Content-Encoding, where there is one.
        coding: Option<Packing>,
        /// Of the Content-Type, where it tells.
        media: Option<Packing>,
    },
}

impl Declared {
    /// # Errors
    /// 415 for a body that cannot be the file, or is encoded in a way that is not read.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let coding = coding(headers)?;
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Plain { coding, media: None }) };
        let text = value.to_str().unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        if media_type == "multipart/form-data" {
            return match coding {
                None => Ok(Self::Form),
                Some(_) => Err(unsupported("a form is sent without a Content-Encoding; pack the file in it, by name")),
            };
        }
        if !MEDIA_TYPES.contains(&media_type.as_str()) {
            let shown: String = text.chars().take(100).collect();
            return Err(unsupported(format!(
                "the Content-Type is {shown:?}; send the file as text/csv, application/gzip, application/zstd or \
                 application/octet-stream, or in a form, as multipart/form-data"
            )));
        }
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        if let Some(charset) = charset.filter(|name| !CHARSETS.iter().any(|known| known.eq_ignore_ascii_case(name))) {
            let shown: String = charset.chars().take(100).collect();
            return Err(unsupported(format!("the charset is {shown:?}; save the file as \"CSV UTF-8\" and send that")));
        }
        let media = [Packing::Gzip, Packing::Zstd].into_iter().find(|packing| packing.media_type() == media_type);
        Ok(Self::Plain { coding, media })
    }

    /// The name of the file, which says how it is packed. A packed body is the file of that packing: what came is what is
    /// kept.
    ///
    /// # Errors
    /// 422 for a name that no payment file has; 415 for one that says another packing than the Content-Encoding.
    pub(super) fn file_name(self, given: Option<String>) -> Result<String, Problem> {
        let (coding, media) = match self {
            Self::Form => (None, None),
            Self::Plain { coding, media } => (coding, media),
        };
        let named = match given {
            None => coding.or(media).unwrap_or_default(),
            Some(name) => Packing::of_file_name(&name).ok_or_else(|| wrong_name(&name))?,
        };
        match coding {
            Some(coding) if named != coding && named != Packing::Plain => {
                let detail = format!(
                    "the file is named {} and its Content-Encoding is another; a file is packed once: leave the \
                     Content-Encoding out",
                    named.file_name()
                );
                Err(unsupported(detail))
            }
            _ => Ok(coding.unwrap_or(named).file_name().to_owned()),
        }
    }
}

/// The packing that the Content-Encoding of a body says.
fn coding(headers: &HeaderMap) -> Result<Option<Packing>, Problem> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let coding = match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "identity" => continue,
            "gzip" | "x-gzip" => Packing::Gzip,
            "zstd" => Packing::Zstd,
            _ => {
                return Err(unsupported("the Content-Encoding is to be gzip or zstd, or none: send the file as it is"));
            }
        };
        if found.replace(coding).is_some() {
            return Err(unsupported("the body has two Content-Encodings; a file is packed once"));
        }
    }
    Ok(found)
}

fn unsupported(detail: impl Into<String>) -> Problem {
    Problem::new(ErrorKind::UnsupportedType, "unsupported_type", detail)
}

fn wrong_name(name: &str) -> Problem {
    Problem::new(ErrorKind::Rejected, "wrong_file_name", Packing::wrong_name(name))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn declared(pairs: &[(HeaderName, &'static str)]) -> Result<Declared, String> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        Declared::of(&headers).map_err(|problem| format!("{problem:?}"))
    }

    fn of_type(media_type: &'static str) -> Result<Declared, String> {
        declared(&[(header::CONTENT_TYPE, media_type)])
    }

    fn name(declared: Declared, given: Option<&str>) -> Result<String, String> {
        declared.file_name(given.map(str::to_owned)).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_body_is_the_file_for_what_curl_and_others_say_of_a_file() {
        assert_eq!(declared(&[]), Ok(Declared::Plain { coding: None, media: None }));
        for media_type in MEDIA_TYPES {
            assert!(matches!(of_type(media_type), Ok(Declared::Plain { .. })), "{media_type}");
        }
        for utf8 in
            ["text/csv; charset=utf-8", "Text/CSV;header=present; Charset=\"UTF-8\"", "text/csv;charset=us-ascii"]
        {
            assert!(matches!(of_type(utf8), Ok(Declared::Plain { .. })), "{utf8}");
        }
        assert_eq!(of_type("Multipart/Form-Data; boundary=x"), Ok(Declared::Form));
    }

    #[test]
    fn a_body_of_another_type_is_refused_with_what_to_send() {
        for other in ["application/json", "text/plain", "text/csvx", "", "application/vnd.ms-excel"] {
            let problem = of_type(other).unwrap_err();
            assert!(problem.contains("415") && problem.contains("text/csv"), "{other}: {problem}");
        }
        for charset in ["text/csv; charset=iso-8859-1", "text/csv;charset=utf-16", "text/csv; charset="] {
            let problem = of_type(charset).unwrap_err();
            assert!(problem.contains("415") && problem.contains("CSV UTF-8"), "{charset}: {problem}");
        }
    }

    #[test]
    fn what_a_file_is_packed_with_is_said_by_its_name_or_its_coding_or_its_type() {
        let [plain, gzip, zstd] = Packing::ALL.map(|packing| Ok(packing.file_name().to_owned()));
        let of = |pairs: &[(HeaderName, &'static str)], given| name(declared(pairs).unwrap(), given);
        assert_eq!(of(&[], None), plain);
        assert_eq!(of(&[], Some("ELECTRICITY_PAYMENT.csv.zst")), zstd);
        assert_eq!(of(&[(header::CONTENT_TYPE, "application/gzip")], None), gzip);
        assert_eq!(of(&[(header::CONTENT_TYPE, "application/gzip")], Some("ELECTRICITY_PAYMENT.csv.zst")), zstd);
        for given in [None, Some("ELECTRICITY_PAYMENT.csv"), Some("ELECTRICITY_PAYMENT.csv.gz")] {
            assert_eq!(of(&[(header::CONTENT_ENCODING, "gzip")], given), gzip);
        }
        assert_eq!(of(&[(header::CONTENT_ENCODING, "identity"), (header::CONTENT_ENCODING, "zstd")], None), zstd);
        assert!(of(&[(header::CONTENT_ENCODING, "gzip")], Some("ELECTRICITY_PAYMENT.csv.zst")).is_err());
        let wrong = of(&[], Some("payments.csv.gz")).unwrap_err();
        assert!(wrong.contains("422") && wrong.contains("ELECTRICITY_PAYMENT.csv.gz"), "{wrong}");
    }

    #[test]
    fn other_codings_and_several_are_refused() {
        for coding in ["br", "deflate", "gzip, zstd", "gzip, gzip"] {
            assert!(declared(&[(header::CONTENT_ENCODING, coding)]).is_err(), "{coding}");
        }
        assert!(declared(&[(header::CONTENT_ENCODING, "gzip"), (header::CONTENT_ENCODING, "zstd")]).is_err());
        let form = (header::CONTENT_TYPE, "multipart/form-data; boundary=x");
        assert!(declared(&[form, (header::CONTENT_ENCODING, "gzip")]).is_err());
    }
}
