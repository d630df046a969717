/*
title = "Payments per customer"
definition = "Count, sum, first and last payment of settled payments per CUSTOMER_ID."
parameters = ["project", "from", "to", "tz", "site", "currency", "limit", "order"]
chart = "table"
order = ["project", "customer_id", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "customer_id", description = "CUSTOMER_ID as the file had it." },
  { name = "currency", description = "ISO 4217." },
  { name = "payments", unit = "payments", description = "Settled payments, refunds among them." },
  { name = "amount", unit = "currency", description = "Their sum, in the row's currency; refunds subtract." },
  { name = "first_payment_at", unit = "UTC", description = "The first of them in the period." },
  { name = "last_payment_at", unit = "UTC", description = "The last of them in the period." },
]
*/
SELECT project_id AS project, customer_id, currency, count(*) AS payments, sum(amount) AS amount,
       min(paid_at) AS first_payment_at, max(paid_at) AS last_payment_at
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, customer_id, currency
