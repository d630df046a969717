//! The text of all counters, and beside them what is read when somebody asks rather than counted.

use std::fmt;

use prometheus_client::{
    encoding::prometheus_text::{self, encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Counters;

/// What the server holds now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    pub lake: LakeReading,
    /// What queries, and answers that are not sent yet, have of their memory.
    pub query_memory_bytes: u64,
    /// What queries keep of files.
    pub query_partials_bytes: u64,
}

/// What the lake holds at one version.
#[derive(Clone, Copy, Debug, Default)]
pub struct LakeReading {
    pub version: u64,
    pub partitions: u64,
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
}

impl Counters {
    /// The media type of [`Self::text`].
    pub const MEDIA_TYPE: &str = prometheus_text::CONTENT_TYPE;

    /// All of them, and `now`, in the text format of Prometheus, version 0.0.4.
    pub fn text(&self, now: Readings) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        encode(&mut text, &now.registry())?;
        encode(&mut text, &process())?;
        Ok(text)
    }
}

impl Readings {
    fn registry(self) -> Registry {
        let mut all = Registry::with_prefix("wattlake");
        let build: Family<[(&str, &str); 1], Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        all.register("build_info", "The program's version, as a label", build);
        let LakeReading { version, partitions, files, bytes, rows } = self.lake;
        for (name, help, value) in [
            ("lake_version", "The lake's newest version", version),
            ("lake_partitions", "Months of projects that have payments", partitions),
            ("lake_files", "Files of the newest version", files),
            ("lake_bytes", "Bytes of these files", bytes),
            ("lake_rows", "Rows of these files, which are payments", rows),
            ("query_memory_bytes", "Memory that queries and unsent answers have reserved", self.query_memory_bytes),
            ("query_partials_bytes", "Memory of partial aggregates that queries keep", self.query_partials_bytes),
        ] {
            all.register(name, help, gauge(value));
        }
        all
    }
}

/// The memory of the process, under the name that dashboards know. Nothing where the system does not say.
fn process() -> Registry {
    let mut all = Registry::default();
    if let Some(bytes) = resident_bytes() {
        all.register("process_resident_memory_bytes", "Resident memory of the process", gauge(bytes));
    }
    all
}

fn gauge(value: u64) -> Gauge {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

/// `VmRSS` of Linux, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::telemetry::{RowKind, UploadOutcome};

    fn text(counters: &Counters) -> String {
        counters.text(Readings::default()).unwrap()
    }

    #[test]
    fn what_nobody_ended_counts_as_given_up_and_what_ended_counts_once() {
        let counters = Arc::new(Counters::default());
        drop(counters.question("revenue_per_site"));
        counters.question("revenue_per_site").ended("answered");
        let upload = counters.upload();
        assert!(text(&counters).contains("\nwattlake_uploads_under_way 1\n"));
        upload.ended(UploadOutcome::Committed, 100, &[(RowKind::Read, 7)]);
        upload.ended(UploadOutcome::Failed, 100, &[(RowKind::Read, 7)]);
        drop(upload);
        drop(counters.upload());
        let text = text(&counters);
        for line in [
            "wattlake_queries_total{metric=\"revenue_per_site\",outcome=\"given_up\"} 1",
            "wattlake_queries_total{metric=\"revenue_per_site\",outcome=\"answered\"} 1",
            "wattlake_uploads_total{outcome=\"committed\"} 1",
            "wattlake_uploads_total{outcome=\"failed\"} 0",
            "wattlake_uploads_total{outcome=\"interrupted\"} 1",
            "wattlake_upload_rows_total{kind=\"read\"} 7",
            "wattlake_upload_bytes_total 100",
            "wattlake_uploads_under_way 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_request_counts_by_its_route_and_its_time_in_seconds() {
        let counters = Counters::default();
        counters.answered("GET", "/v1/uploads/{id}", 404, Duration::from_millis(200));
        let text = text(&counters);
        for line in [
            "wattlake_http_requests_total{method=\"GET\",route=\"/v1/uploads/{id}\",status=\"404\"} 1",
            "wattlake_http_request_duration_seconds_bucket{method=\"GET\",route=\"/v1/uploads/{id}\",le=\"0.25\"} 1",
            "wattlake_http_request_duration_seconds_bucket{method=\"GET\",route=\"/v1/uploads/{id}\",le=\"0.1\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }
}
