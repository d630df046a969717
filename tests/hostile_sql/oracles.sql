# Errors that would tell what the rows hold: the failure is told, and no value.
--> fails sql_execution
SELECT CAST(customer_name AS INT) FROM payments
SELECT customer_name::BIGINT FROM payments
SELECT CAST(meter_id AS DATE) FROM payments
SELECT CAST(notes AS TIMESTAMP) FROM payments
SELECT CAST(customer_name AS DECIMAL(10, 2)) FROM payments
SELECT CAST(customer_name AS BOOLEAN) FROM payments
SELECT 1 / (CASE WHEN customer_name LIKE '%a%' THEN 0 ELSE 1 END) FROM payments
SELECT 1 % (CASE WHEN amount > 100 THEN 0 ELSE 1 END) FROM payments
SELECT amount / 0 FROM payments
SELECT 1 / 0
SELECT CAST('abc' AS INT)
SELECT CAST(amount AS DECIMAL(3, 2)) FROM payments
SELECT CAST(amount * 1000000000 AS SMALLINT) FROM payments
SELECT to_timestamp(customer_name) FROM payments
SELECT to_date(customer_name) FROM payments
SELECT to_date(site, '%Y') FROM payments
SELECT CAST(site AS INTERVAL) FROM payments
SELECT date_trunc(site, paid_at) FROM payments
SELECT decode(customer_name, 'hex') FROM payments
SELECT chr(CAST(amount AS BIGINT) * -1) FROM payments
SELECT CASE WHEN customer_name = 'Amina Otieno' THEN CAST('a' AS INT) ELSE 1 END FROM payments
SELECT max(CAST(customer_name AS INT)) FROM payments
SELECT site FROM payments GROUP BY site HAVING min(CAST(customer_id AS INT)) > 0
SELECT site FROM payments ORDER BY CAST(customer_name AS INT)
SELECT count(*) FROM payments a JOIN payments b ON CAST(a.customer_name AS INT) = CAST(b.customer_name AS INT)
SELECT sum(CAST(customer_name AS INT)) OVER () FROM payments
SELECT count(*) FROM payments WHERE CAST(customer_name AS INT) > 0
SELECT factorial(1000)
SELECT abs(-9223372036854775808)
SELECT (SELECT amount FROM payments)
SELECT site FROM payments WHERE amount = (SELECT amount FROM payments)
--> runs
SELECT TRY_CAST(customer_name AS INT) FROM payments
SELECT amount / NULLIF(amount, amount) FROM payments
SELECT CASE WHEN amount = 0 THEN NULL ELSE 1 / amount END FROM payments
# Plans that would tell of files, masks and settings.
--> runs
EXPLAIN SELECT * FROM payments
EXPLAIN SELECT customer_name FROM payments WHERE customer_name LIKE 'A%'
EXPLAIN (SELECT 1)
EXPLAIN WITH a AS (SELECT site FROM payments) SELECT * FROM a
explain select sum(amount) from payments group by site
--> unplanned sql_unknown_name
EXPLAIN SELECT secret FROM payments
# The engine lets whole numbers of 64 bits wrap around, and sums of decimals beyond the 1.7e38 units that 128 bits reach.
--> runs
SELECT 9223372036854775807 + 1
SELECT -9223372036854775808 - 1
SELECT 9223372036854775807 * 2
SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x)
SELECT sum(x) OVER () FROM (VALUES (CAST('⟦38×9⟧' AS DECIMAL(38,0))), (CAST('⟦38×9⟧' AS DECIMAL(38,0))), (CAST('⟦38×9⟧' AS DECIMAL(38,0)))) AS t(x)
# The engine takes a subquery of a column that is never null for one that always has a row. This should be null.
--> fails sql_execution
SELECT (SELECT 1 WHERE false)
SELECT (SELECT amount FROM payments WHERE site = 'nowhere')
--> runs
SELECT (SELECT max(amount) FROM payments WHERE site = 'nowhere')
