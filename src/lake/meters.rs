//! What payments show of the connection of their meter: its site and its category. Rows are given it where they are written,
//! so that a query need not know of connections; files that were written before are written again where it changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, new_null_array},
    compute::cast,
    datatypes::DataType,
    error::ArrowError,
};

use super::{
    FileNames, LakeError, LakeFile, Placement, Snapshot, discard,
    file::{self, Part},
    materialise::{Input, Wanted, materialise},
    pass, verify,
};
use crate::{
    catalog::{Connected, ConnectedMeters},
    ids::{ChangeId, Month, ProjectSlug, UploadId},
    payments::schema::{CUSTOMER_CATEGORY, FILE_SCHEMA},
};

/// The columns that say what a row shows, and what it is to show.
const READ: [&str; 5] = ["site", "meter_id", "location", "upload_id", CUSTOMER_CATEGORY];

/// The connections of a project, as far as its payments show them.
#[derive(Debug, Default)]
pub struct Meters {
    connected: ConnectedMeters,
    /// By upload, the site of rows that have neither a connection with a site nor a LOCATION.
    default_sites: HashMap<String, String>,
    /// The same for an upload of which that is not known.
    project_name: String,
}

/// What the rows of a batch are to show.
struct Shown {
    site: ArrayRef,
    category: ArrayRef,
}

impl Meters {
    /// Of a project that never had a connection: every row shows what it came with.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn of(connected: ConnectedMeters, default_sites: HashMap<String, String>, project_name: String) -> Self {
        Self { connected, default_sites, project_name }
    }

    /// With the site of an upload that is not known yet.
    #[must_use]
    pub fn with_upload(mut self, upload: &UploadId, site: &str) -> Self {
        self.default_sites.insert(upload.to_string(), site.to_owned());
        self
    }

    /// How many changes of connections it is made of.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.connected.changes
    }

    /// Rows with the site and the category of their connections, in the columns of [`FILE_SCHEMA`]; they may come from a file
    /// from before there was a category.
    pub fn shown_in(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let is_of_today = batch.num_columns() == FILE_SCHEMA.fields().len();
        if self.connected.changes == 0 && is_of_today {
            return Ok(batch);
        }
        let shown = self.shown(&batch)?;
        let column = |name: &str| match name {
            "site" => Ok(Arc::clone(&shown.site)),
            CUSTOMER_CATEGORY => Ok(Arc::clone(&shown.category)),
            name => text_or_as_it_is(&batch, name),
        };
        let columns = FILE_SCHEMA.fields().iter().map(|field| column(field.name()));
        RecordBatch::try_new(FILE_SCHEMA.clone(), columns.collect::<Result<Vec<_>, ArrowError>>()?)
    }

    /// Whether every row of a file shows its connection as it is.
    pub(super) fn agree_with(&self, path: &Path) -> Result<bool, LakeError> {
        if self.connected.changes == 0 {
            return Ok(true);
        }
        for batch in file::read(path, Part { columns: Some(&READ), rows: None })? {
            let batch = batch?;
            let shown = self.shown(&batch)?;
            let category = batch.column_by_name(CUSTOMER_CATEGORY);
            let category = category.map_or_else(
                || shown.category.null_count() == shown.category.len(),
                |category| category.as_ref() == shown.category.as_ref(),
            );
            if !category || text(&batch, "site")?.as_ref() != shown.site.as_ref() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn shown(&self, batch: &RecordBatch) -> Result<Shown, ArrowError> {
        if self.connected.changes == 0 {
            let category = batch.column_by_name(CUSTOMER_CATEGORY).cloned();
            let category = category.unwrap_or_else(|| new_null_array(&DataType::Utf8, batch.num_rows()));
            return Ok(Shown { site: text(batch, "site")?, category });
        }
        let (meters, locations) = (text(batch, "meter_id")?, text(batch, "location")?);
        let uploads = text(batch, "upload_id")?;
        let (meters, locations) = (meters.as_string::<i32>(), locations.as_string::<i32>());
        let uploads = uploads.as_string::<i32>();
        let (mut site, mut category) = (StringBuilder::new(), StringBuilder::new());
        // Files are sorted by meter, so that rows mostly have the one of the row before.
        let mut last: Option<(&str, Option<&Connected>)> = None;
        for row in 0..batch.num_rows() {
            let meter = meters.value(row);
            let connected = match last {
                Some((before, connected)) if before == meter => connected,
                _ => self.connected.meters.get(meter),
            };
            last = Some((meter, connected));
            let location = (!locations.is_null(row)).then(|| locations.value(row));
            let own = connected.and_then(|connected| connected.site.as_deref()).or(location);
            site.append_value(own.unwrap_or_else(|| self.default_site(uploads.value(row))));
            category.append_option(connected.and_then(|connected| connected.category.as_deref()));
        }
        Ok(Shown { site: Arc::new(site.finish()), category: Arc::new(category.finish()) })
    }

    fn default_site(&self, upload: &str) -> &str {
        self.default_sites.get(upload).map_or(&self.project_name, String::as_str)
    }
}

fn missing(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("payments have no column {name}"))
}

