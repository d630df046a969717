//! Local writes that survive a power cut: the bytes reach the disk before their name does, and the name before we say so.
//!
//! `object_store` never calls fsync, so every local write of the lake and the uploads goes through this module: file fsync,
//! then rename or link, then directory fsync.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use fail::fail_point;

/// Makes `dir` and its missing parents, each entry on disk.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = parent_of(dir) {
        create_dir_all(parent)?;
    }
    crate::failpoints::pass("durable::create_dir")?;
    match fs::create_dir(dir) {
        // Another thread was faster; its entry is as good as ours.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    sync_parent(dir)
}

/// Puts what was written to a file on disk.
pub fn sync(file: &File) -> io::Result<()> {
    fail_point!("durable::sync", crate::failpoints::outcome);
    file.sync_all()
}

/// Puts the entries of a folder on disk.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fail_point!("durable::sync_dir", crate::failpoints::outcome);
    File::open(dir)?.sync_all()
}

/// Gives the file `from` the further name `to`, on disk. An existing `to` is an error of kind `AlreadyExists`.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = parent_of(to) {
        create_dir_all(parent)?;
    }
    crate::failpoints::pass("durable::link")?;
    fs::hard_link(from, to)?;
    or_unnamed(to, sync_parent(to))
}

/// Moves a file or folder whose content is already on disk, replacing a file of that name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = parent_of(to) {
        create_dir_all(parent)?;
    }
    crate::failpoints::pass("durable::rename")?;
    fs::rename(from, to)?;
    sync_parent(to)?;
    sync_parent(from)
}

/// Writes `to` whole or not at all. With `replace` it takes the place of an existing file; without, an existing file is
/// an error of kind `AlreadyExists` and stays as it is.
pub fn write(to: &Path, parts: impl IntoIterator<Item = impl AsRef<[u8]>>, replace: bool) -> io::Result<()> {
    write_as(OpenOptions::new().write(true).create_new(true), to, parts, replace)
}

/// Writes a new file `to` that nobody but its owner can read, whole or not at all.
pub fn write_secret(to: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_as(&options, to, [text], false)
}

fn write_as(
    options: &OpenOptions,
    to: &Path,
    parts: impl IntoIterator<Item = impl AsRef<[u8]>>,
    replace: bool,
) -> io::Result<()> {
    let dir = parent_of(to).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no parent"))?;
    create_dir_all(dir)?;
    crate::failpoints::pass("durable::write")?;
    let temporary = Temporary(dir.join(format!(".{}.tmp", uuid::Uuid::now_v7().simple())));
    let mut file = options.open(&temporary.0)?;
    for part in parts {
        file.write_all(part.as_ref())?;
    }
    sync(&file)?;
    crate::failpoints::pass("durable::write::written")?;
    if replace {
        fs::rename(&temporary.0, to)?;
    } else {
        fs::hard_link(&temporary.0, to)?;
    }
    let synced = crate::failpoints::pass("durable::write::named").and_then(|()| sync_dir(dir));
    if replace { synced } else { or_unnamed(to, synced) }
}

/// Takes a new name away again that could not be put on disk: it would be taken for one that is.
fn or_unnamed(name: &Path, synced: io::Result<()>) -> io::Result<()> {
    synced.inspect_err(|_| {
        // Where even that fails, whoever opens the folder next has to tell what belongs there, as after a crash.
        let _ = fs::remove_file(name);
    })
}

/// A name that does not outlive the write, however it ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove, which is as good.
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    parent_of(path).map_or(Ok(()), sync_dir)
}

fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_write_without_replace_is_refused_and_leaves_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/one");
        write(&path, ["first"], false).unwrap();
        assert_eq!(write(&path, ["second"], false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write(&path, ["third"], true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "temporary names are gone");
    }
}
