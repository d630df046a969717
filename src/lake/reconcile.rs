//! Opening the lake: the ledger, the log and the files are compared, and made to say the same.
//!
//! The ledger is written first, so it is what the others are measured by. An entry that the log lacks, because the process
//! ended between the two or because it was lost, is written again; one that says something else is set aside and written
//! again; what nobody wrote is set aside. A broken row of the ledger is mended from the log. A file of a partition that is
//! lost or altered cannot be mended here: its project is refused until it is made anew from the uploads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
};

use chrono::Utc;
use sha2::{Digest, Sha256};

use super::{
    Finding, LakeError, LakeFile, Snapshot, Verified,
    entry::{self, ReadEntry},
    log::{self, DeltaLog, LogFile},
    names,
    set_aside::SetAside,
};
use crate::{
    catalog::{Catalog, LedgerFile, LedgerVersion, Sealed},
    durable,
    ids::ChangeId,
};

/// Versions that are read from the ledger at a time.
const PAGE: u32 = 500;

/// The lake as it is after it was opened, and what was found on the way. All of it is mended, but findings that name a project.
pub(super) struct Opened {
    pub(super) snapshot: Snapshot,
    pub(super) findings: Vec<Finding>,
}

/// Looks at the lake, and mends it unless `look_only`.
pub(super) struct Reconcile<'a> {
    catalog: &'a Catalog,
    log: &'a DeltaLog,
    root: &'a Path,
    set_aside: SetAside,
    /// Say what is wrong, compare every entry of the log and not only those after its checkpoint, and change nothing.
    look_only: bool,
    findings: Vec<Finding>,
}

impl<'a> Reconcile<'a> {
    pub(super) fn of(catalog: &'a Catalog, log: &'a DeltaLog, root: &'a Path, look_only: bool) -> Self {
        Self { catalog, log, root, set_aside: SetAside::beside(root), look_only, findings: Vec::new() }
    }

    pub(super) async fn run(mut self) -> Result<Opened, LakeError> {
        if self.catalog.ledger_head().await?.is_none() {
            self.begin().await?;
        }
        let after_checkpoint = self.checkpoint().await?;
        let first = if self.look_only { 0 } else { after_checkpoint };
        let versions = self.versions(first).await?;
        let head =
            versions.keys().last().copied().ok_or_else(|| LakeError::Layout("the ledger is empty".to_owned()))?;
        self.log_folder(head, &versions).await?;
        let files = self.files(&versions[&head]).await?;
        let snapshot = snapshot_of(head, &files);
        self.partitions(&snapshot).await?;
        Ok(Opened { snapshot, findings: self.findings })
    }

    /// The first start: an empty table, and its entry in the ledger.
    async fn begin(&mut self) -> Result<(), LakeError> {
        let entry = match self.log.entry(0)? {
            None if self.look_only => return Err(LakeError::NoLedger),
            None => self.log.create().await?,
            // The process ended between the two steps. With more entries than that, it was not the first start.
            Some(entry) if self.log.entry(1)?.is_none() && !self.look_only => entry,
            Some(_) => return Err(LakeError::NoLedger),
        };
        let version = LedgerVersion {
            version: 0,
            change: ChangeId::new(),
            entry_sha256: Sha256::digest(&entry).into(),
            entry,
            files: 0,
            rows: 0,
            written_at: Utc::now(),
        };
        Ok(self.catalog.record_version(&version, &[], &[]).await?)
    }

