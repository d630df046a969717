#!/usr/bin/env python3
"""Reads GET /metrics as Prometheus does, and holds the counters to what was done in between.

    check_counters.py BASE_URL KEY

The server is new and empty. A line a check; exit 1 when one fails.
"""

from __future__ import annotations

import json
import sys
import urllib.parse

from prometheus_client.parser import text_string_to_metric_families

from description import Client
from oracle import Report

SLUG = "tenants-own-slug"
HEADER = "TIMESTAMP,ID,METER_ID,CUSTOMER_ID,CUSTOMER NAME,PAYMENT_AMOUNT"
PROJECT = {"slug": SLUG, "name": "Hill", "kind": "mini_grid", "currency": "KES", "time_zone": "Africa/Nairobi", "country": "KE"}
# Of each label of ours, the values that there may be; of the rest, how many there may be.
WORDS = {
    "outcome": {"committed", "repeated", "rejected", "dry_run", "too_large", "busy", "conflict", "replayed", "interrupted", "failed", "answered",
                "not_modified", "given_up", "invalid_parameter", "not_found"},
    "kind": {"read", "new", "corrected", "duplicate", "rejected"},
    "method": {"GET", "POST", "PUT", "other"},
}


class Scrape(dict):
    """Samples by name and labels: `scrape["wattlake_uploads_total", "committed"]`, the labels in order of their names."""

    def __init__(self, text: str):
        super().__init__()
        self.types, self.labels = {}, {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                self[(sample.name, *(sample.labels[name] for name in sorted(sample.labels)))] = sample.value
                for name, value in sample.labels.items():
                    self.labels.setdefault(name, set()).add(value)


def scrape(client: Client) -> Scrape:
    answer = client.ask("get", "/metrics")
    if answer.status != 200 or answer.headers["Content-Type"] != "text/plain; version=0.0.4; charset=utf-8":
        sys.exit(f"/metrics: {answer.status} {answer.headers['Content-Type']}")
    return Scrape(answer.body.decode("utf-8"))


def payments(*rows: str) -> bytes:
    return "\n".join([HEADER, *(f"2024-05-03T10:00:00,{row}" for row in rows), ""]).encode()


def upload(client: Client, file: bytes, **fields: str) -> int:
    fields = {"project": SLUG, "dataset_name": "05_2024_Hill"} | fields
    return client.ask("put", "/v1/uploads?" + urllib.parse.urlencode(fields), file, Content_Type="text/csv").status


def do(client: Client) -> list:
    """What is counted: the statuses show that it went as it should."""
    project = client.ask("post", "/v1/projects", json.dumps(PROJECT).encode(), Content_Type="application/json").status
    good = payments("A,m,c,n,1.50", "B,m,c,n,2.50", "C,m,d,n,3")
    uploads = [
        upload(client, good),
        upload(client, good),
        # One correction, one duplicate, one new, one bad row.
        upload(client, payments("A,m,c,n,1.75", "B,m,c,n,2.50", "D,m,d,n,3", "E,m,d,n,x"), on_error="skip_rows"),
        upload(client, payments("F,m,c,n,1", "G,m,c,n,x")),
        upload(client, payments("F,m,c,n,1"), dry_run="true"),
    ]
    metric = "/v1/metrics/payments_per_customer"
    first = client.ask("get", metric)
    again = client.ask("get", metric, If_None_Match=first.headers["ETag"])
    refused = [client.ask("get", metric + query).status for query in ("?limit=x", "?project=absent")]
    others = [
        client.ask("get", f"/v1/projects/{SLUG}").status,
        client.ask("get", "/v1/projects/absent").status,
        client.ask("get", f"/v1/{SLUG}").status,
        client.ask("brew", "/v1/projects").status,
        client.ask("get", "/healthz", key=None).status,
    ]
    return [project, *uploads, first.status, again.status, *refused, *others]


def steps(before: Scrape, after: Scrape) -> dict:
    """By how much each counter went up, where it did."""
    counted = [key for key in after if key[0].endswith(("_total", "_count"))]
    return {key: after[key] - before.get(key, 0) for key in counted if after[key] != before.get(key, 0)}


def expected(before: Scrape, after: Scrape, found: dict) -> list:
    ours = "wattlake_"
    rows = {"read": 3 + 4 + 2, "new": 3 + 1, "corrected": 1, "duplicate": 1, "rejected": 1 + 1}
    requests = {
        ("POST", "/v1/projects", "201"): 1, ("PUT", "/v1/uploads", "201"): 2, ("PUT", "/v1/uploads", "200"): 2,
        ("PUT", "/v1/uploads", "422"): 1, ("GET", "/v1/metrics/{name}", "200"): 1, ("GET", "/v1/metrics/{name}", "304"): 1,
        ("GET", "/v1/metrics/{name}", "400"): 1, ("GET", "/v1/metrics/{name}", "404"): 1,
        ("GET", "/v1/projects/{slug}", "200"): 1, ("GET", "/v1/projects/{slug}", "404"): 1, ("GET", "unknown", "404"): 1,
        ("other", "/v1/projects", "405"): 1, ("GET", "/healthz", "200"): 1,
    }
    metric = "payments_per_customer"
    wanted = {(f"{ours}upload_rows_total", kind): count for kind, count in rows.items()}
    wanted |= {(f"{ours}http_requests_total", *labels): count for labels, count in requests.items()}
    wanted |= {(f"{ours}uploads_total", outcome): 1 for outcome in ("repeated", "rejected", "dry_run")}
    wanted |= {(f"{ours}queries_total", metric, way): 1 for way in ("answered", "not_modified", "invalid_parameter", "not_found")}
    wanted |= {
        (f"{ours}uploads_total", "committed"): 2, (f"{ours}upload_duration_seconds_count",): 5,
        (f"{ours}query_rows_total", metric): 2, (f"{ours}query_duration_seconds_count", metric): 1,
        (f"{ours}http_request_duration_seconds_count", "PUT", "/v1/uploads"): 5,
    }
    wrong = [f"{key}: {found.get(key, 0)} and not {count}" for key, count in wanted.items() if found.get(key, 0) != count]
    # The scrape before is itself a request that the one after knows of.
    also = {name for name in (key[0] for key in found) if name.startswith(ours)} - {key[0] for key in wanted}
    also -= {f"{ours}upload_bytes_total", f"{ours}query_answer_bytes_total"}
    unexplained = {key: count for key, count in found.items() if key[0] in {key[0] for key in wanted} and key not in wanted}
    unexplained = {key: count for key, count in unexplained.items() if "/metrics" not in key and "duration" not in key[0]}
    return wrong + [f"{name} is not looked at" for name in sorted(also)] + [f"{key}: {count}" for key, count in unexplained.items()]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    client, report = Client(sys.argv[1], sys.argv[2]), Report()
    report.check("it asks for a key", [] if client.ask("get", "/metrics", key=None).status == 401 else ["it does not"])
    before = scrape(client)
    statuses = do(client)
    wanted = [201, 201, 200, 201, 422, 200, 200, 304, 400, 404, 200, 404, 404, 405, 200]
    report.check("what is counted went as it should", [] if statuses == wanted else [f"{statuses} and not {wanted}"])
    after = scrape(client)
    found = steps(before, after)
    report.check("every counter went up by what was done", expected(before, after, found))
    gauges = {
        "wattlake_lake_version": 2, "wattlake_lake_partitions": 1, "wattlake_lake_rows": 4, "wattlake_uploads_under_way": 0,
        "wattlake_http_requests_under_way": 1, "wattlake_query_memory_bytes": 0,
    }
    wrong = [f"{name}: {after.get((name,))} and not {value}" for name, value in gauges.items() if after.get((name,)) != value]
    some = ("wattlake_lake_files", "wattlake_lake_bytes", "wattlake_http_connections", "process_resident_memory_bytes",
            "wattlake_upload_bytes_total")
    wrong += [f"{name}: {after.get((name,))}" for name in some if not after.get((name,), 0) > 0]
    report.check("what the server holds is there", wrong)
    wrong = [f"{name}: {sorted(values - WORDS[name])}" for name, values in after.labels.items() if name in WORDS and values - WORDS[name]]
    wrong += [f"{name}={value}" for name, values in after.labels.items() for value in values if SLUG in value or "absent" in value]
    report.check("no label holds what a caller chose", wrong)
    untyped = [name for name, kind in after.types.items() if kind not in ("counter", "gauge", "histogram")]
    report.check("every family says what it is", untyped)
    report.exit()


if __name__ == "__main__":
    main()
