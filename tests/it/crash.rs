//! `kill -9` at random moments of many uploads, deletions, restorations and erasures at once: what was acknowledged is there, once, and what was not is wholly
//! there or wholly not.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    binary::{Dice, Running, Site, quick_folder, rounds, say_aloud},
    oracle::{Model, PROJECTS, State, Told},
};

/// Senders at once: fewer than a server takes, so that none is told to wait.
const SENDERS: u64 = 3;

/// Rounds on one folder; further rounds get a fresh one, so that the cost of a round does not grow.
const ROUNDS_A_FOLDER: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_at_any_moment_and_is_there_once() {
    let rounds = rounds("CRASH_ROUNDS", 50);
    let numbers = Arc::new(AtomicU64::new(1));
    let (mut landed, mut deleted, mut unanswered) = (0, 0, 0);
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_A_FOLDER).unwrap()) {
        let folder = quick_folder();
        let site = Site::new(folder.path().join("data")).await;
        let server = site.start();
        for project in PROJECTS {
            server.admin().make_project(project).await;
        }
        drop(server);
        let mut model = Model::default();
        for round in first..rounds.min(first + ROUNDS_A_FOLDER) {
            let failed = |what: &str, error: String| panic!("round {round}, {what}: {error}");
            let mut dice = Dice::new(round);
            // Recovery is a moment like any other.
            if dice.below(4) == 0 {
                site.start_and_kill(Duration::from_millis(dice.below(300)));
            }
            let server = site.start();
            unanswered += model.open();
            model.check_after_start(&server, &site.data).await.unwrap_or_else(|error| failed("after the start", error));
            model.retry(&server).await.unwrap_or_else(|error| failed("sent again", error));
            model.check(&server, &site.data).await.unwrap_or_else(|error| failed("after the retries", error));
            model = until_killed(server, model, &numbers, round).await;
        }
        let server = site.start();
        unanswered += model.open();
        model.check_after_start(&server, &site.data).await.unwrap_or_else(|error| panic!("at the end: {error}"));
        landed += model.landed();
        deleted += model.count(State::Deleted) + model.count(State::Purged);
    }
    say_aloud(&format!(
        "{rounds} times kill -9: {landed} uploads landed, {deleted} of them are deleted or erased, {unanswered} were cut off"
    ));
    // Else nothing was shown.
    assert!(landed > 0 && deleted > 0 && unanswered > 0);
}

/// Several senders send one operation after the other, until the server is killed at a random moment.
async fn until_killed(server: Running, model: Model, numbers: &Arc<AtomicU64>, round: u64) -> Model {
    let (server, model) = (Arc::new(server), Arc::new(Mutex::new(model)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (server, model, numbers) = (server.clone(), model.clone(), numbers.clone());
            let mut dice = Dice::new(round * SENDERS + sender + 1_000_000);
            tokio::spawn(async move {
                loop {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let operation = model.lock().unwrap().random_operation(number, (sender, SENDERS), &mut dice);
                    let told = operation.send(&server).await;
                    assert!(!matches!(told, Told::Refused(_)), "{operation:?} is answered {told:?}");
                    model.lock().unwrap().note(operation, &told);
                    if matches!(told, Told::Nothing) {
                        return;
                    }
                }
            })
        })
        .collect();
    let moment = Dice::new(round + 2_000_000).below(350);
    tokio::time::sleep(Duration::from_millis(moment)).await;
    server.signal("-KILL");
    for sender in senders {
        sender.await.unwrap();
    }
    drop(server);
    Arc::into_inner(model).unwrap().into_inner().unwrap()
}
