/*
title = "Paying ratio"
definition = "Paying meters ÷ connections in service in the period, per project. In service in a period: the project's connections whose CONNECTED_ON is before the end of the period (local days), or of the request where that is earlier, and not after today. A connection without CONNECTED_ON counts as in service in all periods; undated is how many these are. A paying meter: a connection in service whose external_id is the METER_ID of a settled payment in the period, a refund among them. Connections are those of now, also with as_of. Rounded half away from zero to 6 decimals."
parameters = ["project", "from", "to", "tz", "grain", "limit", "order"]
tables = ["connections", "as_of"]
chart = "line"
order = ["project", "period"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all. A period without settled payments has no row: it may be without data." },
  { name = "connections", unit = "connections", description = "In service in the period." },
  { name = "undated", unit = "connections", description = "Of these, those without CONNECTED_ON, which may have come later: the more they are, the more the ratio of early periods is too low." },
  { name = "paying", unit = "meters", description = "Paying meters. Periods cannot be added up: a meter may be in many." },
  { name = "other_meters", unit = "meters", description = "Meters with a settled payment in the period that are no connection, or none in service yet; they are not in the ratio." },
  { name = "paying_ratio", unit = "share", description = "paying ÷ connections; null where there are none." },
]
*/
WITH paid AS (
  SELECT project_id, meter_id, local_period(paid_at, time_zone, $grain) AS period
  FROM payments
  WHERE settlement = 'settled'
  GROUP BY project_id, meter_id, local_period(paid_at, time_zone, $grain)
), ended AS (
  -- With grain=all there is no next period, and the end is the request's.
  SELECT paid.project_id, paid.meter_id, paid.period, as_of.day AS last_day,
         paid.period + CASE $grain WHEN 'day' THEN INTERVAL '1 day' WHEN 'week' THEN INTERVAL '7 days'
                                   WHEN 'month' THEN INTERVAL '1 month' WHEN 'quarter' THEN INTERVAL '3 months'
                                   ELSE INTERVAL '1 year' END AS next_period
  FROM paid
  JOIN as_of ON as_of.project_id = paid.project_id
), counted AS (
  SELECT ended.project_id, ended.period, ended.last_day, ended.next_period, count(*) AS meters,
         count(connections.external_id) AS paying
  FROM ended
  LEFT JOIN connections
    ON connections.project_id = ended.project_id AND connections.external_id = ended.meter_id
    AND (connections.connected_on IS NULL
         OR (connections.connected_on <= ended.last_day
             AND (ended.next_period IS NULL OR connections.connected_on < ended.next_period)))
  GROUP BY ended.project_id, ended.period, ended.last_day, ended.next_period
), connected AS (
  -- Days are far fewer than connections.
  SELECT project_id, connected_on, count(*) AS connections FROM connections GROUP BY project_id, connected_on
)
SELECT counted.project_id AS project, counted.period, coalesce(sum(connected.connections), 0) AS connections,
       coalesce(sum(CASE WHEN connected.connected_on IS NULL THEN connected.connections END), 0) AS undated,
       counted.paying, counted.meters - counted.paying AS other_meters,
       round(CAST(counted.paying AS DECIMAL(20, 4)) / nullif(sum(connected.connections), 0), 6) AS paying_ratio
FROM counted
LEFT JOIN connected
  ON connected.project_id = counted.project_id
  AND (connected.connected_on IS NULL
       OR (connected.connected_on <= counted.last_day
           AND (counted.next_period IS NULL OR connected.connected_on < counted.next_period)))
GROUP BY counted.project_id, counted.period, counted.meters, counted.paying