    /// Compares the checkpoint, and gives the version to read the entries from. A checkpoint that is not right is taken away:
    /// the entries say all that it says.
    async fn checkpoint(&mut self) -> Result<u64, LakeError> {
        let known = self.catalog.ledger_checkpoint().await?;
        let newest = known.as_ref().map_or(0, |known| known.version);
        let (mut whole, mut unnoted) = (false, false);
        for (name, kind) in self.log.files()? {
            let path = self.log.folder().join(&name);
            match (kind, &known) {
                (LogFile::Checkpoint(version), Some(known)) if version == newest => {
                    let bytes = log::read(&path)?;
                    whole = bytes.is_some_and(|bytes| Sha256::digest(&bytes)[..] == known.sha256);
                    if !whole {
                        self.found(Finding::CheckpointAltered { name });
                        self.aside(&path)?;
                    }
                }
                // The process ended before it was noted. Earlier ones serve readers of earlier versions.
                (LogFile::Checkpoint(version), _) if version > newest || known.is_none() => {
                    unnoted = true;
                    self.remove(&path);
                }
                _ => {}
            }
        }
        let path = self.log.folder().join(log::POINTER);
        let pointer = log::read(&path)?;
        let right = known.as_ref().filter(|_| whole).map(|known| known.pointer.clone());
        if pointer != right {
            if !unnoted {
                self.found(Finding::CheckpointAltered { name: log::POINTER.to_owned() });
            }
            match right {
                Some(right) if !self.look_only => {
                    let failed = |source| LakeError::Io { what: format!("writing {}", path.display()), source };
                    durable::write(&path, [right], true).map_err(failed)?;
                }
                _ => self.remove(&path),
            }
        }
        if known.is_some() && !whole && !self.look_only {
            self.catalog.forget_checkpoint().await?;
        }
        Ok(if whole { newest } else { 0 })
    }

    /// The versions of the ledger from `first` on, its broken rows mended.
    async fn versions(&mut self, first: u64) -> Result<BTreeMap<u64, LedgerVersion>, LakeError> {
        let Sealed { whole, broken } = self.all_versions(first).await?;
        let mut versions: BTreeMap<u64, LedgerVersion> =
            whole.into_iter().map(|version| (version.version, version)).collect();
        let mut expected = first;
        let mut mended = 0;
        // Each broken row stands for one version that is missing, inside or at the end.
        while versions.range(expected..).next().is_some() || mended < broken.len() {
            if !versions.contains_key(&expected) {
                self.found(Finding::LedgerVersion { version: expected });
                let version = self.version_of_log(expected, versions.get(&expected.wrapping_sub(1))).await?;
                if !self.look_only {
                    self.catalog.mend_version(&version).await?;
                }
                versions.insert(expected, version);
                mended += 1;
            }
            expected += 1;
        }
        Ok(versions)
    }

    async fn all_versions(&self, first: u64) -> Result<Sealed<LedgerVersion>, LakeError> {
        let mut all = Sealed::default();
        let mut next = first;
        loop {
            let page = self.catalog.ledger_versions(next, PAGE).await?;
            let count = page.whole.len() + page.broken.len();
            next = page.whole.iter().map(|version| version.version + 1).max().unwrap_or(next);
            all.broken.extend(page.broken);
            all.whole.extend(page.whole);
            if count < PAGE as usize {
                return Ok(all);
            }
        }
    }

    /// A version as the log has it, for a ledger whose row is broken. Only where all that the entry adds is in the ledger's
    /// list of files too.
    async fn version_of_log(&self, version: u64, before: Option<&LedgerVersion>) -> Result<LedgerVersion, LakeError> {
        let lost = || LakeError::Lost { version };
        let bytes = self.log.entry(version)?.ok_or_else(lost)?;
        let ReadEntry { change, added, removed } = entry::read(version, &bytes).ok_or_else(lost)?;
        let (active, gone) = (self.catalog.active_files().await?, self.catalog.removed_files().await?);
        let known: HashMap<&str, &LedgerFile> =
            active.whole.iter().chain(&gone.whole).map(|file| (file.path.as_str(), file)).collect();
        let same = |added: &LedgerFile| {
            known
                .get(added.path.as_str())
                .is_none_or(|known| LedgerFile { removed: None, ..(*known).clone() } == *added)
        };
        if !added.iter().all(same) {
            return Err(lost());
        }
        let (files, rows) = before.map_or((0, 0), |before| (before.files, before.rows));
        let gone = |path: &String| known.get(path.as_str()).map_or(0, |file| file.rows);
        Ok(LedgerVersion {
            version,
            change: change.unwrap_or_default(),
            entry_sha256: Sha256::digest(&bytes).into(),
            entry: bytes,
            files: (files + added.len() as u64).saturating_sub(removed.len() as u64),
            rows: (rows + added.iter().map(|file| file.rows).sum::<u64>())
                .saturating_sub(removed.iter().map(gone).sum()),
            written_at: Utc::now(),
        })
    }

