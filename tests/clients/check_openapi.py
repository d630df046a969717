#!/usr/bin/env python3
"""Holds a running server to its own description, /v1/openapi.json.

    check_openapi.py BASE_URL KEY

The document is validated as OpenAPI 3.1. Then every operation is asked, as it should be and in every wrong way that can be
brought about from outside, and each answer has to be one that the document has: its status, its media type, its headers, its
body. The server is empty, receives one file at once, gives up a body after a second, and answers a question with at most
16 KiB. A line a check; exit 1 when one fails.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import sys
import time
import urllib.parse
from collections import defaultdict
from datetime import date, timedelta

from openapi_spec_validator import OpenAPIV31SpecValidator

from description import METHODS, Answer, Client, Description, Operation
from oracle import Report

MANY = 2000    # more ids than a request may name
NAMES_BYTES = 4 << 20    # the longest body that names connections
SLUG, EMPTY_SLUG, ABSENT_SLUG = "kitobo", "gbamu", "absent"
# The organisation that a server begins with, and another.
ORGANISATION, OTHER_ORGANISATION = "main", "hill"
PROGRAMME = "light"
ABSENT = {"slug": ABSENT_SLUG, "programme": ABSENT_SLUG, "project": ABSENT_SLUG, "id": "upl_" + "0" * 32, "name": "revenue", "prefix": "aaaaaaaa", "external_id": "absent",
          "run": "vrf_" + "0" * 32}
SAVED_PATH, SAVED = "/v1/queries/saved", "sites"
JSON = {"Content_Type": "application/json"}
BOUNDARY = "a-boundary-of-this-check"
HEADER = (
    "TIMESTAMP,ID,METER_ID,UTILITY_ID,CUSTOMER_ID,CUSTOMER NAME,TRANSACTION CHARGES,PAYMENT_SOURCE,REFERENCE_ID,"
    "PAYMENT_AMOUNT,ACCOUNT_TYPE,STATUS,NOTES,LOCATION"
)
FIELDS = {"project": SLUG, "dataset_name": "05_2024_Kitobo"}
# Statuses that no caller brings about at will: defects and failures of the server, its timeouts, and its full queue. The rate of
# requests, which is the same for all operations, is turned off here (tests/it/rates.rs is about it).
# Nor does anything go that was kept, within the time of this check.
OUT_OF_REACH = {"410", "429", "500", "503", "504", "507"}
UPLOADS = {("post", "/v1/uploads"), ("put", "/v1/uploads")}
# Keys and shares are so many that no check makes as many.
# Nor does a share end while SQL runs.
OUT_OF_REACH_OF = {"create_key": {"409"}, "create_share": {"409"}, "run_sql": {"409"}, "get_sql": {"409"},
                   "save_query": {"409"}, "run_saved": {"409"}, "get_result": {"409"},
                   "import_connections": {"409"}, "update_programme": {"409"},
                   # Of a project that takes part in a programme, and has no uploads.
                   "update_project": {"422"},
                   # Of a verification that is under way, or failed.
                   "list_verdicts": {"409"}, "explain_verdict": {"409"}, "replay_verification": {"409"}, "get_report": {"409"}}
# One value of each parameter; those of enums are tried one by one.
EXAMPLES = {
    "project": SLUG, "from": "2024-05-01T00:00:00Z", "to": "2025-01-01T00:00:00Z", "tz": "Africa/Nairobi", "site": "Kitobo",
    "currency": "KES", "direction": "given", "days": "7", "dataset_name": "x", "If-None-Match": '"x"',
    "q": "SELECT 1 AS n", "params": "[]", "limit": "5", "timeout_s": "5", "csv_guard": "true", "format": "csv",
    "version": "1", "key": "abcdefgh", "organisation": "acme", "action": "upload.delete", "milestone": "Milestone 1", "reopened": "false", "connected_from": "2024-05-01", "connected_to": "2025-01-01",
}
DAYS = 600


def payments(rows: range) -> bytes:
    """A payment a row, on so many days that an answer by day is too large."""
    line = "{0}T10:00:00,TX{1},00104,,C-{2},Amina Otieno,,M-PESA,,150.00,,SUCCESS,,Kitobo"
    days = [date(2023, 1, 1) + timedelta(days=day) for day in range(DAYS)]
    return "\n".join([HEADER, *(line.format(days[row % DAYS], row, row % 20) for row in rows), ""]).encode()


def cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def form(fields: dict, file: bytes, name: str = "ELECTRICITY_PAYMENT.csv") -> bytes:
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
    return "".join(parts).encode() + file + f"\r\n--{BOUNDARY}--\r\n".encode()


class Walk:
    """Asks, and keeps what was wrong and what was seen."""

    def __init__(self, client: Client):
        self.client = client
        self.description = Description(client.ask("get", "/v1/openapi.json", key=None).json())
        self.seen: dict = defaultdict(set)
        self.faults: dict = defaultdict(list)
        # An upload with rejected rows, and those that may be deleted.
        self.upload, self.uploads = "", []
        # A share of the project.
        self.share = ""
        # A verification that has ended.
        self.run = ""
        # Queries whose result is kept, and that failed.
        self.query, self.failed = "", ""
        # The prefix of a key that asks for nothing, and keys of roles that may little.
        self.prefix, self.small_keys = "", []

    def judge(self, check: str, operation: Operation, answer: Answer, *expected: int) -> Answer:
        self.seen[operation].add(str(answer.status))
        wrong = self.description.faults(operation, answer)
        if expected and answer.status not in expected:
            wrong.append(f"{operation}: {answer.status} and not {expected}: {answer.body[:300]!r}")
        closed = answer.media_type.endswith("json") and answer.body[:1] == b"{" and operation.path != "/v1/openapi.json"
        if closed and not wrong and answer.media_type != "application/x-ndjson":
            wrong += self.description.takes_more(operation, answer)
        self.faults[check] += wrong
        return answer

    def ask(self, check: str, operation: Operation, *expected: int, query: str = "", body=None, **more) -> Answer:
        query = self.completed(operation, query)
        answer = self.client.ask(operation.method, self.path(operation, **more.pop("names", {})) + query, body, **more)
        return self.judge(check, operation, answer, *expected)

    def completed(self, operation: Operation, query: str = "") -> str:
        """With the parameters that are required."""
        required = [parameter["name"] for parameter in self.parameters(operation, "query") if parameter.get("required")]
        missing = {name: EXAMPLES[name] for name in required if f"{name}=" not in query}
        if operation.path.startswith(SAVED_PATH) and operation.method != "put" and "organisation=" not in query:
            # There are two, and an administrator's key is of neither.
            missing["organisation"] = ORGANISATION
        return query + (("&" if query else "?") + urllib.parse.urlencode(missing) if missing else "")

    def path(self, operation: Operation, **names: str) -> str:
        slug = ORGANISATION if operation.path.startswith("/v1/organisations") else SLUG
        thing = self.share if "/shares/" in operation.path else self.upload
        thing = self.query if operation.path.startswith("/v1/queries/{id}") else thing
        name = SAVED if operation.path.startswith(SAVED_PATH) else "revenue_per_site"
        known = {"slug": slug, "id": thing, "name": name, "prefix": self.prefix, "external_id": "00104",
                 "programme": PROGRAMME, "project": SLUG, "run": self.run} | names
        return operation.path.format_map({name: urllib.parse.quote(value) for name, value in known.items()})

    def parameters(self, operation: Operation, place: str) -> list:
        parameters = self.description.of(operation).get("parameters", [])
        return [parameter for parameter in parameters if parameter["in"] == place]


# What has a body is asked by hand; what has none, as the document says. An operation that is missing here fails the check.

def create_organisation(walk: Walk, operation: Operation) -> None:
    body = {"slug": OTHER_ORGANISATION, "name": "Hill Power"}
    for status, fields in ((201, body), (409, body), (400, {"slug": "A b"}), (400, body | {"color": "red"})):
        send_json(walk, operation, status, fields)
    wrong_json(walk, operation)


def update_organisation(walk: Walk, operation: Operation) -> None:
    for status, fields in ((200, {"name": "Main Power"}), (200, {}), (400, {"slug": "other"})):
        send_json(walk, operation, status, fields)
    send_json(walk, operation, 404, {}, names=ABSENT)
    wrong_json(walk, operation)


def create_key(walk: Walk, operation: Operation) -> None:
    body = {"name": "a key of this check", "role": "viewer", "organisation": ORGANISATION}
    for role in ("viewer", "uploader"):
        made = send_json(walk, operation, 201, body | {"role": role, "expires_at": "2199-01-01T00:00:00Z"}).json()
        walk.small_keys.append((made["secret"], made["key"]["prefix"]))
    walk.prefix = send_json(walk, operation, 201, body | {"role": "analyst"}).json()["key"]["prefix"]
    send_json(walk, operation, 201, {"name": "an administrator's", "role": "admin"})
    send_json(walk, operation, 422, {"name": "of none", "role": "viewer"})
    send_json(walk, operation, 404, body | {"organisation": ABSENT_SLUG})
    for wrong in ({"role": "owner"}, {"expires_at": "2001-01-01T00:00:00Z"}, {"role": "admin"}, {"name": 1}, {"color": "red"}):
        send_json(walk, operation, 400, body | wrong)
    wrong_json(walk, operation)


def rotate_key(walk: Walk, operation: Operation) -> None:
    old = walk.prefix
    walk.prefix = send_json(walk, operation, 201, {"overlap_s": 1}).json()["key"]["prefix"]
    send_json(walk, operation, 409, {}, names={"prefix": old})
    send_json(walk, operation, 404, {}, names=ABSENT)
    for wrong in ({"overlap_s": -1}, {"overlap_s": 2592001}, {"color": "red"}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation)


def revoke_key(walk: Walk, operation: Operation) -> None:
    for _ in range(2):
        walk.ask("keys are revoked", operation, 200)
    walk.ask("keys are revoked", operation, 404, names=ABSENT)


def create_project(walk: Walk, operation: Operation) -> None:
    body = {"slug": SLUG, "name": "Kitobo", "kind": "mini_grid", "currency": "KES", "time_zone": "Africa/Nairobi", "country": "KE"}
    send_json(walk, operation, 422, body)
    body["organisation"] = ORGANISATION
    send_json(walk, operation, 201, body)
    send_json(walk, operation, 201, body | {"slug": EMPTY_SLUG})
    send_json(walk, operation, 409, body)
    send_json(walk, operation, 404, body | {"slug": "new", "organisation": ABSENT_SLUG})
    send_json(walk, operation, 400, body | {"kind": "x", "color": "red"})
    wrong_json(walk, operation)


def update_project(walk: Walk, operation: Operation) -> None:
    for status, fields in ((200, {"name": "Kitobo Island"}), (409, {"currency": "TZS"}), (400, {"slug": "other"})):
        send_json(walk, operation, status, fields)
    send_json(walk, operation, 404, {}, names=ABSENT)
    wrong_json(walk, operation)


def create_share(walk: Walk, operation: Operation) -> None:
    body = {"recipient": OTHER_ORGANISATION, "detail": "full"}
    more = {"months_from": "2024-05", "months_to": "2024-06", "note": "for you", "expires_at": "2199-01-01T00:00:00Z"}
    walk.share = send_json(walk, operation, 201, body | more).json()["id"]
    send_json(walk, operation, 201, body)
    send_json(walk, operation, 404, body | {"recipient": ABSENT_SLUG})
    send_json(walk, operation, 404, body, names=ABSENT)
    for wrong in ({"recipient": ORGANISATION}, {"months_to": "May"}, more | {"months_to": "2024-04"}, {"note": "x" * 501}, {"detail": "all"}, {"color": "red"}):
        send_json(walk, operation, 400, body | wrong)
    wrong_json(walk, operation)


def update_share(walk: Walk, operation: Operation) -> None:
    send_json(walk, operation, 200, {"months_from": None, "months_to": "2024-07", "note": "for you", "expires_at": None})
    send_json(walk, operation, 404, {}, names=ABSENT)
    send_json(walk, operation, 200, {"detail": "masked"})
    for wrong in ({"recipient": ORGANISATION}, {"months_to": "May"}, {"months_from": "2024-08"}, {"detail": "all"}, {"color": "red"}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation)


def revoke_share(walk: Walk, operation: Operation) -> None:
    for _ in range(2):
        walk.ask("shares are revoked", operation, 200)
    walk.ask("shares are revoked", operation, 404, names=ABSENT)
    send_json(walk, Operation("patch", operation.path), 409, {})


WINDOWS = ({"kind": "dates", "from": "2024-01-01", "to": "2024-07-01"}, {"kind": "after_connection", "days": 90},
           {"kind": "before_as_of", "days": 90})


def create_programme(walk: Walk, operation: Operation) -> None:
    body = {"slug": PROGRAMME, "name": "Rural Light", "rule": {"window": WINDOWS[0], "min_amount": {"KES": "500.00"}},
            "required_columns": ["STATUS"], "invited": [OTHER_ORGANISATION]}
    send_json(walk, operation, 422, body)
    body["organisation"] = ORGANISATION
    send_json(walk, operation, 201, body)
    send_json(walk, operation, 409, body)
    for wrong in ({"organisation": ABSENT_SLUG}, {"slug": "new", "invited": [ABSENT_SLUG]}):
        send_json(walk, operation, 404, body | wrong)
    for wrong in ({"rule": {}}, {"required_columns": ["ID"]}, {"invited": [ORGANISATION]}, {"name": ""}, {"color": "red"}):
        send_json(walk, operation, 400, body | {"slug": "new"} | wrong)
    wrong_json(walk, operation)


def update_programme(walk: Walk, operation: Operation) -> None:
    for window in WINDOWS:
        send_json(walk, operation, 200, {"rule": {"window": window, "statuses": ["settled", "pending"]}})
    for fields in ({"name": "Rural Light 2"}, {"required_columns": []}, {}):
        send_json(walk, operation, 200, fields)
    send_json(walk, operation, 404, {}, names=ABSENT)
    send_json(walk, operation, 404, {"invited": [ABSENT_SLUG]})
    for wrong in ({"slug": "other"}, {"rule": {"window": {"kind": "x"}}}, {"color": "red"}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation)


def create_enrolment(walk: Walk, operation: Operation) -> None:
    version = walk.client.ask("get", f"/v1/programmes/{PROGRAMME}").json()["version"]
    body = {"project": SLUG, "version": version, "consent": True}
    for status in (201, 200):
        send_json(walk, operation, status, body)
    send_json(walk, operation, 409, body | {"version": version + 1})
    send_json(walk, operation, 422, body | {"consent": False})
    send_json(walk, operation, 404, body, names=ABSENT)
    send_json(walk, operation, 404, body | {"project": ABSENT_SLUG})
    for wrong in ({"version": 0}, {"consent": "yes"}, {"color": "red"}):
        send_json(walk, operation, 400, body | wrong)
    wrong_json(walk, operation)


def withdraw_enrolment(walk: Walk, operation: Operation) -> None:
    for _ in range(2):
        walk.ask("projects are withdrawn", operation, 200)
    walk.ask("projects are withdrawn", operation, 404, names=ABSENT)


def import_connections(walk: Walk, operation: Operation) -> None:
    check = "connections are sent"

    def send(status: int, body: bytes, query: str = "", **more) -> None:
        walk.ask(check, operation, status, query=query, body=body, **({"Content_Type": "text/csv"} | more))

    template = walk.client.ask("get", "/v1/templates/CONNECTIONS.csv").body
    some = b"EXTERNAL_ID,SITE,LATITUDE,LONGITUDE\n00104,Kitobo,-3.5,36\nmeter-2,=Hill,,\n"
    for body in (template, some, some):
        send(200, body, "?dry_run=true")
        send(200, body)
    send(422, some + b",,,\nmeter-3,,100,\n")
    send(200, some + b",x,,\nmeter-3,,100,\n", "?on_error=skip_rows")
    send(422, b"ID\n1\n")
    send(404, some, names=ABSENT)
    send(400, some, "?on_error=x")
    send(415, some, Content_Encoding="gzip")
    send(415, some, Content_Type="text/html")
    send_json(walk, operation, 200, {"connections": [{"external_id": "meter-4", "category": "Anchor", "latitude": None}]})
    send_json(walk, operation, 422, {"connections": [{"external_id": 4, "sit": "x"}]})
    for body in (b'{"connections":', b'{"connections": [{"site": "a", "site": "b"}]}', b"[]"):
        walk.ask("a body of JSON", operation, 400, body=body, **JSON)
    for length, status in ((1 << 30, 413), (100, 408)):
        unfinished(walk, operation, {status}, begin(walk, operation, length, b"", Content_Type="text/csv"))


def update_connection(walk: Walk, operation: Operation) -> None:
    for fields in ({"site": "Hill", "latitude": -1.5, "longitude": 30}, {"site": None, "connected_on": "2024-05-01"}, {}):
        send_json(walk, operation, 200, fields)
    send_json(walk, operation, 404, {}, names=ABSENT)
    send_json(walk, operation, 404, {}, names={"external_id": "absent"})
    for wrong in ({"external_id": "other"}, {"category": "x"}, {"latitude": "north"}, {"color": "red"}, {"longitude": None}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation)


def delete_connection(walk: Walk, operation: Operation) -> None:
    walk.ask("connections are deleted", operation, 200, names={"external_id": "meter-2"})
    walk.ask("connections are deleted", operation, 404, names={"external_id": "meter-2"})


def send_json(walk: Walk, operation: Operation, status: int, value: dict, **more) -> Answer:
    return walk.ask("a body of JSON", operation, status, body=json.dumps(value).encode(), **JSON, **more)


def wrong_json(walk: Walk, operation: Operation, most: int = 64 << 10) -> None:
    for body in (b'{"slug":', b'{"slug": "a", "slug": "b"}'):
        walk.ask("a body of JSON", operation, 400, body=body, Content_Type="application/json")
    walk.ask("a body of JSON", operation, 415, body=b"{}", Content_Type="text/plain")
    for length, sent, status in ((most + 6_000, b" " * (most + 1), 413), (100, b"{", 408)):
        unfinished(walk, operation, {status}, begin(walk, operation, length, sent, Content_Type="application/json"))


def begin(walk: Walk, operation: Operation, length: int, sent: bytes, query: str = "", **headers: str) -> http.client.HTTPConnection:
    """Announces a body, and sends this much of it."""
    connection = http.client.HTTPConnection(walk.client.base.removeprefix("http://"), timeout=60)
    connection.putrequest(operation.method.upper(), walk.path(operation) + query)
    for name, value in ({"Authorization": f"Bearer {walk.client.key}", "Content_Length": str(length)} | headers).items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(sent)
    return connection


def unfinished(walk: Walk, operation: Operation, statuses: set, *connections: http.client.HTTPConnection) -> bool:
    """Whether bodies of which nothing more comes are answered with these statuses, whichever gets which."""
    found = set()
    for connection in connections:
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        walk.judge("a body that is too large, or stops coming", operation, answer, *statuses)
        found.add(answer.status)
        connection.close()
    return found == statuses


def upload_plain(walk: Walk, operation: Operation) -> None:
    check = f"an upload by {operation.method.upper()} as a plain body"

    def send(status: int, body: bytes, fields: dict = FIELDS, **headers: str) -> Answer:
        headers = {"Content_Type": "text/csv"} | headers
        answer = walk.ask(check, operation, status, query="?" + urllib.parse.urlencode(fields), body=body, **headers)
        walk.uploads += [answer.json()["id"]] if answer.status == 201 else []
        return answer

    first = {"post": 0, "put": 1000}[operation.method]
    good, other = payments(range(first, first + 600)), payments(range(first + 900, first + 901))
    bad = good + b"2024-05-03,,,,,,,,,x,,,,\n"
    send(200, good, FIELDS | {"dry_run": "true"})
    send(201, good, Idempotency_Key=operation.method)
    again = send(201, good, Idempotency_Key=operation.method)
    walk.faults[check] += [] if again.headers["Idempotency-Replayed"] == "true" else ["the first answer is not given again"]
    send(422, other, Idempotency_Key=operation.method)
    send(400, other, Idempotency_Key="two words")
    send(200, good)
    send(201, gzip.compress(payments(range(first + 700, first + 710))), Content_Encoding="gzip")
    send(201, gzip.compress(payments(range(first + 720, first + 730))), Content_Type="application/gzip")
    send(422, bad)
    send(422, bad, FIELDS | {"dry_run": "true"})
    send(422, other, FIELDS | {"file_name": "payments.csv"})
    skipped = send(201, bad.replace(b"150.00", b"160.00"), FIELDS | {"on_error": "skip_rows"})
    walk.upload = walk.upload or skipped.json()["id"]
    send(404, other, FIELDS | {"project": ABSENT_SLUG})
    send(400, other, FIELDS | {"on_error": "x"})
    send(415, other, Content_Encoding="x-unheard-of")
    send(415, other, Content_Type="text/html")

    def unsent(statuses: set, length: int, times: int, **headers: str) -> None:
        query = "?" + urllib.parse.urlencode(FIELDS)
        # On a busy machine, one may be given up before the other comes.
        for _ in range(5):
            begun = [begin(walk, operation, length, b"", query, Content_Type="text/csv", **headers) for _ in range(times)]
            if unfinished(walk, operation, statuses, *begun):
                return

    unsent({413}, 3 << 30, 1)
    # Of two at once, one has the one place, or the key. Whether both answers came is a matter of the statuses seen, below.
    unsent({408, 429}, 1000, 2)
    unsent({408, 409}, 1000, 2, Idempotency_Key="of-two")


def create_upload(walk: Walk, operation: Operation) -> None:
    upload_plain(walk, operation)

    def send(status: int, body: bytes) -> None:
        walk.ask("an upload as a form", operation, status, body=body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")

    send(201, form(FIELDS, payments(range(2000, 2100))))
    send(422, form(FIELDS, b"x", "payments.csv"))
    send(422, form(FIELDS, b"x"))
    send(400, form(FIELDS | {"color": "red"}, b"x"))
    send(400, b"nothing of a form")


def delete_upload(walk: Walk, operation: Operation) -> None:
    check = "uploads are deleted, restored and erased"
    deleted = walk.uploads[-1]
    for _ in range(2):
        walk.ask(check, operation, 200, names={"id": deleted})
    walk.ask(check, operation, 404, names=ABSENT)
    refused = walk.client.ask("get", "/v1/uploads?status=rejected&limit=1").json()["uploads"][0]["id"]
    walk.ask(check, operation, 409, names={"id": refused})


def restore_upload(walk: Walk, operation: Operation) -> None:
    delete_upload(walk, operation)


def delete_uploads(walk: Walk, operation: Operation) -> None:
    def send(status: int, value: dict) -> None:
        body = json.dumps(value).encode()
        walk.ask("uploads are deleted, restored and erased", operation, status, body=body, Content_Type="application/json")

    send(200, {"uploads": walk.uploads[-3:-1]})
    for wrong in ({}, {"uploads": []}, {"uploads": [1]}, {"uploads": ["x"], "color": "red"}, {"uploads": ["x"] * MANY}):
        send(400, wrong)
    send(404, {"uploads": [walk.upload, ABSENT["id"]]})
    send(404, {"uploads": [walk.upload, "x"]})
    refused = walk.client.ask("get", "/v1/uploads?status=rejected&limit=1").json()["uploads"][0]["id"]
    send(409, {"uploads": [walk.upload, refused]})
    wrong_json(walk, operation)


def purge_upload(walk: Walk, operation: Operation) -> None:
    """After the uploads before were deleted."""
    check = "uploads are deleted, restored and erased"
    for _ in range(2):
        walk.ask(check, operation, 200, query="?with_evidence=true", names={"id": walk.uploads[-2]})
    walk.ask(check, operation, 409, names={"id": walk.upload})
    walk.ask(check, operation, 404, names=ABSENT)


def run_sql(walk: Walk, operation: Operation) -> None:
    sql = "SELECT count(*) AS payments, sum(amount) AS amount FROM payments WHERE site = $site"
    for format in ("json", "ndjson", "csv", "arrow", "parquet"):
        send_json(walk, operation, 200, {"sql": sql, "params": {"site": "Kitobo"}, "format": format, "limit": 5, "timeout_s": 5})
    for wrong in ({"sql": 1}, {"sql": "SELECT 1", "color": "red"}, {"sql": "SELECT nothing FROM payments"}, {"sql": "SELECT 1", "limit": 0}):
        send_json(walk, operation, 400, wrong)
    send_json(walk, operation, 422, {"sql": "SELECT 1 / 0"})
    check = "bare SQL"
    walk.ask(check, operation, 200, body=b"SELECT 1 AS n", query="?format=csv", Content_Type="text/plain")
    walk.ask(check, operation, 200, body=b"SELECT 1 AS n", Content_Type="application/sql")
    walk.ask(check, operation, 406, body=b"SELECT 1 AS n", Content_Type="application/sql", Accept="image/png")
    walk.ask(check, operation, 415, body=b"SELECT 1 AS n", Content_Type="text/html")
    # An organisation's, so that a small key of it may know of it.
    body = json.dumps({"name": "an analyst", "role": "analyst", "organisation": ORGANISATION}).encode()
    key = walk.client.ask("post", "/v1/keys", body, **JSON).json()["secret"]
    walk.query = answered_later(walk, operation, sql.replace("$site", "'Kitobo'"), key)
    walk.failed = answered_later(walk, operation, "SELECT 1 / 0", key)
    for body in (b'{"sql":', b'{"sql": "a", "sql": "b"}'):
        walk.ask("a body of JSON", operation, 400, body=body, **JSON)
    for length, sent, status in ((200 << 10, b" " * ((192 << 10) + 1), 413), (100, b"{", 408)):
        unfinished(walk, operation, {status}, begin(walk, operation, length, sent, **JSON))


def answered_later(walk: Walk, operation: Operation, sql: str, key: str | None = "the good one") -> str:
    """The id of a query that has come to its end."""
    body = json.dumps({"sql": sql}).encode()
    answer = walk.ask("a query that is answered later", operation, 202, body=body, key=key, Prefer="respond-async", **JSON)
    query = answer.json()
    while query["ended_at"] is None:
        time.sleep(0.05)
        query = walk.ask("a query that is answered later", Operation("get", "/v1/queries/{id}"), 200, names={"id": query["id"]}).json()
    return query["id"]


def cancel_query(walk: Walk, operation: Operation) -> None:
    other = answered_later(walk, Operation("post", "/v1/sql"), "SELECT 1 AS n")
    walk.ask("queries are cancelled", operation, 200, names={"id": other})
    walk.ask("queries are cancelled", operation, 404, names=ABSENT)


def submit_connections(walk: Walk, operation: Operation) -> None:
    send_json(walk, operation, 201, {"project": SLUG, "connections": ["00104"]})
    send_json(walk, operation, 201, {"project": SLUG})
    send_json(walk, operation, 409, {"project": SLUG, "connections": ["00104"]})
    send_json(walk, operation, 409, {"project": EMPTY_SLUG})
    send_json(walk, operation, 422, {"project": SLUG, "connections": ["nobody"]})
    send_json(walk, operation, 404, {"project": ABSENT_SLUG})
    send_json(walk, operation, 404, {"project": SLUG}, names=ABSENT)
    for wrong in ({"project": SLUG, "connections": []}, {"connections": ["00104"]}, {"project": SLUG, "color": "red"}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation, NAMES_BYTES)


def start_verification(walk: Walk, operation: Operation) -> None:
    # When payments of the last days were there.
    some = {"connections": [{"project": SLUG, "external_id": "00104"}], "as_of": "2024-08-01T00:00:00Z"}
    enrolments = walk.client.ask("get", f"/v1/programmes/{PROGRAMME}/enrolments").json()["enrolments"]
    version = next(one["version"] for one in enrolments if one["project"] == SLUG)
    runs = [send_json(walk, operation, 202, body).json()["id"] for body in
            (some, {"projects": [SLUG], "rule_version": version}, {"dry_run": True, "rule": {"window": WINDOWS[1]}})]
    if version > 1:
        send_json(walk, operation, 409, {"projects": [SLUG], "rule_version": 1})
    for run in runs:
        while walk.client.ask("get", f"/v1/programmes/{PROGRAMME}/verifications/{run}").json()["verification"]["state"] == "running":
            time.sleep(0.02)
    walk.run = send_json(walk, operation, 202, some).json()["id"]
    while walk.client.ask("get", f"/v1/programmes/{PROGRAMME}/verifications/{walk.run}").json()["verification"]["state"] == "running":
        time.sleep(0.02)
    send_json(walk, operation, 422, {"connections": [{"project": SLUG, "external_id": "nobody"}]})
    send_json(walk, operation, 404, {"projects": [ABSENT_SLUG]})
    send_json(walk, operation, 404, {}, names=ABSENT)
    for wrong in ({"rule": {"window": WINDOWS[1]}}, {"rule_version": 99}, {"as_of": "2199-01-01T00:00:00Z"}, {"color": "red"}):
        send_json(walk, operation, 400, wrong)
    wrong_json(walk, operation, NAMES_BYTES)


def pay_submissions(walk: Walk, operation: Operation) -> None:
    body = {"connections": [{"project": SLUG, "external_id": "00104"}]}
    send_json(walk, operation, 200, body)
    send_json(walk, operation, 409, body)
    send_json(walk, operation, 404, body, names=ABSENT)
    send_json(walk, operation, 400, {"connections": []})
    wrong_json(walk, operation, NAMES_BYTES)


def replay_verification(walk: Walk, operation: Operation) -> None:
    if not walk.ask("verifications are replayed", operation, 200).json()["same"]:
        walk.faults["verifications are replayed"].append("the verdicts are others")
    walk.ask("verifications are replayed", operation, 404, names=ABSENT)


def save_query(walk: Walk, operation: Operation) -> None:
    parameters = [{"name": "at_least", "type": "decimal", "default": "1", "description": "In the project's currency"}]
    body = {"sql": "SELECT site FROM payments WHERE amount > $at_least", "parameters": parameters, "organisation": ORGANISATION}
    send_json(walk, operation, 201, body)
    send_json(walk, operation, 200, body | {"description": "Sites with a payment"})
    send_json(walk, operation, 422, {"sql": "SELECT 1 AS n"})
    send_json(walk, operation, 404, body | {"organisation": ABSENT_SLUG})
    for wrong in ({"sql": "SELECT nothing"}, {"parameters": [{"name": "A", "type": "text"}]}, {"color": "red"}):
        send_json(walk, operation, 400, body | wrong)
    wrong_json(walk, operation)


def delete_saved(walk: Walk, operation: Operation) -> None:
    body = {"sql": "SELECT 1 AS n", "organisation": ORGANISATION}
    send_json(walk, Operation("put", operation.path), 201, body, names={"name": "gone"})
    for status in (204, 404):
        walk.ask("saved queries are deleted", operation, status, names={"name": "gone"})


# What the order of these makes, the later ones find.
BY_HAND = {
    "create_organisation": create_organisation, "update_organisation": update_organisation, "create_key": create_key,
    "rotate_key": rotate_key, "revoke_key": revoke_key,
    "create_project": create_project, "create_upload": create_upload, "put_upload": upload_plain, "update_project": update_project,
    "create_share": create_share, "update_share": update_share, "revoke_share": revoke_share,
    "create_programme": create_programme, "update_programme": update_programme,
    "create_enrolment": create_enrolment,
    "run_sql": run_sql, "cancel_query": cancel_query, "save_query": save_query, "delete_saved": delete_saved,
    "import_connections": import_connections, "submit_connections": submit_connections, "start_verification": start_verification,
    "pay_submissions": pay_submissions, "replay_verification": replay_verification, "withdraw_enrolment": withdraw_enrolment,
    "update_connection": update_connection, "delete_connection": delete_connection,
    "delete_upload": delete_upload, "restore_upload": restore_upload, "delete_uploads": delete_uploads, "purge_upload": purge_upload,
}


def with_each_value(walk: Walk, operation: Operation) -> None:
    """A GET: as it is, and with each of its parameters."""
    check = "a GET, as it is and with each of its parameters"
    answer = walk.ask(check, operation, 200)
    head = walk.client.ask("head", walk.path(operation) + walk.completed(operation))
    if (head.status, head.media_type, head.body) != (200, answer.media_type, b""):
        walk.faults["HEAD answers as GET, without a body"].append(f"{operation}: {head}")
    for parameter in walk.parameters(operation, "query"):
        name, schema = parameter["name"], walk.description.resolve(parameter["schema"])
        if schema["type"] == "object":              # those of any metric
            continue
        if schema["type"] == "array":
            schema = walk.description.resolve(schema["items"])
        values = schema.get("enum") or [EXAMPLES.get(name, schema.get("default"))]
        if name == "order":
            values = [schema["pattern"].removeprefix("^-?(").split(")")[0].split("|")[0]]
        if name == "cursor":
            ids = {"/v1/uploads": "upl_" + "0" * 32, "/v1/shares": "shr_" + "0" * 32, "/v1/projects/{slug}/shares": "shr_" + "0" * 32,
                   "/v1/audit": "1716710400000000.17", "/v1/queries": "qry_" + "0" * 32, "/v1/queries/{id}/result": "0",
                   "/v1/queries/saved/{name}/versions": "9", "/v1/programmes/{programme}/versions": "9",
                   "/v1/programmes/{programme}/submissions": f"{SLUG}/0", "/v1/programmes/{programme}/verifications": "vrf_" + "0" * 32,
                   "/v1/programmes/{programme}/verifications/{run}/verdicts": f"{SLUG}/0"}
            values = [cursor(ids.get(operation.path, "a"))]
        if name == "state":
            # Those are of one project.
            values.remove("draft")
            walk.ask(check, operation, 200, query=f"?state=draft&project={SLUG}")
        if name == "as_of":
            values = [walk.client.ask("get", "/v1/metrics/revenue_per_site").json()["lake_version"]]
        if name == "organisation" and operation.path.startswith(SAVED_PATH):
            values = [ORGANISATION]
        for value in values:
            too_large = [422] if value == "day" else []
            walk.ask(check, operation, 200, *too_large, query="?" + urllib.parse.urlencode({name: value}))
        for beyond in (schema[end] + step for end, step in (("minimum", -1), ("maximum", 1)) if end in schema):
            walk.ask("a number beyond its bounds", operation, 400, query=f"?{name}={beyond}")
    for parameter in walk.parameters(operation, "header"):
        walk.ask(check, operation, 200, **{parameter["name"].replace("-", "_"): EXAMPLES[parameter["name"]]})
    if "304" in walk.description.of(operation)["responses"]:
        walk.ask("the ETag of an answer sent back", operation, 304, If_None_Match=answer.headers["ETag"])
    if operation.path.startswith("/v1/metrics/"):
        figures(walk, operation)
    if operation.path == "/v1/sql":
        for status, sql in ((400, "SELEC 1"), (422, "SELECT 1 / 0")):
            walk.ask("SQL that cannot be answered", operation, status, query="?" + urllib.parse.urlencode({"q": sql}))
    if operation.path in ("/v1/sql", "/v1/queries/{id}/result", SAVED_PATH + "/{name}"):
        walk.ask("a form that there is not", operation, 406, Accept="image/png")
    if operation.path == "/v1/queries/{id}/result":
        walk.ask("SQL that cannot be answered", operation, 422, names={"id": walk.failed})


def figures(walk: Walk, operation: Operation) -> None:
    content = walk.description.of(operation)["responses"]["200"]["content"]
    takes_from = any(parameter["name"] == "from" for parameter in walk.parameters(operation, "query"))
    for media_type in content:
        query = "?from=2023-01-01" if takes_from else ""
        answer = walk.ask("every form of every metric", operation, 200, query=query, Accept=media_type)
        if answer.media_type != media_type:
            walk.faults["every form of every metric"].append(f"{operation}: {answer.media_type} for {media_type}")
        answer_name = content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        if answer_name != "MetricAnswer":
            wrong = walk.description.tabular_faults(answer_name.removesuffix("Answer") + "Row", answer)
            walk.faults["rows of NDJSON, the header of CSV"] += [f"{operation}: {fault}" for fault in wrong]
    walk.ask("a form that there is not", operation, 406, Accept="image/png")
    walk.ask("a project that is not there", operation, 404, query=f"?project={ABSENT_SLUG}")
    walk.ask("a metric without payments", operation, 200, query=f"?project={EMPTY_SLUG}")


def ask_wrongly(walk: Walk, operation: Operation) -> None:
    """What is wrong with any operation in the same way."""
    described = walk.description.of(operation)
    if described.get("security"):
        for key in (None, "wl_00000000_wrong"):
            walk.ask("no key, and a wrong one", operation, 401, key=key)
    else:
        answer = walk.client.ask(operation.method, walk.path(operation), key=None)
        wrong = answer.status == 401 or "401" in described["responses"]
        walk.faults["what says no key needs none"] += [f"{operation}: {answer.status}"] if wrong else []
    if "403" in described["responses"]:
        too_small(walk, operation)
    if "400" in described["responses"]:
        walk.ask("a parameter that is not described", operation, 400, query="?undescribed=1")
        walk.ask("too many parameters", operation, 400, query="?" + "a=1&" * 201)
    if operation.method == "get" and walk.parameters(operation, "path"):
        walk.ask("a name that is not there", operation, 404, names=ABSENT)
    if operation.path.startswith(SAVED_PATH) and operation.method != "put":
        walk.ask("a name that is not there", operation, 404, query=f"?organisation={ABSENT_SLUG}")
        walk.judge("no organisation is named", operation, walk.client.ask(operation.method, walk.path(operation)), 422)
    if operation.path in ("/v1/uploads", "/v1/audit") and operation.method == "get":
        walk.ask("a name that is not there", operation, 404, query=f"?project={ABSENT_SLUG}")


def too_small(walk: Walk, operation: Operation) -> None:
    """Keys of small roles, of which none or some may do it: the problem says which roles may."""
    for secret, prefix in walk.small_keys:
        # A key knows of itself, whatever its role.
        path = walk.path(operation, prefix=prefix)
        walk.judge("a role that is too small", operation, walk.client.ask(operation.method, path, key=secret))
    if "403" not in walk.seen[operation]:
        walk.faults["a role that is too small"].append(f"{operation}: no role is")


def methods(walk: Walk) -> list:
    """Each path answers the methods that it has in the document and no others."""
    wrong = []
    refusal = walk.description.resolve({"$ref": "#/components/responses/WrongMethod"})
    for path, item in walk.description.document["paths"].items():
        described = {method.upper() for method in METHODS if method in item}
        described |= {"HEAD"} if "GET" in described else set()
        for method in METHODS:
            if method in item:
                continue
            answer = walk.client.ask(method, walk.path(Operation(method, path)))
            allowed = set(answer.headers.get("Allow", "").replace(" ", "").split(","))
            faults = walk.description.response_faults(refusal, answer)
            if answer.status != 405 or allowed != described or faults:
                wrong.append(f"{method.upper()} {path}: {answer.status}, Allow: {allowed}, described: {described} {faults}")
    return wrong


def unknown_route(walk: Walk) -> list:
    answer = walk.client.ask("get", "/v1/nothing")
    faults = walk.description.response_faults(walk.description.resolve({"$ref": "#/components/responses/UnknownRoute"}), answer)
    return faults + ([] if answer.status == 404 else [f"{answer.status}"])


def unseen(walk: Walk) -> list:
    """Statuses that the document has and no answer had, beside those that nobody can bring about."""
    missing = []
    for operation in walk.description.operations():
        described = set(walk.description.of(operation)["responses"])
        # An answer that is too large is asked for once, above; as many uploads as there may be at once are brought about; a
        # share that ends is a matter of timing.
        of_metrics = {"409", "422"} if operation.path.startswith("/v1/metrics/") else set()
        out_of_reach = OUT_OF_REACH | of_metrics | OUT_OF_REACH_OF.get(walk.description.of(operation)["operationId"], set())
        out_of_reach -= {"429"} if (operation.method, operation.path) in UPLOADS else set()
        missing += [f"{operation}: {status}" for status in sorted(described - walk.seen[operation] - out_of_reach)]
    return missing


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    walk, report = Walk(Client(sys.argv[1], sys.argv[2])), Report()
    errors = [f"{error.json_path}: {error.message[:200]}" for error in OpenAPIV31SpecValidator(walk.description.document).iter_errors()]
    report.check("the document is OpenAPI 3.1", errors)
    identifiers = [walk.description.of(operation)["operationId"] for operation in walk.description.operations()]
    twice = {name for name in identifiers if identifiers.count(name) > 1}
    report.check("every operation has an id of its own", sorted(twice))

    operations = list(walk.description.operations())
    without_a_way = [f"{op}" for op in operations if op.method != "get" and walk.description.of(op)["operationId"] not in BY_HAND]
    report.check("this check knows how to ask every operation", without_a_way)
    by_id = {walk.description.of(operation)["operationId"]: operation for operation in operations}
    report.check("what this check asks for is there", [name for name in BY_HAND if name not in by_id])
    for name, way in BY_HAND.items():
        if name in by_id:
            way(walk, by_id[name])
    for operation in operations:
        if operation.method == "get":
            with_each_value(walk, operation)
        ask_wrongly(walk, operation)
    by_day = Operation("get", "/v1/metrics/revenue_over_time")
    walk.ask("an answer that is too large", by_day, 422, query="?grain=day")
    for check, wrong in walk.faults.items():
        report.check(check, wrong)
    report.check("each path has the methods of the document, and answers 405 to others", methods(walk))
    report.check("a path that is not in the document is unknown", unknown_route(walk))
    report.check("every status that can be brought about was", unseen(walk))
    report.exit()


if __name__ == "__main__":
    main()
