#!/usr/bin/env python3
"""Asks a server of its own the queries of .slt files, such as the engine's own tests, and counts how its answers compare.

    run_slt.py BINARY FOLDER [--only NAME] [--show N] [--at-once N]

BINARY is the wattlake program. Of each file those queries are asked that need no table, setting or statement of the file's own; what a
CREATE TABLE … AS VALUES made goes before a query as a CTE. Each query comes to one of these:

    same      the answer is the file's; a line each, numbers by their value
    refused   the guard does not let it pass: what it needs is not offered
    not here  it is about tables, settings, plans or other statements
    differs   the answer is another one, or there is none
    error     the file expects an error, and there is one

The format: https://sqlite.org/sqllogictest, in the dialect of sqllogictest-rs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from threading import local

# Settings that change no answer.
HARMLESS = re.compile(r"datafusion\.(explain|optimizer|execution\.(batch_size|target_partitions|parquet|coalesce|collect|sort|planning))", re.I)
FINE = Decimal("1e-12")


@dataclass
class Query:
    at: str
    types: str
    sort: str
    sql: str
    expected: list
    is_error: bool = False
    # Why it cannot be asked here.
    needs: str = ""
    tables: dict = field(default_factory=dict)


def records(path: pathlib.Path) -> list:
    """The paragraphs of a file, each with the number of its first line, without comments."""
    found, lines, first = [], [], 1
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() + [""], 1):
        if not line.strip():
            if lines:
                found.append((first, lines))
            lines = []
        elif not (line.startswith("#") and not lines):
            first = first if lines else number
            lines.append(line)
    return found


CREATED = re.compile(r"^create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:table|view)\s+(?:if\s+not\s+exists\s+)?([a-z_][\w]*)\s*(\(.*?\))?\s*as\s+(.*)$",
                     re.I | re.S)
COLUMN = re.compile(r"[(,]\s*\"?(\w+)\"?\s+([^,(]+(?:\([^)]*\))?[^,(]*?)(?=,|\)$)", re.S)


def table_of(sql: str) -> tuple | None:
    """The name and the query of a table that a statement makes of values or of a query."""
    made = CREATED.match(sql.strip().rstrip(";").strip())
    if made is None:
        return None
    name, columns, query = made.groups()
    if columns is None:
        return name.lower(), query
    types = COLUMN.findall(columns.strip())
    if not types:
        return None
    names = [f"c{number}" for number in range(len(types))]
    casts = ", ".join(f'CAST({made} AS {kind.strip().split(" not null")[0].split(" NOT NULL")[0]}) AS "{column.lower()}"'
                      for made, (column, kind) in zip(names, types))
    return name.lower(), f"SELECT {casts} FROM ({query}) AS made({', '.join(names)})"


def queries(path: pathlib.Path, root: pathlib.Path) -> list:
    found, needs, tables = [], "", {}
    for number, lines in records(path):
        at, controls = f"{path.relative_to(root)}:{number}", []
        while lines and re.match(r"(skipif|onlyif|control|hash-threshold|include|halt|connection|system|subtest|sleep)\b", lines[0]):
            controls.append(lines.pop(0))
        if not lines:
            continue
        head, body = lines[0].split(), lines[1:]
        if head[0] == "statement":
            sql = "\n".join(body)
            words = sql.lower().split()
            made = table_of(sql) if head[1] == "ok" else None
            if made is not None:
                tables = {**tables, made[0]: made[1]}
            elif words[:1] == ["set"] and not HARMLESS.search(sql):
                needs = "a setting"
            elif words[:1] in (["insert"], ["drop"], ["alter"], ["copy"], ["create"], ["update"], ["delete"], ["truncate"], ["merge"]):
                # A table that is filled, altered or gone is none that is known.
                tables = {name: query for name, query in tables.items() if not re.search(rf"\b{name}\b", sql, re.I)}
        elif head[0] == "query":
            if head[1:2] == ["error"]:
                sql = "\n".join(body).split("\n----")[0]
                found.append(Query(at, "", "", sql, [], True, needs or ("another engine" if controls else ""), tables))
                continue
            sql, _, rows = "\n".join(body).partition("\n----")
            sort = next((word for word in head[2:] if word in ("rowsort", "valuesort", "nosort")), "nosort")
            found.append(Query(at, head[1] if len(head) > 1 else "", sort, sql, rows.strip("\n").split("\n") if rows.strip("\n") else [], False,
                               needs or ("another engine" if any(c.startswith(("skipif", "onlyif")) for c in controls) else ""), tables))
    return found


def with_tables(query: Query) -> str:
    """The SQL, with the tables that it names as CTEs."""
    sql, named = query.sql.strip().rstrip(";"), {}

    def add(text: str) -> None:
        for name, made in query.tables.items():
            if name not in named and re.search(rf"\b{name}\b", text, re.I):
                named[name] = ""
                add(made)
                named[name] = named.pop(name) or made
    add(sql)
    if not named:
        return sql
    ctes = ", ".join(f"{name} AS ({made})" for name, made in named.items())
    within = re.match(r"\s*with\s+(?!recursive)", sql, re.I)
    return f"WITH {ctes}, {sql[within.end():]}" if within else f"WITH {ctes} {sql}"


class Server:
    """A server on a folder of its own, until it is closed."""

    def __init__(self, binary: str):
        self.binary, self.folder, self.kept = str(pathlib.Path(binary).resolve()), tempfile.TemporaryDirectory(), local()
        made = subprocess.run([self.binary, "keys", "create", "--role", "admin", "--name", "slt"], cwd=self.folder.name, check=True,
                              capture_output=True, text=True, env={})
        self.key = made.stdout.strip()
        limits = {"WATTLAKE_HTTP_KEY_REQUESTS_PER_S": "0", "WATTLAKE_HTTP_ORGANISATION_REQUESTS_PER_S": "0"}
        self.process = subprocess.Popen([self.binary, "serve", "--listen", "127.0.0.1:0", "--sql-concurrency", "8"], cwd=self.folder.name, env=limits,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.host = self.process.stdout.readline().split("http://")[1].strip()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def ask(self, sql: str) -> tuple:
        for attempt in (1, 2):
            connection = getattr(self.kept, "connection", None) or http.client.HTTPConnection(self.host, timeout=100)
            self.kept.connection = connection
            try:
                connection.request("POST", "/v1/sql", json.dumps({"sql": sql, "timeout_s": 30}).encode(),
                                   {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
            except (http.client.HTTPException, OSError):
                self.kept.connection = None
                if attempt == 2:
                    return 0, {"type": "/problems/broken_off", "detail": "it broke off"}
                continue
            try:
                return answer.status, json.loads(body, parse_float=Decimal)
            except ValueError as error:
                return answer.status, {"rows": [[f"no JSON: {error}: {body[:600]!r}"]]}


def shown(value) -> str:
    """A value as the files have it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value != "" else "(empty)"


