//! The corpus as tests read it: those of the guard and the planner, and those that ask a server.

use std::{fs, path::Path};

/// A statement of the corpus, and what is to come of it.
#[derive(Clone, Debug)]
pub(crate) struct Hostile {
    /// Its file and line.
    pub(crate) at: String,
    pub(crate) sql: String,
    pub(crate) outcome: String,
}

/// Every statement of `tests/hostile_sql/`, whose README says how they are written.
pub(crate) fn hostile() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile_sql");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut statements = Vec::new();
    for path in files {
        let (text, name) =
            (fs::read_to_string(&path).unwrap(), path.file_name().unwrap().to_string_lossy().into_owned());
        let mut outcome = String::new();
        for (index, line) in text.lines().enumerate() {
            if let Some(next) = line.strip_prefix("--> ") {
                next.clone_into(&mut outcome);
            } else if !line.is_empty() && !line.starts_with("# ") {
                let at = format!("{name}:{}", index + 1);
                statements.push(Hostile { at, sql: written_out(line), outcome: outcome.clone() });
            }
        }
    }
    statements
}

/// A line of the corpus as the statement that it stands for.
fn written_out(line: &str) -> String {
    let mut sql = String::new();
    let mut parts = line.split('⟦');
    sql.push_str(parts.next().unwrap());
    for part in parts {
        let (inner, rest) = part.split_once('⟧').unwrap();
        if let Some(code) = inner.strip_prefix("U+") {
            sql.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        } else {
            let (times, text) = inner.split_once('×').unwrap();
            sql.push_str(&text.repeat(times.parse().unwrap()));
        }
        sql.push_str(rest);
    }
    sql.replace('⏎', "\n")
}
