//! What a command needs that asks a server: where the server is, and the key.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use url::Url;

use super::sources::ConfigError;

const SERVER_VARIABLE: &str = "WATTLAKE_SERVER";
const KEY_VARIABLE: &str = "WATTLAKE_KEY";
/// Variables that are no settings of a server: a server that finds them in its environment leaves them alone.
pub(super) const CLIENT_VARIABLES: [&str; 2] = [SERVER_VARIABLE, KEY_VARIABLE];

/// Where a server listens unless it is told otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// A key has 76 characters; what is larger is another file.
const MAX_KEY_FILE_BYTES: u64 = 4 << 10;

/// Where the server is, and the key that it is asked with. It has no `Debug`, so that a key is printed nowhere.
pub struct ClientConfig {
    /// `http` or `https`; it may have a path, behind a proxy.
    pub server: Url,
    pub key: Option<String>,
}

impl ClientConfig {
    /// The flags beat the variables.
    ///
    /// # Errors
    /// The server is no address, the key no key, or the file of the key cannot be read. No message has the key in it.
    pub fn load(
        variables: &BTreeMap<String, String>,
        server: Option<&str>,
        key: Option<&str>,
        key_file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let named = |flag: Option<&str>, name: &'static str, variable: &'static str| match flag {
            Some(text) => Some((text.to_owned(), name)),
            None => variables.get(variable).filter(|text| !text.is_empty()).map(|text| (text.clone(), variable)),
        };
        let server = match named(server, "--server", SERVER_VARIABLE) {
            Some((text, source)) => address(&text, source)?,
            None => address(DEFAULT_SERVER, "default")?,
        };
        let key = match key_file {
            Some(path) if key.is_none() => Some((read_key(path)?, "--key-file")),
            _ => named(key, "--key", KEY_VARIABLE),
        };
        let key = key.map(|(text, source)| checked_key(&text, source)).transpose()?;
        Ok(Self { server, key })
    }
}

fn address(text: &str, source: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && plain && url.query().is_none() && url.fragment().is_none()
    });
    url.ok_or_else(|| {
        // What is wrong may hold a password, so it is not quoted.
        ConfigError(format!(
            "the server ({source}) is no address such as http://127.0.0.1:8080 or https://wattlake.example.org"
        ))
    })
}

fn read_key(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text));
    read.map_err(|error| ConfigError(format!("cannot read the key from {}: {error}", path.display())))?;
    Ok(text)
}

fn checked_key(text: &str, source: &str) -> Result<String, ConfigError> {
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError(format!("the key ({source}) is no key; one looks like wl_… and has no space in it")));
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_beats_a_variable_and_without_either_there_is_a_server_and_no_key() {
        let none = ClientConfig::load(&variables(&[]), None, None, None).unwrap();
        assert_eq!((none.server.as_str(), none.key), ("http://127.0.0.1:8080/", None));
        let both = variables(&[(SERVER_VARIABLE, "http://v:1"), (KEY_VARIABLE, "wl_v\n")]);
        let from_variables = ClientConfig::load(&both, None, None, None).unwrap();
        assert_eq!((from_variables.server.as_str(), from_variables.key.as_deref()), ("http://v:1/", Some("wl_v")));
        let flags = ClientConfig::load(&both, Some("https://f/sub"), Some("wl_f"), None).unwrap();
        assert_eq!((flags.server.as_str(), flags.key.as_deref()), ("https://f/sub", Some("wl_f")));
    }

    #[test]
    fn a_key_comes_from_a_file_and_beats_the_variable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "wl_file\n").unwrap();
        let load = |path: &Path| ClientConfig::load(&variables(&[(KEY_VARIABLE, "wl_v")]), None, None, Some(path));
        assert_eq!(load(file.path()).unwrap().key.as_deref(), Some("wl_file"));
        let absent = load(Path::new("/nowhere/key")).err().unwrap().to_string();
        assert!(absent.starts_with("cannot read the key from /nowhere/key"), "{absent}");
    }

    #[test]
    fn what_is_no_address_or_no_key_is_refused_without_being_quoted() {
        for wrong in ["127.0.0.1:8080", "localhost:8080", "ftp://a", "http://me:secret@a", "http://a/?key=secret", "x"]
        {
            let error = ClientConfig::load(&variables(&[]), Some(wrong), None, None).err().unwrap().to_string();
            assert!(error.starts_with("the server (--server) is no address") && !error.contains("secret"), "{error}");
        }
        for wrong in ["", "wl_a secret", "wl_ä"] {
            let error = ClientConfig::load(&variables(&[]), None, Some(wrong), None).err().unwrap().to_string();
            assert!(error.starts_with("the key (--key) is no key") && !error.contains("secret"), "{error}");
        }
    }
}