    /// Makes the log's folder hold what the ledger says.
    async fn log_folder(&mut self, head: u64, versions: &BTreeMap<u64, LedgerVersion>) -> Result<(), LakeError> {
        let mut there = BTreeSet::new();
        for (name, kind) in self.log.files()? {
            let path = self.log.folder().join(&name);
            match kind {
                LogFile::Entry(version) if version <= head => {
                    there.insert(version);
                }
                LogFile::Entry(_) | LogFile::Foreign => {
                    self.found(Finding::ForeignLogFile { name });
                    self.aside(&path)?;
                }
                // Half a write, of which nothing was promised.
                LogFile::Unfinished => self.remove(&path),
                LogFile::Checkpoint(_) | LogFile::Pointer => {}
            }
        }
        let missing: Vec<u64> = (0..=head).filter(|version| !there.contains(version)).collect();
        for version in missing {
            // The newest was not written where the process ended just before; that is no damage.
            if version != head {
                self.found(Finding::EntryMissing { version });
            }
            self.rewrite(version, versions).await?;
        }
        for (version, known) in versions {
            let bytes = self.log.entry(*version)?;
            if there.contains(version) && bytes.is_none_or(|bytes| Sha256::digest(&bytes)[..] != known.entry_sha256) {
                self.found(Finding::EntryAltered { version: *version });
                self.aside(&self.log.entry_path(*version))?;
                self.rewrite(*version, versions).await?;
            }
        }
        Ok(())
    }

    async fn rewrite(&self, version: u64, versions: &BTreeMap<u64, LedgerVersion>) -> Result<(), LakeError> {
        if self.look_only {
            return Ok(());
        }
        let known = if let Some(known) = versions.get(&version) {
            known.clone()
        } else {
            let page = self.catalog.ledger_versions(version, 1).await?;
            page.whole.into_iter().find(|known| known.version == version).ok_or(LakeError::Lost { version })?
        };
        tracing::warn!(version, "the lake's log gets an entry again, from the ledger");
        self.log.write(version, known.entry).await
    }

    /// The files of the newest version, the ledger's broken rows mended from the entries.
    async fn files(&mut self, head: &LedgerVersion) -> Result<Vec<LedgerFile>, LakeError> {
        let Sealed { whole, broken } = self.catalog.active_files().await?;
        let removed = self.catalog.removed_files().await?;
        let rows: u64 = whole.iter().map(|file| file.rows).sum();
        if broken.is_empty() && removed.broken.is_empty() && (whole.len() as u64, rows) == (head.files, head.rows) {
            return Ok(whole);
        }
        self.found(Finding::LedgerFiles { broken: [broken, removed.broken].concat() });
        let (active, removed) = self.files_of_entries().await?;
        if !self.look_only {
            self.catalog.mend_files(&[active.clone(), removed].concat()).await?;
            let rows = active.iter().map(|file| file.rows).sum();
            let head = LedgerVersion { files: active.len() as u64, rows, ..head.clone() };
            self.catalog.mend_version(&head).await?;
        }
        Ok(active)
    }

