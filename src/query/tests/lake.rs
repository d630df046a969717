//! A lake of a few payments in a temporary folder.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::{DateTime, Utc};
use datafusion::physical_plan::ExecutionPlan;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::{
    access::{Principal, ProjectOwner, Scope},
    catalog::{ConnectionFacts, UploadFacts},
    config::{QueryConfig, Sources},
    ids::{Month, OrganisationSlug, ProjectSlug},
    lake::{LakeFile, Snapshot, Verified},
    payments::schema::{AMOUNT_PRECISION, AMOUNT_SCALE, FILE_SCHEMA},
    query::{
        Encoded, Engine, Format, Inputs, Metric, MetricRequest, Metrics, ParameterError, ParameterLimits, ProjectFacts,
        QueryError, answer::Answer, encode::encode,
    },
};

pub(super) const UPLOADS: [&str; 2] = ["upl_00000000000000000000000000000001", "upl_00000000000000000000000000000002"];

/// The limits of a server that nobody set any for.
pub(super) fn default_limits() -> QueryConfig {
    Sources::default().load().unwrap().config.query
}

/// One payment; what a test does not speak of has a plain value.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) project: &'static str,
    pub(super) paid_at: &'static str,
    pub(super) customer: &'static str,
    /// In ten-thousandths.
    pub(super) amount: i128,
    pub(super) currency: &'static str,
    pub(super) site: &'static str,
    /// As the file had it, and the canonical one.
    pub(super) source: (Option<&'static str>, &'static str),
    pub(super) settlement: &'static str,
    pub(super) upload: &'static str,
}

/// A settled payment in KES at the site Hill.
pub(super) fn paid(project: &'static str, paid_at: &'static str, customer: &'static str, amount: i128) -> Payment {
    Payment {
        project,
        paid_at,
        customer,
        amount: amount * 10_000,
        currency: "KES",
        site: "Hill",
        source: (Some("M-PESA"), "mpesa"),
        settlement: "settled",
        upload: UPLOADS[0],
    }
}

impl Payment {
    fn micros(&self) -> i64 {
        self.paid_at.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
    }
}

pub(super) struct Lake {
    root: TempDir,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) projects: Vec<ProjectFacts>,
    uploads: Vec<UploadFacts>,
    pub(super) connections: BTreeMap<ProjectSlug, Vec<ConnectionFacts>>,
    pub(super) engine: Engine,
    pub(super) metrics: Metrics,
    pub(super) now: DateTime<Utc>,
}

impl Lake {
    /// The projects are kitobo (Nairobi), cairo (with summer time) and whichever others the payments name (UTC).
    pub(super) async fn of(payments: &[Payment]) -> Self {
        let root = TempDir::new().unwrap();
        let mut partitions: BTreeMap<(ProjectSlug, Month), Vec<&Payment>> = BTreeMap::new();
        for payment in payments {
            let key = (payment.project.parse().unwrap(), Month::of_micros(payment.micros()));
            partitions.entry(key).or_default().push(payment);
        }
        let mut snapshot = Snapshot { version: 7, ..Snapshot::default() };
        for ((project, month), members) in &partitions {
            let path = format!("project_id={project}/month={month}/part.parquet");
            let bytes = write(&root.path().join(&path), members);
            let file = LakeFile {
                path,
                project: project.clone(),
                month: *month,
                bytes,
                rows: members.len().try_into().unwrap(),
                sha256: [0; 32],
                verified: Verified::written_here(),
            };
            snapshot.partitions.insert((project.clone(), *month), vec![Arc::new(file)]);
        }
        let mut slugs: Vec<&str> = payments.iter().map(|payment| payment.project).collect();
        slugs.sort_unstable();
        slugs.dedup();
        let uploads = slugs.iter().flat_map(|slug| {
            UPLOADS.iter().zip(["2024-06-01T08:00:00Z", "2024-07-01T08:00:00Z"]).map(|(id, at)| UploadFacts {
                id: id.parse().unwrap(),
                project: slug.parse().unwrap(),
                dataset_name: "05_2024_Hill".to_owned(),
                committed_at: at.parse().unwrap(),
            })
        });
        // Those that have payments here, as an upload has where all of its rows count.
        let sent = |upload: &UploadFacts| {
            let mut of_project = payments.iter().filter(|payment| payment.project == upload.project.as_str());
            of_project.any(|payment| payment.upload == upload.id.as_str())
        };
        let limits = QueryConfig { target_partitions: 2, ..default_limits() };
        Self {
            engine: Engine::new(root.path(), limits).unwrap(),
            uploads: uploads.filter(sent).collect(),
            connections: BTreeMap::new(),
            projects: slugs.iter().map(|slug| facts(slug)).collect(),
            metrics: Metrics::load(&ParameterLimits::default()).await.unwrap(),
            now: "2024-05-20T12:00:00Z".parse().unwrap(),
            snapshot: Arc::new(snapshot),
            root,
        }
    }

    /// The same lake with other limits.
    pub(super) fn limited(mut self, limits: QueryConfig) -> Self {
        self.engine = Engine::new(self.root.path(), limits).unwrap();
        self
    }

    pub(super) fn metric(&self, name: &str) -> &Arc<Metric> {
        self.metrics.get(name).unwrap()
    }

