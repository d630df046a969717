//! Each step of an upload and of a deletion, as a place where the process ends, and as one where the system fails.

use std::{collections::BTreeSet, path::Path, time::Duration};

use wattlake::failpoints::POINTS;

use crate::{
    binary::{Running, Site, files_below, quick_folder},
    connections,
    oracle::{Model, Operation, Payment, Payments, State, Told},
    verification,
};

/// What an error of the system at a point comes to, for who sends an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// The upload is refused with the reason, and nothing of it is there.
    ToARefusal,
    /// The upload is told to be there, and is: it was when the error came.
    ToNothing,
}

use Comes::{ToARefusal, ToNothing};

/// The points of an upload, and what an error there comes to.
const UPLOAD: [(&str, Comes); 22] = [
    ("durable::create_dir", ToARefusal),
    ("durable::sync", ToARefusal),
    ("durable::sync_dir", ToARefusal),
    ("commit::staged", ToARefusal),
    ("catalog::insert_upload", ToARefusal),
    ("commit::receiving", ToARefusal),
    ("durable::rename", ToARefusal),
    ("commit::kept", ToARefusal),
    ("catalog::record_staged", ToARefusal),
    ("durable::link", ToARefusal),
    ("commit::month_placed", ToARefusal),
    ("commit::placed", ToARefusal),
    ("catalog::set_upload_status", ToARefusal),
    ("commit::committing", ToARefusal),
    ("catalog::record_version", ToARefusal),
    ("commit::recorded", ToARefusal),
    ("durable::write", ToARefusal),
    ("durable::write::written", ToARefusal),
    ("durable::write::named", ToARefusal),
    ("commit::logged", ToNothing),
    ("catalog::set_upload_committed", ToNothing),
    ("commit::committed", ToNothing),
];

/// The points of a checkpoint, which is written beside the uploads at every twentieth version.
const CHECKPOINT: [&str; 3] = ["checkpoint::begin", "checkpoint::written", "catalog::record_checkpoint"];

/// The point of a commit that is taken back.
const TAKEN_BACK: &str = "catalog::forget_version";

/// The points of a deletion, and of a restoration.
const WITHDRAWAL: [(&str, Comes); 13] = [
    ("catalog::begin_change", ToARefusal),
    ("durable::sync", ToARefusal),
    ("durable::sync_dir", ToARefusal),
    ("commit::month_placed", ToARefusal),
    ("commit::placed", ToARefusal),
    ("commit::committing", ToARefusal),
    ("catalog::record_version", ToARefusal),
    ("commit::recorded", ToARefusal),
    ("durable::write", ToARefusal),
    ("durable::write::written", ToARefusal),
    ("durable::write::named", ToARefusal),
    ("commit::logged", ToNothing),
    ("catalog::end_change", ToNothing),
];

/// The points of an erasure.
const PURGE: [(&str, Comes); 4] = [
    ("purge::history", ToARefusal),
    ("durable::sync_dir", ToARefusal),
    ("purge::folder", ToARefusal),
    ("catalog::purge_upload", ToARefusal),
];

/// More than an operation passes any point.
const MOST_PASSES: usize = 40;

/// An upload that passes every point: it corrects a payment that all of them have, and brings one in a month that few have.
fn upload(_: &Model, number: u64) -> Operation {
    let payments = [
        ("corrected".to_owned(), Payment { month: 0, amount: 1000 + number }),
        (format!("new {number}"), Payment { month: 1 + number % 60, amount: number + 1 }),
    ];
    Operation::Upload { project: "kitobo", name: format!("upload {number}"), payments: Payments::from(payments) }
}

/// The deletion of an upload, or its restoration where it is deleted.
fn withdrawal(model: &Model, _: u64) -> Operation {
    match model.newest(None, "upload 1").unwrap() {
        (upload, State::Deleted) => Operation::Restore(upload),
        (upload, _) => Operation::Delete(vec![upload]),
    }
}

/// The erasure of the upload that [`prepare`] has deleted.
fn purge(model: &Model, _: u64) -> Operation {
    Operation::Purge(model.newest(Some(State::Deleted), "").unwrap().0)
}

/// A folder with some uploads.
async fn site(folder: &Path) -> (Site, Model) {
    let site = Site::new(folder.join("data")).await;
    let (server, mut model) = (site.start(), Model::default());
    server.admin().make_project("kitobo").await;
    for number in 0..2 {
        send(upload(&model, number), &server, &mut model).await;
    }
    (site, model)
}

