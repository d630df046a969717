//! An upload over several projects: each row goes to the project whose connections hold its meter. Where it went is kept with
//! the upload, because connections change, and rows that were taken stay where they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::filter_record_batch,
    error::ArrowError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Ingest, IngestError, folder::Folder, manifest::Told};
use crate::{
    catalog::Project,
    durable,
    ids::ProjectSlug,
    payments::{routing::Routing, schema::FILE_SCHEMA},
};

/// Rows of one project, by its number among those of the upload.
pub(super) struct Part {
    pub(super) project: usize,
    pub(super) rows: RecordBatch,
}

/// The meters of an upload's rows, by the project that they went to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Routes(BTreeMap<ProjectSlug, BTreeSet<String>>);

/// Routes, and the hash of their own JSON.
#[derive(Serialize, Deserialize)]
struct Sealed {
    routes: Routes,
    sha256: String,
}

impl Routes {
    /// Puts them on disk in the folder of the upload.
    pub(super) fn write(&self, folder: &Folder) -> io::Result<()> {
        let sealed = Sealed { routes: self.clone(), sha256: self.sha256()? };
        let packed = zstd::bulk::compress(&serde_json::to_vec(&sealed)?, 3)?;
        durable::write(&folder.routes(), [packed], false)
    }

    /// # Errors
    /// `InvalidData` where they are not as they were written.
    pub(super) fn read(folder: &Folder) -> io::Result<Self> {
        let Sealed { routes, sha256 } = serde_json::from_reader(zstd::Decoder::new(fs::File::open(folder.routes())?)?)?;
        let altered = || io::Error::new(io::ErrorKind::InvalidData, "the upload's routes are not as they were written");
        if routes.sha256()? == sha256 { Ok(routes) } else { Err(altered()) }
    }

    fn sha256(&self) -> io::Result<String> {
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }

    /// By which the same rows go to the same of `projects` again, and the others to none.
    pub(super) fn routing(&self, projects: &[Told]) -> Arc<Routing> {
        let number = |project: &ProjectSlug| projects.iter().position(|told| told.project == *project);
        let meters = self.0.iter().filter_map(|(project, meters)| Some((number(project)?, meters)));
        let meters = meters.flat_map(|(number, meters)| meters.iter().map(move |meter| (number, meter.clone())));
        Arc::new(Routing::of(projects.iter().map(|told| told.project.to_string()).collect(), meters))
    }
}

/// Divides rows among the projects of an upload.
pub(super) struct Divider<'a> {
    projects: &'a [Told],
    /// None for an upload to one project, which has all rows.
    routing: Option<&'a Routing>,
    routes: Routes,
}

impl<'a> Divider<'a> {
    pub(super) fn new(projects: &'a [Told], routing: Option<&'a Routing>) -> Self {
        Self { projects, routing, routes: Routes::default() }
    }

    /// The rows of batches by their projects, batch by batch.
    pub(super) fn parts(
        &mut self,
        batches: impl Iterator<Item = Result<RecordBatch, IngestError>>,
    ) -> impl Iterator<Item = Result<Part, IngestError>> {
        batches.flat_map(|batch| match batch.and_then(|batch| self.divide(batch)) {
            Ok(parts) => parts.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// The rows of each project of a batch, in their order.
    fn divide(&mut self, batch: RecordBatch) -> Result<Vec<Part>, IngestError> {
        let Some(routing) = self.routing else { return Ok(vec![Part { project: 0, rows: batch }]) };
        let meters = batch.column(FILE_SCHEMA.index_of("meter_id")?).as_string::<i32>().clone();
        let of_rows: Vec<Option<usize>> =
            meters.iter().map(|meter| routing.project_of(meter.unwrap_or_default())).collect();
        let mut parts = Vec::new();
        for (project, told) in self.projects.iter().enumerate() {
            let keep: BooleanArray = of_rows.iter().map(|of| Some(*of == Some(project))).collect();
            if keep.true_count() == 0 {
                continue;
            }
            let rows = filter_record_batch(&batch, &keep)?;
            let meters = self.routes.0.entry(told.project.clone()).or_default();
            for meter in rows.column(FILE_SCHEMA.index_of("meter_id")?).as_string::<i32>().iter().flatten() {
                if !meters.contains(meter) {
                    meters.insert(meter.to_owned());
                }
            }
            parts.push(Part { project, rows: of_project(&rows, told)? });
        }
        Ok(parts)
    }

    /// Where the rows went that were divided.
    pub(super) fn into_routes(self) -> Routes {
        self.routes
    }
}

/// Rows with the currency of their project, and its site where they name none.
fn of_project(rows: &RecordBatch, told: &Told) -> Result<RecordBatch, ArrowError> {
    let columns = FILE_SCHEMA.fields().iter().zip(rows.columns()).map(|(field, column)| match field.name().as_str() {
        "currency" => Ok(constant(&told.currency, rows.num_rows())),
        "site" => {
            let locations = rows.column(FILE_SCHEMA.index_of("location")?).as_string::<i32>();
            let sites = locations.iter().map(|location| location.unwrap_or(&told.default_site));
            Ok(Arc::new(StringArray::from_iter_values(sites)) as ArrayRef)
        }
        _ => Ok(Arc::clone(column)),
    });
    RecordBatch::try_new(FILE_SCHEMA.clone(), columns.collect::<Result<Vec<_>, ArrowError>>()?)
}

fn constant(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
}

impl Ingest {
    /// The connections by which the rows of an upload are divided among its projects; none where it has one.
    pub(super) async fn routing(&self, projects: &[Project]) -> Result<Option<Arc<Routing>>, IngestError> {
        if projects.len() < 2 {
            return Ok(None);
        }
        let mut meters = Vec::new();
        for (number, project) in projects.iter().enumerate() {
            let ids = self.catalog.connection_ids(&project.slug).await?;
            meters.extend(ids.into_iter().map(|id| (number, id)));
        }
        let names = projects.iter().map(|project| project.slug.to_string()).collect();
        Ok(Some(Arc::new(Routing::of(names, meters))))
    }
}
