/*
title = "Completeness"
definition = "Per site and month: rows, first and last payment, last upload. A month without data is not zero revenue, and a site that has ever paid is there when it is silent. Months are local, from the first to the last month of the request, or of the answer's data where the request leaves an end open."
parameters = ["project", "from", "to", "tz", "site", "limit", "order"]
tables = ["projects", "uploads", "months", "sites"]
chart = "heatmap"
order = ["project", "site", "period"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "site", description = "The payments' site; null for a project that has never had a payment." },
  { name = "period", description = "The first day of the local month." },
  { name = "payments", unit = "payments", description = "All payments, whatever their settlement. 0: no data, which is not the same as no revenue." },
  { name = "first_payment_at", unit = "UTC", description = "The first of them." },
  { name = "last_payment_at", unit = "UTC", description = "The last of them." },
  { name = "last_upload_at", unit = "UTC", description = "When the newest upload that holds some of them was committed." },
]
*/
WITH parts AS (
  SELECT project_id, site, local_period(paid_at, time_zone, 'month') AS period, upload_id,
         count(*) AS payments, min(paid_at) AS first_payment_at, max(paid_at) AS last_payment_at
  FROM payments
  GROUP BY project_id, site, local_period(paid_at, time_zone, 'month'), upload_id
), counted AS MATERIALIZED (
  SELECT parts.project_id, parts.site, parts.period, sum(parts.payments) AS payments,
         min(parts.first_payment_at) AS first_payment_at, max(parts.last_payment_at) AS last_payment_at,
         max(uploads.committed_at) AS last_upload_at
  FROM parts
  LEFT JOIN uploads ON uploads.upload_id = parts.upload_id AND uploads.project_id = parts.project_id
  GROUP BY parts.project_id, parts.site, parts.period
), span AS (
  SELECT min(period) AS first_period, max(period) AS last_period FROM counted
), places AS (
  SELECT projects.project_id, seen.site
  FROM projects
  LEFT JOIN (
    SELECT project_id, site FROM sites
    UNION
    SELECT project_id, site FROM counted
  ) AS seen ON seen.project_id = projects.project_id
)
SELECT places.project_id AS project, places.site, months.period, coalesce(counted.payments, 0) AS payments,
       counted.first_payment_at, counted.last_payment_at, counted.last_upload_at
FROM places
JOIN months ON months.project_id = places.project_id
CROSS JOIN span
LEFT JOIN counted
  ON counted.project_id = places.project_id AND counted.site = places.site AND counted.period = months.period
WHERE (months.period >= coalesce(months.first_asked, span.first_period)
       AND months.period <= coalesce(months.last_asked, span.last_period))
  -- A month that the request names is there, even where no data reaches it.
  OR months.period = months.first_asked OR months.period = months.last_asked
