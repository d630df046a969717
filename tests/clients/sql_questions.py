"""Questions of an analyst, made by chance from a seed, as SQL for Wattlake and for DuckDB.

What the two define differently is a mark in the text, which stands for what each calls it, so that both say the same exactly:

    {avg:x}        the mean of decimals: Wattlake's avg has four digits more than x and drops the rest; DuckDB's is a float
    {median:x}     exact_median(x), rounded half away from zero; worked out in DuckDB from the sorted list
    {rank:x:90}    nearest_rank(x, 90); likewise
    {idiv:a:b}     integers divided, the remainder dropped; DuckDB's / makes a float of them
    {unix:x}       seconds since 1970
    {local:month}  local_period(paid_at, time_zone, 'month')
    {like:x:p}     x matches the regular expression p
    {series:a:b}   dates from a to b, a month apart, as column `value`

What Wattlake refuses of this is left out: two aggregates of different orders in one SELECT, and sum(x) beside sum(CAST(x AS …)), which have one
name to the engine. Nulls are always told where to stand, since the two differ there. Every question has an order that is total, or none.
"""

from __future__ import annotations

import random
import re

MARKS = {
    "avg": ("avg({0})", "avg_exact({0})"),
    "median": ("exact_median({0})", "exact_median({0})"),
    "rank": ("nearest_rank({0}, {1})", "nearest_rank({0}, {1})"),
    "idiv": ("(({0}) / ({1}))", "(({0}) // ({1}))"),
    "unix": ("to_unixtime({0})", "(epoch_us({0}) // 1000000)"),
    "local": ("local_period(paid_at, time_zone, '{0}')", "CAST(date_trunc('{0}', paid_at AT TIME ZONE time_zone) AS DATE)"),
    "like": ("({0} ~ '{1}')", "regexp_matches({0}, '{1}')"),
    "series": ("generate_series(DATE '{0}', DATE '{1}', INTERVAL '1 month')",
               "(SELECT unnest(generate_series(TIMESTAMP '{0}', TIMESTAMP '{1}', INTERVAL '1 month')) AS value)"),
}
# For DuckDB. `units` are ten-thousandths, whole numbers; nothing goes through a float.
MACROS = """
CREATE MACRO units(x) AS CAST(CAST(x AS DECIMAL(32,4)) * 10000 AS HUGEINT);
CREATE MACRO avg_exact(x) AS CAST(units(sum(x)) * 10000 // count(x) AS DECIMAL(28,0)) * 0.00000001;
CREATE MACRO middle(s) AS CAST(sign(s) * ((abs(s) + 1) // 2) AS DECIMAL(28,0)) * 0.0001;
CREATE MACRO exact_median(x) AS middle(units(list_sort(list(x) FILTER (x IS NOT NULL))[(count(x) + 1) // 2])
                                       + units(list_sort(list(x) FILTER (x IS NOT NULL))[count(x) // 2 + 1]));
CREATE MACRO nearest_rank(x, p) AS list_sort(list(x) FILTER (x IS NOT NULL))[(count(x) * p + 99) // 100];
"""

MONEY = ["amount", "transaction_charges", "coalesce(transaction_charges, 0)", "amount - coalesce(transaction_charges, 0)", "amount * 2",
         "amount * 1.5", "abs(amount)", "-amount", "CASE WHEN settlement = 'settled' THEN amount ELSE 0 END",
         "CASE WHEN settlement = 'settled' THEN amount END", "round(amount, 2)", "CAST(amount AS DECIMAL(18,2)) + 0", "greatest(amount, 0)",
         "least(amount, 1000.5)", "nullif(amount, 100)", "amount + amount * 0.16", "amount % 7"]
