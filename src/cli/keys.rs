//! `wattlake keys`.

use clap::Subcommand;
use serde_json::json;

use super::{
    Failure,
    output::{say, say_json, say_table},
};
use crate::{
    access::Role,
    catalog::{ApiKey, Catalog, checked_name},
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Make a key. It is shown once.
    Create {
        /// What the key may do: admin.
        #[arg(long)]
        role: Role,
        /// Who or what it is for.
        #[arg(long, value_parser = checked_name)]
        name: String,
    },
    /// List all keys, without their secrets.
    List,
    /// Revoke a key: it fails from the next request on.
    Revoke {
        /// The eight letters after wl_.
        prefix: String,
    },
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { role, name } => {
                let new = catalog.create_key(&name, role).await?;
                if json {
                    return say_json(&json!({"key": new.secret, "prefix": new.key.prefix, "name": new.key.name,
                        "role": new.key.role, "created_at": new.key.created_at}));
                }
                say(&new.secret)
            }
            Self::List => {
                let keys = catalog.keys().await?;
                if json { say_json(&keys) } else { list(&keys) }
            }
            Self::Revoke { prefix } => {
                let key = catalog.revoke_key(&prefix).await?;
                if json { say_json(&key) } else { say(&format!("{} ({}) is revoked", key.prefix, key.name)) }
            }
        }
    }
}

fn list(keys: &[ApiKey]) -> Result<(), Failure> {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.prefix.clone(),
                key.role.as_str().to_owned(),
                key.name.clone(),
                time(key.created_at),
                key.last_used_at.map_or("never".to_owned(), time),
                key.revoked_at.map_or("-".to_owned(), time),
            ]
        })
        .collect();
    say_table(["PREFIX", "ROLE", "NAME", "CREATED (UTC)", "LAST USED", "REVOKED"], &rows)
}
