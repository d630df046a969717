//! Who may do what, with what: every route of the router, asked by every role for its own, a foreign and an absent thing, and
//! for those of a project that is shared with its organisation, was, or is no more.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wattlake::{
    access::{Detail, MonthRange, Permission, Role},
    catalog::{KeyTerms, NewEnrolment, NewKey, NewProgramme, NewShare, SavedText},
    ids::{ProgrammeSlug, ProjectSlug},
};

use crate::harness::{Admin, Answer, Holder, TestServer, Upload, file, project, row};

/// What a route answers to `admin`, `manager`, `analyst`, `viewer` and `uploader`: to each for its own thing, a foreign one
/// and one that is absent; a fourth status is for one of a project that is shared, where that is not as foreign. One status
/// stands for all, and `open` for a route that asks for no key. Nothing is foreign to an administrator, and what is shared no
/// more is as absent to everybody else. A route without a line fails the test.
const TABLE: &[(&str, &str)] = &[
    ("GET /healthz", "open"),
    ("GET /readyz", "open"),
    ("GET /v1/openapi.json", "open"),
    ("GET /metrics", "200 403 403 403 403"),
    ("GET /v1/organisations", "200 200 200 200 200"),
    ("POST /v1/organisations", "201 403 403 403 403"),
    ("GET /v1/organisations/{slug}", "200/200/404 200/404/404 200/404/404 200/404/404 200/404/404"),
    ("PATCH /v1/organisations/{slug}", "200/200/404 403/404/404 403/404/404 403/404/404 403/404/404"),
    ("GET /v1/keys", "200 200 403 403 403"),
    ("POST /v1/keys", "201/201/404 201/404/404 403 403 403"),
    ("DELETE /v1/keys/{prefix}", "200/200/404 200/404/404 404 404 404"),
    ("POST /v1/keys/{prefix}/rotate", "201/201/404 201/404/404 404 404 404"),
    ("GET /v1/projects", "200 200 200 200 403"),
    ("POST /v1/projects", "201/201/404 201/404/404 403 403 403"),
    ("GET /v1/projects/{slug}", "200/200/404 200/404/404/200 200/404/404/200 200/404/404/200 403/404/404"),
    ("PATCH /v1/projects/{slug}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("GET /v1/projects/{slug}/shares", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("POST /v1/projects/{slug}/shares", "201/201/404 201/404/404 403/404/404 403/404/404 403/404/404"),
    ("PATCH /v1/projects/{slug}/shares/{id}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("DELETE /v1/projects/{slug}/shares/{id}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("GET /v1/projects/{slug}/connections", "200/200/404 200/404/404 200/404/404 403/404/404 403/404/404"),
    ("POST /v1/projects/{slug}/connections", "200/200/404 200/404/404 403/404/404 403/404/404 200/404/404"),
    (
        "GET /v1/projects/{slug}/connections/{external_id}",
        "200/200/404 200/404/404 200/404/404 403/404/404 403/404/404",
    ),
    (
        "PATCH /v1/projects/{slug}/connections/{external_id}",
        "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404",
    ),
    (
        "DELETE /v1/projects/{slug}/connections/{external_id}",
        "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404",
    ),
    ("GET /v1/shares", "200 200 200 200 403"),
    ("GET /v1/programmes", "200 200 200 200 403"),
    ("POST /v1/programmes", "201/201/404 201/404/404 403 403 403"),
    // Where a project is shared, its organisation's programme invites the caller's.
    ("GET /v1/programmes/{programme}", "200/200/404 200/404/404/200 200/404/404/200 200/404/404/200 403/404/404/403"),
    ("PATCH /v1/programmes/{programme}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    (
        "GET /v1/programmes/{programme}/versions",
        "200/200/404 200/404/404/200 200/404/404/200 200/404/404/200 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/enrolments",
        "200/200/404 200/404/404/200 200/404/404/200 200/404/404/200 403/404/404/403",
    ),
    (
        "POST /v1/programmes/{programme}/enrolments",
        "201/201/404 201/404/404/201 403/404/404/403 403/404/404/403 403/404/404/403",
    ),
    (
        "DELETE /v1/programmes/{programme}/enrolments/{project}",
        "200/200/404 200/404/404/200 403/404/404/403 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/submissions",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    (
        "POST /v1/programmes/{programme}/submissions",
        "201/201/404 201/404/404/201 403/404/404/403 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/submissions/{project}/{external_id}",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    // What was submitted does not pay.
    ("POST /v1/programmes/{programme}/submissions/paid", "409/409/404 409/404/404 403/404/404 403/404/404 403/404/404"),
    (
        "GET /v1/programmes/{programme}/verifications",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    (
        "POST /v1/programmes/{programme}/verifications",
        "202/202/404 202/404/404/202 403/404/404/403 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/verifications/{run}",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/verifications/{run}/verdicts",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/verifications/{run}/verdicts/{project}/{external_id}",
        "200/200/404 200/404/404/200 200/404/404/200 403/404/404/403 403/404/404/403",
    ),
    // These are about connections of others too.
    (
        "POST /v1/programmes/{programme}/verifications/{run}/replay",
        "200/200/404 200/404/404/403 200/404/404/403 403/404/404/403 403/404/404/403",
    ),
    (
        "GET /v1/programmes/{programme}/verifications/{run}/report",
        "200/200/404 200/404/404/403 200/404/404/403 403/404/404/403 403/404/404/403",
    ),
    ("GET /v1/verification-key", "200 200 200 200 200"),
    ("GET /v1/uploads", "200/200/404 200/404/404 200/404/404 403 200/404/404"),
    ("POST /v1/uploads", "201/201/404 201/404/404 403 403 201/404/404"),
    ("PUT /v1/uploads", "201/201/404 201/404/404 403 403 201/404/404"),
    ("GET /v1/uploads/{id}", "200/200/404 200/404/404 200/404/404 403/404/404 200/404/404"),
    ("GET /v1/uploads/{id}/file", "200/200/404 200/404/404 200/404/404 403/404/404 200/404/404"),
    ("GET /v1/uploads/{id}/rejected.csv", "200/200/404 200/404/404 200/404/404 403/404/404 200/404/404"),
    ("DELETE /v1/uploads/{id}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("POST /v1/uploads/{id}/restore", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("POST /v1/uploads/{id}/purge", "200/200/404 403/404/404 403/404/404 403/404/404 403/404/404"),
    ("POST /v1/uploads/delete", "200/200/404 200/404/404 403 403 403"),
    ("GET /v1/metrics", "200 200 200 200 403"),
    ("GET /v1/metrics/{name}", "200/200/404 200/404/404/200 200/404/404/200 200/404/404/200 403"),
    ("GET /v1/sql", "200 200 200 403 403"),
    ("POST /v1/sql", "200 200 200 403 403"),
    ("GET /v1/sql/schema", "200 200 200 403 403"),
    ("GET /v1/queries", "200 200 200 403 403"),
    ("GET /v1/queries/{id}", "200/200/404 200/404/404 200/404/404 403/404/404 403/404/404"),
    ("GET /v1/queries/{id}/result", "200/200/404 200/404/404 200/404/404 403/404/404 403/404/404"),
    ("DELETE /v1/queries/{id}", "200/200/404 200/404/404 403/404/404 403/404/404 403/404/404"),
    ("GET /v1/queries/saved", "200/200/404 200/404/404 200/404/404 200/404/404 403"),
    ("GET /v1/queries/saved/{name}", "200/200/404 200/404/404 200/404/404 200/404/404 403"),
    ("PUT /v1/queries/saved/{name}", "200/200/404 200/404/404 200/404/404 403 403"),
    ("DELETE /v1/queries/saved/{name}", "204/204/404 204/404/404 204/404/404 403 403"),
    ("GET /v1/queries/saved/{name}/versions", "200/200/404 200/404/404 200/404/404 200/404/404 403"),
    ("GET /v1/audit", "200/200/404 200/404/404 403 403 403"),
    ("GET /v1/dataset-types", "200 200 200 200 200"),
    ("GET /v1/templates/ELECTRICITY_PAYMENT.csv", "200 200 200 200 200"),
    ("GET /v1/templates/CONNECTIONS.csv", "200 200 200 200 200"),
];

/// Whose a thing is: the last five are of projects of others, of which the caller's organisation is shown all months, in each
/// detail, was until the share expired, or was until it was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Foreign,
    Absent,
    Shared,
    Masked,
    Aggregate,
    Expired,
    Revoked,
}

impl Whose {
    const ALL: [Self; 8] = [
        Self::Own,
        Self::Foreign,
        Self::Absent,
        Self::Shared,
        Self::Masked,
        Self::Aggregate,
        Self::Expired,
        Self::Revoked,
    ];
    /// As the names of their things begin.
    const THERE: [(Self, &str); 7] = [
        (Self::Own, "own"),
        (Self::Foreign, "far"),
        (Self::Shared, "shr"),
        (Self::Masked, "msk"),
        (Self::Aggregate, "agg"),
        (Self::Expired, "exp"),
        (Self::Revoked, "rev"),
    ];

    /// Whether it is shown to the caller.
    fn is_shared(self) -> bool {
        matches!(self, Self::Shared | Self::Masked | Self::Aggregate)
    }

    /// In what detail it is shared, to whomever.
    fn detail(self) -> Detail {
        match self {
            Self::Masked => Detail::Masked,
            Self::Aggregate => Detail::Aggregate,
            _ => Detail::Full,
        }
    }
}

/// Whom projects are shared with that are not shared with the caller.
const INVESTOR: &str = "inv-org";

/// The things of one organisation. The names of all are equally long, so that answers that quote them are too.
#[derive(Clone)]
struct Side {
    organisation: String,
    project: String,
    upload: String,
    /// Another upload, which is deleted.
    deleted: String,
    /// A query in SQL whose result is kept, and one that may be cancelled.
    queries: [String; 2],
    /// A verification of its programme.
    run: String,
}

struct World {
    server: TestServer,
    keys: Vec<(Role, NewKey)>,
    /// In the order of [`Whose::THERE`].
    sides: Vec<Side>,
    absent: Side,
    made: Cell<usize>,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let mut keys = Vec::new();
        let mut sides = Vec::new();
        let body = json!({"slug": INVESTOR, "name": "N"});
        assert_eq!(server.admin().post("/v1/organisations", body).await.status, 201);
        for (_, name) in Whose::THERE {
            let (organisation, project) = (format!("{name}-org"), format!("{name}-project"));
            let body = json!({"slug": organisation, "name": "N"});
            assert_eq!(server.admin().post("/v1/organisations", body).await.status, 201);
            let manager = server.key_of(&organisation, Role::Manager).await;
            let uploader = server.key_of(&organisation, Role::Uploader).await;
            server.holder(&manager).make_project(&project).await;
            // With a rejected row each, so that there is something at every path.
            let sent = async |id: &str| {
                let upload =
                    Upload::new(&project, file(&[row(id, "1"), row("bad", "x")])).with("on_error", "skip_rows");
                server.holder(&uploader).commit(&upload).await["id"].as_str().unwrap().to_owned()
            };
            let queries = [kept_query(&server, &manager).await, kept_query(&server, &manager).await];
            let (upload, deleted) = (sent("A1").await, sent("A2").await);
            let gone = server.holder(&manager).delete(&format!("/v1/uploads/{deleted}")).await;
            assert_eq!(gone.status, 200, "{}", gone.text);
            sides.push(Side { organisation, project, upload, deleted, queries, run: String::new() });
            if keys.is_empty() {
                keys = vec![(Role::Manager, manager), (Role::Uploader, uploader)];
            }
        }
        for role in [Role::Analyst, Role::Viewer] {
            keys.push((role, server.key_of("own-org", role).await));
        }
        let (organisation, project) = ("non-org".to_owned(), "non-project".to_owned());
        let nothing = format!("upl_{}", "0".repeat(32));
        let no_query = || format!("qry_{}", "0".repeat(32));
        let queries = [no_query(), no_query()];
        let run = format!("vrf_{}", "0".repeat(32));
        let absent = Side { organisation, project, upload: nothing.clone(), deleted: nothing, queries, run };
        let mut world = Self { server, keys, sides, absent, made: Cell::new(0) };
        for whose in [Whose::Shared, Whose::Masked, Whose::Aggregate] {
            world.share(whose, "own-org", None).await;
        }
        world.share(Whose::Expired, "own-org", Some(Utc::now())).await;
        let revoked = world.share(Whose::Revoked, "own-org", None).await;
        world.server.catalog.revoke_share(&revoked.parse().unwrap()).await.unwrap();
        for (at, (whose, _)) in Whose::THERE.into_iter().enumerate() {
            world.make_programme(whose).await;
            world.sides[at].run = world.verify(whose).await;
        }
        world
    }

    /// Shares the project of a side, and gives the share's id.
    async fn share(&self, whose: Whose, recipient: &str, expires_at: Option<DateTime<Utc>>) -> String {
        let share = NewShare {
            project: self.side(whose).project.parse().unwrap(),
            recipient: recipient.parse().unwrap(),
            months: MonthRange::ALL,
            detail: whose.detail(),
            note: String::new(),
            expires_at,
            created_by: None,
        };
        self.server.catalog.create_share(share).await.unwrap().id.to_string()
    }

    fn holder(&self, role: Role) -> Holder<'_> {
        let key = self.keys.iter().find(|(of, _)| *of == role);
        key.map_or_else(|| self.server.admin(), |(_, key)| self.server.holder(key))
    }

    fn side(&self, whose: Whose) -> &Side {
        Whose::THERE.iter().zip(&self.sides).find(|((of, _), _)| *of == whose).map_or(&self.absent, |(_, side)| side)
    }

    /// A number that no other request has.
    fn number(&self) -> usize {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// A key of its own for each request, because requests end keys.
    async fn prefix(&self, whose: Whose) -> String {
        match whose {
            Whose::Absent => "aaaaaaaa".to_owned(),
            _ => self.server.key_of(&self.side(whose).organisation, Role::Viewer).await.key.prefix,
        }
    }

    /// A share of its own for each request, because requests end shares; of what is shared, one that the caller receives.
    async fn share_id(&self, whose: Whose) -> String {
        match whose {
            Whose::Absent => format!("shr_{}", "0".repeat(32)),
            shown if shown.is_shared() => self.share(whose, "own-org", None).await,
            _ => self.share(whose, INVESTOR, None).await,
        }
    }

    /// What a side's organisation has saved, where it is there.
    async fn save_query(&self, whose: Whose) {
        if whose != Whose::Absent {
            let (organisation, name) = (self.side(whose).organisation.parse().unwrap(), SAVED.parse().unwrap());
            let saved = saved_text();
            self.server.catalog.save_query(&organisation, &name, saved, "matrix", 9).await.unwrap();
        }
    }

    /// A programme of a side's organisation, in which a project takes part.
    async fn make_programme(&self, whose: Whose) {
        let programme = NewProgramme {
            slug: self.programme(whose),
            organisation: self.side(whose).organisation.parse().ok(),
            name: "N".to_owned(),
            required_columns: Vec::new(),
            rule: serde_json::from_value(rule()).unwrap(),
            invited: whose.is_shared().then(|| "own-org".parse().unwrap()).into_iter().collect(),
            created_by: None,
        };
        self.server.catalog.create_programme(programme).await.unwrap();
        let (programme, project) = (self.programme(whose), self.enrolled(whose));
        self.server.catalog.enrol(NewEnrolment { programme, project, version: 1, enrolled_by: None }).await.unwrap();
    }

    /// Verifies a connection that takes part in a side's programme, and gives the run's id.
    async fn verify(&self, whose: Whose) -> String {
        let (admin, programme, project) = (self.server.admin(), self.programme(whose), self.enrolled(whose));
        let connection = json!({"connections": [{"external_id": SUBMITTED}]});
        let sent = admin.post(&format!("/v1/projects/{project}/connections"), connection).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let wanted = [SUBMITTED.to_owned()];
        self.server.catalog.submit(&programme, &project, Some(&wanted), "matrix", 9).await.unwrap();
        let begun = admin.post(&format!("/v1/programmes/{programme}/verifications"), json!({})).await;
        assert_eq!(begun.status, 202, "{}", begun.text);
        while admin.get(begun.header("location")).await.body["verification"]["state"] == "running" {
            tokio::task::yield_now().await;
        }
        begun.body["id"].as_str().unwrap().to_owned()
    }

    fn programme(&self, whose: Whose) -> ProgrammeSlug {
        self.side(whose).organisation.replace("-org", "-programme").parse().unwrap()
    }

    /// The project that takes part in a side's programme: the caller's own, where that invites it.
    fn enrolled(&self, whose: Whose) -> ProjectSlug {
        let whose = if whose.is_shared() { Whose::Own } else { whose };
        self.side(whose).project.parse().unwrap()
    }

    /// A connection of its own for each request, because requests delete connections.
    async fn connection(&self, whose: Whose) -> String {
        let id = format!("meter-{:06}", self.number());
        if whose != Whose::Absent {
            let path = format!("/v1/projects/{}/connections", self.side(whose).project);
            let sent = self.server.admin().post(&path, json!({"connections": [{"external_id": id}]})).await;
            assert_eq!(sent.status, 200, "{}", sent.text);
        }
        id
    }

    /// Asks a route, and gives the names in the path beside the answer.
    async fn ask(&self, holder: &Admin<'_>, route: &Route, whose: Whose) -> (Answer, Vec<String>) {
        let side = self.side(whose);
        let prefix = if route.path.contains("{prefix}") { self.prefix(whose).await } else { String::new() };
        let connection = if route.path.ends_with("connections/{external_id}") {
            self.connection(whose).await
        } else {
            String::new()
        };
        let slug = if route.path.starts_with("/v1/organisations") { &side.organisation } else { &side.project };
        let id = match route.path.as_str() {
            path if path.ends_with("/shares/{id}") => self.share_id(whose).await,
            path if path.ends_with("/purge") => side.deleted.clone(),
            path if path.starts_with("/v1/queries/{id}") => {
                side.queries[usize::from(route.method == Method::DELETE)].clone()
            }
            _ => side.upload.clone(),
        };
        let path = route.path.replace("{slug}", slug).replace("{id}", &id).replace("{prefix}", &prefix);
        let of_saved = path.starts_with("/v1/queries/saved");
        if of_saved {
            self.save_query(whose).await;
        }
        let path = path.replace("{name}", if of_saved { SAVED } else { "revenue_per_site" });
        let (programme, enrolled) = (self.programme(whose), self.enrolled(whose));
        let submitted = path.starts_with("/v1/programmes/");
        let path =
            path.replace("{external_id}", if submitted { SUBMITTED } else { &connection }).replace("{run}", &side.run);
        let path = path.replace("{programme}", programme.as_str()).replace("{project}", enrolled.as_str());
        let query = match route.line.as_str() {
            "GET /v1/uploads" | "GET /v1/metrics/{name}" | "GET /v1/audit" => format!("?project={}", side.project),
            "POST /v1/uploads" | "PUT /v1/uploads" => format!("?project={}&dataset_name=d", side.project),
            // Of the forms one that does not say how long it took.
            line if of_saved && line.starts_with("PUT") => String::new(),
            "GET /v1/queries/saved/{name}" => format!("?format=csv&organisation={}", side.organisation),
            _ if of_saved => format!("?organisation={}", side.organisation),
            "GET /v1/queries/{id}/result" => "?format=csv".to_owned(),
            "GET /v1/sql" => "?format=csv&q=SELECT+count(*)+FROM+payments".to_owned(),
            _ => String::new(),
        };
        // One id for all, because it comes back in a header.
        let request = holder.request(route.method.clone(), &format!("{path}{query}")).header("x-request-id", "matrix");
        let number = self.number();
        if route.line.starts_with("POST") && submitted {
            // An earlier request has withdrawn it.
            let (programme, project) = (programme.clone(), enrolled.clone());
            let enrolment = NewEnrolment { programme, project, version: 1, enrolled_by: None };
            let _ = self.server.catalog.enrol(enrolment).await;
        }
        let request = match route.line.as_str() {
            "POST /v1/programmes" => {
                let slug = format!("r{number}");
                request.json(&json!({"slug": slug, "name": "N", "rule": rule(), "organisation": side.organisation}))
            }
            "POST /v1/programmes/{programme}/enrolments" => {
                // So that there is something to do.
                let _ = self.server.catalog.withdraw_enrolment(&programme, &enrolled).await;
                request.json(&json!({"project": enrolled, "version": 1, "consent": true}))
            }
            "POST /v1/programmes/{programme}/submissions" => request.json(&json!({"project": enrolled})),
            "POST /v1/programmes/{programme}/submissions/paid" => {
                let paid = json!({"project": enrolled, "external_id": SUBMITTED});
                request.json(&json!({"connections": [paid]}))
            }
            "POST /v1/programmes/{programme}/verifications" => request.json(&json!({"dry_run": true})),
            "POST /v1/organisations" => request.json(&json!({"slug": format!("o{number}"), "name": "N"})),
            "POST /v1/projects/{slug}/connections" => {
                request.header("content-type", "text/csv").body(format!("EXTERNAL_ID\nmeter-n{number}\n"))
            }
            "PATCH /v1/projects/{slug}/connections/{external_id}" => request.json(&json!({"site": "Hill"})),
            "POST /v1/projects/{slug}/shares" => request.json(&json!({"recipient": INVESTOR, "detail": "full"})),
            "PATCH /v1/projects/{slug}/shares/{id}" => request.json(&json!({"note": "N"})),
            "PATCH /v1/organisations/{slug}" | "PATCH /v1/projects/{slug}" | "PATCH /v1/programmes/{programme}" => {
                request.json(&json!({"name": "New"}))
            }
            "POST /v1/keys" => request.json(&json!({"name": "k", "role": "viewer", "organisation": side.organisation})),
            "POST /v1/keys/{prefix}/rotate" => request.json(&json!({"overlap_s": 60})),
            "POST /v1/projects" => {
                let mut body = project(&format!("p{number}"));
                body["organisation"] = json!(side.organisation);
                request.json(&body)
            }
            "POST /v1/uploads" | "PUT /v1/uploads" => {
                request.header("content-type", "text/csv").body(file(&[row(&format!("N{number}"), "1")]))
            }
            "POST /v1/sql" => request.json(&json!({"sql": "SELECT count(*) FROM payments", "format": "csv"})),
            "POST /v1/uploads/delete" => request.json(&json!({"uploads": [side.upload]})),
            "PUT /v1/queries/saved/{name}" => {
                let text = saved_text();
                request.json(&json!({"sql": text.sql, "organisation": side.organisation}))
            }
            _ => request,
        };
        let names = vec![
            side.organisation.clone(),
            side.project.clone(),
            id,
            prefix,
            connection,
            programme.to_string(),
            side.run.clone(),
        ];
        (Answer::of(request.send().await.unwrap()).await, names)
    }
}

/// Whether a role is enough for what was submitted, verified and reported.
fn role_reads(role: Role) -> bool {
    role.may(Permission::ReadConnections)
}

/// The code of what who takes part is refused of a verification, because it is about connections of others.
fn of_others(path: &str) -> Option<&'static str> {
    match path.rsplit('/').next() {
        Some("report") => Some("report_of_others"),
        Some("replay") => Some("replay_of_others"),
        _ => None,
    }
}

fn rule() -> Value {
    json!({"window": {"kind": "before_as_of", "days": 90}})
}

/// The id of what was submitted to every programme.
const SUBMITTED: &str = "submitted";

/// The name of what every organisation has saved.
const SAVED: &str = "saved";

fn saved_text() -> SavedText {
    let (description, sql) = (String::new(), "SELECT count(*) AS n FROM payments".to_owned());
    SavedText { description, sql, parameters: Vec::new(), columns: json!([]) }
}

/// A query of a key's whose result is kept.
async fn kept_query(server: &TestServer, key: &NewKey) -> String {
    let holder = server.holder(key);
    let request = holder.request(Method::POST, "/v1/sql").header("prefer", "respond-async");
    let request = request.json(&json!({"sql": "SELECT count(*) AS n FROM payments"}));
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.body["id"].as_str().unwrap().to_owned();
    loop {
        let query = holder.get(&format!("/v1/queries/{id}")).await.body;
        match query["state"].as_str().unwrap() {
            "succeeded" => return id,
            "queued" | "running" => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            _ => panic!("{query}"),
        }
    }
}

struct Route {
    /// As in [`TABLE`].
    line: String,
    method: Method,
    /// With the name of the metric, where it is one's own.
    path: String,
}

/// Every route, from the description, which is made from the router (`tests/it/openapi.rs` shows that it has all).
async fn routes(server: &TestServer) -> Vec<Route> {
    let document = server.anonymous().get("/v1/openapi.json").await.body;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"] {
            if item[method].is_object() {
                let of_metric = path.starts_with("/v1/metrics/");
                let line = if of_metric { "/v1/metrics/{name}" } else { path };
                let method = method.to_uppercase();
                let line = format!("{method} {line}");
                routes.push(Route { line, method: method.parse().unwrap(), path: path.clone() });
            }
        }
    }
    routes
}

/// The statuses of a line, by role and whose in the order of [`Whose::ALL`]; none for an open route.
fn expected(line: &str) -> Option<Vec<[u16; 8]>> {
    let cells = (line != "open").then(|| line.split(' '))?;
    let cells: Vec<[u16; 8]> = cells
        .map(|cell| {
            let statuses: Vec<u16> = cell.split('/').map(|status| status.parse().unwrap()).collect();
            match statuses[..] {
                [all] => [all; 8],
                [own, foreign, absent] => [own, foreign, absent, foreign, foreign, foreign, foreign, foreign],
                [own, foreign, absent, shared] => [own, foreign, absent, shared, shared, shared, foreign, foreign],
                _ => panic!("{cell} is one status, three or four"),
            }
        })
        .collect();
    assert_eq!(cells.len(), Role::ALL.len(), "{line}");
    for [_, foreign, absent, ..] in &cells[1..] {
        assert_eq!(foreign, absent, "{line}: what is foreign is as what is absent");
    }
    Some(cells)
}

fn table() -> BTreeMap<&'static str, &'static str> {
    let table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "a route has two lines");
    table
}

