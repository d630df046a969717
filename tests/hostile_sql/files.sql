# Files, folders and addresses as relations.
--> refused sql_unknown_name
SELECT * FROM "/etc/passwd"
SELECT * FROM "file:///etc/passwd"
SELECT * FROM "../catalog.sqlite"
SELECT * FROM "wattlake-data/catalog.sqlite"
SELECT * FROM "wattlake://lake/payments"
SELECT * FROM "lake/payments/project_id=a/month=2024-05/1.parquet"
SELECT * FROM "s3://bucket/key.parquet"
SELECT * FROM "http://169.254.169.254/latest/meta-data"
SELECT * FROM "payments.parquet"
SELECT * FROM "\\server\share"
SELECT * FROM "payments⟦U+0000⟧"
SELECT count(*) FROM payments WHERE amount > (SELECT max(x) FROM "/proc/self/environ")
WITH f AS (SELECT * FROM "/etc/shadow") SELECT * FROM f
SELECT * FROM payments JOIN "/etc/passwd" ON true
SELECT * FROM payments UNION ALL SELECT * FROM "/etc/passwd"
EXPLAIN SELECT * FROM "/etc/passwd"
SELECT EXISTS (SELECT 1 FROM "/etc/hosts")
SELECT (SELECT a FROM "x.csv")
--> refused sql_unknown_name
SELECT * FROM '/etc/passwd'
SELECT * FROM 'payments.csv' AS t
--> refused sql_syntax
SELECT * FROM $$/etc/passwd$$
SELECT * FROM E'/etc/passwd'
SELECT * FROM /etc/passwd
SELECT * FROM file:///etc/passwd
# Functions that read files, addresses or the server.
--> refused sql_unknown_name
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM read_parquet('*.parquet')
SELECT * FROM parquet_scan('a.parquet')
SELECT * FROM parquet_metadata('a.parquet')
SELECT * FROM glob('/*')
SELECT * FROM read_blob('/etc/passwd')
SELECT * FROM sqlite_scan('catalog.sqlite', 'api_keys')
SELECT * FROM pg_ls_dir('/')
SELECT * FROM url('http://example.org/a.csv')
SELECT * FROM metadata_cache()
SELECT * FROM statistics_cache()
SELECT * FROM list_files_cache()
SELECT pg_read_file('/etc/passwd')
SELECT lo_import('/etc/passwd')
SELECT load_extension('x.so')
SELECT getenv('HOME')
SELECT current_setting('data_directory')
SELECT readfile('/etc/passwd')
SELECT load_file('/etc/passwd')
SELECT system('id')
SELECT xp_cmdshell('id')
SELECT dblink('host=localhost', 'SELECT 1')
SELECT http_get('http://localhost')
SELECT query_to_xml('SELECT 1', true, true, '')
SELECT file_path FROM payments, input_file()
--> refused sql_not_allowed
SELECT input_file_name() FROM payments
SELECT file_row_index() FROM payments
SELECT arrow_metadata(site) FROM payments
SELECT arrow_field(site) FROM payments
SELECT with_metadata(site, 'a', 'b') FROM payments
SELECT version()
--> refused sql_syntax
SELECT * FROM `payments`
--> refused sql_unknown_name
SELECT * FROM @stage/file
