#!/usr/bin/env python3
"""Uploads payments and connections made by chance to a running server, and computes what each metric says of them anew, from the same rows.

    check_metrics.py BASE_URL ADMIN_KEY [SEED]

Nothing is taken from Wattlake but its answers: times, days, months and exact sums are Python's own. Figures are the same to the
last decimal, or the check fails.
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import urllib.parse
import urllib.request
from collections import defaultdict
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal

from oracle import Report

TIMEOUT_SECONDS = 120
HEADER = ["TIMESTAMP", "ID", "METER_ID", "CUSTOMER_ID", "CUSTOMER NAME", "TRANSACTION CHARGES", "PAYMENT_SOURCE",
          "PAYMENT_AMOUNT", "STATUS", "LOCATION"]
# Zones without clocks that change, so that a local day needs no database: hours ahead of UTC.
PROJECTS = {"mkata": ("KES", "Africa/Nairobi", 3), "idanre": ("NGN", "Africa/Lagos", 1)}
STATUSES = {"settled": ["SUCCESS", "", "PAID"], "reversed": ["REVERSED"], "failed": ["FAILED"], "pending": ["PENDING"]}
CATEGORIES = ["Residential", "Commercial", "Productive", "Public", "Anchor"]
ZERO = Decimal(0)


class Payment:
    def __init__(self, project: str, at: datetime, number: int, chance: random.Random):
        self.project, self.at, self.id = project, at, f"{project}-{number}"
        self.meter = f"M{int(chance.triangular(0, 40, 0)):03}"
        self.customer = f"C{int(self.meter[1:]) // 2:03}"
        self.amount = Decimal(chance.choice([1, 7, 20, 50, 50, 333])) * Decimal(chance.choice(["1", "0.5", "1.0001", "0.3333"]))
        if chance.random() < 0.06:
            self.amount = -self.amount
        self.charges = chance.choice([None, None, Decimal("0.25"), Decimal("1.1111")])
        self.settlement = chance.choices(["settled", "reversed", "failed", "pending"], [88, 6, 4, 2])[0]
        self.status = chance.choice(STATUSES[self.settlement])
        self.site = chance.choice(["Hill", "Lake", "Market"])

    def day(self) -> date:
        return (self.at + timedelta(hours=PROJECTS[self.project][2])).date()

    def month(self) -> date:
        return self.day().replace(day=1)

    def row(self) -> list[str]:
        charges = "" if self.charges is None else str(self.charges)
        return [self.at.strftime("%Y-%m-%d %H:%M:%S+00:00"), self.id, self.meter, self.customer, "N", charges, "MPESA",
                str(self.amount), self.status, self.site]


def made(seed: int) -> list[Payment]:
    """Payments of half a year; many stand at the edge of a day or a month, in UTC or in the project's zone."""
    chance, payments = random.Random(seed), []
    for project, (_, _, hours) in PROJECTS.items():
        for number in range(700):
            at = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=chance.randrange(182 * 86_400))
            if chance.random() < 0.3:
                month = datetime(2024, chance.randint(1, 6), 1, tzinfo=timezone.utc) - timedelta(hours=chance.choice([0, hours]))
                at = month + timedelta(seconds=chance.choice([-1, 0, 1, 86_399]))
            payments.append(Payment(project, at, number, chance))
    return payments


class Connection:
    def __init__(self, meter: str, chance: random.Random):
        self.meter, self.category = meter, chance.choice([None, *CATEGORIES])
        # Many at the edge of a week, a month or a quarter, some after all payments, some on no known day.
        day = date(2023, 12, 1) + timedelta(days=chance.randrange(240))
        edge = date(2024, chance.randint(1, 7), 1) + timedelta(days=chance.choice([-1, 0, 1]))
        self.connected_on = chance.choice([None, day, day, edge, edge, edge])

    def row(self) -> list[str]:
        return [self.meter, self.category or "", "" if self.connected_on is None else self.connected_on.isoformat()]


