//! Requests that a tenant may think of: every route, with names and words of everybody, its own included. What would change
//! something names others' things alone, so that the tenants stay as they are.

use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use super::world::{Asker, COLUMNS, World, canary, place};

/// A route of the description.
#[derive(Clone, Debug)]
pub struct Route {
    pub method: String,
    pub path: String,
    /// The names of its query's parameters.
    parameters: Vec<String>,
}

pub fn routes(description: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"].into_iter().filter(|method| item[method].is_object()) {
            let parameters = item[method]["parameters"].as_array().map_or(&[][..], Vec::as_slice).iter();
            let parameters = parameters.filter(|parameter| parameter["in"] == "query");
            let parameters = parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
            routes.push(Route { method: method.to_uppercase(), path: path.clone(), parameters });
        }
    }
    assert!(routes.len() > 40, "the description has every route and metric");
    routes
}

/// A request as it is sent.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    /// All that it says, in lower case: what of it comes back is told to nobody anew.
    pub fn words(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let headers = self.headers.iter().map(|(_, value)| value.as_str());
        [self.path.as_str(), &body].into_iter().chain(headers).collect::<Vec<_>>().join("\n").to_lowercase()
    }
}

/// What answers gave that can be sent again, by anybody.
#[derive(Default)]
pub struct Gleaned(Mutex<Vec<String>>, Mutex<Vec<(String, String)>>);

impl Gleaned {
    pub fn cursors(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }

    /// Paths with what tagged their answers.
    pub fn etags(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.1.lock().unwrap()
    }
}

/// Numbers by chance, the same for the same seed (`SplitMix64`).
pub struct Dice(pub u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const JUNK: [&str; 12] = [
    "",
    "-1",
    "0",
    "1e400",
    "null",
    "%00",
    "%FF",
    "';--",
    "../../etc/passwd",
    "CAST(customer_name AS INT)",
    "10/amount",
    "2024-02-30",
];
const ZONES: [&str; 4] = ["UTC", "Africa/Nairobi", "Pacific/Auckland", "Mars/Phobos"];
const FORMATS: [&str; 6] = ["json", "ndjson", "csv", "arrow", "parquet", "xml"];

/// What of it may be told is told by its rows alone, whatever becomes of the rest.
const SQL: [&str; 14] = [
    "SELECT * FROM payments",
    "SELECT * FROM projects",
    "SELECT * FROM sites",
    "SELECT * FROM uploads",
    "SELECT customer_name, notes, reference_id FROM payments WHERE customer_id > 'a'",
    "SELECT CAST(customer_id AS INT) FROM payments",
    "SELECT CAST(notes AS INT) FROM payments",
    "SELECT CAST(location AS DATE), amount / 0 FROM payments",
    "SELECT 1 / (amount - 100) FROM payments WHERE meter_id <> ''",
    "SELECT site, min(customer_name), max(meter_id), string_agg(payment_id, '-') FROM payments GROUP BY site",
    "SELECT customer_nam FROM payments",
    "SELECT p.serial_number FROM payments p JOIN uploads u ON u.upload_id = p.upload_id ORDER BY p.utility_id LIMIT 1",
    "SELECT count(*) FROM payments a JOIN payments b ON a.customer_id = b.meter_id",
    "SELECT x FROM",
];

/// Makes requests of one asker after the other.
pub struct Inquirer<'a> {
    pub world: &'a World,
    pub gleaned: &'a Gleaned,
    pub dice: Dice,
}

