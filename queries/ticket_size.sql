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
-- Amounts are on a grid, so the distinct ones with their counts are few: ranks are counted over these.
WITH amounts AS (
  SELECT project_id, local_period(paid_at, time_zone, $grain) AS period, currency, amount, count(*) AS times
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency, amount
), ranked AS (
  SELECT project_id, period, currency, amount, times,
         sum(times) OVER (PARTITION BY project_id, period, currency ORDER BY amount ROWS UNBOUNDED PRECEDING) AS rank,
         sum(times) OVER (PARTITION BY project_id, period, currency) AS total
  FROM amounts
)
-- A decimal divided has four decimals more than its dividend, cut off and not rounded, so that rounding happens once.
SELECT project_id AS project, period, currency, sum(times) AS payments,
       round(sum(amount * times) / sum(times), 4) AS mean,
       round((min(amount) FILTER (WHERE rank >= (total + 1) / 2) + min(amount) FILTER (WHERE rank >= (total + 2) / 2)) / 2, 4)
         AS median,
       min(amount) FILTER (WHERE rank * 10 >= total * 9) AS p90
FROM ranked
GROUP BY project_id, period, currency