def connected(seed: int) -> dict[str, list[Connection]]:
    """Connections of each project: of some meters that pay, and of some that never do."""
    chance = random.Random(f"connections {seed}")
    meters = [f"M{number:03}" for number in range(60)]
    return {slug: [Connection(meter, chance) for meter in meters if chance.random() < 0.7] for slug in PROJECTS}


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def ratio(part: Decimal | int, whole: Decimal | int, places: int) -> Decimal | None:
    return None if whole == 0 else rounded(Decimal(part) / Decimal(whole), places)


def grouped(payments, *keys) -> dict:
    groups = defaultdict(list)
    for payment in payments:
        groups[tuple(key(payment) for key in keys)].append(payment)
    return groups


def months_later(first: date, later: date) -> int:
    return (later.year - first.year) * 12 + later.month - first.month


def after(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def middle(values: list) -> Decimal:
    values = sorted(values)
    half = len(values) // 2
    return rounded(Decimal(values[half] if len(values) % 2 else (Decimal(values[half - 1] + values[half]) / 2)), 4)


def nearest_rank(values: list, percent: int):
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def project(payment: Payment) -> str:
    return payment.project


def currency(slug: str) -> str:
    return PROJECTS[slug][0]


def total(payments) -> Decimal:
    return sum((payment.amount for payment in payments), ZERO)


def settled(payments) -> list[Payment]:
    return [payment for payment in payments if payment.settlement == "settled"]


def net_revenue(payments):
    for (slug, month), group in grouped(settled(payments), project, Payment.month).items():
        charges = sum((payment.charges or ZERO for payment in group), ZERO)
        yield slug, month, currency(slug), total(group), charges, total(group) - charges, len(group)


def arppu(payments):
    for (slug, month), group in grouped(settled(payments), project, Payment.month).items():
        customers = len({payment.customer for payment in group})
        yield slug, month, currency(slug), total(group), customers, ratio(total(group), customers, 4)


def bucket(days: int) -> str:
    return "0-30" if days <= 30 else "31-60" if days <= 60 else "61-90" if days <= 90 else "90+"


def days_since_last_payment(payments, as_of=date(2024, 6, 30)):
    by_then = [payment for payment in settled(payments) if payment.day() <= as_of]
    for (slug, meter), group in grouped(by_then, project, lambda payment: payment.meter).items():
        last = max(group, key=lambda payment: payment.at)
        days = (as_of - last.day()).days
        yield slug, meter, last.at, as_of, days, bucket(days)


def dormancy(payments):
    rows = list(days_since_last_payment(payments))
    for slug in PROJECTS:
        own = [row for row in rows if row[0] == slug]
        for name in {row[5] for row in own}:
            meters = sum(row[5] == name for row in own)
            yield slug, date(2024, 6, 30), name, meters, ratio(meters, len(own), 6)


def inter_payment_gap(payments):
    for slug in PROJECTS:
        gaps, meters = [], 0
        own = [payment for payment in settled(payments) if payment.project == slug]
        for group in grouped(own, lambda payment: payment.meter).values():
            days = sorted(payment.day() for payment in group)
            gaps += [(later - earlier).days for earlier, later in zip(days, days[1:])]
            meters += len(days) > 1
        yield slug, meters, len(gaps), ratio(sum(gaps), len(gaps), 4), middle(gaps), Decimal(nearest_rank(gaps, 90))


def paying_months(payments, slug: str) -> dict[str, set[date]]:
    own = [payment for payment in settled(payments) if payment.project == slug]
    return {meter: {payment.month() for payment in group}
            for (meter,), group in grouped(own, lambda payment: payment.meter).items()}


def cohort_retention(payments):
    for slug in PROJECTS:
        months = paying_months(payments, slug)
        for cohort in {min(paid) for paid in months.values()}:
            members = [paid for paid in months.values() if min(paid) == cohort]
            for month in set().union(*members):
                paying = sum(month in paid for paid in members)
                yield slug, cohort, months_later(cohort, month), len(members), paying, ratio(paying, len(members), 6)


def churn(payments):
    for slug in PROJECTS:
        months = paying_months(payments, slug)
        month, last = min(map(min, months.values())), max(map(max, months.values()))
        before: set[str] = set()
        ever: set[str] = set()
        while month <= last:
            paying = {meter for meter, paid in months.items() if month in paid}
            if paying or before:
                yield (slug, month, len(paying), len(paying - ever), len((paying & ever) - before), len(before - paying),
                       ratio(len(before - paying), len(before), 6))
            month, before, ever = after(month), paying, ever | paying


def reversal_rate(payments):
    counted = [payment for payment in payments if payment.settlement in ("settled", "reversed")]
    for (slug, month), group in grouped(counted, project, Payment.month).items():
        reversals = [abs(payment.amount) for payment in group if payment.settlement == "reversed"]
        received = [payment.amount for payment in group if payment.settlement == "settled" and payment.amount > 0]
        refunds = [-payment.amount for payment in group if payment.settlement == "settled" and payment.amount < 0]
        gross, back = sum(received + reversals, ZERO), sum(reversals, ZERO)
        yield slug, month, currency(slug), gross, back, len(reversals), sum(refunds, ZERO), ratio(back, gross, 6)


def concentration(payments):
    for slug in PROJECTS:
        own = [payment for payment in settled(payments) if payment.project == slug]
        customers = sorted((total(group) for group in grouped(own, lambda payment: payment.customer).values()), reverse=True)
        top = -(-len(customers) // 10)
        revenue, most = sum(customers, ZERO), sum(customers[:top], ZERO)
        share = ratio(most, revenue, 6) if revenue > 0 else None
        yield slug, currency(slug), len(customers), top, revenue, most, share


def period(grain: str, day: date) -> date | None:
    """The first day of the period that a day is in."""
    quarter = day.month - (day.month - 1) % 3
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1),
            "quarter": day.replace(month=quarter, day=1), "year": day.replace(month=1, day=1), "all": None}[grain]


