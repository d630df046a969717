/*
title = "Cohort retention"
definition = "Of the meters whose first settled payment was in a local month, how many had one so many months later, per project. Refunds count as payments do. All payments before to are looked at, so that a first payment is the first there is. Retention is rounded half away from zero to 6 decimals."
parameters = ["project", "to", "tz", "site", "limit", "order"]
chart = "heatmap"
order = ["project", "cohort", "months_later"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "cohort", description = "The first day of the local month of the first payment." },
  { name = "months_later", unit = "months", description = "0 is the month of the first payment." },
  { name = "meters", unit = "meters", description = "Of the cohort." },
  { name = "paying", unit = "meters", description = "Those that paid in that month. A month in which none did has no row." },
  { name = "retention", unit = "share", description = "paying ÷ meters." },
]
*/
WITH paid AS (
  SELECT project_id, meter_id, local_period(paid_at, time_zone, 'month') AS period
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, meter_id, local_period(paid_at, time_zone, 'month')
), since AS (
  SELECT project_id, meter_id, period, min(period) OVER (PARTITION BY project_id, meter_id) AS cohort
  FROM paid
), counted AS (
  SELECT project_id, cohort, period, count(*) AS paying
  FROM since
  GROUP BY project_id, cohort, period
), sized AS (
  SELECT project_id, cohort, period, paying,
         -- All of a cohort paid in its first month.
         max(CASE WHEN period = cohort THEN paying END) OVER (PARTITION BY project_id, cohort) AS meters
  FROM counted
)
SELECT project_id AS project, cohort, CAST((date_part('year', period) - date_part('year', cohort)) * 12 + date_part('month', period)
            - date_part('month', cohort) AS BIGINT) AS months_later, meters, paying,
       round(CAST(paying AS DECIMAL(20, 4)) / meters, 6) AS retention
FROM sized
