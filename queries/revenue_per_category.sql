/*
title = "Revenue per customer category"
definition = "Revenue, grouped by project, local period, customer category and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract. The category is that of the connection whose external_id is the payment's METER_ID, as payments show it; null where there is no such connection, or it has no category."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "bar"
order = ["project", "period", "category", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "category", description = "Residential, Commercial, Productive, Public or Anchor; null where none is known." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency. A period without settled payments has no row: it may be without data." },
  { name = "payments", unit = "payments", description = "Settled payments." },
  { name = "customers", unit = "customers", description = "Distinct CUSTOMER_ID with a settled payment. Rows cannot be added up: a customer may be in many." },
]
*/
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period, customer_category AS category, currency,
       sum(amount) AS revenue, count(*) AS payments, count(DISTINCT customer_id) AS customers
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain), customer_category, currency
