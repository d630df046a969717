//! Where settings come from, which one wins, and what is said about one that is wrong.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{Config, SETTINGS, client::CLIENT_VARIABLES, settings::Form};
use crate::nearest::nearest;

/// The variable that names the TOML file; the flag is `--config`.
const FILE_VARIABLE: &str = "WATTLAKE_CONFIG";
/// Read when no file is named and this one is there.
const DEFAULT_FILE: &str = "wattlake.toml";
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A setting that cannot be used; the message says which, where it came from and what is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// What the process was given, before it is checked.
#[derive(Debug, Default)]
pub struct Sources {
    /// The `WATTLAKE_*` variables.
    pub variables: BTreeMap<String, String>,
    /// By key, not by the flag's name.
    pub flags: BTreeMap<&'static str, String>,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// What this command has in place of the table's default.
    pub defaults: BTreeMap<&'static str, &'static str>,
}

/// The settings, and where each came from.
#[derive(Debug)]
pub struct Effective {
    pub config: Config,
    values: BTreeMap<&'static str, (String, String)>,
}

/// The process's `WATTLAKE_*` variables. One whose value is not UTF-8 comes with what could be read of it.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with("WATTLAKE_"))
        .collect()
}

impl Sources {
    /// Merges the sources and checks every value.
    pub fn load(mut self) -> Result<Effective, ConfigError> {
        let mut found: BTreeMap<&'static str, (String, String)> = SETTINGS
            .iter()
            .map(|setting| {
                let default = self.defaults.get(setting.key).copied().unwrap_or(setting.default);
                (setting.key, (default.to_owned(), "default".to_owned()))
            })
            .collect();
        let named = self.file.take().or_else(|| self.variables.remove(FILE_VARIABLE).map(PathBuf::from));
        self.variables.remove(FILE_VARIABLE);
        self.variables.retain(|name, _| !CLIENT_VARIABLES.contains(&name.as_str()));
        let here = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file());
        if let Some(path) = named.or_else(here) {
            for (key, value) in read_file(&path)? {
                found.insert(key, (value, path.display().to_string()));
            }
        }
        for (variable, text) in self.variables {
            let setting = SETTINGS.iter().find(|setting| setting.variable == variable).ok_or_else(|| {
                let known = SETTINGS.iter().map(|setting| setting.variable.as_str());
                ConfigError(format!("there is no setting {variable}{}", did_you_mean(nearest(&variable, known))))
            })?;
            found.insert(setting.key, (text, variable));
        }
        for (key, value) in self.flags {
            found.insert(key, (value, format!("--{}", key.replace(['.', '_'], "-"))));
        }

        let mut config = Config::default();
        for setting in SETTINGS.iter() {
            let Some((value, source)) = found.get(setting.key) else { continue };
            (setting.apply)(&mut config, value).map_err(|message| {
                let value = if setting.secret { "its value".to_owned() } else { format!("{value:?}") };
                ConfigError(format!("{} cannot be {value} (from {source}): {message}", setting.key))
            })?;
        }
        Ok(Effective { config, values: found })
    }
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!("; did you mean {name}?"))
}

fn read_file(path: &Path) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| ConfigError(format!("cannot read the settings file {shown}: {error}"));
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ConfigError(format!("the settings file {shown} has {bytes} bytes; {MAX_FILE_BYTES} is the most")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let table: toml::Table =
        text.parse().map_err(|error| ConfigError(format!("the settings file {shown} is not TOML\n{error}")))?;
    let mut found = Vec::new();
    flatten("", &table, &mut found).map_err(|message| ConfigError(format!("{shown}: {message}")))?;
    Ok(found)
}

/// Turns tables into dotted keys, and values into the texts that variables and flags have.
fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<(&'static str, String)>) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let toml::Value::Table(inner) = value
            && SETTINGS.iter().any(|setting| setting.key.starts_with(&format!("{key}.")))
        {
            flatten(&key, inner, into)?;
            continue;
        }
        let setting = SETTINGS.iter().find(|setting| setting.key == key).ok_or_else(|| {
            let meant = nearest(&key, SETTINGS.iter().map(|setting| setting.key));
            format!("there is no setting {key}{}", did_you_mean(meant))
        })?;
        let text = match (value, setting.form) {
            (toml::Value::String(text), Form::Text | Form::Size) => text.clone(),
            (toml::Value::Integer(number), Form::Number | Form::Size) => number.to_string(),
            (toml::Value::Boolean(flag), Form::Flag) => flag.to_string(),
            (toml::Value::Array(items), Form::List) => {
                let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                texts.ok_or_else(|| format!("{key} is a list of texts"))?.join(",")
            }
            (_, Form::Text) => return Err(format!("{key} is a text, in quotes")),
            (_, Form::Number) => return Err(format!("{key} is a whole number, without quotes")),
            (_, Form::Flag) => return Err(format!("{key} is true or false, without quotes")),
            (_, Form::Size) => return Err(format!("{key} is a number of bytes, or a text such as \"2GiB\"")),
            (_, Form::List) => return Err(format!("{key} is a list of texts, such as [\"https://example.org\"]")),
        };
        into.push((setting.key, text));
    }
    Ok(())
}

