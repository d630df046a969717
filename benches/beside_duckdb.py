#!/usr/bin/env python3
"""Wattlake beside DuckDB: the upload of a set, and every metric over it, in turns on one machine.

    python benches/gen_payments.py --out target/bench-data/10m --rows 10000000
    python benches/beside_duckdb.py --set target/bench-data/10m --binary target/release/wattlake

and SQL beside ROAPI (`pip install roapi` has the program):

    python benches/beside_duckdb.py --set target/bench-data/1m --binary target/release/wattlake --part rows --roapi PATH

Ingest. Wattlake: a server on a fresh folder, each project's file sent by `curl -T`, from the first byte to the last 201 (checked,
committed, on disk). DuckDB: COPY ... (PARTITION_BY (project, month)) of the same files, which checks types and nothing else and
does not fsync. Wattlake's processor time is its process's (/proc/PID/stat, the sender's aside), DuckDB's is its child's (wait4).

Metrics. The files of the lake that the last round made, read by both. Wattlake by HTTP, its JSON received; DuckDB in this process,
its rows fetched, footers cached, with a SQL that is at most as much work: no shares, no empty months. Both get the same period.
"read": Wattlake keeps nothing of files (query.partials_bytes of 1 byte), so that each question reads all of its files, as DuckDB's does.
"known": as it comes, after the same question was asked once.

Rows (--part rows). A million rows of nine columns in each form: Wattlake by HTTP from a process of its own, received and dropped; DuckDB's COPY of
the same SELECT over the same files to a file in memory (/dev/shm), and for Arrow its record batches, taken one after the other. Processor time of
Wattlake is its process's and those of its children's. The first byte of DuckDB's files is not counted: they are there when they are whole.
With --roapi, the same by HTTP from ROAPI, which reads the same files where they are (use_memory_table: false), by links in a folder without
Delta Lake's log. It has no lines of JSON. What HTTP gives is received by curl, whose times these are. Clients (--part clients, with --roapi): 1, 8 and 32
that ask both for the sums of one project's month and wait for the answer.

Also: the start with all of it, and an upload of 20,000 new rows into it. Compare ratios, not times from two machines.
"""

from __future__ import annotations

import argparse
import atexit
import glob
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import duckdb

TICK = os.sysconf("SC_CLK_TCK")
MONEY = {"TRANSACTION CHARGES", "PAYMENT_AMOUNT"}
HEADER = ["TIMESTAMP", "ID", "METER_ID", "UTILITY_ID", "CUSTOMER_ID", "CUSTOMER NAME", "TRANSACTION CHARGES", "PAYMENT_SOURCE",
          "REFERENCE_ID", "PAYMENT_AMOUNT", "ACCOUNT_TYPE", "STATUS", "NOTES", "LOCATION"]
ALL = ("2024-01-01", "2026-01-01")
ASKED = {"all": ({}, ALL), "one_project": ({"project": "p01"}, ALL),
         "one_month": ({"project": "p01"}, ("2025-05-01", "2025-06-01"))}
# Projects of the benches are three hours ahead of UTC all year.
LOCAL_MONTH = "CAST(date_trunc('month', make_timestamp(epoch_us(paid_at) + 10800000000)) AS DATE)"
SETTLED = "settlement = 'settled'"
METRICS = {
    "revenue_per_site": f"SELECT project_id, site, currency, sum(amount), count(*) FROM p WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "revenue_over_time": f"SELECT project_id, {LOCAL_MONTH}, currency, sum(amount), count(*) FROM p WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "payments_per_customer": "SELECT project_id, customer_id, currency, count(*), sum(amount), epoch_us(min(paid_at)), epoch_us(max(paid_at)) FROM p "
                             f"WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "source_mix": "SELECT project_id, currency, source, sum(amount), count(*), string_agg(DISTINCT payment_source, ' | ') FROM p "
                  f"WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "active_customers": f"SELECT project_id, count(DISTINCT customer_id) FROM p WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "ticket_size": "SELECT project_id, currency, count(*), avg(amount), median(amount), quantile_disc(amount, 0.9) FROM p "
                   f"WHERE {SETTLED} AND {{0}} GROUP BY ALL",
    "completeness": f"SELECT project_id, site, {LOCAL_MONTH}, count(*), epoch_us(min(paid_at)), epoch_us(max(paid_at)), max(upload_id) FROM p "
                    "WHERE {0} GROUP BY ALL",
}