def token(text: str):
    try:
        return Decimal(text)
    except InvalidOperation:
        # Microseconds are what an instant has here, and Z where a zone is.
        return re.sub(r"(\d\d:\d\d:\d\d)(?:\.(\d+?))?0*(?=Z|\b|$)", lambda m: m[1] + (f".{m[2][:6].rstrip('0')}" if m[2] and m[2][:6].strip("0") else ""),
                      text)


def is_near(one, other) -> bool:
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        if one == other or (one.is_nan() and other.is_nan()):
            return True
        return one.is_finite() and other.is_finite() and abs(one - other) <= FINE * max(1, abs(one))
    return one == other


def are_same(query: Query, rows: list) -> bool:
    ours = [[token(part) for part in " ".join(map(shown, row)).split()] for row in rows]
    theirs = [[token(part) for part in line.split()] for line in query.expected]
    if query.sort == "valuesort":
        ours, theirs = [[value] for row in ours for value in row], [[value] for row in theirs for value in row]
    orders = [None] if query.sort == "nosort" and re.search(r"order\s+by[^()]*$", query.sql, re.I) else [lambda row: [str(value) for value in row]]
    for order in orders:
        if order is not None:
            ours, theirs = sorted(ours, key=order), sorted(theirs, key=order)
    return len(ours) == len(theirs) and all(len(a) == len(b) and all(map(is_near, a, b)) for a, b in zip(ours, theirs))


def outcome(server: Server, query: Query) -> tuple:
    if query.needs:
        return "not here", query.needs
    if "<slt:ignore>" in "".join(query.expected) or query.at.startswith("spark/") or "/spark/" in query.at:
        return "not here", "another engine's functions, or a part that is left out"
    if re.match(r"\s*(explain|describe|show|set|insert|create|drop|copy|prepare|execute|delete|update)\b", query.sql, re.I):
        return "not here", "no SELECT"
    sql = with_tables(query)
    status, answer = server.ask(sql)
    if query.is_error:
        return ("error", "") if 400 <= status < 500 else ("differs", f"an error is expected, {status}: {str(answer)[:300]}")
    if status == 200:
        return ("same", "") if are_same(query, answer["rows"]) else ("differs", f"{answer['rows'][:6]}, not {query.expected[:6]}")
    code, detail = answer["type"].removeprefix("/problems/"), answer["detail"]
    if code == "sql_unknown_name" and "there is no relation" in detail:
        return "not here", "a table"
    if code in ("sql_not_allowed", "sql_too_large") or (code == "sql_unknown_name" and "function" in detail):
        return "refused", re.sub(r"^line.*?: ", "", detail)
    return "differs", f"{status} {code}: {detail}, not {query.expected[:3]}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("folder")
    arguments.add_argument("--only", default="", help="files whose path holds this")
    arguments.add_argument("--show", type=int, default=20, help="so many of those that differ")
    arguments.add_argument("--at-once", type=int, default=4)
    given = arguments.parse_args()
    root = pathlib.Path(given.folder)
    files = sorted(path for path in root.rglob("*.slt") if given.only in str(path.relative_to(root)))
    asked = [query for path in files for query in queries(path, root)]
    server = Server(given.binary)
    try:
        with ThreadPoolExecutor(given.at_once) as pool:
            outcomes = list(pool.map(lambda query: outcome(server, query), asked))
    finally:
        server.close()
    counts = Counter(what for what, _ in outcomes)
    differing = [(query, why) for query, (what, why) in zip(asked, outcomes) if what == "differs"]
    for query, why in differing[:given.show]:
        print(f"{query.at}: {why}\n      {' '.join(with_tables(query).split())[:400]}")
    print(f"\n{len(files)} files, {len(asked)} queries: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    for what in ("refused", "not here"):
        print(f"{what}: " + "; ".join(f"{count} × {why[:70]}" for why, count in Counter(why for w, why in outcomes if w == what).most_common(25)))


if __name__ == "__main__":
    main()
