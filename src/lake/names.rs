//! Names of the lake's files: `project_id=<slug>/month=<YYYY-MM>/<change>-<n>.parquet`. A name says which change wrote the
//! file, so that one that is left behind can be told from one that is needed.

use crate::ids::{ChangeId, Month, ProjectSlug};

const SUFFIX: &str = ".parquet";

/// Gives the files of one change their names, each a number of its own.
pub struct FileNames {
    change: ChangeId,
    given: usize,
}

impl FileNames {
    #[must_use]
    pub fn of(change: ChangeId) -> Self {
        Self { change, given: 0 }
    }

    /// The path of the next file, relative to the table's root.
    pub fn next(&mut self, project: &ProjectSlug, month: Month) -> String {
        let path = format!("{}{}-{}{SUFFIX}", folder(project, month), self.change, self.given);
        self.given += 1;
        path
    }
}

/// The folder of a partition, relative to the table's root, with a slash at its end.
fn folder(project: &ProjectSlug, month: Month) -> String {
    format!("project_id={project}/month={month}/")
}

/// The change that a file of the lake's folder was written for, or `None` where the name is not one of ours.
pub(super) fn change_of(file_name: &str) -> Option<ChangeId> {
    let (change, number) = file_name.strip_suffix(SUFFIX)?.split_once('-')?;
    number.parse::<usize>().ok()?;
    change.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_change_wrote_the_file() {
        let change = ChangeId::new();
        let mut names = FileNames::of(change.clone());
        let (project, month) = ("kitobo".parse().unwrap(), "2024-05".parse().unwrap());
        names.next(&project, month);
        let path = names.next(&project, month);
        let (folder, name) = path.rsplit_once('/').unwrap();
        assert_eq!(folder, "project_id=kitobo/month=2024-05");
        assert_eq!(change_of(name), Some(change));
        for foreign in ["part-0.parquet", "chg_1-0.parquet", &name[4..], &format!("{name}.tmp")] {
            assert_eq!(change_of(foreign), None, "{foreign}");
        }
    }
}
