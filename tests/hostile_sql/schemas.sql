# What is not in the scope: other schemas and the engine's own relations.
--> refused sql_not_allowed
SELECT * FROM information_schema.tables
SELECT * FROM information_schema.columns
SELECT * FROM information_schema.df_settings
SELECT * FROM information_schema.views
SELECT * FROM information_schema.schemata
SELECT * FROM information_schema.routines
SELECT * FROM information_schema.parameters
SELECT * FROM "information_schema"."tables"
SELECT * FROM INFORMATION_SCHEMA.TABLES
SELECT * FROM datafusion.information_schema.tables
SELECT * FROM public.payments
SELECT * FROM datafusion.public.payments
SELECT * FROM a.b.c.d
SELECT * FROM pg_catalog.pg_class
SELECT * FROM system.runtime.nodes
SELECT * FROM sys.databases
SELECT * FROM payments.payments
SELECT * FROM (SELECT * FROM public.payments) p
SELECT count(*) FROM payments WHERE EXISTS (SELECT 1 FROM information_schema.tables)
WITH t AS (SELECT * FROM information_schema.tables) SELECT * FROM t
SELECT * FROM payments, information_schema.tables
SELECT pg_catalog.version()
SELECT public.sum(amount) FROM payments
SELECT datafusion.public.sum(amount) FROM payments
--> refused sql_unknown_name
SELECT * FROM information_schema
SELECT * FROM "information_schema.tables"
SELECT * FROM "public.payments"
SELECT * FROM sqlite_master
SELECT * FROM api_keys
SELECT * FROM shares
SELECT * FROM organisations
SELECT * FROM audit_log
SELECT * FROM months
SELECT * FROM lake_files
SELECT * FROM pg_class
SELECT * FROM dual
SELECT * FROM Payment
SELECT * FROM "Payments"
SELECT * FROM "PAYMENTS"
SELECT * FROM " payments"
SELECT * FROM "payments "
SELECT * FROM ""
SELECT 1 WHERE 1 IN (SELECT 1 FROM keys)
# A name of a CTE holds in its query and below it.
SELECT * FROM c, (WITH c AS (SELECT 1) SELECT * FROM c) d
WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a
WITH a AS (SELECT * FROM a) SELECT * FROM a
(WITH a AS (SELECT 1 AS x) SELECT * FROM a) UNION ALL SELECT * FROM a
--> runs
WITH payments AS (SELECT site FROM payments) SELECT * FROM payments
WITH "a b" AS (SELECT 1 AS x) SELECT * FROM "a b"
WITH a AS (SELECT 1 AS x) SELECT * FROM A
WITH a AS (SELECT 1 AS x) SELECT * FROM (SELECT * FROM (SELECT * FROM a) b) c
SELECT * FROM PAYMENTS
SELECT * FROM "payments"
SELECT * FROM payments AS "information_schema"
--> unplanned sql_invalid
WITH a AS (SELECT 1 AS x), a AS (SELECT 2 AS x) SELECT * FROM a
--> unplanned sql_unknown_name
SELECT password FROM payments
SELECT payments.key_hash FROM payments
SELECT api_keys.hash FROM payments
SELECT project_id FROM payments WHERE scope = 'all'
SELECT ctid FROM payments
SELECT rowid FROM payments
SELECT "Amount" FROM payments
SELECT p.amount FROM payments
SELECT __metadata FROM payments
SELECT _file FROM payments
