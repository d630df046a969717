//! A bit that flips on the disk, or a file that is cut short: what is asked is answered right or refused, never wrong; the
//! server lives, names what is damaged in its log, and serves the other projects.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    binary::{Dice, Running, Site, files_below, quick_folder, rounds, say_aloud},
    harness::{Upload, file, paid, run},
    oracle::files_of_log,
};

/// Projects whose files are damaged, one file of each at a time.
const DAMAGED: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The project whose files are left alone.
const HEALTHY: &str = "healthy";

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// A Parquet file of each of the projects that are to be damaged.
    Parquet,
    /// An entry of the Delta log.
    Entry,
    Checkpoint,
    LastCheckpoint,
    /// A value of a row of the ledger.
    Ledger,
}

/// The payments by customer, as CSV.
struct Sums {
    head: String,
    /// The lines of each project.
    lines: BTreeMap<&'static str, String>,
}

impl Sums {
    /// What a question about these projects, in the order of their slugs, is answered.
    fn of(&self, projects: &[&str]) -> String {
        projects.iter().fold(self.head.clone(), |text, project| text + &self.lines[project])
    }
}

fn projects() -> impl Iterator<Item = &'static str> {
    DAMAGED.into_iter().chain([HEALTHY])
}

/// A data folder in which each project has files of several months, corrections, and the log a checkpoint.
async fn base(folder: &Path) -> (Site, Sums) {
    let site = Site::new(folder.join("base")).await;
    let server = site.start();
    let admin = server.admin();
    for project in projects() {
        admin.make_project(project).await;
    }
    for (upload, first) in [(0, 0), (1, 15), (2, 25)] {
        for project in projects() {
            let payments = |number: u64| {
                let at = format!("2024-{:02}-03T10:00:00", 3 + number % 3);
                paid(&format!("{project}-{number}"), &at, &format!("{}.25", 100 * number + upload), "SUCCESS")
            };
            let rows: Vec<String> = (first..first + 20).map(payments).collect();
            let upload = Upload::new(project, file(&rows)).with("dataset_name", &format!("upload {upload}"));
            admin.commit(&upload).await;
        }
    }
    let mut sums = Sums { head: String::new(), lines: BTreeMap::new() };
    for project in projects() {
        let answer = admin.get(&question(&[project])).await;
        assert_eq!(answer.status, 200);
        let (head, lines) = answer.text.split_once('\n').unwrap();
        sums.head = format!("{head}\n");
        sums.lines.insert(project, lines.to_owned());
    }
    server.signal("-TERM");
    let mut server = server;
    assert_eq!(server.ended_by(), None, "it ends in order");
    assert!(site.data.join("lake/payments/_delta_log/_last_checkpoint").is_file());
    (site, sums)
}

fn question(projects: &[&str]) -> String {
    let projects = projects.iter().map(|project| format!("project={project}&")).collect::<Vec<_>>().concat();
    format!("/v1/metrics/payments_per_customer?{projects}format=csv&limit=100000")
}

/// Copies a data folder without its bytes: files that are written once are linked. The catalogue is written to, so it is
/// copied.
fn copy(site: &Site, to: PathBuf) -> Site {
    for path in files_below(&site.data) {
        let target = to.join(path.strip_prefix(&site.data).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("catalog.sqlite") {
            fs::copy(&path, &target).unwrap();
        } else if !name.ends_with(".lock") {
            fs::hard_link(&path, &target).unwrap();
        }
    }
    site.copied_to(to)
}

/// Something that was damaged.
struct Damage {
    /// What has to be named, and is in the texts that name it.
    what: String,
    how: String,
}

/// Damages a file, under all the names that it has in this folder, and not in others. Says how.
fn damage(data: &Path, path: &Path, dice: &mut Dice) -> Damage {
    let mut bytes = fs::read(path).unwrap();
    let how = spoil(&mut bytes, dice);
    let inode = fs::metadata(path).unwrap().ino();
    let names: Vec<PathBuf> =
        files_below(data).into_iter().filter(|name| fs::metadata(name).unwrap().ino() == inode).collect();
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    for name in names.iter().filter(|name| *name != path) {
        fs::remove_file(name).unwrap();
        fs::hard_link(path, name).unwrap();
    }
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    // An entry is named by its version.
    let version = name.strip_suffix(".json").and_then(|version| version.parse::<u64>().ok());
    Damage { what: version.map_or(name, |version| format!("version {version}")), how }
}

fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) -> String {
    let length = bytes.len() as u64;
    match dice.below(10) {
        0 => {
            bytes.truncate(usize::try_from(dice.below(length)).unwrap());
            format!("cut from {length} to {} bytes", bytes.len())
        }
        1 if dice.below(3) == 0 => {
            bytes.clear();
            "emptied".to_owned()
        }
        _ => {
            let (byte, bit) = (dice.below(length), dice.below(8));
            bytes[usize::try_from(byte).unwrap()] ^= 1 << bit;
            format!("byte {byte}, bit {bit}")
        }
    }
}

