//! What the lake must hold after whatever happened to the server: a model that takes what was sent, in the order in which
//! the lake says that it took it, and knows what was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow::{
    array::AsArray,
    compute::cast,
    datatypes::{DataType, Decimal128Type, TimestampMicrosecondType},
};
use chrono::Datelike;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    binary::{Dice, Running, files_below},
    harness::{Answer, Upload, file, paid},
};

/// The projects that operations go to.
pub const PROJECTS: [&str; 3] = ["hill", "kitobo", "lolwe"];

/// IDs of a project: few, so that uploads overlap.
const IDS: u64 = 40;

/// A payment as an upload has it: its month, counted from that of January 2020, and its amount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payment {
    pub month: u64,
    pub amount: u64,
}

/// The payments of a project, by their IDs.
pub type Payments = BTreeMap<String, Payment>;

/// Something that changes the lake.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Payments for a project. No other upload has its name, nor its bytes.
    Upload { project: &'static str, name: String, payments: Payments },
    /// Takes uploads out of the lake, all of them or none.
    Delete(Vec<Landed>),
    /// Brings a deleted upload back, at its old place in the order of uploads.
    Restore(Landed),
    /// Erases a deleted upload for good.
    Purge(Landed),
}

/// An upload that is in the lake, or was.
#[derive(Clone, Debug)]
pub struct Landed {
    pub id: String,
    /// The version that it came with.
    pub version: u64,
}

/// Where an upload is that landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Committed,
    Deleted,
    Purged,
}

/// What became of an operation, as far as its sender knows.
#[derive(Debug)]
pub enum Told {
    /// It is done. An upload's answer says which it is.
    Done(Option<Landed>),
    /// An answer, and not that one.
    Refused(Answer),
    /// No answer.
    Nothing,
}

impl Operation {
    /// An upload of `number`, which no other has: corrections of what others brought, repetitions, new payments.
    pub fn random_upload(number: u64, dice: &mut Dice) -> Self {
        let project = PROJECTS[usize::try_from(dice.below(PROJECTS.len() as u64)).unwrap()];
        let mut payments = Payments::new();
        for row in 0..=dice.below(8) {
            let id = dice.below(IDS);
            // The first amount is this upload's own; others may be what another upload has said of the ID.
            let amount = if row == 0 || dice.below(3) > 0 { 1000 + number } else { id + 1 };
            payments.entry(format!("P{id}")).or_insert(Payment { month: 50 + dice.below(3), amount });
        }
        Self::Upload { project, name: format!("upload {number}"), payments }
    }

    /// Sends it, once.
    pub async fn send(&self, server: &Running) -> Told {
        let admin = server.admin();
        let request = match self {
            Self::Upload { project, name, payments } => {
                let rows: Vec<String> = payments.iter().map(|(id, payment)| payment.row(id)).collect();
                let upload = Upload::new(project, file(&rows)).with("dataset_name", name);
                let request = admin.request(Method::POST, "/v1/uploads").multipart(upload.form());
                // Known again by its key, or else by its bytes.
                if name.ends_with(['1', '3', '5', '7', '9']) {
                    request.header("Idempotency-Key", name.replace(' ', "-"))
                } else {
                    request
                }
            }
            Self::Delete(uploads) => match &uploads[..] {
                [one] => admin.request(Method::DELETE, &format!("/v1/uploads/{}", one.id)),
                several => {
                    let ids: Vec<&str> = several.iter().map(|upload| upload.id.as_str()).collect();
                    admin.request(Method::POST, "/v1/uploads/delete").json(&json!({ "uploads": ids }))
                }
            },
            Self::Restore(upload) => admin.request(Method::POST, &format!("/v1/uploads/{}/restore", upload.id)),
            Self::Purge(upload) => admin.request(Method::POST, &format!("/v1/uploads/{}/purge", upload.id)),
        };
        let Ok(response) = request.send().await else { return Told::Nothing };
        let (status, headers) = (response.status(), response.headers().clone());
        let Ok(text) = response.text().await else { return Told::Nothing };
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if !status.is_success() {
            return Told::Refused(Answer { status, headers, text, body });
        }
        Told::Done(match self {
            Self::Upload { .. } => Some(Landed {
                id: body["id"].as_str().expect("an upload's id").to_owned(),
                version: body["lake_version"].as_u64().expect("an upload's version"),
            }),
            _ => None,
        })
    }
}

impl Payment {
    fn row(&self, id: &str) -> String {
        let (year, month) = (2020 + self.month / 12, 1 + self.month % 12);
        paid(id, &format!("{year}-{month:02}-03T10:00:00"), &self.amount.to_string(), "SUCCESS")
    }
}

/// An upload as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    project: &'static str,
    name: String,
    payments: Payments,
    state: State,
    /// Whether the server said so since it was started last.
    confirmed: bool,
}

