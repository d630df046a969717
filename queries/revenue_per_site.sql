/*
title = "Revenue per site"
definition = "Revenue, grouped by project, site and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract."
parameters = ["project", "from", "to", "tz", "site", "currency", "limit", "order"]
chart = "bar"
over_aggregates = "sums"
order = ["project", "site", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "site", description = "The connection's site, else LOCATION, else the dataset's site, else the project's name." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency." },
  { name = "payments", unit = "payments", description = "Settled payments." },
]
*/
SELECT project_id AS project, site, currency, sum(amount) AS revenue, count(*) AS payments
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, site, currency
