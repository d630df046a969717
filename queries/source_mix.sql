/*
title = "Source mix"
definition = "Share of PAYMENT_SOURCE by amount and by count; spellings normalised (\"MPESA\", \"M-Pesa\"), raw value kept. Over settled payments, per project and currency; shares are rounded half away from zero to 6 decimals."
parameters = ["project", "from", "to", "tz", "site", "currency", "limit", "order"]
chart = "share"
over_aggregates = "sums"
order = ["project", "currency", "source"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "currency", description = "ISO 4217." },
  { name = "source", description = "The canonical source." },
  { name = "revenue", unit = "currency", description = "In the row's currency; refunds subtract." },
  { name = "payments", unit = "payments", description = "Settled payments." },
  { name = "share_of_amount", unit = "share", description = "Of the revenue of the project and currency; null where that is zero." },
  { name = "share_of_count", unit = "share", description = "Of the settled payments of the project and currency." },
  { name = "spellings", description = "The distinct values of PAYMENT_SOURCE as the files had them, sorted, with | between; null where all were blank." },
]
*/
WITH spelled AS (
  SELECT project_id, currency, source, payment_source, sum(amount) AS revenue, count(*) AS payments
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, currency, source, payment_source
), mixed AS (
  SELECT project_id, currency, source, sum(revenue) AS revenue, sum(payments) AS payments,
         string_agg(payment_source, ' | ' ORDER BY payment_source) AS spellings
  FROM spelled
  GROUP BY project_id, currency, source
)
-- A decimal divided has four decimals more than its dividend: eight, enough to round to six.
SELECT project_id AS project, currency, source, revenue, payments,
       round(revenue / nullif(sum(revenue) OVER (PARTITION BY project_id, currency), 0), 6) AS share_of_amount,
       round(CAST(payments AS DECIMAL(20, 4)) / sum(payments) OVER (PARTITION BY project_id, currency), 6)
         AS share_of_count,
       spellings
FROM mixed
