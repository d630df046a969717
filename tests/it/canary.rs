//! Canaries: every text of every tenant is its own, and no answer, header or log line of a request of another has any of them, but
//! those that are shared with it. `make canary REQUESTS=100000` asks that often; by itself it is 2,000 times.

#![allow(clippy::similar_names, reason = "who asks is an asker, and what, asked")]

mod ask;
pub mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use arrow::array::RecordBatch;
use bytes::BytesMut;
use futures::{StreamExt, stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::binary::rounds;
use ask::{Asked, Dice, Gleaned, Inquirer, Route, routes};
use world::{Asker, Canary, GIVER, RECIPIENT, SHOWN, World, canaries, may_see, place};

const REQUESTS: usize = 2000;
/// Requests at once.
const AT_ONCE: usize = 8;
/// Of the leaks that are found, those that are told.
const TOLD: usize = 20;

/// An answer, as far as it can be read: its status, and its headers and its body as a text in lower case.
struct Heard {
    status: u16,
    text: String,
    etag: Option<String>,
}

/// What was asked and found so far.
#[derive(Default)]
struct Notes {
    /// The words of requests, by their number.
    words: BTreeMap<usize, (char, String)>,
    leaks: Vec<String>,
    /// Whose canaries of which place whose requests saw.
    seen: BTreeSet<(char, char, char)>,
    statuses: BTreeMap<u16, usize>,
    /// Which organisation got an `ETag` first.
    etags: BTreeMap<String, char>,
}

#[tokio::test]
async fn no_answer_header_or_log_line_of_one_tenant_holds_a_text_of_another_that_is_not_shared_with_it() {
    let requests = usize::try_from(rounds("CANARY_REQUESTS", REQUESTS as u64)).unwrap();
    let by_chance = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // The same each time, unless it is more than usual.
    let seed = rounds("CANARY_SEED", if requests == REQUESTS { 1 } else { by_chance() });
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let world = World::new(folder.path(), &log).await;
    let client = reqwest::Client::new();
    let description = client.get(format!("{}/v1/openapi.json", world.process.address)).send().await.unwrap();
    let routes = routes(&description.json().await.unwrap());
    let (gleaned, notes) = (Gleaned::default(), Mutex::new(Notes::default()));
    let inquirer = Mutex::new(Inquirer { world: &world, gleaned: &gleaned, dice: Dice(seed) });
    // First every route of everybody, then by chance.
    let calm = routes.iter().flat_map(|route| world.askers.iter().map(move |asker| (route, asker)));
    let all = calm.map(Some).chain(std::iter::repeat(None)).take(requests).enumerate();
    stream::iter(all)
        .for_each_concurrent(AT_ONCE, |(number, calm)| {
            let (asker, asked) = {
                let mut inquirer = inquirer.lock().unwrap();
                let (route, asker): (&Route, &Asker) =
                    calm.unwrap_or_else(|| (inquirer.dice.pick(&routes), inquirer.dice.pick(&world.askers)));
                (asker, inquirer.ask(route, asker, calm.is_some()))
            };
            let words = asked.words();
            notes.lock().unwrap().words.insert(number, (asker.owner, words));
            let (client, world, gleaned, notes) = (&client, &world, &gleaned, &notes);
            async move {
                let heard = send(client, &world.process.address, asker, number, &asked).await;
                let mut notes = notes.lock().unwrap();
                notes.hear(world, asker, number, &asked, &heard);
                glean(gleaned, asked.path, heard);
            }
        })
        .await;
    let mut notes = notes.into_inner().unwrap();
    notes.read_log(&world, &std::fs::read_to_string(&log).unwrap());
    let leaks = notes.leaks.iter().take(TOLD).fold(String::new(), |told, leak| told + leak + "\n");
    assert!(notes.leaks.is_empty(), "CANARY_SEED={seed}: {} leaks\n{leaks}", notes.leaks.len());
    notes.assert_has_seen_what_is_there(requests);
}

/// Sends a request, and reads its answer in whatever form it is.
async fn send(client: &reqwest::Client, address: &str, asker: &Asker, number: usize, asked: &Asked) -> Heard {
    let request = client.request(asked.method.parse().unwrap(), format!("{address}{}", asked.path));
    let request = request.bearer_auth(&asker.secret).header("x-request-id", format!("canary-{number}"));
    let request = asked.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let mut answer = request.body(asked.body.clone()).send().await.unwrap();
    let status = answer.status().as_u16();
    let mut text = String::new();
    for (name, value) in answer.headers() {
        writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (etag, form) = (header("etag"), header("content-type").unwrap_or_default());
    // SQL that fails over some row breaks off, where rows were sent before.
    let mut body = BytesMut::new();
    let is_whole = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            end => break end.is_ok(),
        }
    };
    let body = body.freeze();
    text += &String::from_utf8_lossy(&body);
    // What is packed inside is found in its text alone.
    if !is_whole {
        assert!(asked.path.contains("sql") || asked.path.contains("queries"), "{} broke off", asked.path);
    } else if form.contains("parquet") {
        let reader = ParquetRecordBatchReaderBuilder::try_new(body).unwrap().build().unwrap();
        reader.for_each(|batch| text += &csv(&batch.unwrap()));
    } else if form.contains("arrow") {
        let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(body), None).unwrap();
        reader.for_each(|batch| text += &csv(&batch.unwrap()));
    }
    Heard { status, text: text.to_lowercase(), etag }
}

