//! Connections that come, change and go, and payments that follow them. The connections are the truth, in the catalogue; what
//! the lake's rows show of them is derived.
//!
//! The new files of the lake are on disk before the catalogue changes, and the catalogue changes before the lake's commit. What
//! a failure leaves between the two is known by the number of the change, and made up for: at a start, now and then, and before
//! the next change.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{Days, NaiveDate, Utc};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::{Ingest, IngestError, blocking, conclude::NotLanded, folder::Folder, manifest::Manifest};
use crate::{
    catalog::{Connected, ConnectedMeters, ConnectionRecord, ConnectionsChange, OnError, Project},
    connections::{self, Connection, Decoded, Field, FieldFault},
    failpoints,
    ids::{ChangeId, ProjectSlug},
    lake::{self, Change, ChangeKind, Meters, Placement},
    payments::report::{Counts, RowError, Warning},
};

/// Connections of a file or of JSON, for one project.
pub struct ConnectionImport {
    pub project: Project,
    pub decoded: Decoded,
    pub on_error: OnError,
    /// Report, and change nothing.
    pub dry_run: bool,
}

/// What became of connections that came.
#[derive(Debug)]
pub struct ConnectionReport {
    pub counts: Counts,
    pub warnings: Vec<Warning>,
    /// The first errors, in the order of the file.
    pub errors: Vec<RowError>,
    /// Whether nothing of it was taken, or would be.
    pub refused: bool,
    /// The version of the lake from which on payments show what changed, where they show anything of it.
    pub lake_version: Option<u64>,
}

/// The last day that a connection may have which comes now: days begin elsewhere first.
#[must_use]
pub fn last_day() -> NaiveDate {
    let today = Utc::now().date_naive();
    today.checked_add_days(Days::new(1)).unwrap_or(today)
}

