/*
title = "Match rate"
definition = "Per project and currency: how many of the meters with a payment in the period are connections of the project (their METER_ID is the external_id of one, to the letter), with what share of payments and revenue; and the reverse, how many of the project's connections have a payment in the period. All payments count, whatever their settlement; revenue is Σ PAYMENT_AMOUNT over the settled ones, negative amounts (refunds) subtract. All connections count, whenever they were connected; they are those of now, also with as_of. A project without payments is there, with 0. Rates are rounded half away from zero to 6 decimals."
parameters = ["project", "from", "to", "tz", "limit", "order"]
tables = ["connections", "projects"]
chart = "table"
order = ["project", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "currency", description = "ISO 4217; null where there is no payment." },
  { name = "meters", unit = "meters", description = "Distinct METER_ID of payments." },
  { name = "matched_meters", unit = "meters", description = "Of these, those that are connections: as many connections have a payment." },
  { name = "meter_rate", unit = "share", description = "matched_meters ÷ meters; null where there are none." },
  { name = "payments", unit = "payments", description = "All payments, whatever their settlement." },
  { name = "matched_payments", unit = "payments", description = "Of these, those of meters that are connections." },
  { name = "payment_rate", unit = "share", description = "matched_payments ÷ payments; null where there are none." },
  { name = "revenue", unit = "currency", description = "Of settled payments, in the row's currency; null where there is no payment." },
  { name = "matched_revenue", unit = "currency", description = "Of this, that of meters that are connections." },
  { name = "revenue_rate", unit = "share", description = "matched_revenue ÷ revenue; null where revenue is 0 or less. Refunds may make it more than 1." },
  { name = "connections", unit = "connections", description = "All connections of the project." },
  { name = "connection_rate", unit = "share", description = "matched_meters ÷ connections, the reverse; null where there are none." },
]
*/
WITH meters AS (
  SELECT project_id, currency, meter_id, count(*) AS payments,
         sum(amount) FILTER (WHERE settlement = 'settled') AS revenue
  FROM payments
  GROUP BY project_id, currency, meter_id
), counted AS (
  SELECT meters.project_id, meters.currency, count(*) AS meters, count(connections.external_id) AS matched_meters,
         sum(meters.payments) AS payments, coalesce(sum(meters.revenue), 0) AS revenue,
         sum(meters.payments) FILTER (WHERE connections.external_id IS NOT NULL) AS matched_payments,
         coalesce(sum(meters.revenue) FILTER (WHERE connections.external_id IS NOT NULL), 0) AS matched_revenue
  FROM meters
  LEFT JOIN connections
    ON connections.project_id = meters.project_id AND connections.external_id = meters.meter_id
  GROUP BY meters.project_id, meters.currency
), had AS (
  SELECT project_id, count(*) AS connections FROM connections GROUP BY project_id
)
SELECT projects.project_id AS project, counted.currency, coalesce(counted.meters, 0) AS meters,
       coalesce(counted.matched_meters, 0) AS matched_meters,
       round(CAST(counted.matched_meters AS DECIMAL(20, 4)) / nullif(counted.meters, 0), 6) AS meter_rate,
       coalesce(counted.payments, 0) AS payments, coalesce(counted.matched_payments, 0) AS matched_payments,
       round(CAST(coalesce(counted.matched_payments, 0) AS DECIMAL(20, 4)) / nullif(counted.payments, 0), 6) AS payment_rate,
       counted.revenue, counted.matched_revenue,
       round(counted.matched_revenue / CASE WHEN counted.revenue > 0 THEN counted.revenue END, 6) AS revenue_rate,
       coalesce(had.connections, 0) AS connections,
       round(CAST(coalesce(counted.matched_meters, 0) AS DECIMAL(20, 4)) / nullif(had.connections, 0), 6) AS connection_rate
FROM projects
LEFT JOIN counted ON counted.project_id = projects.project_id
LEFT JOIN had ON had.project_id = projects.project_id
