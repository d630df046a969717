//! What a verdict rests on: the payments that counted, or were taken off, with the uploads that they came with.

use std::collections::HashSet;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Decimal128Type, TimestampMicrosecondType},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Verification, VerificationError, blocking,
    columns::{Kind, Part, When, part},
    judge::files_of,
    refunds::{Counted, Refund, give_back},
};
use crate::{
    catalog::{UploadStatus, VerificationRun},
    ids::{ProjectSlug, UploadId},
    lake::{FileRows, LakeError},
    programmes::{Instants, Rule, Verdict, verdict::decimal},
};

/// Payments that are told of one verdict at most.
pub(super) const MAX_PAYMENTS: usize = 1_000;

const COLUMNS: [&str; 8] =
    ["payment_id", "paid_at", "amount", "currency", "status", "settlement", "reference_id", "upload_id"];

/// Where payments were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// The version of the lake that the run looked at.
    Lake,
    /// The uploads that made it up, because the version is no longer kept.
    Uploads,
}

/// An upload that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EvidenceUpload {
    pub id: UploadId,
    /// Of its file, in hexadecimal.
    pub sha256: String,
    /// As it is now: `committed`, `deleted`, or `purged`, and then what it said is gone.
    #[schema(value_type = String)]
    pub status: UploadStatus,
}

/// A payment that counted, or that was taken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EvidencePayment {
    pub payment_id: String,
    #[schema(value_type = String, format = DateTime)]
    pub paid_at: DateTime<Utc>,
    /// An exact decimal; below zero for a refund.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
    /// As the file says it.
    #[schema(required)]
    pub status: Option<String>,
    /// `counts`; `given_back`: would count, and was given back in full; `refund`: taken off; `reversed`: counts for nothing.
    pub part: &'static str,
    pub upload_id: UploadId,
}

/// Why payments are not shown to a programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// The project has left it.
    Withdrawn,
    /// The rule was tried out, and is not the one that the project consented to.
    TriedOut,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Evidence {
    /// Null where it is gone, or not shown.
    #[schema(required)]
    pub source: Option<EvidenceSource>,
    /// Why the programme is shown no payments of it.
    #[schema(required)]
    pub withheld: Option<Withheld>,
    /// Uploads whose payments are erased for good, so that the verdict can no longer be shown to be right.
    pub gone: Vec<UploadId>,
    pub uploads: Vec<EvidenceUpload>,
    /// By time.
    pub payments: Vec<EvidencePayment>,
    /// Whether there are more payments than are told.
    pub truncated: bool,
}

impl Verification {
    /// What a verdict of a run rests on. What payments the programme is shown is what the project consented to.
    pub async fn evidence(
        &self,
        run: &VerificationRun,
        verdict: &Verdict,
        of_programme: bool,
    ) -> Result<Evidence, VerificationError> {
        let uploads = self.uploads_of(run, verdict).await?;
        let withheld = if of_programme { self.withheld(run, &verdict.subject.name.project).await? } else { None };
        let nothing =
            Evidence { source: None, withheld, gone: Vec::new(), uploads, payments: Vec::new(), truncated: false };
        if withheld.is_some() {
            return Ok(nothing);
        }
        let read = match self.payments_of(run, verdict, EvidenceSource::Lake).await {
            // A file that an earlier version alone has may be lost; the uploads still have its rows.
            Err(VerificationError::Lake(LakeError::Damaged(_))) => {
                self.payments_of(run, verdict, EvidenceSource::Uploads).await
            }
            other => other,
        };
        match read {
            Ok((mut payments, source)) => {
                let truncated = payments.len() > MAX_PAYMENTS;
                payments.truncate(MAX_PAYMENTS);
                Ok(Evidence { source: Some(source), payments, truncated, ..nothing })
            }
            Err(VerificationError::EvidenceGone(gone)) => Ok(Evidence { gone, ..nothing }),
            Err(error) => Err(error),
        }
    }

    async fn withheld(
        &self,
        run: &VerificationRun,
        project: &ProjectSlug,
    ) -> Result<Option<Withheld>, VerificationError> {
        let enrolment = self.catalog.enrolment(&run.programme, project).await?;
        let Some(enrolment) = enrolment.filter(|enrolment| enrolment.withdrawn_at.is_none()) else {
            return Ok(Some(Withheld::Withdrawn));
        };
        if !run.dry_run {
            return Ok(None);
        }
        let terms = self.catalog.programme_version(&run.programme, enrolment.version).await?;
        Ok(if terms.is_some_and(|terms| terms.rule == run.rule) { None } else { Some(Withheld::TriedOut) })
    }

    async fn payments_of(
        &self,
        run: &VerificationRun,
        verdict: &Verdict,
        from: EvidenceSource,
    ) -> Result<(Vec<EvidencePayment>, EvidenceSource), VerificationError> {
        let of = &verdict.subject.name;
        let (projects, source) = self.rows_then(run, std::slice::from_ref(verdict), Some(&of.project), from).await?;
        let (lake, rule, until) = (self.lake.clone(), run.rule.clone(), run.started_at);
        let (meter, window) = (of.external_id.clone(), verdict.window);
        let turn = self.look().await?;
        let read = blocking(move || {
            let mut found = Vec::new();
            for project in &projects {
                for file in files_of(&lake, project)? {
                    read_file(&file, &meter, &mut found)?;
                }
            }
            drop(turn);
            Ok(parts(&found, &rule, window, until))
        });
        Ok((read.await?, source))
    }

