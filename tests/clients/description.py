"""The description of the API as a judge of answers: is this answer, to this operation, one that the description has?"""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from decimal import Decimal
from email.message import Message
from typing import Iterator

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

TIMEOUT_SECONDS = 60
METHODS = ("get", "post", "put", "patch", "delete")
# Headers that are described and not there in every answer.
SOMETIMES = {"x-wattlake-truncated", "x-wattlake-next-cursor", "x-wattlake-withheld-cells", "x-wattlake-left-out", "idempotency-replayed"}


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").split(";")[0].strip()

    def json(self):
        return json.loads(self.body, parse_float=Decimal)


class Client:
    """Asks the server under `base`, by default with `key`."""

    def __init__(self, base: str, key: str):
        self.base, self.key = base.rstrip("/"), key

    def ask(self, method: str, path: str, body: bytes | None = None, key: str | None = "the good one", **headers: str) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            headers["Authorization"] = f"Bearer {self.key if key == 'the good one' else key}"
        request = urllib.request.Request(self.base + path, data=body, headers=headers, method=method.upper())
        if body is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:     # urllib's word for every status that is not 2xx
            with error:
                return Answer(error.code, error.headers, error.read())


@dataclass(frozen=True)
class Operation:
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


class Description:
    def __init__(self, document: dict):
        self.document = document

    def operations(self) -> Iterator[Operation]:
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield Operation(method, path)

    def of(self, operation: Operation) -> dict:
        return self.document["paths"][operation.path][operation.method]

    def resolve(self, described: dict) -> dict:
        while "$ref" in described:
            target = self.document
            for part in described["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            described = target
        return described

    def schema_faults(self, schema: dict, value) -> list:
        """Why `value` is not as `schema` says, at most one line."""
        # The schema stands beside the components, so that its references lead to them.
        whole = schema | {"components": self.document["components"]}
        error = best_match(Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value))
        return [] if error is None else [f"{error.json_path}: {error.message[:300]}"]

    def faults(self, operation: Operation, answer: Answer) -> list:
        """Why the description does not have this answer."""
        response = self.of(operation)["responses"].get(str(answer.status))
        if response is None:
            return [f"{operation}: {answer.status} is not described: {answer.body[:300]!r}"]
        return [f"{operation} {answer.status}: {fault}" for fault in self.response_faults(self.resolve(response), answer)]

    def response_faults(self, response: dict, answer: Answer) -> list:
        absent = [name for name in response.get("headers", {}) if name not in answer.headers and name not in SOMETIMES]
        faults = [f"the header {name} is not there" for name in absent]
        content = response.get("content", {})
        if not content:
            return faults + ([f"a body of {len(answer.body)} bytes"] if answer.body else [])
        if answer.media_type not in content:
            return faults + [f"{answer.media_type or 'no media type'} is not one of {list(content)}"]
        if answer.media_type.endswith("json") and answer.media_type != "application/x-ndjson":
            faults += self.schema_faults(content[answer.media_type]["schema"], answer.json())
        return faults

    def tabular_faults(self, row_schema: str, answer: Answer) -> list:
        """The same for the rows of a metric in the forms that OpenAPI has no words for."""
        row = {"$ref": f"#/components/schemas/{row_schema}"}
        columns = list(self.resolve(row)["properties"])
        if answer.media_type == "application/x-ndjson":
            rows = [json.loads(line, parse_float=Decimal) for line in answer.body.splitlines()]
            return [fault for found in rows for fault in self.schema_faults(row, found)][:1] + (
                [] if rows else ["there is no row to look at"])
        if answer.media_type == "text/csv":
            header = next(csv.reader(io.StringIO(answer.body.decode("utf-8"), newline="")))
            return [] if header == columns else [f"the header is {header}, the columns are {columns}"]
        return []

    def takes_more(self, operation: Operation, answer: Answer) -> list:
        """Whether the same answer with a property more would do, which would mean that nothing is looked at."""
        content = self.resolve(self.of(operation)["responses"][str(answer.status)])["content"]
        more = answer.json() | {"undescribed": 1}
        found = self.schema_faults(content[answer.media_type]["schema"], more)
        return [] if found else [f"{operation} {answer.status}: a property that is not described would pass"]
