#!/usr/bin/env python3
"""Makes the demo's files: every ELECTRICITY_PAYMENT.csv and CONNECTIONS.csv beside this file that projects.toml names.

    python3 data/demo/make_demo.py            write the files, print what is in them
    python3 data/demo/make_demo.py --check    write nothing; exit 1 when a file is not what this script makes

Everything is invented: the companies, the sites, the people, the meters and every payment. Only the countries, the
Tanzanian regions, the currencies and the names of payment services are real. A real site has 100 to 800 meters and a
real solar home programme thousands of devices; these are small enough to read.

Standard library only. The same bytes every time, on every machine: of Python's random numbers only random() is used,
whose stream the library promises to keep, and no sum of money passes through a floating-point number.

What the files hold on purpose, so that the demo shows what Wattlake does with it:
  * kitobo: the third file corrects eleven payments of the second, repeats five and adds two late ones;
    the site Ndolwa Ridge is silent in July (a month without data is not a month without revenue).
  * gbamu: the first file comes from a spreadsheet (byte order mark, CRLF) and has no UTILITY_ID, NOTES and LOCATION,
    so its site is in the dataset's name; the third repeats the last rows of the second.
  * jua-nyumbani: the second file comes from another system, which writes the local time with its offset, and leaves
    STATUS empty now and then; it holds three rows twice. METER_ID is the device's serial number.
  * connections: kitobo and jua-nyumbani have 300 together, for a programme that verifies them by the rule in projects.toml. Most are
    those of meters that pay; others are there for each other outcome: ids that lost their zeros, devices that were submitted twice,
    connections of which no day is known, and so on. Their sites are those of their payments.
  * everywhere: both timestamp forms, sources in several spellings, three payments in a hundred that did not settle,
    a few refunds (negative amounts), names with commas and in the spelling of their language, meter ids with leading zeros.
"""

from __future__ import annotations

import csv
import io
import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE_NAME = "ELECTRICITY_PAYMENT.csv"
COLUMNS = [
    "TIMESTAMP", "ID", "METER_ID", "UTILITY_ID", "CUSTOMER_ID", "CUSTOMER NAME", "TRANSACTION CHARGES",
    "PAYMENT_SOURCE", "REFERENCE_ID", "PAYMENT_AMOUNT", "ACCOUNT_TYPE", "STATUS", "NOTES", "LOCATION",
]
FIRST_MONTH = (2026, 5)
MONTHS = 6
# Of the local day: quiet at night, busy when people come home.
HOURS = [1, 1, 0, 0, 0, 4, 8, 9, 7, 5, 5, 6, 7, 5, 4, 5, 7, 11, 16, 18, 13, 8, 4, 2]
REFERENCE_SYMBOLS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class Dice:
    """Random choices made from random() alone; see the note on bytes at the top."""

    def __init__(self, seed: int):
        self._next = random.Random(seed).random

    def below(self, end: int) -> int:
        return int(self._next() * end)

    def chance(self, share: float) -> bool:
        return self._next() < share

    def between(self, low: int, high: int) -> int:
        """low to high, both included."""
        return low + self.below(high - low + 1)

    def one_of(self, values):
        return values[self.below(len(values))]

    def weighted(self, weights: list) -> int:
        """An index, drawn with these whole-number weights."""
        mark = self.below(sum(weights))
        for index, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return index
        raise AssertionError("the weights are whole numbers")


@dataclass
class Site:
    name: str
    meters: int
    silent: tuple = ()          # months (0 is the first) without a single payment


@dataclass
class Project:
    seed: int
    offset_hours: int           # of local time from UTC
    sites: list
    meter: str                  # str.format patterns: {site}, {n}
    prefix: str                 # of payment and customer ids
    utility: str
    household: tuple            # payments a month: fewest, most
    amounts: list               # what a household pays: the grid of the local top-up menu,
    amount_weights: list        # and how often each is chosen
    decimals: int
    sources: list               # (spelling, weight, charge in per mille or None, has a reference)
    success: list               # spellings of STATUS that mean settled
    market_day: int             # Monday is 0
    first_names: list = field(default_factory=list)
    last_names: list = field(default_factory=list)
    shops: list = field(default_factory=list)