def in_service(connections: list[Connection], grain: str, first: date | None, last: date) -> list[Connection]:
    """Those that were connected by the last day of the request, and in the period or one before it."""
    def is_there(day: date | None) -> bool:
        return day is None or (day <= last and (first is None or period(grain, day) <= first))
    return [connection for connection in connections if is_there(connection.connected_on)]


def undated(connections: list[Connection]) -> int:
    return sum(connection.connected_on is None for connection in connections)


def within(payments, last: date) -> list[Payment]:
    return [payment for payment in payments if payment.day() <= last]


def revenue_per_category(payments, connections, grain, last):
    category = {(slug, one.meter): one.category for slug, of_project in connections.items() for one in of_project}
    keys = (project, lambda payment: period(grain, payment.day()), lambda payment: category.get((payment.project, payment.meter)))
    for (slug, first, name), group in grouped(settled(within(payments, last)), *keys).items():
        yield slug, first, name, currency(slug), total(group), len(group), len({payment.customer for payment in group})


def arpu(payments, connections, grain, last):
    paid = grouped(settled(within(payments, last)), project, lambda payment: period(grain, payment.day()))
    for (slug, first), group in paid.items():
        there = in_service(connections[slug], grain, first, last)
        yield slug, first, currency(slug), total(group), len(there), undated(there), ratio(total(group), len(there), 4)


def paying_ratio(payments, connections, grain, last):
    paid = grouped(settled(within(payments, last)), project, lambda payment: period(grain, payment.day()))
    for (slug, first), group in paid.items():
        there = in_service(connections[slug], grain, first, last)
        meters = {payment.meter for payment in group}
        paying = meters & {connection.meter for connection in there}
        share = ratio(len(paying), len(there), 6)
        yield slug, first, len(there), undated(there), len(paying), len(meters - paying), share


def match_rate(payments, connections, _, last):
    for (slug,), group in grouped(within(payments, last), project).items():
        known = {connection.meter for connection in connections[slug]}
        meters = {payment.meter for payment in group}
        matched = [payment for payment in group if payment.meter in known]
        money, of_matched = total(settled(group)), total(settled(matched))
        yield (slug, currency(slug), len(meters), len(meters & known), ratio(len(meters & known), len(meters), 6),
               len(group), len(matched), ratio(len(matched), len(group), 6), money, of_matched,
               ratio(of_matched, money, 6) if money > 0 else None, len(known), ratio(len(meters & known), len(known), 6))


