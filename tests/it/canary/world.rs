//! The tenants: organisations whose every text is a canary, which is nobody else's, and what of it others are shown.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Admin, Answer, HEADER, Process, Upload, run, stdout};

/// What `GIVER` shows `RECIPIENT` of its first project: the detail, the first and the last month, and the columns of rows of these
/// months that may be seen, by the letters of [`COLUMNS`]; none is left out for `*`. A share of another detail is a line more.
pub const SHOWN: &[(&str, &str, &str, &str)] = &[
    ("full", "2024-02", "2024-03", "*"),
    ("masked", "2024-04", "2024-05", "pals"),
    // Every site of a month has one customer, too few to be shown.
    ("aggregate", "2024-06", "2024-06", ""),
];

/// The letters of columns of rows, and what they are called.
pub const COLUMNS: &[(char, &str)] = &[
    ('i', "ID"),
    ('m', "METER_ID"),
    ('u', "UTILITY_ID"),
    ('c', "CUSTOMER_ID"),
    ('n', "CUSTOMER NAME"),
    ('p', "PAYMENT_SOURCE"),
    ('r', "REFERENCE_ID"),
    ('a', "ACCOUNT_TYPE"),
    ('t', "NOTES"),
    ('l', "LOCATION"),
    ('s', "Source"),
    ('x', "external_id"),
];

pub const GIVER: char = 'a';
pub const RECIPIENT: char = 'b';
/// Who showed the recipient something once.
pub const BYSTANDER: char = 'c';
pub const ROLES: [&str; 4] = ["manager", "analyst", "viewer", "uploader"];
const MONTHS: [&str; 6] = ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"];
const ROWS_OF_A_MONTH: usize = 5;

/// Where a canary stands. Rows of a month that is shown have the place of their line in [`SHOWN`] as a digit.
pub mod place {
    /// The slug of an organisation.
    pub const ORGANISATION: char = 'o';
    /// The slug and the name of an organisation's first project.
    pub const RECORD: char = 'r';
    /// The slug and the name of a programme.
    pub const PROGRAMME: char = 'j';
    /// What a programme is shown of a connection that was submitted to it, and of the payment that it is verified by.
    pub const SUBMITTED: char = 'f';
    /// The note of a share.
    pub const NOTE: char = 'h';
    /// Rows that nobody else is shown.
    pub const ROW: char = 'w';
    /// What a query says, and the name of a saved one: the log of who shows its payments quotes it.
    pub const SAID: char = 'y';
    /// All else: nobody else is shown it either.
    pub const OTHER: char = 'g';
}

/// A text that is one owner's alone.
pub fn canary(owner: char, place: char, what: char, number: usize) -> String {
    format!("zqx{owner}{place}{what}{number}z")
}

/// One of them, found in a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canary {
    pub owner: char,
    pub place: char,
    pub what: char,
    pub text: String,
}

