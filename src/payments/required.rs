//! What programmes ask of a file beyond what every file needs.
//! (domain: The file)

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::ids::ProgrammeSlug;

/// Programmes that an error names at most.
const MAX_NAMED: usize = 3;

/// A column that no file needs by itself, and that the files of a project need which takes part in programmes that ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredColumn {
    /// Its exact name.
    pub column: String,
    /// The programmes that ask for it, by slug; none where a person does who checks a file.
    pub programmes: Vec<ProgrammeSlug>,
}

impl RequiredColumn {
    /// Who asks for it, for an error: `the programme rural-light needs it`.
    pub(super) fn who(&self) -> String {
        let mut who = match self.programmes.as_slice() {
            [] => return "it is asked for".to_owned(),
            [only] => return format!("the programme {only} needs it"),
            several => {
                let named: Vec<&str> = several.iter().take(MAX_NAMED).map(ProgrammeSlug::as_str).collect();
                format!("the programmes {}", named.join(", "))
            }
        };
        if let more @ 1.. = self.programmes.len().saturating_sub(MAX_NAMED) {
            let _ = write!(who, " and {more} more");
        }
        who + " need it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_who_asks() {
        let who = |slugs: &[&str]| {
            let programmes = slugs.iter().map(|slug| slug.parse().unwrap()).collect();
            RequiredColumn { column: "NOTES".to_owned(), programmes }.who()
        };
        assert_eq!(who(&[]), "it is asked for");
        assert_eq!(who(&["a"]), "the programme a needs it");
        assert_eq!(who(&["a", "b"]), "the programmes a, b need it");
        assert_eq!(who(&["a", "b", "c", "d", "e"]), "the programmes a, b, c and 2 more need it");
    }
}