KITOBO = Project(
    seed=1, offset_hours=3, market_day=5, prefix="KT", meter="00{site}{n:06d}", utility="INV-KT-{site}",
    sites=[Site("Kitobo Jetty", 40), Site("Ndolwa Ridge", 30, silent=(2,)), Site("Pwani Kidogo", 22)],
    household=(2, 6), amounts=[20, 50, 100, 150, 200, 500], amount_weights=[12, 30, 32, 8, 13, 5], decimals=2,
    sources=[("M-PESA", 62, 10, True), ("MPESA", 12, 10, True), ("M-Pesa", 9, 10, True), ("m-pesa ", 1, 10, True),
             ("Airtel Money", 6, 12, True), ("AIRTEL_MONEY", 2, 12, True), ("Cash", 5, None, False), ("Agent", 3, None, True)],
    success=["SUCCESS"],
    first_names=["Achieng", "Wanjikũ", "Njeri", "Mũthoni", "Otieno", "Baraka", "Amina", "Kĩmani", "Zawadi", "Ouma", "Halima", "Rehema"],
    last_names=["Odhiambo", "wa Kĩarie", "Mwangi", "Atieno", "Ng'ang'a", "Barasa", "Were", "Mũgo", "Juma", "Okello"],
    shops=["Posho Mill", "Kinyozi, Duka Na. 4", "Cold Store", 'Hoteli "Karibu"', "Dispensary"],
)
GBAMU = Project(
    seed=2, offset_hours=1, market_day=2, prefix="GB", meter="0{site}{n:08d}", utility="INV-GB-{site}",
    sites=[Site("Gbamu Oke", 48), Site("Tunga Zuma", 34), Site("Umuezu Nta", 22)],
    household=(2, 6), amounts=[200, 500, 750, 1000, 1500, 2000], amount_weights=[16, 34, 6, 27, 7, 10], decimals=0,
    sources=[("OPay", 34, 8, True), ("Opay", 9, 8, True), ("OPAY", 4, 8, True), ("Paga", 14, 8, True), ("USSD", 8, 5, True),
             ("Bank Transfer", 12, 5, True), ("bank transfer", 4, 5, True), ("POS", 8, 5, True), ("CASH", 7, None, False)],
    success=["Successful", "successful", "SUCCESS"],
    first_names=["Adébáyò", "Ọlábísí", "Ngọzi", "Chukwuemeka", "Ɗanladi", "Aisha", "Bọ́láńlé", "Ifeoma", "Musa", "Tèmítọ́pẹ́", "Halima", "Ụzọamaka"],
    last_names=["Adéyẹmí", "Òjó", "Nwosu", "Ɓaba", "Okonkwo", "Yakubu", "Akíntọ́lá", "Eze", "Sani", "Ọkọrọ"],
    shops=["Rice Mill", "Ventures, Ltd.", "Welding & Panel", "Chemist", "Barbing Salon"],
)
JUA = Project(
    seed=3, offset_hours=3, market_day=6, prefix="JN", meter="JN{site}{n:07d}", utility="",
    sites=[Site("Mwanza", 50), Site("Dodoma", 38), Site("Kigoma", 32), Site("Tabora", 26)],
    household=(1, 5), amounts=[500, 1000, 2000, 3500, 5000, 10000], amount_weights=[18, 26, 20, 18, 13, 5], decimals=0,
    sources=[("M-Pesa", 40, 10, True), ("MPESA", 8, 10, True), ("Tigo Pesa", 17, 11, True), ("TIGOPESA", 5, 11, True),
             ("Airtel Money", 14, 11, True), ("HaloPesa", 7, 9, True), ("Wakala", 5, None, True), ("Cash", 3, None, False), ("", 1, None, False)],
    success=["COMPLETED", "Completed"],
    first_names=["Neema", "Juma", "Rehema", "Masanja", "Asha", "Baraka", "Ng'wandu", "Zuhura", "Hamisi", "Upendo", "Salima", "Shabani"],
    last_names=["Mwakyusa", "Ng'hwani", "Mushi", "Kimaro", "Shija", "Ally", "Mrema", "Luhende", "Bakari", "Nyerembe"],
    shops=["Duka la Dawa", "Mama Lishe, Sokoni", "Saluni", "Fundi Simu"],
)
NOTES = ["", "token resent", "paid by neighbour, told by phone", 'customer asked for "lipa kidogo kidogo"', "meter moved, same house"]
NOTE_WEIGHTS = [960, 16, 9, 5, 10]
UNSETTLED = ["FAILED", "PENDING", "REVERSED"]
UNSETTLED_WEIGHTS = [15, 8, 7]


# ---------------------------------------------------------------- payments

@dataclass
class Meter:
    site: int
    meter_id: str
    customer_id: str
    name: str
    account: str
    since: int                  # the month of its first payment


