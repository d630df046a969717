# Regular expressions.
--> refused sql_not_allowed
SELECT site ~ site FROM payments
SELECT site ~ ('a' || site) FROM payments
SELECT site ~ repeat('(a', 100000) FROM payments
SELECT regexp_like(site, notes) FROM payments
SELECT regexp_replace(site, concat('a', 'b'), 'c') FROM payments
SELECT regexp_match(site, repeat('a?', 1000)) FROM payments
SELECT regexp_count(site, (SELECT max(notes) FROM payments)) FROM payments
SELECT site SIMILAR TO notes FROM payments
SELECT regexp_like(site, CAST('a' AS TEXT)) FROM payments
SELECT regexp_like(site, 1) FROM payments
SELECT site RLIKE 'a' FROM payments
SELECT site REGEXP 'a' FROM payments
--> refused sql_too_large
SELECT site ~ '⟦600×a⟧' FROM payments
SELECT regexp_like(site, '⟦10000×(a|b)*⟧') FROM payments
SELECT site SIMILAR TO '⟦600×a⟧' FROM payments
--> fails sql_execution
SELECT regexp_like(site, '(((a{1000}){1000}){1000})') FROM payments
SELECT regexp_like(site, '(') FROM payments
SELECT regexp_like('abc', '[z-a]')
SELECT regexp_replace(site, '((((((((a{100}){100}){100}){100}){100}){100}){100}){100})', 'b') FROM payments
SELECT regexp_count(site, '(?P<a') FROM payments
SELECT regexp_match('abc', '\p{Nope}')
SELECT site ~ '(' FROM payments
SELECT site ~ '(((a{1000}){1000}){1000})' FROM payments
--> runs
SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa!' ~ '^(a+)+$'
SELECT regexp_like('aaaaaaaaaaaaaaaaaaaaaaaaaaaa!', '^(([a-z])+.)+[A-Z]([a-z])+$')
SELECT regexp_like(repeat('a', 100000), '^(a|aa)+$')
SELECT regexp_match(repeat('a', 100000), '(a*)*b')
SELECT regexp_replace(notes, '(.*)(.*)(.*)(.*)', '\4', 'g') FROM payments
SELECT repeat('a', 100000) LIKE '%a%a%a%a%a%a%a%a%a%a%a%b'
SELECT site LIKE notes FROM payments
SELECT site ILIKE '%⟦200×%a⟧%' FROM payments
SELECT regexp_replace(meter_id, '[^0-9]', '', 'g') FROM payments
SELECT site ~* 'a' FROM payments
SELECT site !~ 'a' FROM payments