    /// The uploads of a verdict, as they are now.
    async fn uploads_of(
        &self,
        run: &VerificationRun,
        verdict: &Verdict,
    ) -> Result<Vec<EvidenceUpload>, VerificationError> {
        let mut told = Vec::new();
        let records = self.catalog.uploads_of(&verdict.paid.uploads).await?;
        for project in self.catalog.run_projects(&run.id).await? {
            if project.project != verdict.subject.name.project {
                continue;
            }
            for (id, sha256) in project.uploads {
                let record = records.iter().find(|record| record.id == id);
                told.extend(record.map(|record| EvidenceUpload { id, sha256, status: record.status }));
            }
        }
        Ok(told)
    }
}

/// A payment as it was read.
struct Payment {
    id: String,
    at: i64,
    amount: i128,
    currency: String,
    status: Option<String>,
    settlement: String,
    reference: Option<String>,
    upload: UploadId,
}

fn read_file(file: &FileRows, meter: &str, found: &mut Vec<Payment>) -> Result<(), VerificationError> {
    let rows = file.rows_of_meters(|name| name == meter)?;
    if rows.count() == 0 {
        return Ok(());
    }
    for batch in file.read_some(&COLUMNS, Some(&rows))? {
        let batch = batch?;
        let text = |name: &str| texts(&batch, name);
        let (ids, currencies, statuses) = (text("payment_id")?, text("currency")?, text("status")?);
        let (settlements, references, uploads) = (text("settlement")?, text("reference_id")?, text("upload_id")?);
        let column = |name: &str| batch.column_by_name(name).ok_or(VerificationError::Columns);
        let at = column("paid_at")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or(VerificationError::Columns)?;
        let amounts = column("amount")?.as_primitive_opt::<Decimal128Type>().ok_or(VerificationError::Columns)?;
        for row in 0..batch.num_rows() {
            let value = |column: &[Option<String>]| column[row].clone().unwrap_or_default();
            found.push(Payment {
                id: value(&ids),
                at: at.value(row),
                amount: amounts.value(row),
                currency: value(&currencies),
                status: statuses[row].clone(),
                settlement: value(&settlements),
                reference: references[row].clone(),
                upload: value(&uploads).parse().map_err(|_| VerificationError::Columns)?,
            });
        }
    }
    Ok(())
}

fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<Option<String>>, VerificationError> {
    let column = cast(batch.column_by_name(name).ok_or(VerificationError::Columns)?, &DataType::Utf8)?;
    let column = column.as_string::<i32>();
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row).to_owned())).collect())
}

/// Those of a meter's payments that have a part in its verdict, by time.
fn parts(found: &[Payment], rule: &Rule, window: Option<Instants>, until: DateTime<Utc>) -> Vec<EvidencePayment> {
    let Some(window) = window else { return Vec::new() };
    let (from, to) = (window.from.timestamp_micros(), window.to.timestamp_micros());
    let until = until.timestamp_micros();
    let part_of = |payment: &Payment| {
        let is_seen = payment.at >= from && payment.at < until;
        part(Kind::of(rule, &payment.settlement), payment.amount, is_seen, payment.at < to)
    };
    let (mut counted, mut refunds) = (Vec::new(), Vec::new());
    for payment in found {
        let Payment { id, at, reference, amount, .. } = payment;
        match (part_of(payment), reference) {
            (Some(Part::Counts), _) => {
                counted.push(Counted { at: *at, id: id.clone(), reference: reference.clone(), left: *amount });
            }
            (Some(Part::GivenBack(_)), Some(reference)) => {
                refunds.push(Refund { at: *at, id: id.clone(), reference: reference.clone(), amount: -amount });
            }
            _ => {}
        }
    }
    let is_named = give_back(&mut counted, &refunds);
    let naming = refunds.iter().zip(is_named).filter(|(_, is_named)| *is_named).map(|(refund, _)| refund.id.as_str());
    let naming: HashSet<&str> = naming.collect();
    let gone = counted.iter().filter(|payment| payment.left <= 0).map(|payment| payment.id.as_str());
    let gone: HashSet<&str> = gone.collect();
    let told = |payment: &Payment| {
        let is_naming = naming.contains(payment.id.as_str());
        match part_of(payment)? {
            Part::Counts if gone.contains(payment.id.as_str()) => Some("given_back"),
            Part::Counts => Some("counts"),
            Part::GivenBack(When::Inside) => Some("refund"),
            Part::GivenBack(_) if is_naming => Some("refund"),
            Part::GivenBack(When::InsideReversed) | Part::Reversed => Some("reversed"),
            Part::GivenBack(When::After) => None,
        }
    };
    let mut told: Vec<EvidencePayment> = found
        .iter()
        .filter_map(|payment| {
            Some(EvidencePayment {
                payment_id: payment.id.clone(),
                paid_at: DateTime::from_timestamp_micros(payment.at)?,
                amount: decimal(payment.amount),
                currency: payment.currency.clone(),
                status: payment.status.clone(),
                part: told(payment)?,
                upload_id: payment.upload.clone(),
            })
        })
        .collect();
    told.sort_by(|a, b| (a.paid_at, &a.payment_id).cmp(&(b.paid_at, &b.payment_id)));
    told
}
