#!/usr/bin/env python3
"""Reads a lake without Wattlake: the deltalake reader for the table, DuckDB for the rows.

    check_lake.py DATA_DIR MANIFEST.json

DATA_DIR is a server's data folder, into which all files of one run of benches/gen_payments.py were uploaded, each to
the project of its name in lower case (P01 -> p01). MANIFEST.json is that run's. A line a check; exit 1 when one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from oracle import Manifest, Report, differences


def open_lake(data_dir: str) -> tuple:
    """The Delta table, and its active files as (file, project_id, month), by the log and not by the folders' names."""
    root = Path(data_dir).resolve() / "lake" / "payments"
    table = DeltaTable(str(root))
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    # A path in the log is relative and URL-encoded.
    return table, [(str(root / unquote(a["path"])), a["partition.project_id"], a["partition.month"], a.get("num_records")) for a in actions]


def load_rows(files: list) -> duckdb.DuckDBPyConnection:
    """DuckDB with a view `payments`: the files' own columns, and the partition's from the log."""
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("CREATE TABLE log (file VARCHAR PRIMARY KEY, project_id VARCHAR, month VARCHAR, num_records BIGINT)")
    db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", files)
    # A view cannot hold a bound parameter, so the list goes in as text, with its quotes doubled.
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file, *_ in files)
    db.execute(f"CREATE VIEW stored AS FROM read_parquet([{listed}], filename = true, hive_partitioning = false)")
    db.execute("CREATE VIEW payments AS SELECT s.*, l.project_id, l.month FROM stored s JOIN log l ON l.file = s.filename")
    return db


def float_columns(table: DeltaTable, files: list) -> list:
    """Columns in which an amount could lose a cent: in the table's schema, and in each file's."""
    found = [f"the table: {f.name} is {f.type}" for f in table.schema().fields if "float" in str(f.type) or "double" in str(f.type)]
    for file, *_ in files:
        schema = pq.read_schema(file)
        found += [f"{file}: {f.name} is {f.type}" for f in schema if pa.types.is_floating(f.type)]
        found += [f"{file}: {name} is {schema.field(name).type}" for name in ("amount", "transaction_charges")
                  if schema.field(name).type != pa.decimal128(18, 4)]
    return found


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data_dir, manifest, report = sys.argv[1], Manifest(sys.argv[2]), Report()
    table, files = open_lake(data_dir)
    if not files:
        sys.exit(f"the table is empty at version {table.version()}: upload the generator's files first")
    report.check("the table is partitioned by project_id and month",
                 [f"by {columns}" for columns in [table.metadata().partition_columns] if columns != ["project_id", "month"]])
    listed = {unquote(uri.removeprefix("file://")) for uri in table.file_uris()}
    report.check(f"version {table.version()}: the log's {len(files)} files are those that the reader opens",
                 sorted(listed ^ {file for file, *_ in files}))
    report.check("no column is a float, and amounts are DECIMAL(18,4)", float_columns(table, files))
    db = load_rows(files)

    def keyed(query: str) -> dict:
        """Rows as {all but the last column: the last}."""
        return {tuple(row[:-1]): row[-1] for row in db.execute(query).fetchall()}

    report.check("the log's row counts are the files'", differences(
        keyed("SELECT file, num_records FROM log"), keyed("SELECT filename, count(*) FROM stored GROUP BY ALL")))
    expected_rows = {(p, m): n for p, months in manifest.rows.items() for m, n in months.items()}
    report.check(f"{sum(expected_rows.values())} rows, the right number in every project and month", differences(
        expected_rows, keyed("SELECT project_id, month, count(*) FROM payments GROUP BY ALL")))
    expected_revenue = {(p, m, s): cents for p, months in manifest.revenue.items() for m, by in months.items()
                        for s, cents in by.items() if cents}
    report.check("revenue is right to the cent in every project, month and STATUS", differences(
        expected_revenue, keyed("SELECT project_id, month, status, sum(amount) FROM payments GROUP BY ALL")))
    report.check("a payment id stands once in a project", [f"{p}: {i} stands {n} times" for p, i, n in db.execute(
        "SELECT project_id, payment_id, count(*) AS n FROM payments GROUP BY ALL HAVING n > 1 ORDER BY ALL LIMIT 20").fetchall()])
    report.check("a payment lies in the month of its paid_at, in UTC", [f"{p}: {i} paid at {at} lies in {m}" for p, i, at, m in db.execute(
        """SELECT project_id, payment_id, make_timestamp(epoch_us(paid_at)), month FROM payments
           WHERE strftime(make_timestamp(epoch_us(paid_at)), '%Y-%m') <> month OR paid_at IS NULL ORDER BY ALL LIMIT 20""").fetchall()])
    report.exit()


if __name__ == "__main__":
    main()
