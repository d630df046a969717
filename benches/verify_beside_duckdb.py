#!/usr/bin/env python3
"""Verification beside DuckDB, and an upload over several projects beside one to a single project.

    python benches/beside_duckdb.py --part ingest --set target/bench-data/10m --binary target/release/wattlake --rounds 1
    python benches/verify_beside_duckdb.py --part verify --binary target/release/wattlake
    python benches/verify_beside_duckdb.py --part several --set target/bench-data/1m --binary target/release/wattlake
    python benches/verify_beside_duckdb.py --part connect --binary target/release/wattlake

Verify. Over the lake that the ingest made: a programme, 100,000 connections of its projects (most of meters that pay, each twentieth of one
that does not), all submitted. Wattlake: a run that counts, from the request until it is told that it has ended, so with verdicts on disk and
every submission settled; processor time is the process's. DuckDB: the same verdicts as one query over the same files, from a table of the
connections in memory into another one, footers cached. The outcomes of both are compared, connection by connection.

Several. All rows of a set as one file: to one project, and to some at once (--projects) by the meters of their connections; in turns, each to a
fresh folder.

Connect. 100,000 connections of one project with every field, as one file: to the end of its answer, so in the catalogue and on disk.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import glob
import io
import json
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import duckdb

from beside_duckdb import Server, show

CONNECTIONS = 100_000
RULE = {"window": {"kind": "after_connection", "days": 180}, "min_payments": 6, "min_months": 3, "min_amount": {"KES": "500.00"}}
# As of the end of the set, whose projects are three hours ahead of UTC all year.
AS_OF = "2026-01-01T00:00:00Z"
LOCAL = "make_timestamp(epoch_us(paid_at) + 10800000000)"
COUNTS = "inside AND settlement = 'settled' AND amount > 0"
VERDICTS = f"""CREATE OR REPLACE TABLE verdicts AS
WITH judged AS (
  SELECT c.project, c.external_id, count(paid_at) AS any_payments, count(*) FILTER ({COUNTS}) AS payments,
         count(DISTINCT date_trunc('month', {LOCAL})) FILTER ({COUNTS}) AS months, coalesce(sum(amount) FILTER ({COUNTS}), 0) AS amount,
         coalesce(-sum(amount) FILTER (inside AND settlement = 'settled' AND amount < 0), 0) AS refunded,
         count(*) FILTER (inside AND settlement = 'reversed') AS reversed, min(paid_at) FILTER ({COUNTS}) AS first_at,
         max(paid_at) FILTER ({COUNTS}) AS last_at, list(DISTINCT upload_id) FILTER ({COUNTS}) AS uploads
  FROM c LEFT JOIN (SELECT project_id, meter_id, paid_at, amount, settlement, upload_id FROM p WHERE paid_at < TIMESTAMPTZ '{AS_OF}') AS p
       ON p.project_id = c.project AND p.meter_id = c.external_id,
       LATERAL (SELECT paid_at >= c.opens AND paid_at < c.closes AS inside)
  GROUP BY ALL
)
SELECT *, CASE WHEN any_payments = 0 THEN 'meter_not_found'
               WHEN payments = 0 AND reversed > 0 THEN 'reversed_only'
               WHEN payments = 0 THEN 'no_payment_in_window'
               WHEN amount - refunded <= 0 THEN 'reversed_only'
               WHEN payments < 6 OR months < 3 OR amount - refunded < 500 THEN 'below_threshold'
               ELSE 'verified' END AS outcome