/// Flips a bit of one value of the ledger, as far as the database's own rules on types let it be written.
async fn damage_ledger(data: &Path, dice: &mut Dice) -> Damage {
    use sqlx::{Connection, Row};
    const TABLES: [(&str, &str, &[&str]); 2] = [
        (
            "lake_versions",
            "'version ' || version",
            &["version", "change_id", "entry", "entry_sha256", "files", "rows", "written_at", "seal"],
        ),
        ("lake_files", "path", &["project", "month", "bytes", "rows", "sha256", "added_in", "seal"]),
    ];
    let file = data.join("catalog.sqlite");
    let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    let (table, name, columns) = TABLES[usize::try_from(dice.below(2)).unwrap()];
    let column = columns[usize::try_from(dice.below(columns.len() as u64)).unwrap()];
    let of_now = if table == "lake_files" { "WHERE removed_in IS NULL" } else { "" };
    let select = format!(
        "SELECT {name} AS name, typeof({column}) AS type, CAST({column} AS BLOB) AS value FROM {table} {of_now} ORDER BY name"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&mut connection).await.unwrap();
    let row = &rows[usize::try_from(dice.below(rows.len() as u64)).unwrap()];
    let (what, kind, mut value): (String, String, Vec<u8>) = (row.get("name"), row.get("type"), row.get("value"));
    let flip = |bytes: &mut [u8], dice: &mut Dice| {
        let (byte, bit) = (dice.below(bytes.len() as u64), dice.below(8));
        bytes[usize::try_from(byte).unwrap()] ^= 1 << bit;
    };
    let update = format!("UPDATE OR IGNORE {table} SET {column} = CAST(? AS {kind}) WHERE {name} = ?");
    if kind == "integer" {
        // As text, whose digits are what `CAST` gave.
        let mut number = String::from_utf8(value).unwrap().parse::<i64>().unwrap().to_le_bytes();
        // Numbers that are stored in few bytes have few bits.
        flip(&mut number[..2], dice);
        value = i64::from_le_bytes(number).to_string().into_bytes();
    } else {
        flip(&mut value, dice);
    }
    sqlx::query(sqlx::AssertSqlSafe(update)).bind(value).bind(&what).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    Damage { how: format!("{table}.{column}"), what }
}

/// The files to damage in a copy, of which each is chosen by chance.
fn choose(target: Target, site: &Site, dice: &mut Dice) -> Vec<PathBuf> {
    let table = site.data.join("lake/payments");
    let log = |chosen: &dyn Fn(&str) -> bool| {
        let files = files_below(&table.join("_delta_log"));
        files.into_iter().filter(|path| chosen(&path.file_name().unwrap().to_string_lossy())).collect::<Vec<_>>()
    };
    let mut one_of = |files: Vec<PathBuf>| files[usize::try_from(dice.below(files.len() as u64)).unwrap()].clone();
    match target {
        Target::Parquet => {
            let files = files_of_log(&table).unwrap();
            let of = |project: &str| {
                let prefix = format!("project_id={project}/");
                files.iter().filter(|path| path.starts_with(&prefix)).map(|path| table.join(path)).collect::<Vec<_>>()
            };
            DAMAGED.iter().map(|project| one_of(of(project))).collect()
        }
        Target::Entry => vec![one_of(log(&|name| name.strip_suffix(".json").is_some()))],
        Target::Checkpoint => vec![one_of(log(&|name| name.ends_with(".checkpoint.parquet")))],
        Target::LastCheckpoint => vec![one_of(log(&|name| name == "_last_checkpoint"))],
        Target::Ledger => Vec::new(),
    }
}