impl Effective {
    /// The settings as a TOML file that gives the same settings, each with what it is and where it came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS.iter() {
            let (table, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if table != section {
                let _ = writeln!(out, "\n[{table}]");
                section = table;
            }
            let Some((value, source)) = self.values.get(setting.key) else { continue };
            let value = match setting.form {
                _ if setting.secret => "\"(hidden)\"".to_owned(),
                Form::Number | Form::Flag => value.clone(),
                Form::Size if value.bytes().all(|byte| byte.is_ascii_digit()) => value.clone(),
                Form::Text | Form::Size => toml::Value::from(value.as_str()).to_string(),
                Form::List => {
                    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
                    toml::Value::Array(items.map(toml::Value::from).collect()).to_string()
                }
            };
            let _ = writeln!(out, "# {}\n{name} = {value} # from: {source}", setting.doc);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let file =
            file("listen = \"f:1\"\n[http]\nmax_connections = 11\nheader_timeout_s = 21\nbody_idle_timeout_s = 31");
        let sources = Sources {
            variables: variables(&[
                ("WATTLAKE_HTTP_HEADER_TIMEOUT_S", "22"),
                ("WATTLAKE_HTTP_BODY_IDLE_TIMEOUT_S", "32"),
            ]),
            flags: BTreeMap::from([("http.body_idle_timeout_s", "33".to_owned())]),
            file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        let config = sources.load().unwrap().config;
        assert_eq!(config.listen, "f:1");
        assert_eq!(config.http.max_connections, 11);
        assert_eq!(config.http.header_timeout.as_secs(), 22);
        assert_eq!(config.http.body_idle_timeout.as_secs(), 33);
        assert_eq!(config.http.request_timeout.as_secs(), 60);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_right_one() {
        let wrong = |variables, file: Option<&tempfile::NamedTempFile>| {
            let file = file.map(|file| file.path().to_owned());
            Sources { variables, file, ..Sources::default() }.load().unwrap_err().to_string()
        };
        let message = wrong(variables(&[("WATTLAKE_HTTP_HEADERS_TIMEOUT", "1")]), None);
        assert!(message.ends_with("did you mean WATTLAKE_HTTP_HEADER_TIMEOUT_S?"), "{message}");
        let clients = variables(&[("WATTLAKE_SERVER", "http://a"), ("WATTLAKE_KEY", "wl_a")]);
        assert!(Sources { variables: clients, ..Sources::default() }.load().is_ok(), "a client's are no settings");
        let message = wrong(BTreeMap::new(), Some(&file("[upload]\nmax_byte = 1")));
        assert!(message.ends_with("there is no setting upload.max_byte; did you mean upload.max_bytes?"), "{message}");
        let message = wrong(BTreeMap::new(), Some(&file("listen = [")));
        assert!(message.contains("is not TOML") && message.contains("line 1"), "{message}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_source_and_what_is_allowed() {
        let sources = Sources { variables: variables(&[("WATTLAKE_UPLOAD_MAX_BYTES", "2GB")]), ..Sources::default() };
        let message = sources.load().unwrap_err().to_string();
        assert!(
            message.starts_with("upload.max_bytes cannot be \"2GB\" (from WATTLAKE_UPLOAD_MAX_BYTES)"),
            "{message}"
        );
        assert!(message.contains("2GiB"), "{message}");
    }

    #[test]
    fn what_is_printed_gives_the_same_settings_again() {
        let flags = BTreeMap::from([("http.cors_origins", "https://a.org,https://b.org".to_owned())]);
        let printed = Sources { flags, ..Sources::default() }.load().unwrap().to_toml();
        assert!(printed.contains("# from: --http-cors-origins"), "{printed}");
        let file = file(&printed);
        let again = Sources { file: Some(file.path().to_owned()), ..Sources::default() }.load().unwrap();
        assert_eq!(again.config.http.cors_origins, ["https://a.org", "https://b.org"]);
        assert_eq!(again.config.upload.max_bytes, 2 << 30);
    }
}
