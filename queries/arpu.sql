/*
title = "ARPU"
definition = "Average revenue per connection in service: revenue ÷ connections in service in the period, per project and currency. Revenue: Σ PAYMENT_AMOUNT over all settled payments of the project; negative amounts (refunds) subtract. In service in a period: the project's connections whose CONNECTED_ON is before the end of the period (local days), or of the request where that is earlier, and not after today. A connection without CONNECTED_ON counts as in service in all periods; undated is how many these are. Connections are those of now, also with as_of. Rounded half away from zero to 4 decimals. ARPPU is another metric: it divides by the customers who paid."
parameters = ["project", "from", "to", "tz", "grain", "currency", "limit", "order"]
tables = ["connections", "as_of"]
chart = "line"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all. A period without settled payments has no row: it may be without data." },
  { name = "currency", description = "ISO 4217." },
  { name = "revenue", unit = "currency", description = "In the row's currency." },
  { name = "connections", unit = "connections", description = "In service in the period." },
  { name = "undated", unit = "connections", description = "Of these, those without CONNECTED_ON, which may have come later: the more they are, the more arpu of early periods is too low." },
  { name = "arpu", unit = "currency", description = "revenue ÷ connections; null where there are none." },
]
*/
WITH earned AS (
  SELECT project_id, local_period(paid_at, time_zone, $grain) AS period, currency, sum(amount) AS revenue
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency
), ended AS (
  -- With grain=all there is no next period, and the end is the request's.
  SELECT earned.project_id, earned.period, earned.currency, earned.revenue, as_of.day AS last_day,
         earned.period + CASE $grain WHEN 'day' THEN INTERVAL '1 day' WHEN 'week' THEN INTERVAL '7 days'
                                     WHEN 'month' THEN INTERVAL '1 month' WHEN 'quarter' THEN INTERVAL '3 months'
                                     ELSE INTERVAL '1 year' END AS next_period
  FROM earned
  JOIN as_of ON as_of.project_id = earned.project_id
), connected AS (
  -- Days are far fewer than connections.
  SELECT project_id, connected_on, count(*) AS connections FROM connections GROUP BY project_id, connected_on
)
SELECT ended.project_id AS project, ended.period, ended.currency, ended.revenue,
       coalesce(sum(connected.connections), 0) AS connections,
       coalesce(sum(CASE WHEN connected.connected_on IS NULL THEN connected.connections END), 0) AS undated,
       round(ended.revenue / nullif(sum(connected.connections), 0), 4) AS arpu
FROM ended
LEFT JOIN connected
  ON connected.project_id = ended.project_id
  AND (connected.connected_on IS NULL
       OR (connected.connected_on <= ended.last_day
           AND (ended.next_period IS NULL OR connected.connected_on < ended.next_period)))
GROUP BY ended.project_id, ended.period, ended.currency, ended.revenue
