/*
title = "Dormancy"
definition = "How many meters paid last 0–30, 31–60, 61–90 and over 90 local days before as-of, of all that have ever paid by then. As-of is the last day before to, or today where that is earlier; only settled payments count, refunds among them. Shares are rounded half away from zero to 6 decimals."
parameters = ["project", "to", "tz", "site", "limit", "order"]
tables = ["as_of"]
chart = "bar"
order = ["project", "dormancy"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "as_of", description = "The local day up to which it is counted." },
  { name = "dormancy", description = "0-30, 31-60, 61-90 or 90+; those that no meter is in are not there." },
  { name = "meters", unit = "meters", description = "Distinct METER_ID." },
  { name = "share", unit = "share", description = "Of the project's meters that have ever paid." },
]
*/
WITH last AS (
  SELECT project_id, meter_id, max(local_period(paid_at, time_zone, 'day')) AS last_day
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, meter_id
), counted AS (
  SELECT last.project_id, as_of.day, CAST(as_of.day AS INT) - CAST(last.last_day AS INT) AS days
  FROM last
  JOIN as_of ON as_of.project_id = last.project_id
), grouped AS (
  SELECT project_id, day, count(*) AS meters,
         CASE WHEN days <= 30 THEN '0-30' WHEN days <= 60 THEN '31-60' WHEN days <= 90 THEN '61-90' ELSE '90+' END
           AS dormancy
  FROM counted
  GROUP BY project_id, day,
           CASE WHEN days <= 30 THEN '0-30' WHEN days <= 60 THEN '31-60' WHEN days <= 90 THEN '61-90' ELSE '90+' END
)
SELECT project_id AS project, day AS as_of, dormancy, meters,
       round(CAST(meters AS DECIMAL(20, 4)) / sum(meters) OVER (PARTITION BY project_id), 6) AS share
FROM grouped