/// What came of some damages.
#[derive(Default)]
struct Outcome {
    right: usize,
    refused: usize,
    wrong: Vec<String>,
}

/// Asks a server on the damaged folder for all sums, and again those that it refuses, until they are made anew.
async fn ask(server: &Running, sums: &Sums, target: Target, outcome: &mut Outcome) {
    let all: Vec<&str> = projects().collect();
    let alone: Vec<Vec<&str>> = all.iter().map(|project| vec![*project]).collect();
    // One at a time where they fare differently.
    let questions = if target == Target::Parquet { alone } else { vec![all] };
    for projects in questions {
        let expected = sums.of(&projects);
        for attempt in 0.. {
            let answer = server.admin().get(&question(&projects)).await;
            match answer.status.as_u16() {
                200 if answer.text == expected => outcome.right += 1,
                503 if answer.body["type"] == "/problems/data_damaged" && projects != [HEALTHY] && attempt < 500 => {
                    outcome.refused += usize::from(attempt == 0);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                status => outcome.wrong.push(format!("{projects:?} is answered {status}: {}", answer.text)),
            }
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_never_summed_up_and_stops_neither_the_server_nor_other_projects() {
    let count = rounds("BIT_FLIPS", 500);
    let folder = quick_folder();
    let (base, sums) = base(folder.path()).await;
    let mut dice = Dice::new(7);
    let (mut damages, mut all) = (0, Outcome::default());
    while damages < count {
        let target = match dice.below(8) {
            0..3 => Target::Parquet,
            3 | 4 => Target::Entry,
            5 => Target::Checkpoint,
            6 => Target::LastCheckpoint,
            _ => Target::Ledger,
        };
        let copied = folder.path().join("copy");
        let site = copy(&base, copied.clone());
        let files = choose(target, &site, &mut dice);
        let mut done: Vec<Damage> = files.iter().map(|path| damage(&site.data, path, &mut dice)).collect();
        if target == Target::Ledger {
            done.push(damage_ledger(&site.data, &mut dice).await);
        }
        damages += done.len() as u64;
        let looked = run(&site.data, &["fsck", "--data-dir", site.data.to_str().unwrap()]);
        let found = String::from_utf8(looked.stdout).unwrap();
        let mut outcome = Outcome::default();
        match site.try_start("") {
            Err(log) => outcome.wrong.push(format!("the server does not start: {log}")),
            Ok(mut server) => {
                ask(&server, &sums, target, &mut outcome).await;
                let log = server.log();
                // What the sums are made of is read by the questions; the rest may be found by a look at all there is.
                let named = |damage: &Damage| {
                    log.contains(&damage.what) || (target != Target::Parquet && found.contains(&damage.what))
                };
                for damage in done.iter().filter(|damage| !named(damage)) {
                    outcome.wrong.push(format!("{} is not named: {found}{log}", damage.what));
                }
                if !server.runs() {
                    outcome.wrong.push(format!("the server died: {log}"));
                }
            }
        }
        all.right += outcome.right;
        all.refused += outcome.refused;
        let how: Vec<String> = done.iter().map(|damage| format!("{}: {}", damage.what, damage.how)).collect();
        all.wrong.extend(outcome.wrong.into_iter().map(|wrong| format!("{target:?} {how:?}: {wrong}")));
        fs::remove_dir_all(&copied).unwrap();
    }
    let Outcome { right, refused, wrong } = all;
    say_aloud(&format!(
        "{damages} damages: {right} questions answered right, {refused} refused first, {} wrong",
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{} of {damages}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right > 0 && refused > 0);
}