FROM judged"""


class Programme(Server):
    """A server that is asked as an administrator asks it."""

    def call(self, method: str, path: str, body: bytes | dict | None = None, kind: str = "application/json") -> bytes:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self.key}", **({"Content-Type": kind} if data is not None else {})}
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:500]}") from error

    def connect(self, project: str, rows: list[tuple[str, str]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([("EXTERNAL_ID", "CONNECTED_ON"), *rows])
        self.call("POST", f"/v1/projects/{project}/connections", text.getvalue().encode(), "text/csv")


def lake_of(server: Server) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET threads=2; SET TimeZone='UTC'; SET parquet_metadata_cache=true")
    files = sorted(glob.glob(f"{server.folder}/lake/payments/project_id=*/month=*/*.parquet"))
    con.execute(f"CREATE VIEW p AS SELECT * FROM read_parquet({files}, hive_partitioning=true, hive_types={{'month': VARCHAR}})")
    return con


def submit_all(server: Programme, con: duckdb.DuckDBPyConnection) -> None:
    """Makes the programme with its connections, where that was not done before."""
    programmes = json.loads(server.call("GET", "/v1/programmes"))["programmes"]
    con.execute("CREATE TABLE c (project VARCHAR, external_id VARCHAR, opens TIMESTAMPTZ, closes TIMESTAMPTZ)")
    if not programmes:
        server.call("POST", "/v1/programmes", {"slug": "bench", "name": "Bench", "rule": RULE, "organisation": "main"})
    projects = [row[0] for row in con.sql("SELECT DISTINCT project_id FROM p ORDER BY 1").fetchall()]
    each = CONNECTIONS // len(projects)
    for project in projects:
        meters = con.execute(f"SELECT meter_id, strftime(min({LOCAL}), '%Y-%m-%d') FROM p WHERE project_id = ? GROUP BY 1 ORDER BY 1 LIMIT ?",
                             [project, each]).fetchall()
        rows = [(f"silent-{meter}" if number % 20 == 0 else meter, day) for number, (meter, day) in enumerate(meters)]
        rows += [(f"unknown-{number}", "2025-01-01") for number in range(each - len(rows))]
        con.execute("INSERT INTO c SELECT ?, id, CAST(day AS TIMESTAMP) - INTERVAL 3 HOUR, CAST(day AS TIMESTAMP) - INTERVAL 3 HOUR + INTERVAL 180 DAY "
                    "FROM (SELECT unnest(?) AS id, unnest(?) AS day)", [project, [row[0] for row in rows], [row[1] for row in rows]])
        if not programmes:
            server.connect(project, rows)
            server.call("POST", "/v1/programmes/bench/enrolments", {"project": project, "version": 1, "consent": True})
            server.call("POST", "/v1/programmes/bench/submissions", {"project": project})


def run_once(server: Programme) -> tuple[dict, dict]:
    cpu, began = server.cpu(), time.perf_counter()
    run = json.loads(server.call("POST", "/v1/programmes/bench/verifications", {"as_of": AS_OF}))
    while run["state"] == "running":
        time.sleep(0.02)
        run = json.loads(server.call("GET", f"/v1/programmes/bench/verifications/{run['id']}"))["verification"]
    if run["state"] != "done":
        raise RuntimeError(run["failure"])
    wall = time.perf_counter() - began
    return run, {"wall_s": wall, "cpu_s": server.cpu() - cpu}


def verify(server: Programme, rounds: int) -> None:
    server.key = json.loads(server.run("keys", "create", "--role", "admin", "--name", "bench", "--json"))["key"]
    server.start()
    con = lake_of(server)
    submit_all(server, con)
    count = con.sql("SELECT (SELECT count(*) FROM c), (SELECT count(*) FROM p)").fetchall()[0]
    print(f"{count[0]} connections, {count[1]} payments", flush=True)
    run, _ = run_once(server)
    con.execute(VERDICTS)
    verdicts = server.call("GET", f"/v1/programmes/bench/verifications/{run['id']}/verdicts?format=csv").decode()
    ours = {(row["project"], row["external_id"]): (row["outcome"], row["payments"], row["months"]) for row in csv.DictReader(io.StringIO(verdicts))}
    theirs = {(row[0], row[1]): (row[2], str(row[3]), str(row[4]))
              for row in con.sql("SELECT project, external_id, outcome, payments, months FROM verdicts").fetchall()}
    differ = [name for name in theirs if ours.get(name) != theirs[name]]
    if len(ours) != len(theirs) or differ:
        raise RuntimeError(f"{len(differ)} verdicts differ, such as {differ[:3]}: {[(ours.get(name), theirs[name]) for name in differ[:3]]}")
    print(f"the same verdicts of both: {run['outcomes']}\n\n| | Wattlake | DuckDB | ratio |\n|---|---|---|---|")
    times: tuple[list, list] = ([], [])
    for _ in range(rounds):
        times[0].append(run_once(server)[1])
        began, cpu = time.perf_counter(), time.process_time()
        con.execute(VERDICTS)
        times[1].append({"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu})
    show("verification,", *times)
    print(f"peak of the server: {server.peak_mib()} MiB")
    server.stop()


def several(server: Programme, files: list[str], count: int, rounds: int) -> None:
    whole = server.folder.parent / "whole.csv"
    with whole.open("w") as out:
        for number, name in enumerate(files):
            with open(name) as part:
                header = part.readline()
                if number == 0:
                    out.write(header)
                shutil.copyfileobj(part, out)
    meters: list[list[tuple[str, str]]] = [[] for _ in range(count)]
    for number, name in enumerate(files):
        of_file = duckdb.sql(f"SELECT DISTINCT METER_ID FROM read_csv('{name}', all_varchar=true)").fetchall()
        meters[number % count] += [(row[0], "2024-01-01") for row in of_file]
    times: dict[bool, list] = {False: [], True: []}
    for _ in range(rounds):
        for spread in (False, True):
            shutil.rmtree(server.folder, ignore_errors=True)
            server.folder.mkdir(parents=True)
            server.fill(count)
            server.start()
            for number, rows in enumerate(meters, 1):
                server.connect(f"p{number:02}", rows)
            projects = [f"p{number:02}" for number in range(1, count + 1)] if spread else ["p01"]
            address = f"{server.address}/v1/uploads?dataset_name=01_2026_Bench&" + "&".join(f"project={slug}" for slug in projects)
            cpu, began = server.cpu(), time.perf_counter()
            answer = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {server.key}",
                                     "-T", str(whole), address], capture_output=True, text=True, check=True).stdout
            if answer != "201":
                raise RuntimeError(f"the upload was answered {answer}")
            times[spread].append({"wall_s": time.perf_counter() - began, "cpu_s": server.cpu() - cpu})
            server.stop()
    print("| | several projects | one | ratio |\n|---|---|---|---|")
    show("upload,", times[True], times[False])
    whole.unlink()


def connect(server: Programme, rounds: int) -> None:
    fields = ["EXTERNAL_ID", "SERIAL_NUMBER", "CUSTOMER_NAME", "CATEGORY", "CUSTOMER_TYPE", "GENDER", "PHONE", "COUNTRY", "ADDRESS", "LATITUDE",
              "LONGITUDE", "PRODUCT_NAME", "MILESTONE", "INVERTER_SERIAL_NUMBER", "CAPACITY", "SITE", "CONNECTED_ON"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(fields)
    for number in range(CONNECTIONS):
        writer.writerow([f"0{number:010}", f"D{number:09}", f"Amina Otieno {number}", "Residential", "individual", "female", f"+2547{number:08}", "KE",
                         f"Plot {number}", f"-1.{number:06}", f"36.{number:06}", "Home 400", "connected", f"INV{number:07}", "400", f"Site {number % 40}",
                         f"2024-{number % 12 + 1:02}-15"])
    body = text.getvalue().encode()
    for name in ("imported", "the same again") * rounds:
        if name == "imported":
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)
            server.folder.mkdir(parents=True)
            server.fill(1)
            server.start()
        began, cpu = time.perf_counter(), server.cpu()
        server.call("POST", "/v1/projects/p01/connections", body, "text/csv")
        print(f"{CONNECTIONS} connections {name}: {time.perf_counter() - began:.2f} s, {server.cpu() - cpu:.2f} s of processor time", flush=True)
    server.stop()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--part", choices=["verify", "several", "connect"], required=True)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--set")
    arguments.add_argument("--work", default="target/bench-data/beside")
    arguments.add_argument("--projects", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    work = pathlib.Path(given.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    server = Programme(given.binary, work / ("wattlake" if given.part == "verify" else "several"))
    atexit.register(server.stop)
    if given.part == "verify":
        verify(server, given.rounds)
    elif given.part == "connect":
        connect(server, given.rounds)
    else:
        several(server, sorted(glob.glob(f"{given.set}/project=*/*.csv")), given.projects, given.rounds)


if __name__ == "__main__":
    main()
