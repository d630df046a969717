//! `wattlake serve` as a process of its own, which a test may kill, hold still, and start again on the same folder.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use wattlake::catalog::{Catalog, KeyTerms};

use crate::harness::{Admin, NO_RATES, wattlake};

/// How long a server may take to listen, or to end, before a test gives up on it: far more than it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A data folder, and a key to it.
pub struct Site {
    pub data: PathBuf,
    pub key: String,
    /// For the servers' logs: not on the disk whose faults are tested.
    aside: tempfile::TempDir,
}

impl Site {
    /// Makes a data folder with a key, and no projects.
    pub async fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let catalog = Catalog::open(&data).await.unwrap();
        let key = catalog.create_key(KeyTerms::of_admin("test")).await.unwrap().secret;
        catalog.close().await;
        Self { data, key, aside: tempfile::tempdir().unwrap() }
    }

    /// A copy of the folder, under the same key.
    pub fn copied_to(&self, data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), key: self.key.clone(), aside: tempfile::tempdir().unwrap() }
    }

    /// Starts a server on the folder; `failpoints` is what the variable `FAILPOINTS` says. Where it does not come up, gives
    /// what it said.
    pub fn try_start(&self, failpoints: &str) -> Result<Running, String> {
        let log = self.aside.path().join("log");
        let data = self.data.to_str().unwrap();
        let mut command = wattlake(self.aside.path(), &["serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
        command.env("FAILPOINTS", failpoints).envs(NO_RATES).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let (tell, told) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = tell.send(lines.next().and_then(Result::ok));
            // The rest is read too, so that the server never waits for a reader.
            lines.for_each(drop);
        });
        let line = told.recv_timeout(PATIENCE).ok().flatten();
        let mut running = Running { child, address: String::new(), key: self.key.clone(), log };
        match line.as_deref().and_then(|line| line.strip_prefix("wattlake listens on ")) {
            Some(address) => {
                address.clone_into(&mut running.address);
                Ok(running)
            }
            None => Err(running.log()),
        }
    }

    #[track_caller]
    pub fn start(&self) -> Running {
        self.start_with("")
    }

    #[track_caller]
    pub fn start_with(&self, failpoints: &str) -> Running {
        self.try_start(failpoints).unwrap_or_else(|log| panic!("the server did not start: {log}"))
    }

    /// Starts a server and kills it a little later, wherever it is then.
    pub fn start_and_kill(&self, after: Duration) {
        let data = self.data.to_str().unwrap();
        let mut command = wattlake(self.aside.path(), &["serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
        let mut child = command.envs(NO_RATES).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// A server process; it is killed when it is dropped.
pub struct Running {
    child: Child,
    pub address: String,
    key: String,
    log: PathBuf,
}

impl Running {
    pub fn admin(&self) -> Admin<'_> {
        Admin::new(&self.address, &self.key)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// `kill -9`. It is gone when this returns.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// The signal that ended it, once it has ended.
    pub fn ended_by(&mut self) -> Option<i32> {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.signal();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// A folder in memory where there is such a place: for tests that are of processes, or of disks that they make themselves,
/// and not of the machine's own disk.
pub fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Says something that is seen although the test passes: `cargo test` shows no more of what a test prints.
pub fn say_aloud(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "\n{text}");
}

/// How many rounds a test is to go: `name` in the environment, which is `make`'s word to it, else `default`.
#[allow(clippy::disallowed_methods, reason = "the variable is make's word to a test, and no setting of Wattlake")]
pub fn rounds(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number: {text}")))
}

/// Chance, the same again for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// Files below `folder`, with what is in them.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