    /// What all entries together come to: the active files, and those that were removed and are still on the disk.
    async fn files_of_entries(&self) -> Result<(Vec<LedgerFile>, Vec<LedgerFile>), LakeError> {
        let mut active: BTreeMap<String, LedgerFile> = BTreeMap::new();
        let mut removed: BTreeMap<String, LedgerFile> = BTreeMap::new();
        for version in self.all_versions(0).await?.whole {
            let lost = LakeError::Lost { version: version.version };
            let entry = entry::read(version.version, &version.entry).ok_or(lost)?;
            for path in entry.removed {
                if let Some(file) = active.remove(&path) {
                    removed.insert(path, LedgerFile { removed: Some((version.version, version.written_at)), ..file });
                }
            }
            active.extend(entry.added.into_iter().map(|file| (file.path.clone(), file)));
        }
        let mut active: Vec<LedgerFile> = active.into_values().collect();
        active.sort_by(|a, b| {
            (&a.project, a.month, a.added_in, &a.path).cmp(&(&b.project, b.month, b.added_in, &b.path))
        });
        let removed = removed.into_values().filter(|file| self.root.join(&file.path).exists()).collect();
        Ok((active, removed))
    }

    /// Looks at what is in the folders of the partitions: files of the right size, and no others.
    async fn partitions(&mut self, snapshot: &Snapshot) -> Result<(), LakeError> {
        let mut known = HashSet::new();
        for file in snapshot.partitions.values().flatten() {
            let (project, path) = (file.project.clone(), file.path.clone());
            match fs::metadata(self.root.join(&file.path)) {
                Ok(there) if there.len() == file.bytes => {}
                Ok(there) => {
                    let how = format!("it has {} bytes instead of {}", there.len(), file.bytes);
                    self.findings.push(Finding::FileAltered { project, path, how });
                }
                Err(_) => self.findings.push(Finding::FileMissing { project, path }),
            }
            known.insert(file.path.clone());
        }
        known.extend(self.catalog.removed_files().await?.whole.into_iter().map(|file| file.path));
        for path in files_below(self.root)? {
            if known.contains(&path) {
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or_default();
            let change = names::change_of(name);
            let is_orphan = match &change {
                Some(change) => self.catalog.version_of_change(change).await?.is_none(),
                None => false,
            };
            if is_orphan {
                self.remove(&self.root.join(&path));
                self.found(Finding::Orphan { path });
            } else {
                self.aside(&self.root.join(&path))?;
                self.found(Finding::ForeignFile { path });
            }
        }
        Ok(())
    }

    fn found(&mut self, finding: Finding) {
        match &finding {
            _ if self.look_only => {}
            Finding::Orphan { .. } => tracing::info!(%finding, "cleared away when the lake was opened"),
            _ => tracing::error!(%finding, "found when the lake was opened"),
        }
        self.findings.push(finding);
    }

    /// Removes what is of no use to anybody. Where that fails, it is only in the way.
    fn remove(&self, path: &Path) {
        if !self.look_only {
            let _ = fs::remove_file(path);
        }
    }

    fn aside(&self, path: &Path) -> Result<(), LakeError> {
        if self.look_only { Ok(()) } else { self.set_aside.take(path) }
    }
}

/// The files in the folders below `root`, but the log's; relative, with slashes.
fn files_below(root: &Path) -> Result<Vec<String>, LakeError> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let failed = |source| LakeError::Io { what: format!("listing {}", folder.display()), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                if path != root.join("_delta_log") {
                    pending.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                files.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn snapshot_of(version: u64, files: &[LedgerFile]) -> Snapshot {
    let mut snapshot = Snapshot { version, ..Snapshot::default() };
    for file in files {
        let key = (file.project.clone(), file.month);
        snapshot.partitions.entry(key).or_default().push(Arc::new(LakeFile {
            path: file.path.clone(),
            project: file.project.clone(),
            month: file.month,
            bytes: file.bytes,
            rows: file.rows,
            sha256: file.sha256,
            verified: Verified::default(),
        }));
    }
    snapshot
}
