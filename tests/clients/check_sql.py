#!/usr/bin/env python3
"""Asks a running server and DuckDB the same questions in SQL over the same rows, and holds the answers to one another.

    check_sql.py BASE_URL KEY DATA_FOLDER [QUESTIONS] [SEED]

DuckDB reads the Parquet files that the Delta log names. A question is made by chance (sql_questions.py says what of it the two
define differently). Figures are the same to the last decimal, or the check fails: there is no tolerance.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from oracle import Report
from sql_questions import MACROS, Questions, rendered

TIMEOUT_SECONDS = 120
CONDITIONS_ON = ["site", "settlement", "source", "month", "account_type", "payment_source", "project_id", "customer_id", "meter_id"]


def asked(base: str, key: str, path: str, body: dict | None = None) -> tuple[int, dict]:
    """Status and body; numerals as Decimal, so that a figure that went through a float shows."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base.rstrip('/')}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.loads(answer.read(), parse_float=Decimal)
    except urllib.error.HTTPError as error:     # urllib's word for every status that is not 2xx
        with error:
            return error.code, json.loads(error.read() or b"null")


def connect(folder: str, projects: list) -> duckdb.DuckDBPyConnection:
    files = DeltaTable(str(Path(folder) / "lake" / "payments")).file_uris()
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET threads = 2")
    con.execute("CREATE TABLE projects (project_id TEXT, name TEXT, kind TEXT, currency TEXT, time_zone TEXT, country TEXT)")
    fields = ["slug", "name", "kind", "currency", "time_zone", "country"]
    con.executemany("INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?)", [[project[field] for field in fields] for project in projects])
    con.execute(f"""CREATE TABLE payments AS SELECT p.*, r.time_zone FROM read_parquet({[str(file) for file in files]},
                    hive_partitioning = true, hive_types = {{'month': VARCHAR, 'project_id': VARCHAR}}) p JOIN projects r USING (project_id)""")
    con.execute("CREATE VIEW sites AS SELECT DISTINCT project_id, site FROM payments")
    con.execute(MACROS)
    return con


def plain(value):
    """A value of DuckDB's as Wattlake's JSON has it, numbers as Decimal."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)):
        return Decimal(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def ours(value, kind: str):
    """A value of Wattlake's JSON, by the type of its column."""
    if value is None or kind in ("boolean", "text", "date"):
        return value
    if kind in ("integer", "decimal"):
        return Decimal(value)
    if kind == "timestamp":
        return datetime.fromisoformat(value).astimezone(timezone.utc).isoformat()
    if kind == "local_timestamp":
        return datetime.fromisoformat(value).isoformat()
    raise TypeError(f"a {kind}: {value!r}")


def difference(sql: str, is_ordered: bool, base: str, key: str, con: duckdb.DuckDBPyConnection) -> str | None:
    """What the two answers differ in, and how many rows there are."""
    status, answer = asked(base, key, "/v1/sql", {"sql": rendered(sql, 0)})
    if status != 200:
        return f"answered {status}: {answer.get('detail')}"
    kinds = [column["type"] for column in answer["columns"]]
    try:
        found = [tuple(ours(value, kind) for value, kind in zip(row, kinds)) for row in answer["rows"]]
        expected = [tuple(map(plain, row.values())) for row in con.execute(rendered(sql, 1)).to_arrow_table().to_pylist()]
    except (duckdb.Error, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    if answer["truncated"] or answer["row_count"] != len(found):
        return f"{answer['row_count']} rows, {len(found)} of them there, truncated: {answer['truncated']}"
    if is_ordered:
        places = [at for at, (one, other) in enumerate(zip(found, expected)) if one != other]
        if len(found) == len(expected) and not places:
            return None
        at = places[0] if places else min(len(found), len(expected))
        return f"{len(found)} rows, DuckDB {len(expected)}; first at {at}:\n      {found[at:at + 1]}\n      {expected[at:at + 1]}"
    more, fewer = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
    if not more and not fewer:
        return None
    return f"{len(found)} rows, DuckDB {len(expected)}; {list(more)[:2]} are ours alone, {list(fewer)[:2]} are DuckDB's alone"


def main() -> None:
    if len(sys.argv) not in (4, 5, 6):
        sys.exit(__doc__)
    base, key, folder, count, seed = (sys.argv[1:] + ["300", "1"][len(sys.argv) - 4:])[:5]
    status, page = asked(base, key, "/v1/projects?limit=100")
    if status != 200 or not page["projects"]:
        sys.exit(f"/v1/projects: {status} {page}")
    con, report = connect(folder, page["projects"]), Report()
    values = {}
    for column in CONDITIONS_ON:
        found = con.execute(f"SELECT DISTINCT {column} FROM payments WHERE {column} IS NOT NULL ORDER BY 1").fetchall()
        values[column] = [value for value, in found[:: max(1, len(found) // 40)]]
    questions, wrong, empty = Questions(int(seed), values), [], 0
    for number in range(int(count)):
        sql, is_ordered = questions.one()
        differs = difference(sql, is_ordered, base, key, con)
        if differs is not None:
            wrong.append(f"{number}: {differs}\n      {rendered(sql, 0)}")
        empty += con.execute(f"SELECT count(*) FROM ({rendered(sql, 1)})").fetchone() == (0,) if differs is None else 0
    report.check(f"{count} questions of seed {seed} have the answers that DuckDB gives, to the last decimal", wrong)
    report.check("most questions have rows", [] if empty * 4 < int(count) else [f"{empty} of {count} have none"])
    report.exit()


if __name__ == "__main__":
    main()
