//! Whether what is kept of the uploads is as it was written. For `wattlake fsck`.

use std::{io, path::Path};

use sha2::{Digest, Sha256};

use super::{IngestError, blocking, folder::Folder, manifest::Manifest, open_original, rebuild};
use crate::{
    catalog::{Catalog, LedgerStaged, MAX_PAGE, Sealed, UploadRecord, UploadStatus},
    lake::Finding,
};

/// Reads the original, the manifest and the staged files of every upload that is kept, and says what is wrong with them.
/// Changes nothing. `each` is told how many uploads have been read.
pub async fn inspect_uploads(
    catalog: &Catalog,
    data_dir: &Path,
    mut each: impl FnMut(usize),
) -> Result<Vec<Finding>, IngestError> {
    let (mut findings, mut read) = (Vec::new(), 0);
    let mut before = None;
    loop {
        let page = catalog.all_uploads(before.as_ref(), MAX_PAGE).await?;
        before = page.items.last().map(|last| last.id.clone());
        for record in page.items {
            if matches!(record.status, UploadStatus::Receiving | UploadStatus::Failed | UploadStatus::Purged) {
                continue;
            }
            let staged = catalog.staged_files(&record.id).await?;
            let folder = Folder::kept(data_dir, &record.id);
            findings.extend(blocking(move || Ok(inspect(&folder, &record, &staged))).await?);
            read += 1;
            each(read);
        }
        if !page.more {
            return Ok(findings);
        }
    }
}

fn inspect(folder: &Folder, record: &UploadRecord, staged: &Sealed<LedgerStaged>) -> Vec<Finding> {
    let mut wrong = Vec::new();
    if let Err(error) = Manifest::read(folder) {
        wrong.push(format!("upload.json cannot be used: {error}"));
    }
    match original_sha256(folder) {
        Ok(sha256) if sha256 == record.sha256 => {}
        Ok(_) => wrong.push("the kept original is not the file that came".to_owned()),
        Err(error) => wrong.push(format!("the kept original cannot be read: {error}")),
    }
    wrong.extend(staged.broken.iter().map(|path| format!("the ledger's row of {path} is not as it was written")));
    let altered = staged.whole.iter().filter(|noted| !rebuild::is_whole(&rebuild::staged_file(folder, noted)));
    wrong.extend(altered.map(|noted| format!("{} is missing or not as it was written", noted.path)));
    let Some(project) = record.projects.first() else { return Vec::new() };
    let finding = |what| Finding::Upload { project: project.clone(), upload: record.id.clone(), what };
    wrong.into_iter().map(finding).collect()
}

fn original_sha256(folder: &Folder) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut open_original(folder)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}