/// Checks what the last round left. Deletes an upload that can be erased, where there is none; and takes the lake past a version
/// at which a checkpoint is due, which would pass points beside the operation.
async fn prepare(site: &Site, model: &mut Model, points: &[(&str, Comes)]) -> Result<(), String> {
    let server = site.start();
    model.check_after_start(&server, &site.data).await?;
    let other = |number: u64| {
        let payments = [(format!("other {number}"), Payment { month: 0, amount: 1 })];
        Operation::Upload { project: "kitobo", name: format!("other {number}"), payments: Payments::from(payments) }
    };
    let number = model.landed() as u64;
    if points == PURGE && model.open() == 0 && model.count(State::Deleted) == 0 {
        send(upload(model, 20_000 + number), &server, model).await;
        let (newest, _) = model.newest(Some(State::Committed), "upload").unwrap();
        send(Operation::Delete(vec![newest]), &server, model).await;
    }
    let log = files_below(&site.data.join("lake/payments/_delta_log"));
    let next = log.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).count();
    if next.is_multiple_of(20) {
        send(other(number), &server, model).await;
    }
    Ok(())
}

async fn send(operation: Operation, server: &Running, model: &mut Model) -> Told {
    let told = operation.send(server).await;
    model.note(operation, &told);
    told
}

#[test]
fn the_list_of_failpoints_is_that_of_the_source() {
    let mut found = BTreeSet::new();
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("failpoints.rs") {
            continue;
        }
        for call in ["pass(\"", "fail_point!(\""] {
            found.extend(
                text.split(call).skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()),
            );
        }
    }
    let listed: BTreeSet<String> = POINTS.iter().map(|point| (*point).to_owned()).collect();
    assert_eq!(found, listed);
    let tried: BTreeSet<String> = UPLOAD
        .iter()
        .chain(&WITHDRAWAL)
        .chain(&PURGE)
        .map(|(point, _)| point)
        .chain(&CHECKPOINT)
        .chain(&connections::POINTS)
        .chain(&verification::POINTS)
        .chain([&TAKEN_BACK])
        .map(|point| (*point).to_owned())
        .collect();
    assert_eq!(tried, listed, "each point is tried below");
}

#[tokio::test]
async fn a_process_that_ends_at_any_step_of_an_upload_loses_nothing_and_leaves_nothing_half() {
    end_at_each(&UPLOAD, upload).await;
}

#[tokio::test]
async fn a_process_that_ends_at_any_step_of_a_deletion_loses_nothing_and_leaves_nothing_half() {
    end_at_each(&WITHDRAWAL, withdrawal).await;
}

#[tokio::test]
async fn a_process_that_ends_at_any_step_of_an_erasure_loses_nothing_and_the_erasure_is_ended_when_asked_again() {
    end_at_each(&PURGE, purge).await;
}

#[tokio::test]
async fn an_error_at_any_step_of_an_erasure_is_told_and_the_erasure_is_ended_when_asked_again() {
    fail_at_each(&PURGE, purge).await;
}

#[tokio::test]
async fn an_error_at_any_step_of_an_upload_is_told_leaves_nothing_and_is_over_when_it_is_over() {
    fail_at_each(&UPLOAD, upload).await;
}

#[tokio::test]
async fn an_error_at_any_step_of_a_deletion_is_told_leaves_nothing_and_is_over_when_it_is_over() {
    fail_at_each(&WITHDRAWAL, withdrawal).await;
}

/// Ends the process at each point, each time that an operation passes it. It is sent again and again, while the server gets a
/// step further each time.
async fn end_at_each(points: &[(&str, Comes)], next: fn(&Model, u64) -> Operation) {
    let folder = quick_folder();
    let (site, mut model) = site(folder.path()).await;
    let mut number = 2;
    for (point, _) in points {
        for pass in 0.. {
            assert!(pass < MOST_PASSES, "{point} has no end");
            let failed = |error| panic!("{point}, after the end at pass {pass}: {error}");
            prepare(&site, &mut model, points).await.unwrap_or_else(failed);
            let mut server = site.start_with(&format!("{point}={pass}*off->return(abort)"));
            let operation = model.take_open().unwrap_or_else(|| {
                number += 1;
                next(&model, number)
            });
            match send(operation, &server, &mut model).await {
                Told::Nothing => assert_eq!(server.ended_by(), Some(6), "it ended at {point}, by SIGABRT"),
                Told::Done(_) => {
                    assert!(pass > 0, "{point} was never hit");
                    model.check(&server, &site.data).await.unwrap_or_else(failed);
                    break;
                }
                Told::Refused(answer) => panic!("{point}: {answer:?}"),
            }
        }
    }
}

/// Lets the system fail at each point, each time that an operation passes it.
async fn fail_at_each(points: &[(&str, Comes)], next: fn(&Model, u64) -> Operation) {
    let folder = quick_folder();
    let (site, mut model) = site(folder.path()).await;
    let mut number = 1000;
    for (point, comes) in points {
        for pass in 0.. {
            assert!(pass < MOST_PASSES, "{point} has no end");
            prepare(&site, &mut model, points).await.unwrap_or_else(|error| panic!("{point}, before {pass}: {error}"));
            number += 1;
            let errors = [("ENOSPC", 507, "storage_full"), ("EIO", 503, "unavailable"), ("EROFS", 503, "unavailable")];
            let (error, status, code) = errors[pass % errors.len()];
            let server = site.start_with(&format!("{point}={pass}*off->1*return({error})"));
            let failed = |what: String| panic!("{point}, {error} at pass {pass}: {what}\n{}", server.log());
            let operation = next(&model, number);
            let told = send(operation.clone(), &server, &mut model).await;
            let fired = server.log().contains("a failpoint fires");
            match (&told, fired, comes) {
                (Told::Done(_), false, _) => {
                    assert!(pass > 0, "{point} was never hit");
                    break;
                }
                (Told::Refused(answer), true, ToARefusal) if answer.status == status => {
                    answer.assert_problem(status, code);
                }
                (Told::Done(_), true, ToNothing) => {}
                _ => failed(format!("{told:?}; fired: {fired}")),
            }
            model.check(&server, &site.data).await.unwrap_or_else(failed);
            let told = send(operation, &server, &mut model).await;
            if !matches!(told, Told::Done(_)) {
                failed(format!("sent again: {told:?}"));
            }
            model.check(&server, &site.data).await.unwrap_or_else(failed);
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_fails_or_ends_the_process_does_no_harm() {
    for (point, outcome) in
        CHECKPOINT.into_iter().flat_map(|point| [(point, "abort"), (point, "EIO"), (point, "ENOSPC")])
    {
        let folder = quick_folder();
        let (site, mut model) = site(folder.path()).await;
        let mut server = site.start_with(&format!("{point}=1*return({outcome})"));
        for number in 2..25 {
            if let Told::Nothing = send(upload(&model, number), &server, &mut model).await {
                break;
            }
        }
        // It is written beside the uploads, so it may take a moment.
        for _ in 0..500 {
            if server.log().contains("a failpoint fires") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(server.log().contains("a failpoint fires"), "{point} was never hit");
        if outcome == "abort" {
            assert_eq!(server.ended_by(), Some(6), "it ended at {point}, by SIGABRT");
        } else {
            model.check(&server, &site.data).await.unwrap();
        }
        drop(server);
        let server = site.start();
        model
            .check_after_start(&server, &site.data)
            .await
            .unwrap_or_else(|error| panic!("{point}, {outcome}: {error}"));
        model.retry(&server).await.unwrap();
        send(upload(&model, 100), &server, &mut model).await;
        model.check(&server, &site.data).await.unwrap();
    }
}

#[tokio::test]
async fn a_version_that_neither_the_log_gets_nor_the_ledger_gives_back_is_settled_by_the_next_upload_or_start() {
    for outcome in ["EIO", "abort"] {
        let folder = quick_folder();
        let (site, mut model) = site(folder.path()).await;
        let points = format!("commit::recorded=1*return(EIO);{TAKEN_BACK}=1*return({outcome})");
        let mut server = site.start_with(&points);
        let operation = upload(&model, 2);
        let told = send(operation.clone(), &server, &mut model).await;
        assert!(server.log().matches("a failpoint fires").count() == 2, "{}", server.log());
        if outcome == "abort" {
            assert!(matches!(told, Told::Nothing), "{told:?}");
            assert_eq!(server.ended_by(), Some(6), "it ended at {TAKEN_BACK}, by SIGABRT");
            server = site.start();
        } else if let Told::Refused(answer) = &told {
            answer.assert_problem(503, "unavailable");
            // The ledger has it, so it may be in the lake all the same.
            model.note_open(operation);
        }
        let next = send(upload(&model, 3), &server, &mut model).await;
        assert!(matches!(next, Told::Done(_)), "{next:?}");
        model.check_after_start(&server, &site.data).await.unwrap_or_else(|error| panic!("{outcome}: {error}"));
        model.retry(&server).await.unwrap();
        model.check(&server, &site.data).await.unwrap();
        drop(server);
        let server = site.start();
        model.check_after_start(&server, &site.data).await.unwrap();
    }
}