# By the name of the metric: its parameters, and what it says.
METRICS = {
    "net_revenue": ("", net_revenue),
    "arppu": ("", arppu),
    "days_since_last_payment": ("to=2024-07-01", days_since_last_payment),
    "dormancy": ("to=2024-07-01", dormancy),
    "inter_payment_gap": ("", inter_payment_gap),
    "cohort_retention": ("", cohort_retention),
    "churn": ("", churn),
    "reversal_rate": ("", reversal_rate),
    "concentration": ("", concentration),
}

# Those that need connections, each with every grain that it takes.
OF_CONNECTIONS = {"revenue_per_category": revenue_per_category, "arpu": arpu, "paying_ratio": paying_ratio, "match_rate": match_rate}
GRAINS = ["day", "week", "month", "quarter", "year", "all"]
# The last day of a request, which may cut a period off.
LAST_DAYS = [date(2024, 4, 17), date(2024, 6, 30), date(2024, 12, 31)]


def request(base: str, key: str, path: str, body: bytes | None = None, kind: str = "application/json") -> str:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    asked = urllib.request.Request(f"{base.rstrip('/')}{path}", body, headers)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:
        return answer.read().decode()


def plain(value) -> str:
    """A value as the CSV of an answer has it, decimals without zeros at their end."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    return str(value)


def shortened(text: str) -> str:
    """The same of a numeral that the server wrote."""
    try:
        return plain(Decimal(text)) if "." in text else text
    except ArithmeticError:
        return text


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    base, key, seed = (sys.argv[1:] + ["1"])[:3]
    payments, connections, report = made(int(seed)), connected(int(seed)), Report()
    for slug, (money, zone, _) in PROJECTS.items():
        body = {"slug": slug, "name": slug, "kind": "mini_grid", "currency": money, "time_zone": zone, "country": "KE"}
        request(base, key, "/v1/projects", json.dumps(body).encode())
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER] + [row.row() for row in payments if row.project == slug])
        query = urllib.parse.urlencode({"project": slug, "dataset_name": "d"})
        request(base, key, f"/v1/uploads?{query}", text.getvalue().encode(), "text/csv")
        text = io.StringIO()
        header = ["EXTERNAL_ID", "CATEGORY", "CONNECTED_ON"]
        csv.writer(text, lineterminator="\n").writerows([header] + [one.row() for one in connections[slug]])
        request(base, key, f"/v1/projects/{slug}/connections", text.getvalue().encode(), "text/csv")
    scope = "&".join(f"project={slug}" for slug in PROJECTS)
    asked = [(name, parameters, compute(payments)) for name, (parameters, compute) in METRICS.items()]
    for name, compute in OF_CONNECTIONS.items():
        for grain in GRAINS if name != "match_rate" else ["all"]:
            for last in LAST_DAYS:
                parameters = f"to={last + timedelta(days=1)}" + (f"&grain={grain}" if name != "match_rate" else "")
                asked.append((name, parameters, compute(payments, connections, grain, last)))
    for name, parameters, rows in asked:
        answer = request(base, key, f"/v1/metrics/{name}?{scope}&{parameters}&format=csv&limit=100000")
        found = {tuple(map(shortened, row)) for row in list(csv.reader(io.StringIO(answer)))[1:]}
        expected = {tuple(map(plain, row)) for row in rows}
        wrong = [f"ours alone: {row}" for row in sorted(found - expected)[:3]]
        wrong += [f"Python's alone: {row}" for row in sorted(expected - found)[:3]]
        if not expected:
            wrong.append("there is nothing to compare")
        report.check(f"{name} {parameters}: {len(expected)} rows of seed {seed} are what Python computes, to the last decimal", wrong)
    report.exit()


if __name__ == "__main__":
    main()
