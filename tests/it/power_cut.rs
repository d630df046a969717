//! The power goes at the moment of an acknowledgement, and at others: what is on the disk then is what was acknowledged.
//!
//! The data folder is on a file system in a file, which is copied while the server is held still. The copy is what the
//! kernel had sent to the disk until then, and none of what it held back: as after a power cut. A server that is started on
//! the copy must have all that was acknowledged.
//!
//! On a journaled file system a missing fsync of a folder does not show, because the catalogue's own fsync, the last before
//! the answer, takes the journal along. So half of the cuts are on one without a journal, where nothing is on the disk but
//! what was synced itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    binary::{Dice, Running, Site, rounds, say_aloud},
    disk::{Disk, Journal},
    oracle::{Model, Operation, PROJECTS, Told},
};

/// The sender whose acknowledgement is waited for, and those beside it.
const SENDERS: u64 = 3;

/// Cuts on one disk; further ones get a fresh disk, so that it does not fill.
const ROUNDS_A_DISK: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut_at_that_moment_and_at_others() {
    let rounds = rounds("POWER_CUT_ROUNDS", 20);
    let (mut done, mut acknowledged) = (0, 0);
    while done < rounds {
        for journal in [Journal::Metadata, Journal::None] {
            let Some(disk) = Disk::try_new(journal, "power cuts") else { return };
            let some = rounds.div_ceil(2).min(ROUNDS_A_DISK / 2);
            acknowledged +=
                cut_power(&disk, done..done + some, "").await.unwrap_or_else(|lost| panic!("{journal:?}: {lost}"));
            done += some;
        }
    }
    say_aloud(&format!("{done} power cuts: nothing lost of {acknowledged} uploads that were acknowledged"));
    assert!(acknowledged > 0);
}

/// That the test above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_fsyncs_it_would_lose_what_it_acknowledged() {
    for (journal, failpoints) in [
        (Journal::Metadata, "durable::sync=return(skip)"),
        (Journal::Metadata, "durable::sync=return(skip);durable::sync_dir=return(skip)"),
        (Journal::None, "durable::sync_dir=return(skip)"),
    ] {
        let Some(disk) = Disk::try_new(journal, "power cuts without fsyncs") else { return };
        let lost = cut_power(&disk, 0..8, failpoints).await;
        assert!(lost.is_err(), "nothing was lost with {failpoints} on {journal:?}");
    }
}

/// What senders have told and asked so far.
#[derive(Default)]
struct Sent {
    model: Model,
    /// By sender.
    under_way: BTreeMap<u64, Operation>,
}

/// Cuts the power of a server on `disk` once each round. Gives how many uploads were acknowledged until then, or what was
/// lost.
async fn cut_power(disk: &Disk, rounds: std::ops::Range<u64>, failpoints: &str) -> Result<usize, String> {
    let site = Site::new(disk.root.join("data")).await;
    let server = Arc::new(site.start_with(failpoints));
    for project in PROJECTS {
        server.admin().make_project(project).await;
    }
    let sent = Arc::new(Mutex::new(Sent::default()));
    for round in rounds {
        let mut dice = Dice::new(round);
        let stop = Arc::new(AtomicBool::new(false));
        // Alone, nothing is synced behind the acknowledgement; in company, the cut comes in the midst of other uploads.
        let senders = if round.is_multiple_of(3) { 1 } else { SENDERS };
        let senders: Vec<_> = (1..senders)
            .map(|sender| {
                let (server, sent, stop) = (server.clone(), sent.clone(), stop.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        send(&server, &sent, sender, (round * 10 + sender) * 1000 + number).await;
                    }
                })
            })
            .collect();
        if dice.below(3) == 0 {
            tokio::time::sleep(Duration::from_millis(dice.below(150))).await;
        }
        send(&server, &sent, 0, round * 10_000).await;
        server.signal("-STOP");
        // What is noted from here on was acknowledged before, and came late.
        let mut model = {
            let sent = sent.lock().unwrap();
            let mut model = sent.model.clone();
            sent.under_way.values().for_each(|operation| model.note_open(operation.clone()));
            model
        };
        let cut = disk.after_power_cut().unwrap();
        stop.store(true, Ordering::Relaxed);
        server.signal("-CONT");
        for sender in senders {
            sender.await.unwrap();
        }
        after(&site, &cut, &mut model).await.map_err(|lost| format!("in round {round}: {lost}"))?;
    }
    let sent = sent.lock().unwrap();
    Ok(sent.model.landed())
}

/// A server on what the cut left.
async fn after(site: &Site, cut: &Disk, model: &mut Model) -> Result<(), String> {
    let site = site.copied_to(cut.root.join("data"));
    let server = site.try_start("")?;
    model.check_after_start(&server, &site.data).await?;
    model.retry(&server).await?;
    model.check(&server, &site.data).await
}

async fn send(server: &Running, sent: &Mutex<Sent>, sender: u64, number: u64) {
    let operation = {
        let mut sent = sent.lock().unwrap();
        let operation = sent.model.random_operation(number, (sender, SENDERS), &mut Dice::new(number));
        sent.under_way.insert(sender, operation.clone());
        operation
    };
    let told = operation.send(server).await;
    assert!(matches!(told, Told::Done(_)), "{operation:?} is answered {told:?}");
    let mut sent = sent.lock().unwrap();
    sent.under_way.remove(&sender);
    sent.model.note(operation, &told);
}
