/*
title = "Ticket size"
definition = "Mean, median, p90 of settled amounts, per project and currency; refunds are among the amounts. The median of an even number of amounts is the mean of the middle two; p90 is the nearest rank: the least amount that at least 90 % of the amounts do not exceed. Mean and median are rounded half away from zero to 4 decimals."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "table"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "currency", description = "ISO 4217." },
  { name = "payments", unit = "payments", description = "Settled payments." },
  { name = "mean", unit = "currency", description = "In the row's currency." },
  { name = "median", unit = "currency", description = "In the row's currency." },
  { name = "p90", unit = "currency", description = "In the row's currency." },
]

[defaults]
grain = "all"
*/
-- A decimal divided has four decimals more than its dividend, cut off and not rounded, so that rounding happens once.
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period, currency, count(*) AS payments,
       round(sum(amount) / count(*), 4) AS mean,
       exact_median(amount) AS median,
       nearest_rank(amount, 90) AS p90
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency
