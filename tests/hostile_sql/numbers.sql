# Numbers beyond every type.
--> refused sql_type
SELECT ⟦30000×9⟧
SELECT 1.⟦30000×9⟧
SELECT 0.⟦101×0⟧1
SELECT 1e1000000000
SELECT 1e-1000000000
SELECT 1e99999999999999999999
SELECT 1e⟦5000×9⟧
SELECT site FROM payments WHERE amount > ⟦30000×9⟧
SELECT site FROM payments LIMIT ⟦200×9⟧
--> unplanned sql_not_allowed
SELECT ⟦90×9⟧
SELECT 0.⟦90×9⟧
SELECT 1e300
--> runs
SELECT 9223372036854775807
SELECT 9223372036854775808
SELECT 18446744073709551615
SELECT 18446744073709551616
SELECT ⟦38×9⟧
SELECT -9223372036854775808
SELECT 0.⟦30×1⟧
SELECT 1_000_000
SELECT .5
SELECT 5.
SELECT 1e10
SELECT 0e1, 0e-5, 0e100, CAST(0 AS DECIMAL(10, -2))
SELECT 1e30, 1e70, 1e100
SELECT 0x1F
SELECT CAST('NaN' AS DOUBLE), CAST('Infinity' AS DOUBLE), CAST('-Infinity' AS DOUBLE)
# Types that are not there, or too large.
--> refused sql_not_allowed
SELECT 'payments'::regclass
SELECT CAST(1 AS nonsense)
SELECT CAST(1 AS pg_catalog.int4)
SELECT CAST('a' AS citext)
SELECT '1'::oid
--> unplanned sql_type
SELECT site + amount FROM payments
SELECT -site FROM payments
SELECT sum(site) FROM payments
SELECT abs('a')
SELECT amount AND true FROM payments
SELECT round(amount, 'a') FROM payments
SELECT date_trunc(1, 2)
SELECT nearest_rank(amount) FROM payments
SELECT paid_at + amount FROM payments
# Times out of range.
--> fails sql_execution
SELECT DATE '9999999-01-01'
SELECT TIMESTAMP '2024-13-01 00:00:00'
SELECT TIMESTAMP '2024-02-30 00:00:00'
SELECT CAST('0000-00-00' AS DATE)
SELECT to_timestamp('not a time')
SELECT TIMESTAMP '2262-04-12 00:00:00'
SELECT CAST('99999-01-01' AS TIMESTAMP)
SELECT make_date(2024, 13, 1)
SELECT make_date(9999999, 1, 1)
SELECT date_bin(INTERVAL '0 seconds', paid_at) FROM payments
SELECT to_char(paid_at, '%Q') FROM payments
--> unplanned sql_type
--> ends
SELECT paid_at + INTERVAL '1000000 years' FROM payments
SELECT DATE '2024-01-01' + INTERVAL '9999999 months'
SELECT TIMESTAMP '2024-01-01' - INTERVAL '9999 years'
SELECT from_unixtime(9223372036854775807)
SELECT date_part('century', paid_at) FROM payments
SELECT EXTRACT(nonsense FROM paid_at) FROM payments
SELECT gcd(-9223372036854775808, -9223372036854775808)
SELECT lcm(9223372036854775807, 9223372036854775806)
SELECT power(10, 1000)
SELECT round(amount, 2147483647), round(amount, -2147483648) FROM payments
SELECT trunc(amount, 1000000) FROM payments
SELECT substr('abc', -9223372036854775808, 9223372036854775807)
SELECT left('abc', -9223372036854775808), right('abc', 9223372036854775807)
SELECT split_part('a,b', ',', -9223372036854775808)
SELECT lag(amount, 9223372036854775807) OVER (ORDER BY paid_at) FROM payments
SELECT lead(amount, -9223372036854775808) OVER (ORDER BY paid_at) FROM payments
SELECT ntile(0) OVER (ORDER BY paid_at) FROM payments
SELECT ntile(9223372036854775807) OVER (ORDER BY paid_at) FROM payments
SELECT nth_value(amount, 0) OVER (ORDER BY paid_at) FROM payments
SELECT sum(amount) OVER (ORDER BY paid_at ROWS BETWEEN 18446744073709551615 PRECEDING AND CURRENT ROW) FROM payments
SELECT sum(amount) OVER (ORDER BY paid_at RANGE BETWEEN INTERVAL '9999 years' PRECEDING AND CURRENT ROW) FROM payments
SELECT percentile_cont(2) WITHIN GROUP (ORDER BY amount) FROM payments
SELECT nearest_rank(amount, 1000) FROM payments
SELECT site FROM payments LIMIT -1
SELECT site FROM payments LIMIT 9223372036854775807 OFFSET 9223372036854775807
SELECT site FROM payments OFFSET -1
SELECT (ARRAY[1, 2])[9223372036854775807]
SELECT array_slice([1, 2, 3], -9223372036854775808, 9223372036854775807)
SELECT local_period(paid_at, 'nonsense', 'nonsense') FROM payments
SELECT overlay('abc' PLACING 'x' FROM -9223372036854775808 FOR 9223372036854775807)
SELECT 1 << 1000, 1 >> -1
SELECT to_hex(-1), chr(1114112)
SELECT factorial(-1)
--> fails sql_execution
SELECT sqrt(-1), ln(0), power(0, -1)
SELECT 1e0 / 0e0
--> unplanned sql_invalid
SELECT CAST(1 AS DECIMAL(1000, 2))
SELECT CAST(1 AS DECIMAL(10, 20))
SELECT CAST(1 AS DECIMAL(0, 0))
SELECT substr(1)
--> unplanned sql_execution
SELECT INTERVAL 'nonsense'
SELECT INTERVAL '99999999999999999999 years'
SELECT INTERVAL '1 fortnight'
# More digits than a decimal has: none is left out.
--> fails sql_execution
SELECT sum(x) FROM (VALUES (CAST('6⟦37×0⟧' AS DECIMAL(38,0))), (CAST('6⟦37×0⟧' AS DECIMAL(38,0)))) AS t(x)
SELECT CAST('9⟦13×0⟧' AS DECIMAL(18,0)) * CAST('9⟦13×0⟧' AS DECIMAL(18,0)) * CAST('15⟦9×0⟧' AS DECIMAL(18,0))
# No microseconds, which instants are told in, reach so far.
--> fails sql_execution
SELECT to_timestamp_seconds(9223372036854775807)
--> runs
SELECT paid_at AT TIME ZONE 'Nowhere/City' FROM payments
--> ends
SELECT count(value) FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2262-01-01', INTERVAL '1 nanosecond')
