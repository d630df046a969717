/*
title = "Days since last payment"
definition = "Per meter: as-of − last settled payment, in local days. As-of is the last day before to, or today where that is earlier; refunds count as payments do. Dormancy: 0–30, 31–60, 61–90 and over 90 days."
parameters = ["project", "to", "tz", "site", "limit", "order"]
tables = ["as_of"]
chart = "table"
order = ["project", "meter_id"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "meter_id", description = "METER_ID as the file had it." },
  { name = "last_payment_at", unit = "UTC", description = "The last settled payment before the end of as-of." },
  { name = "as_of", description = "The local day up to which it is counted." },
  { name = "days", unit = "days", description = "From the local day of the last payment to as-of: 0 where they are the same." },
  { name = "dormancy", description = "0-30, 31-60, 61-90 or 90+." },
]
*/
WITH last AS (
  SELECT project_id, meter_id, max(paid_at) AS last_payment_at,
         max(local_period(paid_at, time_zone, 'day')) AS last_day
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, meter_id
), counted AS (
  SELECT last.project_id, last.meter_id, last.last_payment_at, as_of.day,
         CAST(CAST(as_of.day AS INT) - CAST(last.last_day AS INT) AS BIGINT) AS days
  FROM last
  JOIN as_of ON as_of.project_id = last.project_id
)
SELECT project_id AS project, meter_id, last_payment_at, day AS as_of, days,
       CASE WHEN days <= 30 THEN '0-30' WHEN days <= 60 THEN '31-60' WHEN days <= 90 THEN '61-90' ELSE '90+' END
         AS dormancy
FROM counted
