# Values that grow.
--> fails sql_too_large
SELECT repeat('a', 1000000000)
SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))
SELECT repeat('a', 9223372036854775807)
SELECT length(repeat(repeat('a', 100000), 100000))
SELECT lpad('a', 1000000000)
SELECT lpad('a', 2147483647, 'ab')
SELECT rpad('a', 1000000000, 'b')
SELECT replace(repeat('a', 1000000), 'a', repeat('b', 1000))
SELECT replace(repeat('a', 1000000), '', repeat('b', 1000))
SELECT regexp_replace(repeat('a', 100000), 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'g')
SELECT regexp_replace(repeat('a', 1000000), '(a*)', '\1\1\1\1\1\1\1\1\1\1\1\1', 'g')
SELECT concat(repeat('a', 1000000), repeat('a', 1000000))
SELECT concat_ws(repeat('a', 500000), 'a', 'b', 'c')
SELECT encode(repeat('a', 1000000), 'hex')
SELECT repeat(site, 100000000) FROM payments
SELECT repeat(site, CAST(amount AS BIGINT) * 1000000000) FROM payments
--> refused sql_not_allowed
SELECT generate_series(1, 1000000000)
SELECT range(1, 1000000000)
SELECT array_repeat(1, 1000000000)
SELECT array_resize([1], 1000000000, 1)
SELECT unnest(generate_series(1, 1000000000))
SELECT map(['a'], [1])
SELECT random()
SELECT uuid()
SELECT count(*) FROM payments WHERE random() < 0.5
SELECT arrow_cast(1, '⟦5000×List(⟧Int8⟦5000×)⟧')
SELECT approx_percentile_cont(amount, 0.5) FROM payments
--> ends
SELECT count(*) FROM generate_series(1, 1000000000000)
SELECT sum(a.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b
SELECT array_agg(value) FROM generate_series(1, 1000000000)
SELECT string_agg(CAST(value AS TEXT), ',') FROM generate_series(1, 1000000000)
SELECT count(DISTINCT value) FROM generate_series(1, 1000000000)
SELECT value, count(*) FROM generate_series(1, 1000000000) GROUP BY value
SELECT * FROM generate_series(1, 1000000000) ORDER BY value DESC
SELECT row_number() OVER (ORDER BY value DESC) FROM generate_series(1, 1000000000)
SELECT sum(value) OVER (ROWS BETWEEN 1000000 PRECEDING AND CURRENT ROW) FROM generate_series(1, 100000000)
SELECT median(value) FROM generate_series(1, 1000000000)
SELECT * FROM generate_series(1, 1000000000) UNION SELECT * FROM generate_series(1, 1000000000)
SELECT value, repeat('a', 1000000) FROM generate_series(1, 1000000)
SELECT DISTINCT repeat(CAST(value AS TEXT), 10000) FROM generate_series(1, 1000000)
SELECT string_agg(repeat('a', 1000000), '') FROM generate_series(1, 1000000)
SELECT a || a || a || a || a || a || a || a FROM (SELECT a || a || a || a || a || a || a || a AS a FROM (SELECT a || a || a || a || a || a || a || a AS a FROM (SELECT a || a || a || a || a || a || a || a AS a FROM (SELECT repeat('a', 100000) AS a) s) s) s) s
WITH a AS (SELECT value FROM generate_series(1, 1000)), b AS (SELECT a.value FROM a, a x), c AS (SELECT b.value FROM b, b x) SELECT count(*) FROM c
SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 100000) b ON a.value <> b.value
SELECT count(*) FROM generate_series(1, 100000) a WHERE EXISTS (SELECT 1 FROM generate_series(1, 100000) b WHERE b.value > a.value * 2)
SELECT array_concat(a, a) FROM (SELECT array_concat(a, a) AS a FROM (SELECT array_agg(value) AS a FROM generate_series(1, 10000000)) s) s
SELECT unnest(array_agg(value)) FROM generate_series(1, 100000000)
SELECT count(*) FROM generate_series(1, 1000000) a FULL JOIN generate_series(1, 1000000) b ON a.value % 2 = b.value % 2
# Joins of everything with everything.
--> ends
SELECT count(*) FROM payments a, payments b, payments c, payments d, payments e, payments f, payments g
SELECT count(*) FROM payments a CROSS JOIN payments b CROSS JOIN payments c CROSS JOIN payments d
SELECT count(*) FROM payments a JOIN payments b ON a.amount <= b.amount JOIN payments c ON b.amount <= c.amount
SELECT count(*) FROM payments a JOIN payments b ON a.site || b.site = b.site || a.site
SELECT count(*) FROM payments a WHERE EXISTS (SELECT 1 FROM payments b WHERE b.amount > a.amount)
SELECT (SELECT count(*) FROM payments b WHERE b.amount > a.amount) FROM payments a
SELECT * FROM payments a, payments b, payments c ORDER BY a.notes, b.notes, c.notes
SELECT DISTINCT a.payment_id, b.payment_id, c.payment_id FROM payments a, payments b, payments c
# Recursion.
--> refused sql_not_allowed
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT * FROM r
WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT n FROM r) SELECT * FROM r
WITH RECURSIVE r AS (SELECT 'a' AS n UNION ALL SELECT n || n FROM r) SELECT * FROM r
WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a
SELECT * FROM (WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r) q
SELECT (WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r)
EXPLAIN WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r
