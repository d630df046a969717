# SQL of other engines, and clauses that are not offered.
--> refused sql_not_allowed
SELECT TOP 10 * FROM payments
SELECT * FROM payments TABLESAMPLE BERNOULLI (10)
SELECT * FROM payments FETCH FIRST 10 ROWS ONLY
SELECT * FROM payments p CROSS APPLY (SELECT 1) x
SELECT * FROM payments ASOF JOIN payments p MATCH_CONDITION (payments.paid_at >= p.paid_at)
SELECT sum(amount) OVER w FROM payments WINDOW w AS (ORDER BY paid_at) FOR UPDATE
SELECT @ amount FROM payments
SELECT |/ amount FROM payments
SELECT site -> 'a' FROM payments
SELECT site ->> 'a' FROM payments
SELECT site #> 'a' FROM payments
SELECT a OVERLAPS b FROM payments
SELECT 1 OPERATOR(pg_catalog.+) 1
SELECT count(*) FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a INT PATH '$')) t
SELECT * FROM XMLTABLE('/a' PASSING 'a' COLUMNS b INT PATH 'c') t
SELECT * FROM LATERAL FLATTEN(input => 1)
SELECT * FROM generate_series(1, 2) WITH ORDINALITY
SELECT * FROM UNNEST([1]) WITH ORDINALITY
--> refused sql_unknown_name
SELECT summ(amount) FROM payments
SELECT date_diff('day', paid_at, paid_at) FROM payments
SELECT sleep(100)
SELECT pg_sleep(100)
SELECT benchmark(1000000, 1)
SELECT eval('1')
SELECT * FROM paymets
SELECT * FROM foo(1)
# Meaningless.
--> unplanned sql_invalid
SELECT site, sum(amount) FROM payments
SELECT site FROM payments GROUP BY currency
SELECT sum(sum(amount)) FROM payments
SELECT * FROM payments WHERE sum(amount) > 1
SELECT 1 UNION SELECT 1, 2
SELECT a.site FROM payments a, payments a
SELECT site FROM payments a, payments b
SELECT amount AS x, site AS x FROM (SELECT 1 AS amount, 2 AS site) ORDER BY nothing.x
# A query of an analyst.
--> runs
SELECT site, currency, sum(amount) AS revenue FROM payments WHERE settlement = 'settled' GROUP BY site, currency ORDER BY revenue DESC LIMIT 10
SELECT date_trunc('month', paid_at) AS month, count(DISTINCT customer_id) FROM payments GROUP BY 1 ORDER BY 1
SELECT p.name, sum(amount) FROM payments JOIN projects p USING (project_id) GROUP BY p.name
WITH m AS (SELECT meter_id, min(paid_at) AS first FROM payments GROUP BY meter_id) SELECT date_trunc('month', first), count(*) FROM m GROUP BY 1
SELECT meter_id, lag(paid_at) OVER (PARTITION BY meter_id ORDER BY paid_at) FROM payments
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY site ORDER BY amount DESC) AS place FROM payments) t WHERE place <= 3
SELECT site, exact_median(amount), nearest_rank(amount, 90) FROM payments GROUP BY site
SELECT local_period(paid_at, time_zone, 'month') AS period, sum(amount) FROM payments GROUP BY 1
SELECT value, count(payment_id) FROM generate_series(DATE '2024-01-01', DATE '2024-12-01', INTERVAL '1 month') LEFT JOIN payments ON date_trunc('month', paid_at) = value GROUP BY value
SELECT site FROM payments WHERE paid_at >= $from AND paid_at < $to AND site = $site
SELECT site FROM payments WHERE amount > $1
SELECT site FROM payments WHERE amount > ? AND site = ?
SELECT sum(amount) FILTER (WHERE settlement = 'settled') FROM payments
SELECT site, string_agg(DISTINCT source, ', ' ORDER BY source) FROM payments GROUP BY site
SELECT count(*) FROM payments WHERE paid_at > now() - INTERVAL '30 days'
SELECT DISTINCT ON (meter_id) meter_id, amount FROM payments ORDER BY meter_id, paid_at DESC
SELECT site FROM payments EXCEPT SELECT site FROM sites
SELECT CASE WHEN amount < 0 THEN 'refund' ELSE 'payment' END, count(*) FROM payments GROUP BY 1
SELECT unnest(array_agg(amount)) FROM payments
SELECT * EXCEPT (customer_name) FROM payments
SELECT sum(amount) OVER w FROM payments WINDOW w AS (PARTITION BY site ORDER BY paid_at)
SELECT EXTRACT(YEAR FROM paid_at), SUBSTRING(site FROM 1 FOR 3), POSITION('a' IN site), TRIM(BOTH ' ' FROM site) FROM payments
SELECT committed_at, count(*) FROM uploads JOIN payments USING (upload_id) GROUP BY committed_at
--> refused sql_syntax
SELECT site FROM payments GROUP BY site WITH ROLLUP
SELECT amount ! FROM payments
SELECT * FROM ROWS FROM (generate_series(1, 2))
