/*
title = "ARPPU"
definition = "Average revenue per paying user: revenue ÷ paying customers of the period, per project and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract. A paying customer: a distinct CUSTOMER_ID with a settled payment in the period, in the currency. Rounded half away from zero to 4 decimals. It is no ARPU, which divides by the connections in service."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "line"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency." },
  { name = "customers", unit = "customers", description = "Paying customers of the period. Periods cannot be added up: a customer may be in many." },
  { name = "arppu", unit = "currency", description = "revenue ÷ customers." },
]
*/
-- A decimal divided has four decimals more than its dividend, cut off and not rounded, so that rounding happens once.
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period, currency, sum(amount) AS revenue,
       count(DISTINCT customer_id) AS customers, round(sum(amount) / count(DISTINCT customer_id), 4) AS arppu
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency
