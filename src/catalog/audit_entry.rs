//! An entry of the audit log: who did what, from where, and what came of it; as it is written, as it is shown, and the hash
//! that chains it to the entry before.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    AuditView, CatalogError, from_micros,
    sealed::{to_i64, to_u64},
};
use crate::ids::{ProjectSlug, ShareId};

/// Characters of one text of an entry at most; what is longer is cut.
const MAX_TEXT: usize = 200;
/// Bytes of an entry's parameters at most.
const MAX_PARAMETERS: usize = 16 << 10;
/// Projects, and shares, of an entry that are shown at most.
const MAX_SHOWN: usize = 100;

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditActor {
    /// The holder of a key, by its public prefix.
    Key { prefix: String, organisation: Option<String> },
    /// A command on the server's machine.
    CommandLine,
    /// The server by itself.
    Server,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It is about to be done. What came of it stands in a later entry of the same request; where none follows, the process
    /// ended meanwhile.
    Begun,
    /// A request was answered with this status.
    Answered(u16),
    /// A request was given up by its sender before it was answered.
    Abandoned,
    /// A command, or the server's own doing, ended well.
    Done,
    /// It failed.
    Failed,
}

/// An entry as it is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    pub at: DateTime<Utc>,
    pub actor: AuditActor,
    /// Such as `upload.delete`.
    pub action: Cow<'static, str>,
    /// What it was done to, or with: an upload's id, a slug, a key's prefix, a metric.
    pub object: Option<String>,
    /// The projects that it concerns.
    pub projects: Vec<ProjectSlug>,
    /// The shares that made it possible, each with its project.
    pub shares: BTreeMap<ShareId, ProjectSlug>,
    /// What was asked for.
    pub parameters: Option<Value>,
    pub outcome: AuditOutcome,
    pub address: Option<IpAddr>,
    /// Of figures, that were given out.
    pub rows: Option<u64>,
    pub lake_version: Option<u64>,
    pub request_id: Option<String>,
}

impl AuditEntry {
    /// An entry of now that says no more than this.
    #[must_use]
    pub fn new(actor: AuditActor, action: impl Into<Cow<'static, str>>, outcome: AuditOutcome) -> Self {
        Self {
            at: super::now(),
            actor,
            action: action.into(),
            object: None,
            projects: Vec::new(),
            shares: BTreeMap::new(),
            parameters: None,
            outcome,
            address: None,
            rows: None,
            lake_version: None,
            request_id: None,
        }
    }

    /// Its projects as a JSON array, each once and in their order; `None` where there are none.
    pub(super) fn projects_text(&self) -> Option<String> {
        let mut slugs: Vec<&str> = self.projects.iter().map(ProjectSlug::as_str).collect();
        slugs.sort_unstable();
        slugs.dedup();
        (!slugs.is_empty()).then(|| Value::from(slugs).to_string())
    }

    /// Its shares as a JSON object, in the order of their ids; `None` where there are none.
    pub(super) fn shares_text(&self) -> Option<String> {
        (!self.shares.is_empty()).then(|| json!(self.shares).to_string())
    }
}

/// The columns of an entry.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) at: i64,
    actor: String,
    key_prefix: Option<String>,
    organisation: Option<String>,
    action: String,
    object: Option<String>,
    /// The SHA-256 of the text of its shares, in hexadecimal.
    pub(super) share: Option<String>,
    pub(super) scope: Option<i64>,
    parameters: Option<String>,
    outcome: String,
    status: Option<i64>,
    address: Option<String>,
    rows: Option<i64>,
    lake_version: Option<i64>,
    request_id: Option<String>,
    pub(super) hash: Vec<u8>,
}

impl Row {
    /// The columns of an entry, the hash aside; `scope` is the row of its projects.
    pub(super) fn of(entry: &AuditEntry, seq: i64, scope: Option<i64>) -> Self {
        let (actor, key_prefix, organisation) = match &entry.actor {
            AuditActor::Key { prefix, organisation } => ("key", Some(cut(prefix)), organisation.as_deref().map(cut)),
            AuditActor::CommandLine => ("command_line", None, None),
            AuditActor::Server => ("server", None, None),
        };
        let (outcome, status) = match entry.outcome {
            AuditOutcome::Begun => ("begun", None),
            AuditOutcome::Answered(status) => ("answered", Some(i64::from(status))),
            AuditOutcome::Abandoned => ("abandoned", None),
            AuditOutcome::Done => ("done", None),
            AuditOutcome::Failed => ("failed", None),
        };
        Self {
            seq,
            at: entry.at.timestamp_micros(),
            actor: actor.to_owned(),
            key_prefix,
            organisation,
            action: cut(&entry.action),
            object: entry.object.as_deref().map(cut),
            share: entry.shares_text().map(|text| hex::encode(Sha256::digest(text))),
            scope,
            parameters: entry.parameters.as_ref().map(parameters_text),
            outcome: outcome.to_owned(),
            status,
            address: entry.address.map(|address| address.to_string()),
            rows: entry.rows.map(to_i64),
            lake_version: entry.lake_version.map(to_i64),
            request_id: entry.request_id.as_deref().map(cut),
            hash: Vec::new(),
        }
    }