/// What was sent to a server, or to several on one folder.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The uploads that landed, by the version that they came with.
    uploads: BTreeMap<u64, Known>,
    /// What was sent and not answered: wholly done, or not at all.
    open: Vec<Operation>,
    /// Of Parquet files that were looked at: a file of that name never changes.
    uploads_of_files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Model {
    /// What one of several senders does next: mostly an upload; now and then it deletes one that landed, or several, or
    /// brings one back. An upload is only ever deleted and restored by one sender, so that their order is known.
    pub fn random_operation(&self, number: u64, (sender, senders): (u64, u64), dice: &mut Dice) -> Operation {
        let own = |state: State| -> Vec<Landed> {
            let own = self.uploads.iter().rev().filter(|(version, _)| *version % senders == sender).take(30);
            own.filter(|(_, known)| known.state == state)
                .map(|(version, known)| Landed { id: known.id.clone(), version: *version })
                .collect()
        };
        let mut pick = |mut from: Vec<Landed>, count: u64| -> Vec<Landed> {
            let count = usize::try_from(count).unwrap().min(from.len());
            (0..count).map(|_| from.swap_remove(usize::try_from(dice.below(from.len() as u64)).unwrap())).collect()
        };
        let deleted = pick(own(State::Deleted), 1).pop();
        match (pick(own(State::Committed), 1 + number % 2), deleted, dice.below(12)) {
            (uploads, _, 0 | 1) if !uploads.is_empty() => Operation::Delete(uploads),
            (_, Some(upload), 2 | 3) => Operation::Restore(upload),
            (_, Some(upload), 4) => Operation::Purge(upload),
            _ => Operation::random_upload(number, dice),
        }
    }

    /// Notes what the sender of an operation was told.
    pub fn note(&mut self, operation: Operation, told: &Told) {
        match told {
            Told::Done(landed) => self.done(operation, landed.clone()),
            Told::Nothing => self.open.push(operation),
            Told::Refused(_) => {}
        }
    }

    /// Notes an operation of which nobody knows whether it was done, or will be.
    pub fn note_open(&mut self, operation: Operation) {
        self.open.push(operation);
    }

    fn done(&mut self, operation: Operation, landed: Option<Landed>) {
        match (operation, landed) {
            (Operation::Upload { project, name, payments }, Some(Landed { id, version })) => {
                // The same again is answered with the first.
                let before = self.uploads.get(&version).map(|known| known.name.clone());
                assert!(before.is_none_or(|before| before == name), "version {version} is two uploads");
                let known = Known { id, project, name, payments, state: State::Committed, confirmed: false };
                self.uploads.insert(version, known);
            }
            (Operation::Delete(uploads), _) => uploads.iter().for_each(|upload| self.set(upload, State::Deleted)),
            (Operation::Restore(upload), _) => self.set(&upload, State::Committed),
            (Operation::Purge(upload), _) => self.set(&upload, State::Purged),
            (operation, None) => panic!("no upload came of {operation:?}"),
        }
    }

    fn set(&mut self, upload: &Landed, state: State) {
        let known = self.uploads.get_mut(&upload.version).unwrap();
        (known.state, known.confirmed) = (state, false);
    }

    /// Gives back the operation that is open, to be sent again by hand.
    pub fn take_open(&mut self) -> Option<Operation> {
        self.open.pop()
    }

    /// How many uploads landed.
    pub fn landed(&self) -> usize {
        self.uploads.len()
    }

    /// How many uploads are in that state.
    pub fn count(&self, state: State) -> usize {
        self.uploads.values().filter(|known| known.state == state).count()
    }

    /// The newest upload in that state, or in any, whose name begins so.
    pub fn newest(&self, state: Option<State>, name: &str) -> Option<(Landed, State)> {
        let chosen = |known: &Known| state.is_none_or(|state| known.state == state) && known.name.starts_with(name);
        let (version, known) = self.uploads.iter().rev().find(|(_, known)| chosen(known))?;
        Some((Landed { id: known.id.clone(), version: *version }, known.state))
    }

    /// How many operations were not answered.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What a server that was started on the folder must hold: compares, and takes what was open and done into the model.
    pub async fn check_after_start(&mut self, server: &Running, data: &Path) -> Result<(), String> {
        for operation in std::mem::take(&mut self.open) {
            if let Some(landed) = self.was_done(server, &operation).await? {
                self.done(operation, landed);
            } else {
                self.open.push(operation);
            }
        }
        for (version, known) in self.uploads.iter_mut().filter(|(_, known)| !known.confirmed) {
            let found = state_of(server, &known.name).await?.map(|(landed, state)| (landed.version, state));
            if found != Some((*version, known.state)) {
                return Err(format!("{}, {:?} of version {version}, is {found:?}", known.name, known.state));
            }
            known.confirmed = true;
        }
        self.check_erased(data)?;
        self.check(server, data).await
    }

    /// Whether no file has rows of an upload that was erased.
    fn check_erased(&mut self, data: &Path) -> Result<(), String> {
        let purged = self.uploads.values().filter(|known| known.state == State::Purged);
        let purged: BTreeSet<String> = purged.map(|known| known.id.clone()).collect();
        if purged.is_empty() {
            return Ok(());
        }
        for path in files_below(data) {
            let mut left = path.iter().any(|part| purged.contains(&*part.to_string_lossy()));
            if path.extension().is_some_and(|extension| extension == "parquet") {
                let name = path.strip_prefix(data).unwrap();
                if !self.uploads_of_files.contains_key(name) {
                    self.uploads_of_files.insert(name.to_owned(), uploads_of(&path)?);
                }
                left |= !self.uploads_of_files[name].is_disjoint(&purged);
            }
            if left {
                return Err(format!("{} is left of an upload that was erased", path.display()));
            }
        }
        Ok(())
    }

    /// Whether an operation that was not answered was done all the same, by the server's own records.
    async fn was_done(&self, server: &Running, operation: &Operation) -> Result<Option<Option<Landed>>, String> {
        let of = async |upload: &Landed| -> Result<State, String> {
            let state = state_of(server, &self.uploads[&upload.version].name).await?;
            state.map(|(_, state)| state).ok_or_else(|| format!("there is no {upload:?}"))
        };
        match operation {
            Operation::Upload { name, .. } => Ok(state_of(server, name).await?.map(|(landed, _)| Some(landed))),
            Operation::Restore(upload) => Ok((of(upload).await? == State::Committed).then_some(None)),
            Operation::Purge(upload) => Ok((of(upload).await? == State::Purged).then_some(None)),
            Operation::Delete(uploads) => {
                let mut states = BTreeSet::new();
                for upload in uploads {
                    states.insert(of(upload).await?);
                }
                match states.len() {
                    1 => Ok(states.contains(&State::Deleted).then_some(None)),
                    _ => Err(format!("some of {uploads:?} were deleted and others not")),
                }
            }
        }
    }

    /// Sends again what is open, of which nothing may be there twice then.
    pub async fn retry(&mut self, server: &Running) -> Result<(), String> {
        for operation in std::mem::take(&mut self.open) {
            match operation.send(server).await {
                Told::Done(landed) => self.done(operation, landed),
                other => return Err(format!("sent again, {operation:?} is answered {other:?}")),
            }
        }
        Ok(())
    }

    /// Whether the server, and the files that the lake's log names, hold what was sent, and each payment once.
    pub async fn check(&self, server: &Running, data: &Path) -> Result<(), String> {
        let expected = self.payments();
        compare("the files of the log", &expected, &rows_of_log(&data.join("lake/payments"))?)?;
        // Nothing but the amounts, because months are of the files alone.
        let amounts: BTreeMap<_, _> = expected.into_iter().map(|(key, payment)| (key, payment.amount)).collect();
        compare("the metric", &amounts, &amounts_of_metric(server).await?)
    }

    /// The payments of all projects, by project and ID: of the uploads that count, in their order.
    fn payments(&self) -> BTreeMap<(String, String), Payment> {
        let mut all = BTreeMap::new();
        for Known { project, payments, .. } in self.uploads.values().filter(|known| known.state == State::Committed) {
            let of = |(id, payment): (&String, &Payment)| (((*project).to_owned(), id.clone()), payment.clone());
            all.extend(payments.iter().map(of));
        }
        all
    }
}

