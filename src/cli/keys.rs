//! `wattlake keys`.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::json;

use super::{
    Failure,
    audit::Doing,
    orgs::named_by_flag,
    output::{say, say_json, say_table},
};
use crate::{
    access::Role,
    audit::note,
    catalog::{ApiKey, Catalog, KeyTerms, NewKey, checked_name},
    error::ErrorKind,
    ids::OrganisationSlug,
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Make a key. It is shown once.
    Create {
        /// What the key may do: admin, manager, analyst, viewer or uploader.
        #[arg(long)]
        role: Role,
        /// Who or what it is for.
        #[arg(long, value_parser = checked_name)]
        name: String,
        /// Of every role but admin: what it may see. Needed where there are several organisations.
        #[arg(long, value_name = "SLUG")]
        organisation: Option<OrganisationSlug>,
        /// How long it holds, such as 90d, 12h or 30m; until it is revoked where it is not said.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// List all keys, without their secrets.
    List,
    /// Revoke a key: it fails from the next request on.
    Revoke {
        /// The eight letters after wl_.
        prefix: String,
    },
    /// Make a key in the place of another, of the same name, role and organisation. Both hold for a while. It is shown once.
    Rotate {
        /// The eight letters after wl_.
        prefix: String,
        /// How long the old key still holds: at most `keys.max_overlap_days`, 30 by default.
        #[arg(long, value_name = "TIME", default_value = "1d")]
        overlap: Span,
    },
}

/// A length of time with its unit: `90d`, `12h`, `30m`, `45s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(Duration);

/// A hundred years, so that every sum with it is an instant.
const MAX_SPAN: Duration = Duration::from_hours(24 * 365 * 100);

impl Span {
    /// When it is over, if it begins now.
    pub(super) fn ends_at(self) -> DateTime<Utc> {
        Utc::now() + self.0
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a number and its unit are needed, such as 90d, 12h, 30m or 45s, up to 36500d";
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(wrong)?;
        let seconds = match unit {
            "d" => 24 * 3600,
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return Err(wrong),
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits).ok_or(wrong)?;
        let span = number.checked_mul(seconds).map(Duration::from_secs).filter(|span| *span <= MAX_SPAN);
        span.map(Self).ok_or(wrong)
    }
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// What it changes, for the audit log.
    pub(super) fn doing(&self) -> Option<Doing> {
        match self {
            Self::Create { .. } => Some(Doing("key.create", None)),
            Self::Revoke { prefix } => Some(Doing("key.revoke", Some(prefix.clone()))),
            Self::Rotate { prefix, .. } => Some(Doing("key.rotate", Some(prefix.clone()))),
            Self::List => None,
        }
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { role, name, organisation, expires_in } => {
                let expires_at = expires_in.map(Span::ends_at);
                let terms = KeyTerms { name, role, organisation, expires_at };
                let new = catalog.create_key(terms).await.map_err(named_by_flag)?;
                note(|learned| {
                    learned.object = Some(new.key.prefix.clone());
                    learned.parameters = Some(json!({ "role": new.key.role, "organisation": new.key.organisation }));
                });
                show_once(&new, json)
            }
            Self::List => {
                let keys = catalog.keys().await?;
                if json { say_json(&keys) } else { list(&keys) }
            }
            Self::Revoke { prefix } => {
                let key = catalog.revoke_key(&prefix).await?;
                if json { say_json(&key) } else { say(&format!("{} ({}) is revoked", key.prefix, key.name)) }
            }
            Self::Rotate { prefix, overlap: Span(overlap) } => {
                let most = catalog.limits().overlap;
                if overlap > most {
                    let days = most.as_secs() / (24 * 3600);
                    let told = format!("--overlap is at most {days}d, says keys.max_overlap_days");
                    return Err(Failure::new(ErrorKind::Invalid, &told));
                }
                let new = catalog.rotate_key(&prefix, overlap).await?.new;
                note(|learned| learned.parameters = Some(json!({ "replaced_by": new.key.prefix })));
                show_once(&new, json)
            }
        }
    }
}

fn show_once(new: &NewKey, as_json: bool) -> Result<(), Failure> {
    if !as_json {
        return say(&new.secret);
    }
    let key = &new.key;
    say_json(&json!({"key": new.secret, "prefix": key.prefix, "name": key.name, "role": key.role,
        "organisation": key.organisation, "created_at": key.created_at, "expires_at": key.expires_at,
        "rotated_from": key.rotated_from}))
}

fn list(keys: &[ApiKey]) -> Result<(), Failure> {
    let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let or_none = |at: Option<DateTime<Utc>>| at.map_or("-".to_owned(), time);
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.prefix.clone(),
                key.role.as_str().to_owned(),
                key.organisation.as_ref().map_or("-".to_owned(), ToString::to_string),
                key.name.clone(),
                time(key.created_at),
                or_none(key.expires_at),
                key.last_used_at.map_or("never".to_owned(), time),
                or_none(key.revoked_at),
            ]
        })
        .collect();
    let headers = ["PREFIX", "ROLE", "ORGANISATION", "NAME", "CREATED (UTC)", "EXPIRES", "LAST USED", "REVOKED"];
    say_table(headers, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_its_unit() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0.as_secs());
        assert_eq!((span("90d"), span("12h"), span("30m"), span("0s")), (Ok(7_776_000), Ok(43_200), Ok(1800), Ok(0)));
        for wrong in ["", "d", "90", "1.5d", "-1d", "+1d", "90 d", "1w", "1é", "36501d", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