TEXT = ["site", "settlement", "source", "customer_name", "upper(customer_name)", "lower(customer_name)", "left(meter_id, 5)",
        "right(meter_id, 3)", "substr(customer_name, 2, 4)", "site || ' / ' || settlement", "concat(account_type, '-', site)",
        "concat_ws('|', account_type, notes, site)", "replace(site, 'a', 'A')", "lpad(meter_id, 14, '0')", "rpad(site, 12, '.')",
        "split_part(customer_name, ' ', 1)", "trim(customer_name)", "coalesce(notes, 'none')", "payment_source", "account_type", "notes",
        "substr(payment_id, length(payment_id))", "translate(site, 'aeiou', 'AEIOU')"]
INTEGER = ["length(customer_name)", "CAST(EXTRACT(day FROM paid_at) AS BIGINT)", "CAST(EXTRACT(hour FROM paid_at) AS BIGINT)",
           "CAST(EXTRACT(dow FROM paid_at) AS BIGINT)", "strpos(customer_name, 'a')", "CAST(round(amount, 0) AS BIGINT)",
           "{idiv:length(customer_name):3}", "CAST(round(amount, 0) AS BIGINT) % 7", "CAST(substr(meter_id, 6) AS BIGINT)",
           "{idiv:CAST(round(amount, 0) AS BIGINT):-7}", "CAST(EXTRACT(quarter FROM paid_at) AS BIGINT)",
           "CAST(EXTRACT(week FROM paid_at) AS BIGINT)"]
TIME = ["paid_at", "date_trunc('day', paid_at)", "date_trunc('month', paid_at)", "date_trunc('week', paid_at)", "date_trunc('hour', paid_at)",
        "date_trunc('quarter', paid_at)", "CAST(paid_at AS DATE)", "paid_at + INTERVAL '1 month'", "paid_at - INTERVAL '36 hours'"]
KEYS = ["site", "project_id", "month", "settlement", "source", "account_type", "payment_source", "currency", "date_trunc('month', paid_at)",
        "date_trunc('week', paid_at)", "date_trunc('day', paid_at)", "CAST(paid_at AS DATE)", "CAST(EXTRACT(dow FROM paid_at) AS BIGINT)",
        "CAST(EXTRACT(hour FROM paid_at) AS BIGINT)", "CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'middle' ELSE 'large' END",
        "{local:month}", "{local:day}", "amount < 0", "left(customer_name, 1)", "notes"]
SITES = ["site", "project_id", "month"]


def rendered(text: str, dialect: int) -> str:
    """Marks from the innermost out; 0 is Wattlake, 1 is DuckDB."""
    inner = re.compile(r"\{(\w+):([^{}]*)\}")
    while (mark := inner.search(text)) is not None:
        parts = mark.group(2).split(":")
        text = text[:mark.start()] + MARKS[mark.group(1)][dialect].format(*parts) + text[mark.end():]
    return text