fn text_or_as_it_is(batch: &RecordBatch, name: &str) -> Result<ArrayRef, ArrowError> {
    batch.column_by_name(name).cloned().ok_or_else(|| missing(name))
}

fn text(batch: &RecordBatch, name: &str) -> Result<ArrayRef, ArrowError> {
    cast(&text_or_as_it_is(batch, name)?, &DataType::Utf8)
}

/// Writes the files of `project` anew whose rows do not show the connections as they are. Only files that have rows of
/// `changed` meters are looked into, or all where none are named. The caller holds the project's lock.
pub fn refresh(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    change: &ChangeId,
    meters: &Meters,
    changed: Option<&BTreeSet<String>>,
) -> Result<Placement, LakeError> {
    let mut concerned: Vec<Arc<LakeFile>> = Vec::new();
    for lake_file in snapshot.project_files(project) {
        let has_rows = changed.map(|changed| has_any(&root.join(&lake_file.path), changed)).transpose()?;
        if has_rows != Some(false) {
            concerned.push(Arc::clone(lake_file));
        }
    }
    verify(root, &concerned)?;
    let mut stale: BTreeMap<Month, Vec<Arc<LakeFile>>> = BTreeMap::new();
    for lake_file in concerned {
        if !meters.agree_with(&root.join(&lake_file.path))? {
            stale.entry(lake_file.month).or_default().push(lake_file);
        }
    }
    let mut names = FileNames::of(change.clone());
    let mut placement = Placement::default();
    let written = stale.into_iter().try_for_each(|(month, files)| {
        let paths: Vec<_> = files.iter().map(|lake_file| root.join(&lake_file.path)).collect();
        let inputs: Vec<Input<'_>> = paths.iter().map(|path| Input { path, rows: Wanted::All }).collect();
        placement.added.extend(materialise(root, project, month, &mut names, meters, &inputs)?);
        placement.removed.extend(files);
        pass("commit::month_placed")
    });
    written.and_then(|()| pass("commit::placed")).inspect_err(|_| discard(root, &placement.added))?;
    Ok(placement)
}

/// Whether a file has rows of one of these meters.
fn has_any(path: &Path, meters: &BTreeSet<String>) -> Result<bool, LakeError> {
    for batch in file::read(path, Part { columns: Some(&["meter_id"]), rows: None })? {
        let column = cast(batch?.column(0), &DataType::Utf8)?;
        let column: &StringArray = column.as_string();
        let mut last = None;
        for meter in column.iter().flatten() {
            if last != Some(meter) && meters.contains(meter) {
                return Ok(true);
            }
            last = Some(meter);
        }
    }
    Ok(false)
}