fn csv(batch: &RecordBatch) -> String {
    let mut bytes = Vec::new();
    arrow::csv::Writer::new(&mut bytes).write(batch).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Keeps what can be sent again.
fn glean(gleaned: &Gleaned, path: String, heard: Heard) {
    let cursor = heard.text.rsplit_once("\"next_cursor\":\"").and_then(|(_, rest)| rest.split('"').next());
    if let Some(cursor) = cursor {
        gleaned.cursors().push(cursor.to_owned());
    }
    gleaned.etags().extend(heard.etag.map(|etag| (path, etag)));
}

impl Notes {
    /// Looks for what the asker may not see.
    fn hear(&mut self, world: &World, asker: &Asker, number: usize, asked: &Asked, heard: &Heard) {
        *self.statuses.entry(heard.status).or_default() += 1;
        let mut words = self.words[&number].1.clone();
        // The audit log quotes what others asked about what is one's own. It is they who said it.
        if asked.path.starts_with("/v1/audit") {
            let quoted = heard.text.split("\"canary-").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok());
            words.extend(quoted.filter_map(|number: usize| Some(self.words.get(&number)?.1.as_str())));
        }
        // So does the list of queries, of those of one's own organisation.
        if asked.path.starts_with("/v1/queries") {
            let own = self.words.values().filter(|(owner, _)| *owner == asker.owner);
            words.extend(own.map(|(_, said)| said.as_str()));
        }
        let who = format!(
            "{} of {} asked {} {} (canary-{number}, {})",
            asker.role, asker.owner, asked.method, asked.path, heard.status
        );
        for canary in canaries(heard.text.as_bytes()) {
            self.seen.insert((asker.owner, canary.owner, canary.place));
            if !may_see(asker.owner, &canary) && !words.contains(&canary.text) {
                self.leaks.push(format!("{who}, and saw {canary:?}"));
            }
        }
        self.find_given(world, asker.owner, &heard.text, &words, &who);
        if heard.status >= 500 {
            self.leaks.push(format!("{who}: {}", heard.text));
        }
        // The description is everybody's.
        let Some(etag) = heard.etag.as_ref().filter(|_| asked.path.starts_with("/v1/metrics/")) else { return };
        let first = *self.etags.entry(etag.clone()).or_insert(asker.owner);
        if first != asker.owner && heard.status == 304 {
            self.leaks.push(format!("{who}, and learned that its answer is that of {first}"));
        }
    }

    fn find_given(&mut self, world: &World, asker: char, text: &str, words: &str, who: &str) {
        for given in &world.given {
            let may = given.owner == asker || given.also.contains(&asker);
            if !may && text.contains(&given.text.to_lowercase()) && !words.contains(&given.text) {
                self.leaks.push(format!("{who}, and saw {} of {}", given.text, given.owner));
            }
        }
    }

    /// The log has no text of any row, and of a request no text that its asker may not see.
    fn read_log(&mut self, world: &World, log: &str) {
        let lines: Vec<String> = log.lines().map(str::to_lowercase).collect();
        let mut of_requests = 0;
        for line in &lines {
            let number =
                line.split("canary-").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
            let number = number.and_then(|digits: String| digits.parse::<usize>().ok());
            let (asker, words) = match number.and_then(|number| self.words.get(&number)) {
                Some((asker, words)) => (Some(*asker), words.clone()),
                None => (None, String::new()),
            };
            of_requests += usize::from(asker.is_some());
            let is_record = |canary: &Canary| [place::ORGANISATION, place::RECORD].contains(&canary.place);
            for canary in canaries(line.as_bytes()).filter(|canary| !words.contains(&canary.text)) {
                let may =
                    asker.map_or_else(|| is_record(&canary), |asker| may_see(asker, &canary) && is_record(&canary));
                if !may {
                    self.leaks.push(format!("the log has {canary:?}: {line}"));
                }
            }
            if let Some(asker) = asker {
                self.find_given(world, asker, line, &words, &format!("the log says of {asker}: {line}"));
            }
        }
        assert!(of_requests >= self.words.len(), "each of {} requests is in the log: {of_requests}", self.words.len());
    }

    /// That the search finds what is there to be found, so that it is no search for nothing.
    fn assert_has_seen_what_is_there(&self, requests: usize) {
        let lines = SHOWN.iter().zip('0'..).filter(|((.., columns), _)| !columns.is_empty()).map(|(_, place)| place);
        let shared = [place::ORGANISATION, place::RECORD, place::NOTE, place::PROGRAMME].into_iter().chain(lines);
        for (asker, owner, place) in shared.map(|place| (RECIPIENT, GIVER, place)).chain([
            (RECIPIENT, RECIPIENT, place::ROW),
            (GIVER, GIVER, place::OTHER),
            (GIVER, RECIPIENT, place::ORGANISATION),
            (GIVER, RECIPIENT, place::RECORD),
        ]) {
            assert!(self.seen.contains(&(asker, owner, place)), "{asker} saw nothing of {owner} in {place}");
        }
        let answered = self.statuses.get(&200).copied().unwrap_or_default();
        assert!(answered > requests / 10, "{:?}", self.statuses);
        for status in [304, 400, 403, 404] {
            assert!(self.statuses.contains_key(&status), "no answer is {status}: {:?}", self.statuses);
        }
    }
}
