"""What a lake has to hold, by the manifest of benches/gen_payments.py: figures that Wattlake had no part in.

The generator spreads its rows evenly over (project, month), and writes down revenue in cents by STATUS. Rows that it
made bad on purpose are not in these figures, so a manifest with any is refused.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal


class Manifest:
    """`rows[project][month]` counts payments; `revenue[project][month][status]` is exact. Slugs and months: p01, 2024-05."""

    def __init__(self, path: str):
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        if manifest["bad"]:
            sys.exit(f"{path}: made with --bad, so its figures are not those of a lake; make a set without")
        arguments = manifest["arguments"]
        first_year, first_month = map(int, arguments["start"].split("-"))
        count = arguments["projects"] * arguments["months"]
        self.rows: dict = {}
        for chunk in range(count):
            project, month = divmod(chunk, arguments["months"])
            rows = arguments["rows"] // count + (chunk < arguments["rows"] % count)
            if rows:
                years, at = divmod(first_month - 1 + month, 12)
                self.rows.setdefault(f"p{project + 1:02d}", {})[f"{first_year + years:04d}-{at + 1:02d}"] = rows
        self.revenue = {
            project.lower(): {
                month: {status: Decimal(cents) / 100 for status, cents in statuses.items()} for month, statuses in months.items()
            }
            for project, months in manifest["revenue_cents"].items()
        }


class Report:
    """One line a check; after the last of them, `exit()`."""

    def __init__(self):
        self.failed = 0

    def check(self, promise: str, differences: list) -> None:
        """Prints the promise, and the first of what contradicts it."""
        print(f"{'FAIL' if differences else 'ok  '}  {promise}", flush=True)
        for line in differences[:10]:
            print(f"      {line}", flush=True)
        if len(differences) > 10:
            print(f"      and {len(differences) - 10} more", flush=True)
        self.failed += bool(differences)

    def exit(self) -> None:
        sys.exit(1 if self.failed else 0)


def differences(expected: dict, found: dict) -> list:
    """Where two mappings disagree, a line each."""
    return [
        f"{' '.join(map(str, key))}: expected {expected.get(key, 'nothing')}, found {found.get(key, 'nothing')}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
