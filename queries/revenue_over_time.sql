/*
title = "Revenue over time"
definition = "Revenue, grouped by project, local period and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "line"
over_aggregates = "sums"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency. A period without settled payments has no row: it may be without data." },
  { name = "payments", unit = "payments", description = "Settled payments." },
]
*/
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period, currency,
       sum(amount) AS revenue, count(*) AS payments
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency
