/*
title = "Net revenue"
definition = "Revenue − Σ TRANSACTION CHARGES over the same payments, per project, local period and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract. A blank charge is none."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "line"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency." },
  { name = "charges", unit = "currency", description = "TRANSACTION CHARGES of the same payments." },
  { name = "net_revenue", unit = "currency", description = "revenue − charges." },
  { name = "payments", unit = "payments", description = "Settled payments." },
]
*/
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period, currency, sum(amount) AS revenue,
       sum(coalesce(transaction_charges, CAST(0 AS DECIMAL(18, 4)))) AS charges,
       sum(amount) - sum(coalesce(transaction_charges, CAST(0 AS DECIMAL(18, 4)))) AS net_revenue, count(*) AS payments
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency
