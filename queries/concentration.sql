/*
title = "Concentration"
definition = "Share of revenue of the top decile of customers, per project and currency. Revenue: Σ PAYMENT_AMOUNT over settled payments; negative amounts (refunds) subtract. The top decile: of the customers with a settled payment in the period, a tenth, rounded up, by their revenue. Rounded half away from zero to 6 decimals."
parameters = ["project", "from", "to", "tz", "site", "currency", "limit", "order"]
chart = "table"
order = ["project", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "currency", description = "ISO 4217." },
  { name = "customers", unit = "customers", description = "With a settled payment in the period, in the currency." },
  { name = "top_customers", unit = "customers", description = "A tenth of them, rounded up." },
  { name = "revenue", unit = "currency", description = "Of all customers." },
  { name = "top_revenue", unit = "currency", description = "Of the top decile." },
  { name = "share", unit = "share", description = "top_revenue ÷ revenue; null where that is not above zero." },
]
*/
WITH customers AS (
  SELECT project_id, currency, customer_id, sum(amount) AS revenue
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, currency, customer_id
), ranked AS (
  SELECT project_id, currency, revenue,
         row_number() OVER (PARTITION BY project_id, currency ORDER BY revenue DESC, customer_id) AS place,
         count(*) OVER (PARTITION BY project_id, currency) AS customers
  FROM customers
), summed AS (
  SELECT project_id, currency, count(*) AS customers, sum(revenue) AS revenue,
         sum(CASE WHEN (place - 1) * 10 < customers THEN 1 ELSE 0 END) AS top_customers,
         sum(CASE WHEN (place - 1) * 10 < customers THEN revenue ELSE revenue * 0 END) AS top_revenue
  FROM ranked
  GROUP BY project_id, currency
)
SELECT project_id AS project, currency, customers, top_customers, revenue, top_revenue,
       round(top_revenue / CASE WHEN revenue > 0 THEN revenue END, 6) AS share
FROM summed
