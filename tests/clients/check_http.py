#!/usr/bin/env python3
"""Asks a running server for revenue by month in four formats, and holds each answer to the generator's manifest.

    check_http.py BASE_URL KEY MANIFEST.json

All files of one run of benches/gen_payments.py were uploaded, each to the project of its name in lower case (P01 -> p01).
A line a check; exit 1 when one fails.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from oracle import Manifest, Report, differences

TIMEOUT_SECONDS = 60
METRIC = "/v1/metrics/revenue_over_time"


def get(base: str, key: str, parameters: dict, **headers: str) -> tuple:
    """Status, headers and body of a GET of the metric."""
    url = f"{base.rstrip('/')}{METRIC}?{urllib.parse.urlencode(parameters)}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:     # urllib's word for every status that is not 2xx
        with error:
            return error.code, error.headers, error.read()


def read_json(body: bytes) -> list:
    """Numerals as Decimal, so that a figure that went through a float shows."""
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)["rows"]


def read_csv(body: bytes) -> list:
    return list(csv.DictReader(io.StringIO(body.decode("utf-8"), newline="")))


def read_arrow(body: bytes) -> list:
    return exact(ipc.open_stream(io.BytesIO(body)).read_all())


def read_parquet(body: bytes) -> list:
    return exact(pq.read_table(io.BytesIO(body)))


def exact(table: pa.Table) -> list:
    if not pa.types.is_decimal(table.schema.field("revenue").type):
        raise ValueError(f"revenue is {table.schema.field('revenue').type}, not a decimal")
    return table.to_pylist()


READERS = {"json": read_json, "csv": read_csv, "arrow": read_arrow, "parquet": read_parquet}


def by_month(rows: list) -> dict:
    """{(project, month): (revenue, payments)}, whichever way a format writes a date."""
    found: dict = {}
    for row in rows:
        period = row["period"]
        text = period.isoformat() if isinstance(period, (date, datetime)) else str(period)
        key = (row["project"], text[:7])
        if key in found or not text[7:].startswith("-01"):
            raise ValueError(f"not one row for each month: {row}")
        found[key] = (Decimal(str(row["revenue"])), int(row["payments"]))
    return found


def check_format(base: str, key: str, manifest: Manifest, name: str) -> tuple:
    """The answers for every project in one format, and what is wrong with them."""
    found, wrong = {}, []
    for project in manifest.revenue:
        status, _, body = get(base, key, {"project": project, "grain": "month", "tz": "UTC", "format": name})
        if status != 200:
            wrong.append(f"{project}: {status} {body[:300].decode('utf-8', 'replace')}")
            continue
        try:
            found |= by_month(READERS[name](body))
        except (ValueError, KeyError, pa.ArrowException) as error:
            wrong.append(f"{project}: {type(error).__name__}: {error}")
    expected = {(p, m): by["SUCCESS"] for p, months in manifest.revenue.items() for m, by in months.items() if by["SUCCESS"]}
    return found, wrong + differences(expected, {at: revenue for at, (revenue, _) in found.items()})


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    base, key, manifest, report = sys.argv[1], sys.argv[2], Manifest(sys.argv[3]), Report()
    answers = {}
    for name in READERS:
        answers[name], wrong = check_format(base, key, manifest, name)
        report.check(f"{name}: revenue of every project and month is the manifest's, to the cent", wrong)
    for name in list(READERS)[1:]:
        report.check(f"{name} says what json says, payments too", differences(answers["json"], answers[name]))
    parameters = {"project": next(iter(manifest.revenue)), "grain": "month", "tz": "UTC"}
    _, headers, _ = get(base, key, parameters)
    tag = headers.get("ETag")
    report.check("an answer has an ETag", [] if tag else [f"headers: {dict(headers)}"])
    if tag:
        status, _, body = get(base, key, parameters, **{"If-None-Match": tag})
        report.check("asked again with it: 304 without a body",
                     [] if (status, body) == (304, b"") else [f"{status} with {len(body)} bytes"])
        status, _, _ = get(base, key, parameters | {"grain": "year"}, **{"If-None-Match": tag})
        report.check("another question with it: 200", [] if status == 200 else [f"{status}"])
    report.exit()


if __name__ == "__main__":
    main()