impl Ingest {
    /// One of the places for files that are received at once.
    ///
    /// # Errors
    /// [`IngestError::Busy`] where all are taken.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, IngestError> {
        let busy = |_| IngestError::Busy { limit: self.config.concurrency };
        self.places.clone().try_acquire_owned().map_err(busy)
    }

    /// Takes connections in, all of them in one change. Goes on to the end even if the caller stops waiting. Where it fails
    /// once the catalogue has them, the same again finds them there, and payments follow.
    pub async fn import_connections(
        self: &Arc<Self>,
        import: ConnectionImport,
    ) -> Result<ConnectionReport, IngestError> {
        let ingest = self.clone();
        let work = async move { ingest.take_connections(import).await };
        self.under_way.spawn(work).await.map_err(|_| IngestError::Stopped)?
    }

    async fn take_connections(&self, import: ConnectionImport) -> Result<ConnectionReport, IngestError> {
        let ConnectionImport { project, decoded, on_error, dry_run } = import;
        let _turn = self.lake.lock(&project.slug).await;
        let known = self.catalog.connection_contents(&project.slug).await?;
        let Decoded { read, rejected, repeated, connections, errors, warnings, unreadable } = decoded;
        let mut counts = Counts { read, rejected, duplicate: repeated, ..Counts::default() };
        let mut change = ConnectionsChange::default();
        for connection in connections {
            match known.get(connection.external_id()) {
                Some(content) if *content == connection.content() => {
                    counts.duplicate += 1;
                    continue;
                }
                Some(_) => counts.corrected += 1,
                None => counts.new += 1,
            }
            change.put.push(connection);
        }
        counts.accepted = counts.new + counts.corrected;
        let refused = unreadable || read == rejected || (rejected > 0 && on_error == OnError::RejectFile);
        let mut report = ConnectionReport { counts, warnings, errors, refused, lake_version: None };
        if !refused && !dry_run {
            report.lake_version = self.change_connections(&project, change).await?;
        }
        Ok(report)
    }

    /// Changes the fields of one connection that `fields` has.
    ///
    /// # Errors
    /// [`IngestError::NoConnection`], [`IngestError::WrongConnection`] with all that is wrong with the fields.
    pub async fn update_connection(
        self: &Arc<Self>,
        project: Project,
        id: String,
        fields: Map<String, Value>,
    ) -> Result<ConnectionRecord, IngestError> {
        let ingest = self.clone();
        let work = async move {
            let _turn = ingest.lake.lock(&project.slug).await;
            let before = ingest.known_connection(&project.slug, &id).await?;
            let wrong = |faults: Vec<FieldFault>| IngestError::WrongConnection(faults);
            let after = connections::changed(&before.connection, fields, last_day()).map_err(wrong)?;
            if after == before.connection {
                ingest.catch_up(&project).await?;
                return Ok(before);
            }
            let change = ConnectionsChange { put: vec![after], ..ConnectionsChange::default() };
            ingest.change_connections(&project, change).await?;
            ingest.known_connection(&project.slug, &id).await
        };
        self.under_way.spawn(work).await.map_err(|_| IngestError::Stopped)?
    }

    /// Takes one connection away, and gives what it was.
    ///
    /// # Errors
    /// [`IngestError::NoConnection`].
    pub async fn delete_connection(
        self: &Arc<Self>,
        project: Project,
        id: String,
    ) -> Result<ConnectionRecord, IngestError> {
        let ingest = self.clone();
        let work = async move {
            let _turn = ingest.lake.lock(&project.slug).await;
            let before = ingest.known_connection(&project.slug, &id).await?;
            let change = ConnectionsChange { removed: vec![id], ..ConnectionsChange::default() };
            ingest.change_connections(&project, change).await?;
            Ok(before)
        };
        self.under_way.spawn(work).await.map_err(|_| IngestError::Stopped)?
    }

    async fn known_connection(&self, project: &ProjectSlug, id: &str) -> Result<ConnectionRecord, IngestError> {
        self.catalog.connection(project, id).await?.ok_or(IngestError::NoConnection)
    }

    /// Makes a change of connections, and has the payments show it. Gives the version of the lake from which on they do, where
    /// any does. The caller holds the project's lock.
    async fn change_connections(
        &self,
        project: &Project,
        mut change: ConnectionsChange,
    ) -> Result<Option<u64>, IngestError> {
        // What is half in the lake is in it, or is not, before its rows are looked at.
        self.settle_projects(&BTreeSet::from([project.slug.clone()])).await?;
        self.catch_up(project).await?;
        if change.put.is_empty() && change.removed.is_empty() {
            return Ok(None);
        }
        let mut connected = self.catalog.connected_meters(&project.slug).await?;
        let changed = apply(&mut connected.meters, &change);
        if changed.is_empty() {
            self.catalog.change_connections(&project.slug, &change).await?;
            return Ok(None);
        }
        change.shown = true;
        connected.changes += 1;
        let id = ChangeId::new();
        let placement = self.place_connections(project, connected, Some(changed), &id).await?;
        let made = match self.catalog.change_connections(&project.slug, &change).await {
            Ok(made) => made,
            Err(error) => {
                self.lake.discard(&placement.added);
                return Err(error.into());
            }
        };
        failpoints::pass("connections::changed").map_err(IngestError::io("showing changed connections"))?;
        self.show(project, placement, id, made.unwrap_or_default()).await
    }

    /// Has the payments of a project show changes of its connections that they do not show yet. The caller holds its lock.
    async fn catch_up(&self, project: &Project) -> Result<(), IngestError> {
        if !self.catalog.projects_behind_connections().await?.contains(&project.slug) {
            return Ok(());
        }
        let connected = self.catalog.connected_meters(&project.slug).await?;
        let (made, id) = (connected.changes, ChangeId::new());
        let placement = self.place_connections(project, connected, None, &id).await?;
        self.show(project, placement, id, made).await.map(drop)
    }

    /// The same for all projects that are behind. What cannot be done now is tried again later.
    pub(super) async fn catch_up_all(&self) -> Result<(), IngestError> {
        for slug in self.catalog.projects_behind_connections().await? {
            let _turn = self.lake.lock(&slug).await;
            let Some(project) = self.catalog.project(&slug).await? else { continue };
            if let Err(error) = self.catch_up(&project).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(project = %slug, error, "its payments do not show its connections yet; it is tried again");
            }
        }
        Ok(())
    }

    async fn place_connections(
        &self,
        project: &Project,
        connected: ConnectedMeters,
        changed: Option<BTreeSet<String>>,
        id: &ChangeId,
    ) -> Result<Placement, IngestError> {
        let sites = self.catalog.upload_sites(&project.slug).await?;
        let meters = Meters::of(connected, sites, project.name.clone());
        let (lake, snapshot) = (self.lake.clone(), self.lake.snapshot());
        let (slug, id) = (project.slug.clone(), id.clone());
        let placed =
            blocking(move || Ok(lake::refresh(lake.root(), &snapshot, &slug, &id, &meters, changed.as_ref())?));
        placed.await.map_err(|error| self.noted(error))
    }

    /// Commits files that show the change `made` of a project's connections, and notes that they do.
    async fn show(
        &self,
        project: &Project,
        placement: Placement,
        id: ChangeId,
        made: u64,
    ) -> Result<Option<u64>, IngestError> {
        let mut version = None;
        if !placement.removed.is_empty() {
            let facts = vec![("project", project.slug.to_string())];
            let Placement { removed, added, .. } = placement;
            let change = Change { id, kind: ChangeKind::Connections, facts, removed, added, metadata: None };
            version = Some(self.commit(&change).await.map_err(NotLanded::into_error)?);
        }
        if let Err(error) = self.catalog.set_connections_shown(&project.slug, made).await {
            // They show it, so it is found out again, and nothing more is done.
            tracing::error!(project = %project.slug, %error, "the catalogue does not know yet what payments show");
        }
        Ok(version)
    }

    /// What the payments of a project are to show of its connections.
    pub async fn meters(&self, project: &ProjectSlug) -> Result<Meters, IngestError> {
        let connected = self.catalog.connected_meters(project).await?;
        if connected.changes == 0 {
            return Ok(Meters::none());
        }
        let name = self.catalog.project(project).await?.map_or_else(String::new, |project| project.name);
        Ok(Meters::of(connected, self.catalog.upload_sites(project).await?, name))
    }

    /// Notes the site of rows that name none, of uploads from before it was noted: their folders say it.
    pub(super) async fn note_upload_sites(&self) -> Result<(), IngestError> {
        for (upload, project) in self.catalog.uploads_without_site().await? {
            let folder = Folder::kept(&self.data_dir, &upload);
            let read = move || Manifest::read(&folder).map_err(IngestError::io("reading what the upload was told"));
            match blocking(read).await {
                Ok(manifest) => {
                    let site = manifest.default_site_of(&project);
                    self.catalog.record_upload_sites(&upload, &[(project, site)]).await?;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(%upload, error, "what the site is of its rows that name none is not known");
                }
            }
        }
        Ok(())
    }
}

/// Makes a change in what payments show, and gives the ids of the connections of which they show it.
fn apply(meters: &mut HashMap<String, Connected>, change: &ConnectionsChange) -> BTreeSet<String> {
    let of = |connection: &Connection, field| connection.get(field).map(str::to_owned);
    let mut changed = BTreeSet::new();
    for id in &change.removed {
        if meters.remove(id).is_some_and(|was| was != Connected::default()) {
            changed.insert(id.clone());
        }
    }
    for connection in &change.put {
        let now = Connected { site: of(connection, Field::Site), category: of(connection, Field::Category) };
        let id = connection.external_id();
        let was = meters.insert(id.to_owned(), now.clone()).unwrap_or_default();
        if was != now {
            changed.insert(id.to_owned());
        }
    }
    changed
}
