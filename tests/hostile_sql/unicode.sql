# Names that look like others.
--> refused sql_unknown_name
SELECT * FROM pаyments
SELECT * FROM ｐａｙｍｅｎｔｓ
SELECT * FROM payments⟦U+200B⟧
SELECT * FROM pay⟦U+00AD⟧ments
SELECT * FROM payments⟦U+FE0F⟧
SELECT * FROM "payments⟦U+202E⟧"
SELECT * FROM PAYMENTſ
SELECT suⅿ(amount) FROM payments
SELECT ѕum(amount) FROM payments
SELECT "SUM"(amount) FROM payments
SELECT "version "()
SELECT veRSⅰon()
--> refused sql_not_allowed
SELECT "version"()
SELECT VeRsIoN()
SELECT /* a */ version /* b */ ( /* c */ )
SELECT version⏎()
SELECT "random"()
WITH/**/RECURSIVE/**/r AS (SELECT 1) SELECT * FROM r
DrOp TABLE payments
/* SELECT */ DROP TABLE payments
-- SELECT⏎DROP TABLE payments
--⏎--⏎/**/DROP TABLE payments
/*/**/*/DROP TABLE payments
/* /* SELECT */ 1 */ DROP TABLE payments
SELECT * FROM "information_schema"/**/./**/"tables"
# What is no SQL.
--> refused sql_syntax
ＳＥＬＥＣＴ 1
SELECT⟦U+200B⟧1
⟦U+FEFF⟧SELECT 1
⟦U+202E⟧1 TCELES
"SELECT" 1
SELECTT 1
SELCT 1
SELECT 1 – 1
SELECT 1；SELECT 2
SELECT * FROM payments WHERE site ＝ 'a'
SELECT 'a
SELECT "a
SELECT $$a
SELECT $a$b$c$
SELECT E'a
SELECT U&'\zzzz'
SELECT /* a
SELECT /* /* a */
SELECT */ 1
SELECT )
SELECT 1)
SELECT (1
SELECT [1
SELECT 1 + 
SELECT FROM WHERE
SELECT 1 FROM
SELECT * FROM payments WHERE
SELECT * FROM payments GROUP BY
SELECT 1 AS
SELECT ,
⟦5000×,⟧
⟦5000×'⟧
⟦5001×'⟧
⟦5000×"⟧
⟦U+0000⟧
SELECT⟦U+0000⟧1
\
?

SELECT @@version
SELECT #1
SELECT a..b FROM payments
SELECT .a FROM payments
SELECT 1..2
()
;
--> refused sql_syntax
/**/-- nothing
/* nothing */
EXPLAIN
# Texts that look like statements are values, and comments are nothing.
--> runs
SELECT '; DROP TABLE payments; --'
SELECT ''' OR 1=1 --'
SELECT $$; DROP TABLE payments$$
SELECT $a$ $$ ' " -- /* $a$
SELECT E'\'; DROP TABLE payments; --'
SELECT X'00FF'
SELECT 'a' 'b'
SELECT '⟦U+202E⟧abc'
SELECT '⟦U+0000⟧'
SELECT 'рayments'
SELECT 1 -- ; DROP TABLE payments
SELECT 1 /* ; DROP TABLE payments */
SELECT 1 /* /* ; */ DROP */
SELECT /*+ SET_VAR(a=b) */ 1
SELECT site AS "; DROP TABLE payments" FROM payments
SELECT site AS "⟦U+202E⟧" FROM payments
SELECT "site" FROM "payments" AS "a""b"
SELECT site AS "日本" FROM payments
SELECT 1;
SELECT 1;;;
SELECT 1 ; -- the end
(SELECT 1)
((SELECT 1))
VALUES (1)
--> unplanned sql_unknown_name
SELECT ‘a’
SELECT “site” FROM payments
--> refused sql_not_allowed
SELECT :a
SELECT @a
--> unplanned sql_invalid
SELECT U&'\0027 OR 1=1'
SELECT N'a'