    /// The hash that an entry has behind one with the hash `previous`: the SHA-256 of a JSON array of that hash and of all of
    /// the entry's fields, without spaces. The projects and the shares are in it by the SHA-256 of their own texts.
    pub(super) fn hash_after(&self, previous: &[u8], projects_sha256: Option<&[u8]>) -> [u8; 32] {
        let fields = json!([
            hex::encode(previous),
            self.seq,
            self.at,
            self.actor,
            self.key_prefix,
            self.organisation,
            self.action,
            self.object,
            self.share,
            projects_sha256.map(hex::encode),
            self.parameters,
            self.outcome,
            self.status,
            self.address,
            self.rows,
            self.lake_version,
            self.request_id,
        ]);
        Sha256::digest(fields.to_string()).into()
    }

    /// The columns in their order, for a statement that takes many rows at once.
    pub(super) fn to_json(&self) -> Value {
        json!([
            self.seq,
            self.at,
            self.actor,
            self.key_prefix,
            self.organisation,
            self.action,
            self.object,
            self.share,
            self.scope,
            self.parameters,
            self.outcome,
            self.status,
            self.address,
            self.rows,
            self.lake_version,
            self.request_id,
            hex::encode(&self.hash),
        ])
    }
}

/// A text without what commands a terminal or ends a line, and not longer than it may be.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).take(MAX_TEXT).collect()
}

fn parameters_text(parameters: &Value) -> String {
    let text = parameters.to_string();
    if text.len() <= MAX_PARAMETERS {
        return text;
    }
    let begins: String = text.chars().take(MAX_PARAMETERS / 8).collect();
    json!({ "begins": begins, "bytes": text.len() }).to_string()
}

/// An entry as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its place in the log, from 1, without gaps.
    pub seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
    /// `key`, `command_line` or `server`.
    #[schema(example = "key")]
    pub actor: String,
    /// The start of the key; null where it was none.
    #[schema(required)]
    pub key: Option<String>,
    /// Of the key; null where it has none.
    #[schema(required)]
    pub organisation: Option<String>,
    #[schema(example = "upload.delete")]
    pub action: String,
    /// What it was done to, or with: an upload, a project, a key, a metric.
    #[schema(required)]
    pub object: Option<String>,
    /// The projects that it concerned and that the reader may see, the first 100 of them.
    pub projects: Vec<ProjectSlug>,
    /// How many these are.
    pub project_count: usize,
    /// The shares that it went by, as far as the reader may see their projects, the first 100 of them.
    pub shares: Vec<ShareId>,
    /// How many these are.
    pub share_count: usize,
    /// What was asked for; null for an organisation that sees an entry for one of its projects, where it is about others' too.
    #[schema(value_type = Option<Object>, required)]
    pub parameters: Option<Value>,
    /// `begun`: about to be done. `answered`, with a status. `abandoned` by the sender. `done` or `failed`, where it was no
    /// request.
    #[schema(example = "answered")]
    pub outcome: String,
    #[schema(required)]
    pub status: Option<u16>,
    /// Where the request came from; null for another organisation.
    #[schema(required)]
    pub address: Option<String>,
    /// Of figures, that were given out; null as the parameters are.
    #[schema(required)]
    pub rows: Option<u64>,
    /// The version of the lake that was read or made.
    #[schema(required)]
    pub lake_version: Option<u64>,
    #[schema(required)]
    pub request_id: Option<String>,
    /// SHA-256 of this entry and of the hash before, in hexadecimal.
    pub hash: String,
}

impl AuditRecord {
    /// `projects` and `shares` are the texts of the entry's sets of projects and of shares.
    pub(super) fn of(
        row: Row,
        projects: Option<&str>,
        shares: Option<&str>,
        view: Option<&AuditView>,
    ) -> Result<Self, CatalogError> {
        let unreadable = |what, value: &str| CatalogError::Unreadable { what, value: value.to_owned() };
        let mut slugs: Vec<ProjectSlug> = match projects {
            Some(text) => serde_json::from_str(text).map_err(|_| unreadable("projects of an entry", text))?,
            None => Vec::new(),
        };
        let all = slugs.len();
        let is_seen = |project: &ProjectSlug| view.is_none_or(|view| view.projects.contains(project));
        slugs.retain(is_seen);
        let project_count = slugs.len();
        // Parameters and rows are those of all projects.
        let is_whole = project_count == all;
        let is_own = view.is_none_or(|view| row.organisation.as_deref() == Some(&view.organisation));
        slugs.truncate(MAX_SHOWN);
        let shares: BTreeMap<ShareId, ProjectSlug> = match shares {
            Some(text) => serde_json::from_str(text).map_err(|_| unreadable("shares of an entry", text))?,
            None => BTreeMap::new(),
        };
        let mut shares: Vec<ShareId> = shares.into_iter().filter(|(_, of)| is_seen(of)).map(|(id, _)| id).collect();
        let share_count = shares.len();
        shares.truncate(MAX_SHOWN);
        let parameters =
            row.parameters.as_deref().filter(|_| is_whole).map(|text| {
                serde_json::from_str::<Value>(text).map_err(|_| unreadable("parameters of an entry", text))
            });
        let status = row
            .status
            .map(|status| u16::try_from(status).map_err(|_| unreadable("status of an entry", &status.to_string())));
        Ok(Self {
            seq: to_u64(row.seq),
            at: from_micros(row.at),
            actor: row.actor,
            key: row.key_prefix,
            organisation: row.organisation,
            action: row.action,
            object: row.object,
            projects: slugs,
            project_count,
            shares,
            share_count,
            parameters: parameters.transpose()?,
            outcome: row.outcome,
            status: status.transpose()?,
            address: row.address.filter(|_| is_own),
            rows: row.rows.filter(|_| is_whole).map(to_u64),
            lake_version: row.lake_version.map(to_u64),
            request_id: row.request_id,
            hash: hex::encode(row.hash),
        })
    }
}