/// Compares what is found with what must be there, where nothing may be found twice.
fn compare<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    place: &str,
    expected: &BTreeMap<K, V>,
    found: &[(K, V)],
) -> Result<(), String> {
    let mut left: BTreeMap<&K, &V> = expected.iter().collect();
    let mut wrong = Vec::new();
    for (key, value) in found {
        match left.remove(key) {
            Some(other) if other == value => {}
            other => wrong.push(format!("{key:?} is {value:?} and not {other:?}")),
        }
    }
    wrong.extend(left.iter().map(|(key, value)| format!("{key:?} is not there, which is {value:?}")));
    if wrong.is_empty() { Ok(()) } else { Err(format!("{place}: {}", wrong.join("; "))) }
}

/// The upload of that name that is in the lake or was, and where it is, by the server's own records.
async fn state_of(server: &Running, name: &str) -> Result<Option<(Landed, State)>, String> {
    let name = name.replace(' ', "%20");
    let answer = server.admin().get(&format!("/v1/uploads?dataset_name={name}")).await;
    let uploads = answer.body["uploads"].as_array().ok_or_else(|| format!("no list: {}", answer.text))?;
    let mut found = None;
    for upload in uploads.iter().filter(|upload| upload["status"] != "failed") {
        let landed = Landed {
            id: upload["id"].as_str().unwrap_or_default().to_owned(),
            version: upload["lake_version"].as_u64().ok_or_else(|| format!("no version: {upload}"))?,
        };
        let state = match upload["status"].as_str() {
            Some("committed") => State::Committed,
            Some("deleted") => State::Deleted,
            Some("purged") => State::Purged,
            _ => return Err(format!("it is neither there nor not: {upload}")),
        };
        if let Some(other) = found.replace((landed, state)) {
            return Err(format!("one upload is there twice: {upload} and {other:?}"));
        }
    }
    Ok(found)
}