def make_meters(project: Project, dice: Dice) -> list:
    meters = []
    for number, site in enumerate(project.sites):
        for n in range(site.meters):
            meter_id = project.meter.format(site=number + 1, n=101 + 7 * n)
            since = dice.between(1, MONTHS - 1) if dice.chance(.18) else 0
            if meters and dice.chance(.04):     # a second meter of the same customer
                before = meters[-1]
                meters.append(Meter(number, meter_id, before.customer_id, before.name, before.account, since))
                continue
            first, last = dice.one_of(project.first_names), dice.one_of(project.last_names)
            business = dice.chance(.10)
            account = "COMMERCIAL" if business else "RESIDENTIAL"
            name = f"{last} {dice.one_of(project.shops)}" if business else f"{first} {last}"
            if not business and dice.chance(.04):
                name = f"{last}, {first}"
            meters.append(Meter(number, meter_id, f"{project.prefix}-C{1000 + len(meters)}", name, account, since))
    return meters


def month_start(month: int) -> datetime:
    year, first = FIRST_MONTH
    return datetime(year + (first - 1 + month) // 12, (first - 1 + month) % 12 + 1, 1, tzinfo=timezone.utc)


def pick_time(project: Project, dice: Dice, month: int) -> datetime:
    """UTC; by the local clock, with more payments on the market day and at the end of a month."""
    start, days = month_start(month), (month_start(month + 1) - month_start(month)).days
    weights = [3 + 2 * ((start + timedelta(days=d)).weekday() == project.market_day) + 2 * (d >= days - 4) for d in range(days)]
    local = start + timedelta(days=dice.weighted(weights), hours=dice.weighted(HOURS), minutes=dice.below(60), seconds=dice.below(60))
    utc = local - timedelta(hours=project.offset_hours)
    return utc if utc >= month_start(0) else utc + timedelta(hours=9)     # nothing before the first month


def money(value: Decimal, decimals: int) -> str:
    return str(value.quantize(Decimal(1).scaleb(-decimals)))


def make_payment(project: Project, dice: Dice, meter: Meter, at: datetime) -> dict:
    amount = Decimal(project.amounts[dice.weighted(project.amount_weights)])
    if meter.account == "COMMERCIAL":
        amount *= dice.between(3, 8)
    source, _, per_mille, has_reference = project.sources[dice.weighted([s[1] for s in project.sources])]
    unsettled = dice.chance(.03)
    status = UNSETTLED[dice.weighted(UNSETTLED_WEIGHTS)] if unsettled else dice.one_of(project.success)
    charge = "" if per_mille is None else money(amount * per_mille / 1000, 2)
    return {
        "at": at, "iso": dice.chance(.25), "METER_ID": meter.meter_id, "UTILITY_ID": project.utility.format(site=meter.site + 1),
        "CUSTOMER_ID": meter.customer_id, "CUSTOMER NAME": meter.name, "TRANSACTION CHARGES": charge, "PAYMENT_SOURCE": source,
        "REFERENCE_ID": "".join(dice.one_of(REFERENCE_SYMBOLS) for _ in range(10)) if has_reference else "",
        "PAYMENT_AMOUNT": money(amount, project.decimals), "ACCOUNT_TYPE": meter.account, "STATUS": status,
        "NOTES": NOTES[dice.weighted(NOTE_WEIGHTS)], "LOCATION": project.sites[meter.site].name,
    }


def make_refund(project: Project, paid: dict, days: int) -> dict:
    """Money that went back: a payment of its own with a negative amount."""
    return paid | {"at": paid["at"] + timedelta(days=days, minutes=37), "TRANSACTION CHARGES": "", "REFERENCE_ID": paid["REFERENCE_ID"],
                   "PAYMENT_AMOUNT": "-" + paid["PAYMENT_AMOUNT"], "STATUS": project.success[0], "NOTES": f"refund of {paid['ID']}, paid twice"}


def make_payments(project: Project) -> list:
    """All payments of a project in time order, with TIMESTAMP in UTC; "at" is the instant, for the caller's own use."""
    dice = Dice(project.seed)
    meters = make_meters(project, dice)
    rows = []
    for month in range(MONTHS):
        for meter in meters:
            if month < meter.since or month in project.sites[meter.site].silent or dice.chance(.15):
                continue
            business = meter.account == "COMMERCIAL"
            count = dice.between(6, 15) if business else dice.between(*project.household)
            rows += [make_payment(project, dice, meter, pick_time(project, dice, month)) for _ in range(count)]
    rows.sort(key=lambda row: (row["at"], row["METER_ID"]))
    for number, row in enumerate(rows):
        row["ID"] = f"{project.prefix}{260000 + number * 3}"
    early = [row for row in rows if row["STATUS"] in project.success and row["at"] < month_start(MONTHS - 1)]
    for number in range(4):
        refund = make_refund(project, dice.one_of(early), dice.between(1, 6))
        rows.append(refund | {"ID": f"{project.prefix}R{700 + number}"})
    rows.sort(key=lambda row: (row["at"], row["METER_ID"]))
    for row in rows:
        row["TIMESTAMP"] = row["at"].strftime("%Y-%m-%dT%H:%M:%S" if row["iso"] else "%Y-%m-%d %H:%M:%S+00:00")
    return rows


# ---------------------------------------------------------------- uploads

@dataclass
class Upload:
    path: str                   # below this folder
    rows: list
    columns: list = field(default_factory=lambda: COLUMNS)
    spreadsheet: bool = False   # a byte order mark and CRLF

    def encode(self) -> bytes:
        text = io.StringIO(newline="")
        out = csv.writer(text, lineterminator="\r\n" if self.spreadsheet else "\n")
        out.writerow(self.columns)
        out.writerows([row[name] for name in self.columns] for row in self.rows)
        return text.getvalue().encode("utf-8-sig" if self.spreadsheet else "utf-8")


def upload(project: str, dataset: str, rows: list, **form) -> Upload:
    return Upload(f"{project}/{dataset}/{FILE_NAME}", rows, **form)


def split(rows: list, month: int) -> tuple:
    """The rows before a month, and from it on."""
    return [r for r in rows if r["at"] < month_start(month)], [r for r in rows if r["at"] >= month_start(month)]


def kitobo() -> list:
    first, second = split(make_payments(KITOBO), 3)
    # Two payments reached the office late: they are in the third file alone.
    settled = [row for row in second if row["STATUS"] == "SUCCESS"]
    late = [settled[len(settled) // 3], settled[len(settled) // 2]]
    second = [row for row in second if row not in late]
    settled = [row for row in settled if row not in late and not row["PAYMENT_AMOUNT"].startswith("-")]
    pending = [row for row in second if row["STATUS"] == "PENDING"][:3]
    typed_wrong = [settled[40 + 53 * n] for n in range(6)]
    taken_back = [settled[47 + 101 * n] for n in range(2)]
    corrected = [row | {"STATUS": "SUCCESS", "NOTES": "confirmed by the operator"} for row in pending]
    corrected += [row | {"PAYMENT_AMOUNT": money(Decimal(row["PAYMENT_AMOUNT"]) + 50, 2),
                         "NOTES": "amount corrected, was " + row["PAYMENT_AMOUNT"]} for row in typed_wrong]
    corrected += [row | {"STATUS": "REVERSED", "NOTES": "wrong number, sent back"} for row in taken_back]
    third = sorted(corrected + late + settled[-5:], key=lambda row: (row["at"], row["METER_ID"]))
    return [upload("kitobo", "07_2026_Kitobo", first), upload("kitobo", "10_2026_Kitobo", second),
            upload("kitobo", "10_2026_Kitobo corrections", third)]


def gbamu() -> list:
    first, second = split(make_payments(GBAMU), 3)
    oke = [row for row in first if row["LOCATION"] == "Gbamu Oke"]
    others = [row for row in first if row["LOCATION"] != "Gbamu Oke"]
    few = [name for name in COLUMNS if name not in ("UTILITY_ID", "NOTES", "LOCATION")]
    return [upload("gbamu", "07_2026_Gbamu Oke", oke, columns=few, spreadsheet=True),
            upload("gbamu", "07_2026_Tunga Zuma and Umuezu Nta", others), upload("gbamu", "10_2026_Gbamu", others[-8:] + second)]


def jua_nyumbani() -> list:
    first, second = split(make_payments(JUA), 3)
    dice = Dice(13)
    for row in second:
        local = row["at"] + timedelta(hours=JUA.offset_hours)
        row["TIMESTAMP"] = local.strftime("%Y-%m-%d %H:%M:%S+03:00")
        if row["STATUS"] in JUA.success and dice.chance(.05):
            row["STATUS"] = ""
    for place in (700, 400, 100):
        second.insert(place + 1, second[place])
    return [upload("jua-nyumbani", "07_2026_Jua Nyumbani", first), upload("jua-nyumbani", "10_2026_Jua Nyumbani", second)]


# ---------------------------------------------------------------- connections

CONNECTIONS = ["EXTERNAL_ID", "SERIAL_NUMBER", "CUSTOMER_NAME", "CATEGORY", "PRODUCT_NAME", "MILESTONE", "SITE", "CONNECTED_ON"]


def make_connections(project: Project, uploads: list, device: str, product: str) -> list:
    """One for each meter that ever paid, connected the day before."""
    paid: dict = {}
    for row in sorted((row for item in uploads for row in item.rows), key=lambda row: row["at"]):
        paid.setdefault(row["METER_ID"], []).append(row)
    made = []
    for meter, rows in sorted(paid.items()):
        first = rows[0]
        made.append({
            "EXTERNAL_ID": meter, "SERIAL_NUMBER": device + meter[-9:], "CUSTOMER_NAME": first["CUSTOMER NAME"],
            "CATEGORY": first["ACCOUNT_TYPE"].capitalize(), "PRODUCT_NAME": product, "MILESTONE": "Milestone 1", "SITE": first["LOCATION"],
            "CONNECTED_ON": (first["at"] - timedelta(days=1)).strftime("%Y-%m-%d"), "rows": rows,
        })
    return made


def only_reversed_last(connections: list) -> list:
    """Those whose last payment did not settle because it was reversed: connected that day, nothing else counts."""
    found = [one for one in connections if one["rows"][-1]["STATUS"] == "REVERSED"]
    return [one for one in found if one["rows"][-1]["at"].hour < 20 and
            (len(one["rows"]) == 1 or one["rows"][-2]["at"].date() < one["rows"][-1]["at"].date())]


def connections(project: Project, uploads: list, total: int, device: str, product: str) -> bytes:
    made = make_connections(project, uploads, device, product)
    for one in only_reversed_last(made)[:3]:
        one["CONNECTED_ON"] = one["rows"][-1]["at"].strftime("%Y-%m-%d")
    for one in made[3:60:9]:            # long before anybody paid
        one["CONNECTED_ON"] = "2026-01-05"
    for one in made[5:60:14]:
        one["CONNECTED_ON"] = ""
    for one in made[7:60:12]:           # a spreadsheet took the zeros, or somebody typed a space
        meter = one["EXTERNAL_ID"]
        one["EXTERNAL_ID"] = meter.lstrip("0") if meter.startswith("0") else f"{meter[:2]} {meter[2:]}"
    extra = total - len(made)
    for number in range(extra):         # devices that were counted twice, and households that never paid
        like = made[number * 2 % len(made)]
        twice = number % 4 == 0
        made.append(like | {
            "EXTERNAL_ID": f"{project.prefix}-{700 + number}", "CUSTOMER_NAME": like["CUSTOMER_NAME"] if twice else "",
            "SERIAL_NUMBER": like["SERIAL_NUMBER"] if twice else f"{device}7{number:08d}", "CONNECTED_ON": "2026-05-04",
        })
    text = io.StringIO(newline="")
    out = csv.writer(text, lineterminator="\n")
    out.writerow(CONNECTIONS)
    out.writerows([one[name] for name in CONNECTIONS] for one in made)
    return text.getvalue().encode()


# ---------------------------------------------------------------- the command

def print_summary(projects: dict) -> None:
    """What an upload of the files, in this order, has to report, and the revenue that it has to lead to."""
    for slug, uploads in projects.items():
        known: dict = {}
        for item in uploads:
            counts = {"new": 0, "corrected": 0, "duplicate": 0}
            for row in item.rows:
                content = {name: row[name] for name in item.columns}
                before = known.get(row["ID"])
                counts["new" if before is None else "duplicate" if before == content else "corrected"] += 1
                known[row["ID"]] = content
            told = ", ".join(f"{count} {word}" for word, count in counts.items())
            print(f"{item.path}: {len(item.rows)} read, {told}, {len(item.encode())} bytes")
        settled = [Decimal(r["PAYMENT_AMOUNT"]) for r in known.values() if r["STATUS"] not in UNSETTLED]
        print(f"{slug}: {len(known)} payments, {len(settled)} settled, revenue {sum(settled)}")


def main() -> int:
    projects = {"kitobo": kitobo(), "gbamu": gbamu(), "jua-nyumbani": jua_nyumbani()}
    files = {item.path: item.encode() for uploads in projects.values() for item in uploads}
    files["kitobo/CONNECTIONS.csv"] = connections(KITOBO, projects["kitobo"], 130, "SM", "SM60R")
    files["jua-nyumbani/CONNECTIONS.csv"] = connections(JUA, projects["jua-nyumbani"], 170, "SHS", "JN-40")
    wrong = []
    for name, data in files.items():
        path = HERE / name
        if "--check" in sys.argv[1:]:
            if not path.is_file() or path.read_bytes() != data:
                wrong.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    print_summary(projects)
    for path in wrong:
        print(f"not as this script makes it: {path}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