impl Inquirer<'_> {
    /// A request to a route. A calm one is right as far as its asker may; any other has anything in it.
    pub fn ask(&mut self, route: &Route, asker: &Asker, is_calm: bool) -> Asked {
        let reads = route.method == "GET";
        // What would change something is never about one's own.
        let owner = |owner: char| reads || owner != asker.owner;
        let path = self.path(route, &owner, asker, is_calm);
        let mut asked = Asked { method: route.method.clone(), path, ..Asked::default() };
        let query = self.query(route, asker, is_calm);
        if !query.is_empty() {
            asked.path = format!("{}?{}", asked.path, query.join("&"));
        }
        if !reads {
            self.fill(&mut asked, route, asker);
        }
        let etags = self.gleaned.etags();
        if reads && !is_calm && !etags.is_empty() && self.dice.one_in(4) {
            // What somebody was answered, asked for by anybody: with its tag it is not to be known by others.
            let (path, etag) = self.dice.pick(&etags).clone();
            return Asked { path, headers: vec![("if-none-match", etag)], ..asked };
        }
        asked
    }

    fn path(&mut self, route: &Route, owner: &impl Fn(char) -> bool, asker: &Asker, is_calm: bool) -> String {
        let mut path = String::new();
        for (at, part) in route.path.split('{').enumerate() {
            let Some((name, rest)) = part.split_once('}').filter(|_| at > 0) else {
                path += part;
                continue;
            };
            let reads = route.method == "GET";
            let own = |of: char| if reads && is_calm { of == asker.owner } else { owner(of) };
            let of_path = match name {
                "slug" if path.starts_with("/v1/organisations") => some(&self.world.organisations, own),
                "slug" | "project" => some(&self.world.projects, own),
                "programme" => some(&self.world.programmes, own),
                "name" => some(&self.world.saved, own),
                _ => {
                    let prefix = match route.path.as_str() {
                        _ if name == "prefix" => "",
                        _ if name == "external_id" => "zqx",
                        _ if name == "run" => "vrf_",
                        path if path.contains("/shares/") => "shr_",
                        path if path.contains("/queries/") => "qry_",
                        _ => "upl_",
                    };
                    let fits = |text: &str| if prefix.is_empty() { text.len() == 8 } else { text.starts_with(prefix) };
                    let given = self.world.given.iter().filter(|given| own(given.owner) && fits(&given.text));
                    given.map(|given| given.text.clone()).collect()
                }
            };
            let value = if of_path.is_empty() || (!is_calm && self.dice.one_in(8)) {
                // Any word may name what is one's own.
                if reads { self.word() } else { self.canary() }
            } else {
                self.dice.pick(&of_path).clone()
            };
            path = path + &value + rest;
        }
        path
    }

    fn query(&mut self, route: &Route, asker: &Asker, is_calm: bool) -> Vec<String> {
        let mut query = Vec::new();
        if route.path == "/v1/uploads" && route.method != "GET" {
            // Nothing that lands.
            query.push("dry_run=true".to_owned());
            query.push(format!("project={}", self.dice.pick(&self.world.projects).1));
            query.push(format!("dataset_name={}", self.word()));
            return query;
        }
        if route.path == "/v1/sql" && route.method == "GET" {
            query.push(format!("q={}", self.sql()));
        }
        if route.method != "GET" || is_calm {
            return query;
        }
        for name in route.parameters.iter().filter(|name| *name != "q") {
            if self.dice.one_in(3) {
                let value = self.value(name, asker);
                query.push(format!("{name}={value}"));
            }
        }
        if self.dice.one_in(20) {
            query.push(format!("{}={}", self.word(), self.word()));
        }
        query
    }

    /// A word of anybody: a canary, a slug, an id, or nothing that makes sense.
    fn word(&mut self) -> String {
        let world = self.world;
        match self.dice.below(7) {
            4 => self.dice.pick(&world.programmes).1.clone(),
            0 => (*self.dice.pick(&JUNK)).to_owned(),
            1 => self.dice.pick(&world.organisations).1.clone(),
            2 => self.dice.pick(&world.projects).1.clone(),
            3 => {
                let given = self.dice.pick(&world.given);
                // A secret is nothing that anybody else knows.
                if given.owner == '-' { "wl_aaaaaaaa".to_owned() } else { given.text.clone() }
            }
            _ => self.canary(),
        }
    }

    fn sql(&mut self) -> String {
        let sql = *self.dice.pick(&SQL);
        if self.dice.one_in(5) { format!("{sql} WHERE site = '{}'", self.canary()) } else { sql.to_owned() }
    }

    /// A canary of rows, as far as one can be thought of: of a file of somebody, or one that is nowhere.
    fn canary(&mut self) -> String {
        let owner = *self.dice.pick(&['a', 'b', 'c']);
        let what = self.dice.pick(COLUMNS).0;
        let number = self.dice.below(2000);
        canary(owner, *self.dice.pick(&[place::ROW, place::OTHER, '0']), what, number)
    }

    fn value(&mut self, name: &str, asker: &Asker) -> String {
        let world = self.world;
        if self.dice.one_in(10) {
            return self.word();
        }
        match name {
            "project" => self.dice.pick(&world.projects).1.clone(),
            "organisation" | "recipient" => self.dice.pick(&world.organisations).1.clone(),
            "from" => format!("202{}-0{}", self.dice.pick(&[0, 4, 4, 4]), 1 + self.dice.below(6)),
            "to" => format!("202{}-0{}", self.dice.pick(&[4, 4, 4, 6]), 1 + self.dice.below(7)),
            "tz" => (*self.dice.pick(&ZONES)).to_owned(),
            "grain" => (*self.dice.pick(&["day", "week", "month", "quarter", "year", "all", "hour"])).to_owned(),
            "format" => (*self.dice.pick(&FORMATS)).to_owned(),
            "currency" => (*self.dice.pick(&["KES", "USD"])).to_owned(),
            "limit" => (*self.dice.pick(&["1", "2", "3", "200", "1000000", "0"])).to_owned(),
            "days" => (*self.dice.pick(&["1", "3650", "x"])).to_owned(),
            "order" => {
                (*self.dice.pick(&["customer_id", "-amount", "project", "customer_name", "meter_id", "payments"]))
                    .to_owned()
            }
            "as_of" => (*self.dice.pick(&["3", "9", "14", "99", "2024-01-01T00:00:00Z"])).to_owned(),
            "direction" => (*self.dice.pick(&["given", "received"])).to_owned(),
            "status" => (*self.dice.pick(&["committed", "deleted", "rejected"])).to_owned(),
            "action" => (*self.dice.pick(&["metric.read", "upload.create", "share.create", "project.list"])).to_owned(),
            "cursor" => {
                let cursors = self.gleaned.cursors();
                if cursors.is_empty() { asker.role.to_owned() } else { self.dice.pick(&cursors).clone() }
            }
            _ => self.word(),
        }
    }

    /// The body of what would change something.
    fn fill(&mut self, asked: &mut Asked, route: &Route, asker: &Asker) {
        let world = self.world;
        if route.path == "/v1/uploads" {
            let file = &self.dice.pick(&world.files).1;
            asked.body.clone_from(file);
            asked.headers.push(("content-type", "text/csv".to_owned()));
            if self.dice.one_in(2) {
                asked
                    .headers
                    .push(("idempotency-key", self.word().replace(|c: char| !c.is_ascii_alphanumeric(), "x") + "k"));
            }
            return;
        }
        let others = |of: char| of != asker.owner;
        let organisation = self.dice.pick(&some(&world.organisations, others)).clone();
        // Of anybody: a slug that is taken makes nothing.
        let project = self.dice.pick(&world.projects).1.clone();
        let programme = self.dice.pick(&world.programmes).1.clone();
        let theirs = self.dice.pick(&some(&world.projects, others)).clone();
        let uploads: Vec<&str> =
            world.given.iter().filter(|given| others(given.owner)).map(|given| given.text.as_str()).collect();
        let uploads = [*self.dice.pick(&uploads), *self.dice.pick(&uploads)];
        let uploads =
            uploads.map(|text| if text.starts_with("upl_") { text } else { "upl_00000000000000000000000000000000" });
        let word = self.word();
        let body = match route.path.as_str() {
            "/v1/organisations" => json!({"slug": organisation, "name": word}),
            "/v1/keys" => json!({"name": word, "role": "viewer", "organisation": organisation}),
            "/v1/projects" => {
                json!({"slug": project, "name": word, "kind": "shs", "currency": "KES", "time_zone": "UTC", "country": "KE"})
            }
            "/v1/programmes" => {
                json!({"slug": programme, "name": word, "rule": {"window": {"kind": "before_as_of", "days": 9}}})
            }
            path if path.ends_with("/submissions") => json!({"project": theirs}),
            path if path.ends_with("/submissions/paid") => {
                json!({"connections": [{"project": theirs, "external_id": word}]})
            }
            path if path.ends_with("/verifications") => json!({"dry_run": true, "projects": [theirs]}),
            path if path.ends_with("/enrolments") => json!({"project": theirs, "version": 1, "consent": true}),
            "/v1/uploads/delete" => json!({"uploads": uploads}),
            "/v1/sql" => json!({"sql": self.sql(), "format": self.dice.pick(&FORMATS[..5])}),
            path if path.ends_with("/shares") => json!({"recipient": organisation, "detail": "full", "note": word}),
            path if path.contains("/shares/") => json!({"note": word, "months_to": null}),
            path if path.ends_with("/rotate") => json!({"overlap_s": 60}),
            _ => json!({"name": word, word: 1}),
        };
        asked.body = body.to_string().into_bytes();
        asked.headers.push(("content-type", "application/json".to_owned()));
    }
}

/// The names of those whose owner is wanted.
fn some(of: &[(char, String)], wanted: impl Fn(char) -> bool) -> Vec<String> {
    of.iter().filter(|(owner, _)| wanted(*owner)).map(|(_, name)| name.clone()).collect()
}