/// Each payment as the metric by customer has it, whose customers have one payment each. A customer with more shows as one
/// whose amount is none.
async fn amounts_of_metric(server: &Running) -> Result<Vec<((String, String), u64)>, String> {
    let answer = server.admin().get("/v1/metrics/payments_per_customer?format=csv&limit=1000000").await;
    if !answer.status.is_success() {
        return Err(format!("the metric is answered {}: {}", answer.status, answer.text));
    }
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let mut found = Vec::new();
    for row in reader.deserialize() {
        let row: BTreeMap<String, String> = row.map_err(|error| error.to_string())?;
        let amount = row["amount"].strip_suffix(".0000").and_then(|amount| amount.parse().ok());
        let id = row["customer_id"].trim_start_matches("C-").to_owned();
        let amount = amount.filter(|_| row["payments"] == "1").ok_or_else(|| format!("not one payment: {row:?}"))?;
        found.push(((row["project"].clone(), id), amount));
    }
    Ok(found)
}

/// The files that the Delta log names, read without Wattlake: entries one after the other, no checkpoint.
pub fn files_of_log(table: &Path) -> Result<BTreeSet<String>, String> {
    let mut entries: Vec<_> = fs::read_dir(table.join("_delta_log"))
        .map_err(|error| error.to_string())?
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(".json").is_some_and(|version| version.len() == 20)
        })
        .collect();
    entries.sort();
    let mut files = BTreeSet::new();
    for (version, entry) in entries.iter().enumerate() {
        let expected = format!("{version:020}.json");
        if !entry.ends_with(&expected) {
            return Err(format!("{} stands where {expected} must", entry.display()));
        }
        let text = fs::read_to_string(entry).map_err(|error| error.to_string())?;
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).map_err(|error| format!("{expected}: {error}"))?;
            let path = |action: &Value| action["path"].as_str().unwrap().to_owned();
            if action["add"].is_object() && !files.insert(path(&action["add"])) {
                return Err(format!("{expected} adds what is there: {line}"));
            }
            if action["remove"].is_object() && !files.remove(&path(&action["remove"])) {
                return Err(format!("{expected} removes what is not there: {line}"));
            }
        }
    }
    Ok(files)
}

/// The uploads that a Parquet file has rows of; none where it holds no payments.
fn uploads_of(path: &Path) -> Result<BTreeSet<String>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(&error))?;
    let column = ProjectionMask::columns(builder.parquet_schema(), ["upload_id"]);
    let mut uploads = BTreeSet::new();
    for batch in builder.with_projection(column).build().map_err(|error| failed(&error))? {
        let batch = batch.map_err(|error| failed(&error))?;
        // A checkpoint of the log has no such column.
        let Some(column) = batch.column_by_name("upload_id") else { break };
        let column = cast(column, &DataType::Utf8).map_err(|error| failed(&error))?;
        uploads.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(uploads)
}

/// A payment and its key: the project and the payment ID.
type Row = ((String, String), Payment);

/// Every row of the files that the Delta log names.
fn rows_of_log(table: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for path in files_of_log(table)? {
        let project = path.split(['=', '/']).nth(1).unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| format!("{path}: {error}");
        let file = File::open(table.join(&path)).map_err(|error| failed(&error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
        for batch in reader.map_err(|error| failed(&error))? {
            let batch = batch.map_err(|error| failed(&error))?;
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let ids = column("payment_id").as_string::<i32>();
            let amounts = column("amount").as_primitive::<Decimal128Type>();
            let paid_at = column("paid_at").as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let at = chrono::DateTime::from_timestamp_micros(paid_at.value(row)).unwrap();
                let payment = Payment {
                    month: u64::try_from((at.year() - 2020) * 12).unwrap() + u64::from(at.month0()),
                    amount: u64::try_from(amounts.value(row) / 10_000).unwrap(),
                };
                rows.push(((project.to_owned(), ids.value(row).to_owned()), payment));
            }
        }
    }
    Ok(rows)
}