    pub(super) fn request(&self, metric: &str, pairs: &[(&str, &str)]) -> Result<MetricRequest, ParameterError> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        MetricRequest::parse(self.metric(metric), &pairs, &ParameterLimits::default())
    }

    pub(super) fn scope(&self, request: &MetricRequest) -> Scope {
        let owner = |project: &ProjectFacts| ProjectOwner {
            project: project.slug.clone(),
            organisation: OrganisationSlug::main(),
        };
        let scope = Scope::of(&Principal::admin("k"), self.projects.iter().map(owner));
        scope.narrowed(&request.projects).unwrap()
    }

    pub(super) fn inputs<'a>(&'a self, scope: &'a Scope) -> Inputs<'a> {
        let snapshot = Arc::clone(&self.snapshot);
        Inputs {
            snapshot,
            scope,
            projects: &self.projects,
            uploads: &self.uploads,
            connections: &self.connections,
            now: self.now,
            is_earlier: false,
        }
    }

    pub(super) async fn ask(&self, metric: &str, pairs: &[(&str, &str)]) -> Result<Answer, QueryError> {
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        self.engine.run(self.metric(metric), &request, self.inputs(&scope)).await
    }

    /// The answer as it is sent.
    pub(super) async fn send(
        &self,
        metric: &str,
        pairs: &[(&str, &str)],
        format: Format,
    ) -> Result<Encoded, QueryError> {
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        self.engine.answer(&Principal::admin("k"), self.metric(metric), &request, self.inputs(&scope), format).await
    }

    /// The rows of an answer, each as CSV.
    pub(super) async fn rows(&self, metric: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        as_rows(&self.ask(metric, pairs).await.unwrap())
    }

    /// The same from an engine that keeps nothing of files and reads them all in one go.
    pub(super) async fn rows_afresh(&self, metric: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        let limits = QueryConfig { partials_bytes: 0, target_partitions: 2, ..default_limits() };
        let engine = Engine::new(self.root.path(), limits).unwrap();
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        as_rows(&engine.run(self.metric(metric), &request, self.inputs(&scope)).await.unwrap())
    }

    /// The rows of an answer, where something comes between its plan and its first row.
    pub(super) async fn rows_interrupted(
        &self,
        metric: &str,
        pairs: &[(&str, &str)],
        between: impl FnOnce(),
    ) -> Vec<String> {
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        let answer = self.engine.run_interrupted(self.metric(metric), &request, self.inputs(&scope), between).await;
        as_rows(&answer.unwrap())
    }

    /// Removes the files of the lake.
    pub(super) fn lose_files(&self) {
        for file in self.snapshot.partitions.values().flatten() {
            std::fs::remove_file(self.root.path().join(&file.path)).unwrap();
        }
    }

    pub(super) async fn plan(&self, metric: &str, pairs: &[(&str, &str)]) -> Arc<dyn ExecutionPlan> {
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        self.engine.physical_plan(self.metric(metric), &request, &self.inputs(&scope)).await.unwrap()
    }

    pub(super) fn etag(&self, metric: &str, pairs: &[(&str, &str)], format: Format) -> String {
        let request = self.request(metric, pairs).unwrap();
        let scope = self.scope(&request);
        self.engine.etag(self.metric(metric), &request, &self.inputs(&scope), format).unwrap()
    }
}

pub(super) fn as_rows(answer: &Answer) -> Vec<String> {
    let csv = String::from_utf8(bytes(answer, Format::Csv)).unwrap();
    csv.lines().skip(1).map(str::to_owned).collect()
}

/// An answer in a format.
pub(super) fn bytes(answer: &Answer, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    encode(answer, format, &mut out).unwrap();
    out
}

fn facts(slug: &str) -> ProjectFacts {
    let time_zone = match slug {
        "kitobo" => chrono_tz::Africa::Nairobi,
        "cairo" => chrono_tz::Africa::Cairo,
        _ => chrono_tz::UTC,
    };
    ProjectFacts {
        slug: slug.parse().unwrap(),
        name: slug.to_uppercase(),
        kind: "mini_grid".to_owned(),
        currency: "KES".to_owned(),
        country: "KE".to_owned(),
        time_zone,
    }
}

fn write(path: &std::path::Path, payments: &[&Payment]) -> u64 {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = |value: fn(&Payment) -> Option<&str>| -> ArrayRef {
        Arc::new(payments.iter().map(|payment| value(payment)).collect::<StringArray>())
    };
    let column = |name: &str| -> ArrayRef {
        match name {
            "paid_at" => {
                let values = payments.iter().map(|payment| payment.micros());
                Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
            }
            "amount" | "transaction_charges" => {
                let values = payments.iter().map(|payment| if name == "amount" { payment.amount } else { 0 });
                let array = Decimal128Array::from_iter_values(values);
                Arc::new(array.with_precision_and_scale(AMOUNT_PRECISION, AMOUNT_SCALE).unwrap())
            }
            "site" => text(|payment| Some(payment.site)),
            "customer_id" | "customer_name" | "meter_id" => text(|payment| Some(payment.customer)),
            "payment_id" => text(|payment| Some(payment.paid_at)),
            "currency" => text(|payment| Some(payment.currency)),
            "payment_source" => text(|payment| payment.source.0),
            "source" => text(|payment| Some(payment.source.1)),
            "settlement" => text(|payment| Some(payment.settlement)),
            "upload_id" => text(|payment| Some(payment.upload)),
            _ => text(|_| None),
        }
    };
    let columns = FILE_SCHEMA.fields().iter().map(|field| column(field.name())).collect();
    let batch = RecordBatch::try_new(Arc::clone(&FILE_SCHEMA), columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::metadata(path).unwrap().len()
}