/// All that are in a text in lower case.
pub fn canaries(text: &[u8]) -> impl Iterator<Item = Canary> {
    memchr::memmem::find_iter(text, b"zqx").filter_map(|at| {
        let found = &text[at..];
        let digits = found.get(6..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = found.get(..6 + digits + 1).filter(|text| digits > 0 && text.ends_with(b"z"))?;
        let [owner, place, what] = [3, 4, 5].map(|at| char::from(text[at]));
        Some(Canary { owner, place, what, text: String::from_utf8_lossy(text).into_owned() })
    })
}

/// Whether an organisation may see a canary.
pub fn may_see(asker: char, canary: &Canary) -> bool {
    match (asker, canary.owner, canary.place) {
        (asker, owner, _) if asker == owner => true,
        // Who gives names whom it gives to.
        (RECIPIENT, GIVER, place::ORGANISATION | place::RECORD | place::NOTE | place::PROGRAMME)
        // Who takes part in a programme is shown to who administers it.
        | (GIVER, RECIPIENT, place::RECORD | place::SUBMITTED)
        | (GIVER | BYSTANDER, RECIPIENT, place::ORGANISATION | place::SAID) => true,
        (RECIPIENT, GIVER, place) => {
            let shown = place.to_digit(10).and_then(|line| SHOWN.get(line as usize));
            shown.is_some_and(|(_, _, _, columns)| *columns == "*" || columns.contains(canary.what))
        }
        _ => false,
    }
}

/// A name that the server gave: whose it is, and whom it may be told besides.
pub struct Given {
    pub text: String,
    pub owner: char,
    pub also: &'static [char],
}

/// A key, and whose.
pub struct Asker {
    pub owner: char,
    pub role: &'static str,
    pub secret: String,
}

pub struct World {
    pub process: Process,
    pub askers: Vec<Asker>,
    /// Ids of uploads, connections and shares, prefixes of keys, and secrets.
    pub given: Vec<Given>,
    /// With their owners.
    pub organisations: Vec<(char, String)>,
    pub projects: Vec<(char, String)>,
    pub files: Vec<(char, Vec<u8>)>,
    /// Each organisation's own. That of who gives invites the recipient, whose first project takes part.
    pub programmes: Vec<(char, String)>,
    /// Names of saved queries.
    pub saved: Vec<(char, String)>,
    next: usize,
}

impl World {
    pub async fn new(folder: &Path, log: &Path) -> Self {
        Self::with(folder, log, &[]).await
    }

    /// The same, with arguments to its server.
    pub async fn with(folder: &Path, log: &Path, arguments: &[&str]) -> Self {
        let admin = stdout(&run(folder, &["keys", "create", "--role", "admin", "--name", "canary"])).trim().to_owned();
        let process = Process::serve_logging(folder, std::fs::File::create(log).unwrap(), arguments);
        let (askers, given, organisations, projects, files, programmes, saved) = Default::default();
        let mut world = Self { process, askers, given, organisations, projects, files, programmes, saved, next: 0 };
        world.given.push(Given { text: admin.clone(), owner: '-', also: &[] });
        let address = world.process.address.clone();
        let admin = Admin::new(&address, &admin);
        for owner in [GIVER, RECIPIENT, BYSTANDER] {
            world.make_tenant(&admin, owner).await;
        }
        world.share_all(&admin).await;
        world.make_programmes(&admin).await;
        world.submit_and_verify().await;
        for owner in [GIVER, RECIPIENT, BYSTANDER] {
            world.ask_and_save(owner).await;
        }
        world
    }

    /// A canary that there was none of before.
    fn canary(&mut self, owner: char, place: char, what: char) -> String {
        self.next += 1;
        canary(owner, place, what, self.next)
    }

    async fn make_tenant(&mut self, admin: &Admin<'_>, owner: char) {
        let slug = self.canary(owner, place::ORGANISATION, 'o');
        let name = self.canary(owner, place::OTHER, 'o');
        made(admin, "/v1/organisations", json!({"slug": slug, "name": name})).await;
        for role in ROLES {
            let name = self.canary(owner, place::OTHER, 'k');
            let key = made(admin, "/v1/keys", json!({"name": name, "role": role, "organisation": slug})).await;
            // Who gives sees who read, and who takes part in a programme sees who read that.
            let also: &[char] = match owner {
                RECIPIENT => &[GIVER, BYSTANDER],
                GIVER => &[RECIPIENT],
                _ => &[],
            };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            self.given.push(Given { text: text(&key["key"]["prefix"]), owner, also });
            let secret = text(&key["secret"]);
            self.given.push(Given { text: secret[12..].to_owned(), owner: '-', also: &[] });
            self.askers.push(Asker { owner, role, secret });
        }
        for place in [place::RECORD, place::OTHER] {
            let (project, name) = (self.canary(owner, place, 'p'), self.canary(owner, place, 'p'));
            let body = json!({"slug": project, "name": name, "kind": "shs", "currency": "KES", "organisation": slug,
                "time_zone": "UTC", "country": "KE"});
            made(admin, "/v1/projects", body).await;
            self.upload_all(admin, owner, &project, place == place::RECORD).await;
            self.connect(admin, owner, &project).await;
            self.projects.push((owner, project));
        }
        self.organisations.push((owner, slug));
    }

    /// A file that lands, one of which rows are rejected, one that is refused, and one that is deleted.
    async fn upload_all(&mut self, admin: &Admin<'_>, owner: char, project: &str, is_first: bool) {
        let is_shown = is_first && owner == GIVER;
        let first_files = self.files.len();
        let good = self.rows(owner, is_shown);
        let mut bad = self.rows(owner, is_shown);
        let provoking = self.canary(owner, place::OTHER, 'v');
        bad.push(format!("{provoking},{},m,,c,n,,,,{provoking},,,,,,", self.canary(owner, place::OTHER, 'v')));
        bad.push(format!("2024-05-01T00:00:00,,{provoking},,,,{provoking},,,1e5{provoking},,{provoking},,,,"));
        let refused = vec![bad[bad.len() - 1].clone()];
        let deleted = self.rows(owner, false);
        for (rows, on_error, status) in [
            (good, "reject_file", 201),
            (bad, "skip_rows", 201),
            (refused, "reject_file", 422),
            (deleted, "reject_file", 201),
        ] {
            let bytes = format!("{HEADER},Source,external_id\n{}\n", rows.join("\n")).into_bytes();
            let name = self.canary(owner, place::OTHER, 'd');
            let upload = Upload::new(project, bytes.clone()).with("dataset_name", &name).with("on_error", on_error);
            let answer = admin.upload(&upload).await;
            assert_eq!(answer.status, status, "{}", answer.text);
            let id = answer.body["id"].as_str().or(answer.body["upload_id"].as_str()).unwrap().to_owned();
            // Rows name the upload that they came with; who verifies a project, the uploads that made it up.
            let also: &[char] = match (is_first, owner) {
                (true, GIVER) => &[RECIPIENT],
                (true, RECIPIENT) if self.files.len() < first_files + 2 => &[GIVER],
                _ => &[],
            };
            self.given.push(Given { text: id, owner, also });
            self.files.push((owner, bytes));
        }
        let last = &self.given.last().unwrap().text;
        assert_eq!(admin.delete(&format!("/v1/uploads/{last}")).await.status, 200);
    }

    /// A query that is saved, and one whose result is kept.
    async fn ask_and_save(&mut self, owner: char) {
        let [name, text] = ['q', 'q'].map(|what| self.canary(owner, place::SAID, what));
        let description = self.canary(owner, place::OTHER, 'q');
        let analyst = self.askers.iter().find(|asker| (asker.owner, asker.role) == (owner, "analyst")).unwrap();
        let analyst = Admin::new(&self.process.address, &analyst.secret);
        let sql = format!("SELECT *, '{text}' AS own FROM payments");
        let body = json!({"sql": sql, "description": description});
        let saved =
            analyst.request(Method::PUT, &format!("/v1/queries/saved/{name}")).json(&body).send().await.unwrap();
        assert_eq!(saved.status(), 201);
        let kept = analyst.request(Method::POST, "/v1/sql").header("prefer", "respond-async");
        let kept = Answer::of(kept.json(&json!({ "sql": sql })).send().await.unwrap()).await;
        assert_eq!(kept.status, 202, "{}", kept.text);
        while analyst.get(kept.header("location")).await.body["result"].is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let id = kept.body["id"].as_str().unwrap().to_owned();
        self.saved.push((owner, name));
        let also: &[char] = if owner == RECIPIENT { &[GIVER, BYSTANDER] } else { &[] };
        self.given.push(Given { text: id, owner, also });
    }

    /// A connection with a canary in each text, and of no meter that pays.
    async fn connect(&mut self, admin: &Admin<'_>, owner: char, project: &str) {
        let names = ["external_id", "serial_number", "customer_name", "phone", "address", "site", "milestone"];
        let fields = names.map(|name| (name.to_owned(), Value::from(self.canary(owner, place::OTHER, 'e'))));
        let text = fields[0].1.as_str().unwrap().to_owned();
        let body = json!({"connections": [serde_json::Map::from_iter(fields)]});
        let answer = admin.post(&format!("/v1/projects/{project}/connections"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.given.push(Given { text, owner, also: &[] });
    }

    /// Payments of each month, with a canary in each text. Those of a month that is shown are of another place.
    fn rows(&mut self, owner: char, is_shown: bool) -> Vec<String> {
        let mut rows = Vec::new();
        for month in MONTHS {
            let shown = SHOWN.iter().position(|(_, from, to, _)| is_shown && (*from..=*to).contains(&month));
            let place = shown.map_or(place::ROW, |line| char::from_digit(u32::try_from(line).unwrap(), 10).unwrap());
            for day in 1..=ROWS_OF_A_MONTH {
                let mut text = |what| self.canary(owner, place, what);
                let [id, meter, utility, customer, name] = ['i', 'm', 'u', 'c', 'n'].map(&mut text);
                let [by, reference, account, notes, site] = ['p', 'r', 'a', 't', 'l'].map(&mut text);
                let [source, serial] = ['s', 'x'].map(&mut text);
                rows.push(format!(
                    "{month}-{day:02}T10:00:00,{id},{meter},{utility},{customer},{name},,{by},{reference},{day}00,{account},SUCCESS,{notes},{site},{source},{serial}"
                ));
            }
        }
        rows
    }

    /// A programme of each organisation. That of who gives invites the recipient, and so shows it the slug and the name.
    async fn make_programmes(&mut self, admin: &Admin<'_>) {
        let rule = json!({"window": {"kind": "before_as_of", "days": 90}});
        let organisations = self.organisations.clone();
        let slug_of = |owner: char| organisations.iter().find(|(of, _)| *of == owner).unwrap().1.clone();
        for owner in [GIVER, RECIPIENT, BYSTANDER] {
            let [slug, name] = ['j', 'j'].map(|what| self.canary(owner, place::PROGRAMME, what));
            let invited = if owner == GIVER { vec![slug_of(RECIPIENT)] } else { Vec::new() };
            let body =
                json!({"slug": slug, "name": name, "rule": rule, "organisation": slug_of(owner), "invited": invited});
            made(admin, "/v1/programmes", body).await;
            self.programmes.push((owner, slug));
        }
        let manager = self.askers.iter().find(|asker| (asker.owner, asker.role) == (RECIPIENT, "manager")).unwrap();
        let manager = Admin::new(&self.process.address, &manager.secret);
        let project = &self.projects.iter().find(|(of, _)| *of == RECIPIENT).unwrap().1;
        let path = format!("/v1/programmes/{}/enrolments", self.programmes[0].1);
        made(&manager, &path, json!({"project": project, "version": 1, "consent": true})).await;
    }

    /// The recipient submits a connection that pays to the programme of who gives, which verifies it; and tries its others out.
    async fn submit_and_verify(&mut self) {
        let project = self.projects.iter().find(|(of, _)| *of == RECIPIENT).unwrap().1.clone();
        let programme = format!("/v1/programmes/{}", self.programmes[0].1);
        let [id, serial, site] = ['e', 'e', 'e'].map(|what| self.canary(RECIPIENT, place::SUBMITTED, what));
        let payment = self.canary(RECIPIENT, place::SUBMITTED, 'i');
        let hidden: Vec<String> = (0..12).map(|_| self.canary(RECIPIENT, place::OTHER, 'e')).collect();
        let connection = json!({"external_id": id, "serial_number": serial, "site": site, "customer_name": hidden[0],
            "phone": hidden[1], "address": hidden[2], "milestone": hidden[3], "product_name": hidden[4]});
        let row = format!(
            "2024-06-10T10:00:00,{payment},{id},{},{},{},,{},{},500,{},SUCCESS,{},,{},",
            hidden[5], hidden[6], hidden[7], hidden[8], hidden[9], hidden[10], hidden[11], hidden[4]
        );
        let secret = |owner: char| {
            self.askers.iter().find(|one| (one.owner, one.role) == (owner, "manager")).unwrap().secret.clone()
        };
        let (recipient, giver) = (secret(RECIPIENT), secret(GIVER));
        let address = self.process.address.clone();
        let (recipient, giver) = (Admin::new(&address, &recipient), Admin::new(&address, &giver));
        let sent =
            recipient.post(&format!("/v1/projects/{project}/connections"), json!({"connections": [connection]})).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let file = format!("{HEADER},Source,external_id\n{row}\n").into_bytes();
        let upload = recipient.commit(&Upload::new(&project, file)).await;
        let submitted = json!({"project": project, "connections": [id]});
        made(&recipient, &format!("{programme}/submissions"), submitted).await;
        let verifications = format!("{programme}/verifications");
        let as_of = json!({"as_of": "2024-07-01T00:00:00Z"});
        let of_giver = verified(&giver, &verifications, as_of).await;
        let tried = verified(&recipient, &verifications, json!({"dry_run": true})).await;
        let explained = giver.get(&format!("{verifications}/{of_giver}/verdicts/{project}/{id}")).await;
        for shown in [&payment, &serial, &site] {
            assert!(explained.text.contains(shown.as_str()), "{}", explained.text);
        }
        let given = [(upload["id"].as_str().unwrap(), RECIPIENT), (&id, RECIPIENT), (&of_giver, GIVER)];
        for (text, owner) in given {
            self.given.push(Given { text: text.to_owned(), owner, also: &[GIVER, RECIPIENT] });
        }
        self.given.push(Given { text: tried, owner: RECIPIENT, also: &[] });
    }

    async fn share_all(&mut self, admin: &Admin<'_>) {
        let slug_of = |owner: char| self.organisations.iter().find(|(of, _)| *of == owner).unwrap().1.clone();
        let project_of = |owner: char| self.projects.iter().find(|(of, _)| *of == owner).unwrap().1.clone();
        let (recipient, given, taken_back) = (slug_of(RECIPIENT), project_of(GIVER), project_of(BYSTANDER));
        for (detail, from, to, _) in SHOWN {
            let note = self.canary(GIVER, place::NOTE, 'h');
            let body =
                json!({"recipient": recipient, "detail": detail, "months_from": from, "months_to": to, "note": note});
            let share = made(admin, &format!("/v1/projects/{given}/shares"), body).await;
            let id = share["id"].as_str().unwrap().to_owned();
            self.given.push(Given { text: id, owner: GIVER, also: &[RECIPIENT] });
        }
        let note = self.canary(BYSTANDER, place::NOTE, 'h');
        let body = json!({"recipient": recipient, "detail": "full", "note": note});
        let path = format!("/v1/projects/{taken_back}/shares");
        let share = made(admin, &path, body).await;
        let id = share["id"].as_str().unwrap().to_owned();
        // The recipient read it, and does no more.
        let reader = self.askers.iter().find(|asker| (asker.owner, asker.role) == (RECIPIENT, "viewer")).unwrap();
        let reader = Admin::new(&self.process.address, &reader.secret);
        for path in [format!("/v1/metrics/payments_per_customer?project={taken_back}"), "/v1/projects".to_owned()] {
            let read = reader.get(&path).await;
            assert!(read.status == 200 && read.text.contains(&taken_back), "{}", read.text);
        }
        assert_eq!(admin.delete(&format!("{path}/{id}")).await.status, 200);
        self.given.push(Given { text: id, owner: BYSTANDER, also: &[] });
    }
}

/// The id of a verification that has ended.
async fn verified(holder: &Admin<'_>, path: &str, body: Value) -> String {
    let begun = holder.post(path, body).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    while holder.get(begun.header("location")).await.body["verification"]["state"] == "running" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    begun.body["id"].as_str().unwrap().to_owned()
}

async fn made(admin: &Admin<'_>, path: &str, body: Value) -> Value {
    let answer = admin.post(path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}