#[tokio::test]
async fn every_route_has_a_line_in_the_table_of_permissions_and_every_line_a_route() {
    let server = TestServer::start().await;
    let routes: BTreeSet<String> = routes(&server).await.into_iter().map(|route| route.line).collect();
    let lines: BTreeSet<String> = table().into_keys().map(str::to_owned).collect();
    assert_eq!(routes, lines, "each route needs a line that says who may ask it for what");
}

/// What can be seen of an answer: its status, its headers but the clock's, and its bytes.
fn seen(answer: &Answer) -> (StatusCode, BTreeMap<String, String>, String) {
    // Each query has an id of its own.
    let headers = answer.headers.iter().filter(|(name, _)| !["date", "x-wattlake-query-id"].contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    (answer.status, headers.collect(), answer.text.clone())
}

#[tokio::test]
async fn every_route_answers_every_role_as_the_table_says_and_foreign_is_as_absent_to_the_byte() {
    let world = World::new().await;
    let (table, mut wrong) = (table(), Vec::new());
    let catalogue = world.server.admin().get("/v1/metrics").await.body;
    // Of the last days, which one of them asks for by itself, nothing is shared.
    let add_up = catalogue["metrics"].as_array().unwrap().iter().filter(|metric| metric["over_aggregates"] != "no");
    let mut offered: Vec<String> =
        add_up.map(|metric| format!("/v1/metrics/{}", metric["name"].as_str().unwrap())).collect();
    assert!(!offered.is_empty());
    offered.push("/v1/metrics/{name}".to_owned());
    let needing = catalogue["metrics"].as_array().unwrap().iter().filter(|metric| metric["needs_connections"] == true);
    let needing: Vec<String> =
        needing.map(|metric| format!("/v1/metrics/{}", metric["name"].as_str().unwrap())).collect();
    assert!(!needing.is_empty());
    let of_metric = |route: &Route| route.line == "GET /v1/metrics/{name}";
    for route in routes(&world.server).await {
        let Some(cells) = expected(table[route.line.as_str()]) else { continue };
        for (role, statuses) in Role::ALL.into_iter().zip(cells) {
            let mut answers = Vec::new();
            for (whose, status) in Whose::ALL.into_iter().zip(statuses) {
                let (answer, names) = world.ask(&world.holder(role), &route, whose).await;
                // Of what is shared as aggregates, not every metric can be asked, and of what is shared none of connections.
                let not_shared = whose.is_shared() && needing.contains(&route.path);
                let beyond = whose == Whose::Aggregate && !offered.contains(&route.path) || not_shared;
                let too_detailed = beyond && status == 200 && of_metric(&route);
                let status = if too_detailed && role != Role::Admin { 403 } else { status };
                if answer.status.as_u16() != status {
                    wrong.push(format!(
                        "{} {} {role} {whose:?}: {} {}",
                        route.method, route.path, answer.status, answer.text
                    ));
                }
                if too_detailed && status == 403 {
                    answer.assert_problem(
                        403,
                        if not_shared { "connections_not_shared" } else { "shared_as_aggregates" },
                    );
                } else if let Some(code) = of_others(&route.path)
                    && answer.status == StatusCode::FORBIDDEN
                    && role_reads(role)
                {
                    answer.assert_problem(403, code);
                } else if answer.status == StatusCode::FORBIDDEN {
                    answer.assert_problem(403, "forbidden");
                    assert_eq!((&answer.body["role"], &answer.body["needed"][0]), (&json!(role), &json!("admin")));
                }
                answers.push((answer, names));
            }
            let (absent, named) = &answers[2];
            for (whose, (foreign, theirs)) in Whose::ALL.into_iter().zip(&answers) {
                if role == Role::Admin || whose.is_shared() || matches!(whose, Whose::Own | Whose::Absent) {
                    continue;
                }
                let mut told = seen(foreign);
                for (theirs, named) in theirs.iter().zip(named).filter(|(theirs, _)| !theirs.is_empty()) {
                    // The caller's own words may come back.
                    told.2 = told.2.replace(theirs.as_str(), named);
                }
                if told != seen(absent) {
                    let absent = seen(absent);
                    wrong.push(format!("{} {} {role} {whose:?}: {told:?} is not {absent:?}", route.method, route.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn no_route_that_asks_for_a_key_answers_a_revoked_or_expired_one_or_none_in_another_way() {
    let world = World::new().await;
    let server = &world.server;
    let mut ended = Vec::new();
    for role in Role::ALL {
        let organisation = (role != Role::Admin).then(|| "own-org".parse().unwrap());
        let terms = KeyTerms { role, organisation, ..KeyTerms::of_admin("ended") };
        let revoked = server.catalog.create_key(terms.clone()).await.unwrap();
        server.catalog.revoke_key(&revoked.key.prefix).await.unwrap();
        let expires_at = Some(chrono::Utc::now());
        ended.extend([revoked, server.catalog.create_key(KeyTerms { expires_at, ..terms }).await.unwrap()]);
    }
    let nobody = Admin::new(&server.address, "");
    let table = table();
    for route in routes(server).await {
        let (none, _) = world.ask(&nobody, &route, Whose::Own).await;
        if table[route.line.as_str()] == "open" {
            assert_eq!(none.status, 200, "{} {}", route.method, route.path);
            continue;
        }
        none.assert_problem(401, "unauthenticated");
        for key in &ended {
            for whose in [Whose::Own, Whose::Absent] {
                let (answer, _) = world.ask(&server.holder(key), &route, whose).await;
                assert_eq!(seen(&answer), seen(&none), "{} {} {}", route.method, route.path, key.key.role);
            }
        }
    }
}

/// Lists hold what a caller may see, and nothing else.
#[tokio::test]
async fn lists_hold_ones_own_and_nothing_foreign() {
    let world = World::new().await;
    let strange = [Whose::Foreign, Whose::Expired, Whose::Revoked].map(|whose| world.side(whose));
    for (role, path, own) in [
        (Role::Manager, "/v1/organisations", "own-org"),
        (Role::Uploader, "/v1/organisations", "own-org"),
        (Role::Manager, "/v1/keys", "own-org"),
        (Role::Viewer, "/v1/projects", "own-project"),
        (Role::Analyst, "/v1/uploads", world.side(Whose::Own).upload.as_str()),
        (Role::Uploader, "/v1/uploads", world.side(Whose::Own).upload.as_str()),
        (Role::Viewer, "/v1/projects", "shr-project"),
        (Role::Viewer, "/v1/shares", "shr-project"),
        (Role::Manager, "/v1/shares", "shr-project"),
        (Role::Viewer, "/v1/programmes", "own-programme"),
        (Role::Manager, "/v1/programmes", "shr-programme"),
        (Role::Viewer, "/v1/metrics/revenue_per_site", "own-project"),
        (Role::Viewer, "/v1/metrics/completeness", "own-project"),
        (Role::Manager, "/v1/audit", "own-project"),
    ] {
        let answer = world.holder(role).get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.text.contains(own), "{path}: {}", answer.text);
        for theirs in strange.iter().flat_map(|side| [&side.organisation, &side.project, &side.upload, &side.deleted]) {
            assert!(!answer.text.contains(theirs), "{path}: {}", answer.text);
        }
    }
    let all: Value = world.server.admin().get("/v1/organisations").await.body;
    let slugs: Vec<_> = all["organisations"].as_array().unwrap().iter().map(|one| one["slug"].clone()).collect();
    let there = ["agg", "exp", "far", "inv", "main", "msk", "own", "rev", "shr"];
    assert_eq!(slugs, there.map(|name| if name == "main" { name.to_owned() } else { format!("{name}-org") }));
}
