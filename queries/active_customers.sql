/*
title = "Active customers"
definition = "Distinct CUSTOMER_ID with a settled payment in the period (or the last N days, default 30). The last N days are local days, today among them; they apply where neither from, to nor grain is given."
parameters = ["project", "from", "to", "tz", "grain", "site", "limit", "order", "days"]
chart = "line"
over_aggregates = "one_site"
order = ["project", "period"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "customers", unit = "customers", description = "Distinct customers of the project. Periods cannot be added up: a customer may be in many." },
]

[defaults]
grain = "all"

[own.days]
type = "integer"
default = 30
min = 1
max = 3660
last_days = true
description = "The last N local days, today among them. Not together with from or to."
*/
SELECT project_id AS project, local_period(paid_at, time_zone, $grain) AS period,
       count(DISTINCT customer_id) AS customers
FROM payments
WHERE settlement = 'settled'
GROUP BY project_id, local_period(paid_at, time_zone, $grain)
