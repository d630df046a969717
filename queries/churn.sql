/*
title = "Churn and reactivation"
definition = "Per project and local month: meters that paid, those among them that never had before (new) or had, but not in the month before (reactivated), and those that paid in the month before and not in this one (churned). Only settled payments count, refunds among them. All payments before to are looked at; a month that is not over has meters as churned that may still pay. Churn is rounded half away from zero to 6 decimals."
parameters = ["project", "to", "tz", "site", "limit", "order"]
chart = "line"
order = ["project", "period"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first day of the local month: from the first payment of the project to its last." },
  { name = "paying", unit = "meters", description = "Distinct METER_ID with a settled payment." },
  { name = "new", unit = "meters", description = "Of these, whose first payment it was." },
  { name = "reactivated", unit = "meters", description = "Of these, that had paid before, and not in the month before." },
  { name = "churned", unit = "meters", description = "That paid in the month before, and not in this one." },
  { name = "churn", unit = "share", description = "churned ÷ those that paid in the month before; null where none did." },
]
*/
WITH paid AS (
  SELECT project_id, meter_id, local_period(paid_at, time_zone, 'month') AS period
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, meter_id, local_period(paid_at, time_zone, 'month')
), around AS (
  SELECT project_id, period, period + INTERVAL '1 month' AS next_month,
         lag(period) OVER (PARTITION BY project_id, meter_id ORDER BY period) AS before,
         lead(period) OVER (PARTITION BY project_id, meter_id ORDER BY period) AS after
  FROM paid
), events AS (
  SELECT project_id, period, 1 AS paying, CASE WHEN before IS NULL THEN 1 ELSE 0 END AS new,
         CASE WHEN before + INTERVAL '1 month' < period THEN 1 ELSE 0 END AS reactivated, 0 AS churned, 0 AS paying_before
  FROM around
  UNION ALL
  SELECT project_id, next_month, 0, 0, 0, CASE WHEN after = next_month THEN 0 ELSE 1 END, 1
  FROM around
), counted AS (
  SELECT project_id, period, sum(paying) AS paying, sum(new) AS new, sum(reactivated) AS reactivated,
         sum(churned) AS churned, sum(paying_before) AS paying_before
  FROM events
  GROUP BY project_id, period
), span AS (
  SELECT project_id, max(period) AS last_period FROM paid GROUP BY project_id
)
SELECT counted.project_id AS project, counted.period, counted.paying, counted.new, counted.reactivated, counted.churned,
       round(CAST(counted.churned AS DECIMAL(20, 4)) / nullif(counted.paying_before, 0), 6) AS churn
FROM counted
JOIN span ON span.project_id = counted.project_id
WHERE counted.period <= span.last_period
