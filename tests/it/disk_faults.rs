//! A disk that is full, read-only, or fails: uploads are refused with the reason, what was there is read on, and all is
//! well when the disk is.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    binary::{Dice, Running, Site},
    disk::{Disk, Journal},
    oracle::{Model, Operation, PROJECTS, Told},
};

/// A server on a disk, with some uploads.
async fn server_on(disk: &Disk) -> (Site, Running, Model) {
    let site = Site::new(disk.root.join("data")).await;
    let (server, mut model) = (site.start(), Model::default());
    for project in PROJECTS {
        server.admin().make_project(project).await;
    }
    for number in 0..6 {
        land(&server, &mut model, number).await;
    }
    (site, server, model)
}

async fn send(server: &Running, model: &mut Model, number: u64) -> Told {
    let operation = Operation::random_upload(number, &mut Dice::new(number));
    let told = operation.send(server).await;
    model.note(operation, &told);
    told
}

async fn land(server: &Running, model: &mut Model, number: u64) {
    let told = send(server, model, number).await;
    assert!(matches!(told, Told::Done(_)), "{told:?}");
}

/// A file that leaves so much space on its disk as it is told to.
struct Filler(PathBuf);

impl Filler {
    /// Fills the disk up.
    fn fill(disk: &Path) -> Self {
        let filler = Self(disk.join("filler"));
        let mut file = OpenOptions::new().create(true).append(true).open(&filler.0).unwrap();
        // Down to the last block, which is smaller than a piece.
        for piece in [1 << 20, 4096, 1024] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        file.sync_all().unwrap();
        filler
    }

    /// Gives some bytes back.
    fn shrink(&self, bytes: u64) {
        let file = OpenOptions::new().write(true).open(&self.0).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
        file.sync_all().unwrap();
    }

    fn remove(self) {
        std::fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_uploads_with_507_changes_nothing_and_is_well_again_with_space() {
    let Some(disk) = Disk::try_new(Journal::Metadata, "a full disk") else { return };
    let (site, server, mut model) = server_on(&disk).await;
    let filler = Filler::fill(&disk.root);
    let (mut number, mut refused) = (100, 0_u64);
    // A little more space each time, so that each step of an upload is one at which the disk is full.
    loop {
        number += 1;
        match send(&server, &mut model, number).await {
            Told::Done(_) => break,
            Told::Refused(answer) => {
                assert_eq!(answer.status, 507, "{}", server.log());
                answer.assert_problem(507, "storage_full");
            }
            Told::Nothing => panic!("no answer: {}", server.log()),
        }
        refused += 1;
        assert!(refused < 400, "there is never enough space");
        model.check(&server, &site.data).await.unwrap_or_else(|wrong| panic!("{wrong}\n{}", server.log()));
        // What is refused leaves a record too, so the steps grow: they would else be eaten up as they come.
        filler.shrink(1024 * refused);
    }
    // It was full at many a step, and under each who writes.
    let log = server.log();
    for writer in ["making the upload's folder", "the lake: ", "the catalogue: "] {
        assert!(log.contains(&format!("the disk is full error=\"{writer}")), "{writer} never met it: {log}");
    }
    assert!(refused > 10, "{refused}");
    model.check(&server, &site.data).await.unwrap();
    filler.remove();
    for number in 1000..1003 {
        land(&server, &mut model, number).await;
    }
    model.check(&server, &site.data).await.unwrap();
    // And a start finds nothing half.
    drop(server);
    let server = site.start();
    model.check_after_start(&server, &site.data).await.unwrap();
    land(&server, &mut model, 1003).await;
}

#[tokio::test]
async fn a_disk_that_turns_read_only_refuses_uploads_with_503_and_is_read_on() {
    let Some(disk) = Disk::try_new(Journal::Metadata, "a disk that turns read-only") else { return };
    let (site, server, mut model) = server_on(&disk).await;
    disk.turn_read_only();
    for number in 100..103 {
        match send(&server, &mut model, number).await {
            Told::Refused(answer) => answer.assert_problem(503, "unavailable"),
            other => panic!("{other:?}"),
        }
        model.check(&server, &site.data).await.unwrap();
    }
    drop(server);
    disk.detach().unwrap();
    disk.attach("rw").unwrap();
    let server = site.start();
    model.check_after_start(&server, &site.data).await.unwrap();
    land(&server, &mut model, 103).await;
    model.check(&server, &site.data).await.unwrap();
}

#[tokio::test]
async fn a_start_on_a_read_only_folder_says_so_and_changes_nothing() {
    let Some(disk) = Disk::try_new(Journal::Metadata, "a start on a read-only disk") else { return };
    let (site, server, mut model) = server_on(&disk).await;
    drop(server);
    disk.detach().unwrap();
    disk.attach("ro").unwrap();
    let said = site.try_start("").map(drop).unwrap_err();
    let first = said.lines().find(|line| line.starts_with("wattlake: ")).unwrap_or_default();
    assert_eq!(first, format!("wattlake: cannot write to the folder {}", site.data.display()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    disk.detach().unwrap();
    disk.attach("rw").unwrap();
    let server = site.start();
    model.check_after_start(&server, &site.data).await.unwrap();
}

#[tokio::test]
async fn what_the_disk_fails_to_take_at_an_fsync_is_never_acknowledged() {
    let Some(disk) = Disk::try_overcommitted(6 << 20, "a disk that fails") else { return };
    let (site, server, mut model) = server_on(&disk).await;
    let mut number = 100;
    // The file system has space; the disk below it has not, and an fsync is what says so.
    let refused = loop {
        number += 1;
        let operation = Operation::random_upload(number, &mut Dice::new(number));
        match operation.send(&server).await {
            Told::Refused(answer) => {
                // Nothing can be taken back on such a disk: it may be there, but it was not promised.
                model.note_open(operation);
                break answer;
            }
            Told::Nothing => panic!("no answer: {}", server.log()),
            told @ Told::Done(_) => model.note(operation, &told),
        }
        assert!(number < 2000, "the disk never fails");
    };
    refused.assert_problem(503, "unavailable");
    drop(server);
    // What is on the disk is all that was acknowledged.
    let after = disk.after_power_cut().unwrap();
    let site = site.copied_to(after.root.join("data"));
    let server = site.start();
    model.check_after_start(&server, &site.data).await.unwrap();
    model.retry(&server).await.unwrap();
    land(&server, &mut model, 3000).await;
    model.check(&server, &site.data).await.unwrap();
}