class Server:
    """A Wattlake on a folder of its own."""

    def __init__(self, binary: str, folder: pathlib.Path) -> None:
        self.binary, self.folder = os.path.abspath(binary), folder.absolute()
        self.process, self.key, self.address = None, "", ""

    def run(self, *arguments: str) -> str:
        command = [self.binary, *arguments[:1], "--data-dir", str(self.folder), *arguments[1:]]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self, partials: str | None = None, port: int = 18431) -> float:
        """Starts it, and gives the seconds until it is ready."""
        environment = {**os.environ, **({"WATTLAKE_QUERY_PARTIALS_BYTES": partials} if partials else {})}
        self.address = f"http://127.0.0.1:{port}"
        began = time.perf_counter()
        # It is asked as fast as it answers, and by as many as wait.
        any_rate = ["--http-key-requests-per-s", "0", "--http-organisation-requests-per-s", "0", "--sql-queue", "1000",
                    "--sql-organisation-queue", "1000"]
        self.process = subprocess.Popen([self.binary, "serve", "--data-dir", str(self.folder), "--listen", f"127.0.0.1:{port}", *any_rate],
                                        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/readyz").close()
                if self.process.poll() is None:
                    return time.perf_counter() - began
                raise RuntimeError(f"another server listens on port {port}")
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError("the server does not start") from None
                time.sleep(0.005)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def cpu(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def cpu_with_children(self) -> float:
        """With that of the processes for SQL that have ended."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICK

    def export(self, sql: str, form: str) -> tuple[float, float, int]:
        return received(f"{self.address}/v1/sql", json.dumps({"sql": sql, "format": form}), f"Authorization: Bearer {self.key}",
                        "Content-Type: application/json")

    def peak_mib(self) -> int:
        return peak_mib(self.process.pid)

    def fill(self, projects: int) -> None:
        """Makes its projects and its key; it need not run."""
        for number in range(1, projects + 1):
            self.run("projects", "create", "--slug", f"p{number:02}", "--name", f"P{number:02}", "--kind", "mini_grid",
                     "--currency", "KES", "--time-zone", "Africa/Nairobi", "--country", "KE")
        self.key = json.loads(self.run("keys", "create", "--role", "admin", "--name", "bench", "--json"))["key"]

    def sender(self, project: str, file: str, name: str) -> subprocess.Popen:
        address = f"{self.address}/v1/uploads?project={project}&dataset_name={name}"
        return subprocess.Popen(["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "-H", f"Authorization: Bearer {self.key}",
                                 "-T", file, address], stdout=subprocess.PIPE, text=True)

    def ask(self, metric: str, parameters: dict) -> bytes:
        query = urllib.parse.urlencode(parameters)
        request = urllib.request.Request(f"{self.address}/v1/metrics/{metric}?{query}", headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request) as answer:
            return answer.read()


class Roapi:
    """A ROAPI over the files of a lake."""

    FORMS = {"json": "application/json", "csv": "application/csv", "arrow": "application/vnd.apache.arrow.stream", "parquet": "application/parquet"}

    def __init__(self, binary: str, folder: pathlib.Path) -> None:
        self.binary, self.folder = os.path.abspath(binary), folder.absolute()
        self.process, self.address = None, ""

    def start(self, files: list[str], port: int = 18441) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in map(pathlib.Path, files):
            link = self.folder.joinpath("payments", *file.parts[-3:])
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        column = {"data_type": "Utf8", "nullable": False}
        table = {"name": "payments", "uri": str(self.folder / "payments"), "option": {"format": "parquet", "use_memory_table": False},
                 "partition_columns": [{"name": name, **column} for name in ("project_id", "month")]}
        addresses = {name: f"127.0.0.1:{port + number}" for number, name in enumerate(("http", "postgres", "flight_sql"))}
        config, self.address = self.folder / "roapi.yml", f"http://{addresses['http']}"
        # JSON is YAML.
        config.write_text(json.dumps({"addr": addresses, "tables": [table]}))
        began = time.perf_counter()
        self.process = subprocess.Popen([self.binary, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/health").close()
                return
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError("ROAPI does not start") from None
                time.sleep(0.005)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def cpu(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def export(self, sql: str, form: str) -> tuple[float, float, int]:
        return received(f"{self.address}/api/sql", sql, f"Accept: {self.FORMS[form]}")


def received(address: str, body: str, *headers: str) -> tuple[float, float, int]:
    """Posts, and drops what is answered; gives the seconds to its first byte and to its last, and its bytes."""
    fields = [argument for header in headers for argument in ("-H", header)]
    written = "%{http_code} %{time_starttransfer} %{time_total} %{size_download}"
    command = ["curl", "-sS", "-o", os.devnull, "-w", written, *fields, "--data-binary", body, address]
    status, first, last, count = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if status != "200":
        raise RuntimeError(f"a question was answered {status}")
    return float(first), float(last), int(count)


def peak_mib(pid: int | str) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def accepted(sender: subprocess.Popen) -> None:
    status, _ = sender.communicate()
    if status != "201":
        raise RuntimeError(f"an upload was answered {status}")


def wattlake_ingest(server: Server, files: list[str], at_once: int) -> dict:
    shutil.rmtree(server.folder, ignore_errors=True)
    server.folder.mkdir(parents=True)
    server.fill(len(files))
    server.start()
    cpu, began, waiting = server.cpu(), time.perf_counter(), []
    for number, file in enumerate(files, 1):
        if len(waiting) == at_once:
            accepted(waiting.pop(0))
        waiting.append(server.sender(f"p{number:02}", file, "01_2026_Bench"))
    for sender in waiting:
        accepted(sender)
    took = {"wall_s": time.perf_counter() - began, "cpu_s": server.cpu() - cpu, "peak_mib": server.peak_mib()}
    server.stop()
    return took


def duckdb_ingest(files: list[str], target: pathlib.Path) -> dict:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f"'{name}': '{'DECIMAL(18,4)' if name in MONEY else 'VARCHAR'}'" for name in HEADER)
    fields = ", ".join('CAST("TIMESTAMP" AS TIMESTAMPTZ) AS paid_at' if name == "TIMESTAMP" else f'"{name}"' for name in HEADER)
    began, pid = time.perf_counter(), os.fork()
    if pid == 0:
        try:
            con = duckdb.connect()
            con.execute("SET threads=2; SET TimeZone='UTC'; SET preserve_insertion_order=false; SET partitioned_write_max_open_files=600")
            con.execute(f"""COPY (SELECT {fields}, project, "TIMESTAMP"[1:7] AS month
                FROM read_csv({files}, header=true, columns={{{columns}}}, hive_partitioning=true, auto_detect=false, delim=',',
                              quote='"', escape='"'))
                TO '{target}' (FORMAT parquet, PARTITION_BY (project, month), COMPRESSION zstd, COMPRESSION_LEVEL 3)""")
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError("DuckDB's COPY failed")
    return {"wall_s": time.perf_counter() - began, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss // 1024}


def show(title: str, ours: list[dict], *others: list[dict]) -> None:
    for what in ours[0]:
        a, *b = (statistics.median(run[what] for run in runs) if runs else float("nan") for runs in (ours, *others))
        print(f"| {title} {what} | {a:.4g} | " + " | ".join(f"{other:.4g} | {a / other:.2f}" for other in b) + " |", flush=True)


def timed(cpu, work, times: int) -> dict:
    before, began = cpu(), time.perf_counter()
    for _ in range(times):
        work()
    return {"wall_ms": (time.perf_counter() - began) / times * 1e3, "cpu_ms": (cpu() - before) / times * 1e3}


def metrics(server: Server, rounds: int, how: str) -> None:
    con = duckdb.connect()
    con.execute("SET threads=2; SET TimeZone='UTC'; SET parquet_metadata_cache=true")
    files = sorted(glob.glob(f"{server.folder}/lake/payments/project_id=*/month=*/*.parquet"))
    con.execute(f"CREATE VIEW p AS SELECT * FROM read_parquet({files}, hive_partitioning=true, hive_types={{'month': VARCHAR}})")
    for name, (parameters, (start, end)) in ASKED.items():
        times = {"all": 3, "one_project": 10, "one_month": 60}[name]
        for metric, sql in METRICS.items():
            filters = [f"paid_at >= TIMESTAMPTZ '{start} 00:00:00+03' AND paid_at < TIMESTAMPTZ '{end} 00:00:00+03'"]
            if parameters:
                filters.append("project_id = 'p01'")
            if name == "one_month":
                filters.append("month IN ('2025-04', '2025-05')")
            limit = 10_001 if metric == "payments_per_customer" else 1_000_000
            sql = f"{sql.format(' AND '.join(filters))} ORDER BY ALL LIMIT {limit}"
            asked = {**parameters, "from": start, "to": end}
            ask, query = (lambda: server.ask(metric, asked)), (lambda: con.execute(sql).fetchall())
            ask(), query()
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(timed(server.cpu, ask, times))
                theirs.append(timed(time.process_time, query, times))
            show(f"{metric}, {name}, {how}", ours, theirs)


ROWS = "SELECT payment_id, paid_at, project_id, site, meter_id, customer_id, customer_name, amount, status FROM {} LIMIT 1000000"
FORMS = {"json": "FORMAT json, ARRAY true", "ndjson": "FORMAT json", "csv": "FORMAT csv, HEADER", "arrow": None,
         "parquet": "FORMAT parquet, COMPRESSION zstd"}


def exports(server: Server, roapi: Roapi | None, files: list[str], rounds: int) -> None:
    con = duckdb.connect()
    con.execute("SET threads=2; SET TimeZone='UTC'; SET parquet_metadata_cache=true")
    con.execute(f"CREATE VIEW p AS SELECT * FROM read_parquet({files}, hive_partitioning=true, hive_types={{'month': VARCHAR}})")
    target = "/dev/shm/wattlake-bench-export"

    def by_http(side: Server | Roapi, cpu, form: str) -> dict:
        before = cpu()
        first, last, count = side.export(ROWS.format("payments"), form)
        # What a child took is known once it is gone.
        time.sleep(0.1)
        return {"wall_s": last, "cpu_s": cpu() - before, "MiB": count / 2**20, "MiB_per_s": count / 2**20 / last, "first_ms": first * 1e3}

    for form, options in FORMS.items():
        def export() -> int:
            if options is not None:
                con.execute(f"COPY ({ROWS.format('p')}) TO '{target}' ({options})")
                return os.path.getsize(target)
            return sum(batch.nbytes for batch in con.sql(ROWS.format("p")).to_arrow_reader(100_000))

        def by_duckdb() -> dict:
            before, began = time.process_time(), time.perf_counter()
            count = export()
            wall, cpu = time.perf_counter() - began, time.process_time() - before
            return {"wall_s": wall, "cpu_s": cpu, "MiB": count / 2**20, "MiB_per_s": count / 2**20 / wall, "first_ms": float("nan")}

        sides = [lambda: by_http(server, server.cpu_with_children, form), by_duckdb]
        if roapi is not None and form in Roapi.FORMS:
            sides.append(lambda: by_http(roapi, roapi.cpu, form))
        for side in sides:
            side()
        took = [[] for _ in sides]
        for _ in range(rounds):
            for side, runs in zip(sides, took):
                runs.append(side())
        if roapi is not None and form not in Roapi.FORMS:
            took.append([])
        show(f"rows, {form},", *took)
    pathlib.Path(target).unlink(missing_ok=True)
    peaks = f"peak MiB: the server {server.peak_mib()}, its process for rows as JSON {peak_of_child(server)}"
    print(peaks + (f", ROAPI {peak_mib(roapi.process.pid)}" if roapi is not None else ""), flush=True)


def peak_of_child(server: Server) -> int:
    """Of the process that answers SQL, which is looked at while it runs."""
    asked = threading.Thread(target=server.export, args=(ROWS.format("payments"), "json"))
    asked.start()
    most = 0
    while asked.is_alive():
        for child in subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split():
            try:
                most = max(most, peak_mib(child))
            except (OSError, IndexError):
                # It has ended meanwhile.
                pass
        time.sleep(0.05)
    return most


MONTH = "SELECT site, sum(amount) FROM payments WHERE month = '2024-05' AND project_id = 'p01' GROUP BY site"


def clients(server: Server, roapi: Roapi, rounds: int) -> None:
    ours = (server.address, "/v1/sql", json.dumps({"sql": MONTH}), {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"})
    theirs = (roapi.address, "/api/sql", MONTH, {})

    def ask_by(count: int, side: tuple) -> dict:
        address, path, body, headers = side
        times, until = [], time.perf_counter() + 5

        def ask() -> None:
            connection = http.client.HTTPConnection(address.removeprefix("http://"))
            while (began := time.perf_counter()) < until:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"a question was answered {answer.status}")
                times.append(time.perf_counter() - began)

        asking = [threading.Thread(target=ask) for _ in range(count)]
        began = time.perf_counter()
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        wall = time.perf_counter() - began
        times.sort()
        return {"answers_per_s": len(times) / wall, "p50_ms": times[len(times) // 2] * 1e3, "p99_ms": times[-1 - len(times) // 100] * 1e3}

    for count in (1, 8, 32):
        took = ([], [])
        for _ in range(rounds):
            for side, runs in zip((ours, theirs), took):
                runs.append(ask_by(count, side))
        show(f"{count} clients,", *took)


def small_uploads(server: Server, files: list[str], rounds: int, scratch: pathlib.Path) -> None:
    walls = []
    for number in range(rounds):
        lines = pathlib.Path(files[number % len(files)]).read_text().splitlines()
        rows = (line.split(",", 1) for line in lines[-20_000:])
        scratch.write_text("\n".join([lines[0], *(f"{at},B{number}-{rest}" for at, rest in rows)]))
        began = time.perf_counter()
        accepted(server.sender(f"p{number % len(files) + 1:02}", str(scratch), "02_2026_Bench"))
        walls.append((time.perf_counter() - began) * 1e3)
    print(f"upload of 20,000 rows, ms: median {statistics.median(walls):.0f}, least {min(walls):.0f}, most {max(walls):.0f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--set", required=True)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--work", default="target/bench-data/beside")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--at-once", type=int, default=2, help="uploads at once")
    arguments.add_argument("--part", choices=["ingest", "metrics", "rows", "clients", "both"], default="both",
                           help="metrics, rows of SQL or clients, alone goes on with the lake of an earlier run")
    arguments.add_argument("--roapi", help="the program of ROAPI, which SQL is asked of as well")
    given = arguments.parse_args()
    if given.part == "clients" and not given.roapi:
        arguments.error("--part clients asks beside ROAPI: --roapi PATH")
    work = pathlib.Path(given.work).absolute()
    files = sorted(map(os.path.abspath, glob.glob(f"{given.set}/project=*/*.csv")))
    server = Server(given.binary, work / "wattlake")
    atexit.register(server.stop)
    others = {"rows": ["DuckDB", "ROAPI"] if given.roapi else ["DuckDB"], "clients": ["ROAPI"]}.get(given.part, ["DuckDB"])
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, DuckDB {duckdb.__version__}\n\n| | Wattlake | "
          + " | ".join(f"{other} | ratio" for other in others) + " |\n|---|---|" + "---|---|" * len(others))
    if given.part in ("ingest", "both"):
        ours, theirs = [], []
        for _ in range(given.rounds):
            theirs.append(duckdb_ingest(files, work / "duckdb"))
            ours.append(wattlake_ingest(server, files, given.at_once))
        show(f"ingest, {given.at_once} at once,", ours, theirs)
    if given.part in ("rows", "clients"):
        server.key = json.loads(server.run("keys", "create", "--role", "admin", "--name", "bench", "--json"))["key"]
        lake = sorted(glob.glob(f"{server.folder}/lake/payments/project_id=*/month=*/*.parquet"))
        server.start()
        roapi = Roapi(given.roapi, work / "roapi") if given.roapi else None
        if roapi is not None:
            atexit.register(roapi.stop)
            roapi.start(lake)
        if given.part == "rows":
            exports(server, roapi, lake, given.rounds)
        else:
            clients(server, roapi, given.rounds)
        server.stop()
    if given.part in ("metrics", "both"):
        starts = []
        for _ in range(3):
            starts.append(server.start())
            server.stop()
        server.key = json.loads(server.run("keys", "create", "--role", "admin", "--name", "bench", "--json"))["key"]
        for how, partials in (("read", "1"), ("known", None)):
            server.start(partials)
            metrics(server, given.rounds, how)
            print(f"peak MiB after metrics, {how}: {server.peak_mib()}")
            server.stop()
        server.start()
        print(f"\nload {os.getloadavg()[0]:.1f}; start to ready, s: {statistics.median(starts):.2f}")
        small_uploads(server, files, 5, work / "small.csv")
        server.stop()


if __name__ == "__main__":
    main()
