/*
title = "Inter-payment gap"
definition = "Local days between one settled payment of a meter and its next, per project: 0 where both are of one day; refunds count as payments do. The median of an even number of gaps is the mean of the middle two; p90 is the nearest rank. Mean and median are rounded half away from zero to 4 decimals."
parameters = ["project", "from", "to", "tz", "site", "limit", "order"]
chart = "table"
order = ["project"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "meters", unit = "meters", description = "With two settled payments in the period at least." },
  { name = "gaps", unit = "gaps", description = "Between payments of the period." },
  { name = "mean", unit = "days", description = "Of the gaps." },
  { name = "median", unit = "days", description = "Of the gaps." },
  { name = "p90", unit = "days", description = "The least gap that at least 90 % of the gaps do not exceed." },
]
*/
WITH days AS (
  SELECT project_id, meter_id, CAST(local_period(paid_at, time_zone, 'day') AS INT) AS day
  FROM payments
  WHERE settlement = 'settled'
), gaps AS (
  SELECT project_id, meter_id, day - lag(day) OVER (PARTITION BY project_id, meter_id ORDER BY day) AS gap
  FROM days
), exact AS (
  SELECT project_id, meter_id, CAST(gap AS DECIMAL(18, 4)) AS gap
  FROM gaps
  WHERE gap IS NOT NULL
)
SELECT project_id AS project, count(DISTINCT meter_id) AS meters, count(*) AS gaps,
       round(sum(gap) / count(*), 4) AS mean, exact_median(gap) AS median, nearest_rank(gap, 90) AS p90
FROM exact
GROUP BY project_id