class Questions:
    """`values` are some of the rows' own, by column, so that conditions meet something."""

    def __init__(self, seed: int, values: dict):
        self.chance, self.values = random.Random(seed), values

    def one(self) -> tuple[str, bool]:
        """SQL with marks, and whether it says its order."""
        return self.chance.choice([self.grouped, self.grouped, self.grouped, self.top, self.rows, self.rows, self.windows, self.windows,
                                   self.monthly, self.joined, self.pairs, self.cohorts, self.sets, self.subqueries, self.cubes, self.latest,
                                   self.series, self.nested])()

    def some(self, of: list, least: int, most: int) -> list:
        return self.chance.sample(of, self.chance.randint(least, min(most, len(of))))

    def literal(self, column: str) -> str:
        return "'" + self.chance.choice(self.values[column]).replace("'", "''") + "'"

    def condition(self, depth: int = 2) -> str:
        pick, number = self.chance.choice, self.chance.randint
        if depth and self.chance.random() < 0.35:
            return pick([f"({self.condition(depth - 1)} AND {self.condition(depth - 1)})",
                         f"({self.condition(depth - 1)} OR {self.condition(depth - 1)})", f"NOT ({self.condition(depth - 1)})"])
        column = pick(["site", "settlement", "source", "month", "account_type", "payment_source", "project_id", "customer_id"])
        return pick([
            f"{column} = {self.literal(column)}", f"{column} <> {self.literal(column)}", f"{column} IS DISTINCT FROM {self.literal(column)}",
            f"{column} IN ({self.literal(column)}, {self.literal(column)})", f"{column} NOT IN ({self.literal(column)}, {self.literal(column)})",
            f"{column} >= {self.literal(column)}", f"amount > {number(-500, 3000)}.{number(0, 9999):04}", f"amount BETWEEN {number(0, 100)} AND {number(100, 2000)}",
            f"customer_name LIKE '{pick('AJGKWNSEM')}%'", f"customer_name ILIKE '%{pick(['an', 'o', 'ma', 'é', 'u_a'])}%'", "customer_name NOT LIKE '%a%'",
            "notes IS NULL", "notes IS NOT NULL", "transaction_charges IS NULL", "settlement = 'settled'",
            f"paid_at >= CAST('2024-0{number(1, 4)}-{number(10, 28)}T12:00:00Z' AS TIMESTAMP WITH TIME ZONE)",
            f"EXTRACT(hour FROM paid_at) BETWEEN {number(0, 12)} AND {number(12, 23)}", "{like:customer_name:^[A-M].*[a-m]$}",
            f"length(customer_name) > {number(8, 16)}", f"{pick(MONEY)} >= {number(-20, 1500)}", f"starts_with(meter_id, {self.literal('meter_id')})",
            f"CAST(paid_at AS DATE) < DATE '2024-0{number(2, 4)}-{number(10, 28)}'", f"{pick(INTEGER)} > {number(0, 9)}",
        ])

    def where(self, often: float = 0.6) -> str:
        return f" WHERE {self.condition()}" if self.chance.random() < often else ""

    def aggregate(self) -> str:
        pick, money = self.chance.choice, self.chance.choice(MONEY)
        return pick([
            f"sum({money})", f"sum({money})", f"sum({money})", "count(*)", f"count({money})", "count(DISTINCT customer_id)", "count(DISTINCT meter_id)",
            f"count(DISTINCT {pick(TEXT)})", f"min({money})", f"max({money})", f"min({pick(TIME)})", f"max({pick(TIME)})", f"min({pick(TEXT)})",
            f"max({pick(TEXT)})", "{avg:amount}", "{avg:transaction_charges}", "{median:amount}", "{rank:amount:90}", "{rank:amount:50}",
            f"sum({money}) FILTER (WHERE {self.condition(1)})", f"count(*) FILTER (WHERE {self.condition(1)})", f"sum({pick(INTEGER)})",
            "string_agg(DISTINCT source, ',' ORDER BY source)", f"bool_and({self.condition(0)})", f"bool_or({self.condition(0)})",
            "sum(DISTINCT amount)", f"sum({money}) - sum(coalesce(transaction_charges, 0))", f"coalesce(sum({money}), 0) * 2",
            f"max({pick(INTEGER)}) - min({pick(INTEGER)})",
        ])

    def order(self, columns: int) -> str:
        """By every column, so that it is total but for rows that are the same."""
        places = list(range(1, columns + 1))
        self.chance.shuffle(places)
        return " ORDER BY " + ", ".join(f"{at} {self.chance.choice(['ASC', 'DESC'])} NULLS {self.chance.choice(['FIRST', 'LAST'])}" for at in places)

    def limit(self, often: float = 0.4) -> str:
        if self.chance.random() > often:
            return ""
        return f" LIMIT {self.chance.randint(1, 40)}" + (f" OFFSET {self.chance.randint(1, 10)}" if self.chance.random() < 0.4 else "")

    def named(self, expressions: list, prefix: str) -> list:
        return [f"{expression} AS {prefix}{number}" for number, expression in enumerate(expressions)]

    def grouped(self) -> tuple[str, bool]:
        keys, aggregates = self.some(KEYS, 0, 3), [self.aggregate() for _ in range(self.chance.randint(1, 5))]
        sql = "SELECT " + ", ".join(self.named(keys, "k") + self.named(aggregates, "a")) + " FROM payments" + self.where()
        if keys:
            sql += " GROUP BY " + ", ".join(map(str, range(1, len(keys) + 1)))
            if self.chance.random() < 0.3:
                sql += " HAVING " + self.chance.choice(["count(*) > 3", "sum(amount) > 5000", "{avg:amount} > 250.5", "min(amount) >= 0", "count(DISTINCT customer_id) > 2"])
        if self.chance.random() < 0.5:
            return sql + self.order(len(keys) + len(aggregates)) + self.limit(), True
        return sql, False

    def top(self) -> tuple[str, bool]:
        keys = self.some(["site", "project_id", "customer_id", "meter_id", "source", "month"], 1, 3)
        by = ", ".join(f"{key} NULLS LAST" for key in keys)
        return (f"SELECT {', '.join(keys)}, sum(amount) AS revenue, count(*) AS payments, "
                f"string_agg(payment_id, '-' ORDER BY amount DESC, payment_id, project_id) AS ids FROM payments{self.where()} GROUP BY {', '.join(keys)} "
                f"ORDER BY revenue {self.chance.choice(['ASC', 'DESC'])} NULLS LAST, payments DESC, {by} LIMIT {self.chance.randint(1, 30)}"), True

    def rows(self) -> tuple[str, bool]:
        items = [self.chance.choice(self.chance.choice([MONEY, TEXT, INTEGER, TIME])) for _ in range(self.chance.randint(2, 7))]
        if self.chance.random() < 0.3:
            items.append(self.condition())
        sql = "SELECT " + self.chance.choice(["", "DISTINCT "]) + ", ".join(self.named(items, "c")) + " FROM payments" + self.where()
        return (sql + self.order(len(items)) + self.limit(1), True) if self.chance.random() < 0.7 else (sql, False)

    def window(self) -> str:
        pick = self.chance.choice
        part = pick(["", f"PARTITION BY {pick(['site', 'project_id', 'meter_id', 'customer_id', 'month, source'])} "])
        total = pick(["paid_at, project_id, payment_id", "amount DESC, project_id, payment_id", "project_id, payment_id DESC"])
        frame = pick(["", "", " ROWS BETWEEN 3 PRECEDING AND CURRENT ROW", " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
                      " ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"])
        over = f"OVER ({part}ORDER BY {total}{frame})"
        ties = f"OVER ({part}ORDER BY {pick(['month', 'CAST(paid_at AS DATE)', 'amount', 'site', 'customer_id'])} {pick(['ASC', 'DESC'])} NULLS LAST)"
        recent = f"OVER ({part}ORDER BY paid_at RANGE BETWEEN INTERVAL '7 days' PRECEDING AND CURRENT ROW)"
        plain = f"OVER ({part}ORDER BY {total})"
        return pick([f"row_number() {plain}", f"rank() {ties}", f"dense_rank() {ties}", f"sum(amount) {over}", f"count(*) {over}", f"min(amount) {over}",
                     f"max({pick(MONEY)}) {over}", f"lag(amount) {plain}", f"lag(paid_at, 2) {plain}", f"lead(customer_name, 1, 'none') {plain}",
                     f"first_value(amount) {over}", f"last_value(payment_id) {over}", f"ntile({self.chance.randint(2, 9)}) {plain}",
                     f"sum(amount) {ties}", f"count(*) {ties}", f"sum(amount) {recent}", f"max(amount) {recent}", f"count(transaction_charges) {recent}",
                     f"sum(amount) OVER ({part or 'PARTITION BY site'})", f"nth_value(amount, 2) {over}",
                     f"sum(amount) FILTER (WHERE settlement = 'settled') {over}"])

    def windows(self) -> tuple[str, bool]:
        items = ["project_id", "payment_id"] + [self.window() for _ in range(self.chance.randint(1, 3))]
        sql = "SELECT " + ", ".join(items[:2] + self.named(items[2:], "w")) + " FROM payments" + self.where(0.5)
        if self.chance.random() < 0.2:
            return sql + f" QUALIFY row_number() OVER (PARTITION BY site ORDER BY amount DESC, project_id, payment_id) <= {self.chance.randint(1, 4)}", False
        return sql + " ORDER BY 1, 2" + self.limit(0.6), True

    def monthly(self) -> tuple[str, bool]:
        key = self.chance.choice(["site", "project_id", "source"])
        return (f"WITH m AS (SELECT {key} AS k, date_trunc('month', paid_at) AS since, sum(amount) AS revenue, count(*) AS n FROM payments{self.where()} GROUP BY 1, 2) "
                f"SELECT k, since, revenue, revenue - lag(revenue) OVER (PARTITION BY k ORDER BY since) AS change, "
                f"sum(revenue) OVER (PARTITION BY k ORDER BY since) AS so_far, sum(n) OVER (PARTITION BY since) AS of_month, "
                f"rank() OVER (PARTITION BY since ORDER BY revenue DESC NULLS LAST, k) AS place FROM m ORDER BY 1, 2"), True

    def joined(self) -> tuple[str, bool]:
        kind = self.chance.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        aggregates = [self.chance.choice(["sum(p.amount)", "count(p.payment_id)", "max(p.amount)", "{avg:p.amount}", "count(DISTINCT p.customer_id)"])
                      for _ in range(2)]
        conditions = self.chance.choice(["", " AND p.settlement = 'settled'", " AND p.amount > 500", " AND p.month = '2024-02'"])
        table, on, key = self.chance.choice([("projects", "r.project_id = p.project_id", "r.name, r.country"),
                                             ("sites", "r.project_id = p.project_id AND r.site = p.site", "r.project_id, r.site"),
                                             ("(SELECT customer_id, project_id, min(month) AS first FROM payments GROUP BY 1, 2)",
                                              "r.customer_id = p.customer_id AND r.project_id = p.project_id", "r.first, r.project_id")])
        sql = f"SELECT {key}, {', '.join(self.named(aggregates, 'a'))} FROM payments p {kind} {table} r ON {on}{conditions} GROUP BY {key}"
        return sql, False

    def pairs(self) -> tuple[str, bool]:
        month = self.literal("month")
        return (f"SELECT a.project_id, a.meter_id, count(*) AS pairs, sum(b.amount - a.amount) AS difference, max({{unix:b.paid_at}} - {{unix:a.paid_at}}) AS longest, "
                f"min({{idiv:{{unix:b.paid_at}} - {{unix:a.paid_at}}:86400}}) AS days FROM payments a JOIN payments b ON a.project_id = b.project_id AND a.meter_id = b.meter_id "
                f"AND a.paid_at < b.paid_at WHERE a.month = {month} AND b.month = {month} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2{self.limit(1)}"), True

    def cohorts(self) -> tuple[str, bool]:
        unit = self.chance.choice(["customer_id", "meter_id"])
        return (f"WITH f AS (SELECT project_id, {unit} AS who, min(paid_at) AS first FROM payments{self.where(0.4)} GROUP BY 1, 2) "
                f"SELECT date_trunc('month', f.first) AS cohort, p.month, count(DISTINCT f.who) AS still, sum(p.amount) AS revenue, "
                f"sum(CASE WHEN p.settlement = 'settled' THEN p.amount END) AS settled FROM f JOIN payments p ON p.project_id = f.project_id AND p.{unit} = f.who "
                f"GROUP BY 1, 2 ORDER BY 1, 2"), True

    def sets(self) -> tuple[str, bool]:
        columns = ", ".join(self.some(["customer_id", "project_id", "site", "source"], 1, 3))
        operation = self.chance.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
        return f"SELECT {columns} FROM payments{self.where(1)} {operation} SELECT {columns} FROM payments{self.where(1)}", False

    def subqueries(self) -> tuple[str, bool]:
        inner = self.condition(1)
        return self.chance.choice([
            f"SELECT site, count(*) FROM payments p WHERE {self.chance.choice(['EXISTS', 'NOT EXISTS'])} (SELECT 1 FROM payments b WHERE b.customer_id = p.customer_id "
            f"AND b.project_id = p.project_id AND b.paid_at > p.paid_at) GROUP BY site",
            f"SELECT month, sum(amount) FROM payments WHERE customer_id {self.chance.choice(['IN', 'NOT IN'])} (SELECT customer_id FROM payments WHERE {inner}) GROUP BY month",
            f"SELECT site, sum(amount) - (SELECT min(amount) FROM payments) AS a FROM payments GROUP BY site HAVING sum(amount) > (SELECT {{avg:amount}} FROM payments WHERE {inner})",
            f"SELECT payment_id, amount FROM payments WHERE amount = (SELECT max(amount) FROM payments WHERE {inner})",
            f"SELECT s.site, (SELECT count(*) FROM payments p WHERE p.site = s.site AND p.project_id = s.project_id) AS n FROM sites s",
            f"SELECT project_id, site, payment_id, amount FROM payments p WHERE amount > (SELECT {{avg:b.amount}} FROM payments b WHERE b.site = p.site) * 3",
        ]), False

    def cubes(self) -> tuple[str, bool]:
        keys = self.some(["site", "project_id", "month", "settlement", "source"], 2, 3)
        form = self.chance.choice(["ROLLUP({0})", "CUBE({0})", "GROUPING SETS (({0}), ({1}), ())", "{1}, ROLLUP({2})"])
        group = form.format(", ".join(keys), keys[0], ", ".join(keys[1:]))
        return f"SELECT {', '.join(keys)}, grouping({', '.join(keys)}) AS g, sum(amount) AS revenue, count(*) AS n FROM payments{self.where()} GROUP BY {group}", False

    def latest(self) -> tuple[str, bool]:
        key = self.chance.choice(["meter_id", "customer_id", "site"])
        return (f"SELECT DISTINCT ON (project_id, {key}) project_id, {key}, amount, paid_at, payment_id FROM payments{self.where()} "
                f"ORDER BY project_id, {key}, paid_at DESC, payment_id"), True

    def series(self) -> tuple[str, bool]:
        return ("SELECT CAST(s.value AS DATE) AS month, count(p.payment_id) AS payments, sum(p.amount) AS revenue FROM {series:2023-12-01:2024-06-01} s "
                f"LEFT JOIN payments p ON p.month = substr(CAST(CAST(s.value AS DATE) AS TEXT), 1, 7) AND {self.condition(0).replace('{like:customer_name', '{like:p.customer_name')} "
                "GROUP BY 1 ORDER BY 1"), True

    def nested(self) -> tuple[str, bool]:
        key = self.chance.choice(SITES)
        return (f"WITH c AS (SELECT project_id, site, month, customer_id, sum(amount) AS paid, count(*) AS n FROM payments{self.where()} GROUP BY 1, 2, 3, 4), "
                f"t AS (SELECT *, ntile(10) OVER (ORDER BY paid DESC NULLS LAST, project_id, site, month, customer_id) AS tenth FROM c) "
                f"SELECT {key}, tenth, count(*) AS customers, sum(paid) AS revenue, max(n) AS most FROM t WHERE tenth <= {self.chance.randint(1, 5)} GROUP BY 1, 2 ORDER BY 1, 2"), True
