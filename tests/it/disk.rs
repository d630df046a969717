//! A small file system in a file, for tests that fill it, let it fail, or cut its power. It takes root and loop devices;
//! where they are not there, a test says so aloud and shows nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::binary::{quick_folder, say_aloud};

const BYTES: u64 = 48 << 20;

/// What is on the disk below an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// As most disks are. A commit of the journal takes along whatever was created before it, names and sizes, synced or
    /// not; data that were not synced are not ordered before it (`data=writeback`).
    Metadata,
    /// None: what was synced by its own fsync is there, a name by that of its folder, and nothing else for certain.
    None,
}

/// An image that is mounted; dropping it takes it down.
pub struct Disk {
    image: PathBuf,
    device: String,
    journal: Journal,
    /// Where it is mounted.
    pub root: PathBuf,
    _folder: Folder,
}

impl Disk {
    /// Makes a disk and mounts it; `None` where this machine cannot, which is said aloud.
    pub fn try_new(journal: Journal, test: &str) -> Option<Self> {
        Self::or_say(may_mount().and_then(|()| Self::make(journal, Folder::new())), test)
    }

    /// A disk that says it is larger than it is: what lies below it takes `bytes`, and then no more. A write that the kernel
    /// took fails when it is sent to the disk.
    pub fn try_overcommitted(bytes: u64, test: &str) -> Option<Self> {
        let made = may_mount().and_then(|()| Folder::limited(bytes));
        Self::or_say(made.and_then(|folder| Self::make(Journal::Metadata, folder)), test)
    }

    fn or_say(made: Result<Self, String>, test: &str) -> Option<Self> {
        made.inspect_err(|reason| say_aloud(&format!("SKIPPED {test}: {reason}"))).ok()
    }

    fn make(journal: Journal, folder: Folder) -> Result<Self, String> {
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(BYTES)).map_err(|error| error.to_string())?;
        let features = match journal {
            Journal::Metadata => "has_journal",
            Journal::None => "^has_journal",
        };
        let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run("mkfs.ext4", &["-q", "-F", "-b", "1024", "-O", features, "-E", lazy, image.to_str().unwrap()])?;
        Self::mount(folder, image, journal)
    }

    fn mount(folder: Folder, image: PathBuf, journal: Journal) -> Result<Self, String> {
        let root = folder.path().join("root");
        fs::create_dir(&root).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", image.to_str().unwrap()])?.trim().to_owned();
        let disk = Self { image, device, journal, root, _folder: folder };
        disk.attach("rw")?;
        Ok(disk)
    }

    /// Mounts it, `rw` or `ro`.
    pub fn attach(&self, how: &str) -> Result<(), String> {
        // Nothing goes to the disk by itself while a test runs: neither the journal nor a renamed file's data.
        let options = match self.journal {
            Journal::Metadata => "data=writeback,noauto_da_alloc,commit=600,errors=remount-ro",
            Journal::None => "errors=remount-ro",
        };
        let options = format!("{how},{options}");
        run("mount", &["-t", "ext4", "-o", &options, &self.device, self.root.to_str().unwrap()]).map(drop)
    }

    pub fn detach(&self) -> Result<(), String> {
        run("umount", &[self.root.to_str().unwrap()]).map(drop)
    }

    /// What would be on this disk if its power went now: a disk of its own, repaired as a system repairs it at its start.
    /// Nobody may write to this one meanwhile.
    pub fn after_power_cut(&self) -> Result<Self, String> {
        let folder = Folder::new();
        let image = folder.path().join("image");
        // What the kernel has sent to the device is in the image; what it holds back is not. The copy is of one moment if
        // nothing was sent while it was made.
        loop {
            let before = self.writes();
            run("cp", &["--sparse=always", self.image.to_str().unwrap(), image.to_str().unwrap()])?;
            if before == self.writes() && before.in_flight == 0 {
                break;
            }
        }
        if self.journal == Journal::None {
            // It corrects what it finds, which is an exit code of 1.
            let path = image.to_str().unwrap();
            let checked =
                Command::new("e2fsck").args(["-f", "-y", path]).output().map_err(|error| error.to_string())?;
            if checked.status.code().is_none_or(|code| code > 1) {
                return Err(format!("e2fsck: {}", String::from_utf8_lossy(&checked.stdout)));
            }
        }
        Self::mount(folder, image, self.journal)
    }

    /// Makes the file system as one that has found itself damaged: it is read-only until it is mounted anew.
    pub fn turn_read_only(&self) {
        let name = self.device.trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        OpenOptions::new().write(true).open(trigger).unwrap().write_all(b"a test").unwrap();
    }

    fn writes(&self) -> Writes {
        let name = self.device.trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        // The order of the fields is in the kernel's `Documentation/block/stat.rst`.
        let fields: Vec<u64> = stat.split_whitespace().map(|field| field.parse().unwrap()).collect();
        Writes { done: fields[4], sectors: fields[6], in_flight: fields[8] }
    }
}

/// What the kernel has sent to a device so far.
#[derive(PartialEq, Eq)]
struct Writes {
    done: u64,
    sectors: u64,
    in_flight: u64,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed may leave files open: they keep the file system until they are closed.
        let _ = Command::new("umount").args(["--lazy", self.root.to_str().unwrap()]).output();
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}

/// A folder for an image.
struct Folder {
    folder: tempfile::TempDir,
    /// Whether it is a file system of its own.
    mounted: bool,
}

impl Folder {
    fn new() -> Self {
        Self { folder: quick_folder(), mounted: false }
    }

    /// One that takes so many bytes.
    fn limited(bytes: u64) -> Result<Self, String> {
        let mut folder = Self { folder: tempfile::tempdir().unwrap(), mounted: false };
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", folder.path().to_str().unwrap()])?;
        folder.mounted = true;
        Ok(folder)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").args(["--lazy", self.path().to_str().unwrap()]).output();
        }
    }
}

fn may_mount() -> Result<(), String> {
    let user = run("id", &["-u"])?;
    if user.trim() == "0" { Ok(()) } else { Err("it mounts file systems, which takes root".to_owned()) }
}

/// Runs a command of the system to its end; what it says, or why it did not.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program} {}: {}", arguments.join(" "), text(&output.stderr).trim()))
    }
}
