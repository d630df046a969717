/*
title = "Reversal rate"
definition = "Reversed ÷ gross, per project, local period and currency. Reversed: the amounts, without their sign, of payments whose STATUS says that they were reversed. Gross: these, and the amounts above zero of settled payments. Refunds, which are settled payments with a negative amount, are shown apart. A payment counts in the period in which it was paid. Rounded half away from zero to 6 decimals."
parameters = ["project", "from", "to", "tz", "grain", "site", "currency", "limit", "order"]
chart = "line"
order = ["project", "period", "currency"]
columns = [
  { name = "project", description = "The project's slug." },
  { name = "period", description = "The first local day of the day, week (from Monday), month, quarter or year; null with grain=all." },
  { name = "currency", description = "ISO 4217." },
  { name = "gross", unit = "currency", description = "Received, whether or not it was reversed." },
  { name = "reversed", unit = "currency", description = "Of that, what was reversed." },
  { name = "reversals", unit = "payments", description = "Payments that were reversed." },
  { name = "refunds", unit = "currency", description = "Negative amounts of settled payments, without their sign; no part of the rate." },
  { name = "rate", unit = "share", description = "reversed ÷ gross; null where that is zero." },
]

[defaults]
grain = "month"
*/
WITH parts AS (
  SELECT project_id, local_period(paid_at, time_zone, $grain) AS period, currency, settlement,
         CASE WHEN amount < 0 THEN -1 ELSE 1 END AS sign, sum(amount) AS amount, count(*) AS payments
  FROM payments
  WHERE settlement = 'settled' OR settlement = 'reversed'
  GROUP BY project_id, local_period(paid_at, time_zone, $grain), currency, settlement,
           CASE WHEN amount < 0 THEN -1 ELSE 1 END
), summed AS (
  SELECT project_id, period, currency,
         sum(CASE WHEN settlement = 'reversed' THEN amount * sign WHEN sign > 0 THEN amount ELSE amount * 0 END) AS gross,
         sum(CASE WHEN settlement = 'reversed' THEN amount * sign ELSE amount * 0 END) AS reversed,
         sum(CASE WHEN settlement = 'reversed' THEN payments ELSE 0 END) AS reversals,
         sum(CASE WHEN settlement = 'settled' AND sign < 0 THEN amount * sign ELSE amount * 0 END) AS refunds
  FROM parts
  GROUP BY project_id, period, currency
)
SELECT project_id AS project, period, currency, gross, reversed, reversals, refunds,
       round(reversed / nullif(gross, 0), 6) AS rate
FROM summed
