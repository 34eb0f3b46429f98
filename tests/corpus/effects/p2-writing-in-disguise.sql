-- P2: what writes inside what reads.

-- ## delete in a CTE | read, delete | table u
WITH d AS (DELETE FROM u RETURNING *) SELECT * FROM d
-- ## insert in a CTE that nobody reads | read, write | table log
WITH i AS (INSERT INTO log VALUES ('x')) SELECT 1
-- ## update in a CTE beside another | read, write | table t
WITH a AS (SELECT 1), b AS (UPDATE t SET total = 1 RETURNING id) SELECT * FROM a, b
-- ## move by CTE | read, write, delete | table u, table archive
WITH d AS (DELETE FROM u RETURNING *) INSERT INTO archive SELECT id, note, 0 FROM d
-- ## two writing CTEs | read, write, delete | table u, table log
WITH d AS (DELETE FROM u), i AS (INSERT INTO log VALUES ('x')) SELECT 1
-- ## CTE with the name of a table | read, delete | table u
WITH u AS (DELETE FROM u RETURNING *) SELECT * FROM u
-- ## CTE below a writing statement | write, delete, read | table log, table u
WITH d AS (DELETE FROM u RETURNING note) UPDATE log SET what = 'x' WHERE what IN (SELECT note FROM d)
-- ## merge deletes | read, delete | table u, table t
MERGE INTO u USING t ON t.id = u.t_id WHEN MATCHED THEN DELETE
-- ## merge updates and inserts | read, write | table t, table u
MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET total = 0 WHEN NOT MATCHED THEN INSERT VALUES (u.id + 50)
-- ## merge does all three | read, write, delete | table archive, table t
MERGE INTO archive a USING t ON t.id = a.id WHEN MATCHED AND t.total > 10 THEN DELETE WHEN MATCHED THEN UPDATE SET total = 0 WHEN NOT MATCHED THEN INSERT VALUES (t.id, t.name)
-- ## merge does nothing | read | table u
MERGE INTO u USING t ON t.id = u.t_id WHEN MATCHED THEN DO NOTHING
-- ## COPY of a delete | read, delete, transfer | table u
COPY (DELETE FROM u RETURNING *) TO STDOUT
-- ## COPY of an insert | read, write, transfer | table log
COPY (INSERT INTO log VALUES ('x') RETURNING *) TO STDOUT
-- ## COPY of an update | read, write, transfer | table t
COPY (UPDATE t SET total = 0 RETURNING id) TO STDOUT (FORMAT csv)
-- ## COPY of a CTE | read, delete, transfer | table u
COPY (WITH d AS (DELETE FROM u RETURNING *) SELECT * FROM d) TO STDOUT
-- ## explain plans only | read | table u
EXPLAIN DELETE FROM u
-- ## explain with options plans only | read | table t
EXPLAIN (VERBOSE, COSTS off, FORMAT json) UPDATE t SET total = 1
-- ## explain analyze | read, delete | table u
EXPLAIN ANALYZE DELETE FROM u
-- ## explain (analyze) | read, delete | table u
EXPLAIN (ANALYZE) DELETE FROM u
-- ## explain (analyze on) | read, delete | table u
EXPLAIN (ANALYZE on, TIMING off) DELETE FROM u
-- ## explain (analyze 1) | read, write | table t
EXPLAIN (ANALYZE 1) UPDATE t SET total = 1
-- ## explain (analyze false) | read | table u
EXPLAIN (ANALYZE false) DELETE FROM u
-- ## the last analyze counts | read, delete | table u
EXPLAIN (ANALYZE off, ANALYZE on) DELETE FROM u
-- ## explain analyze of a CTE | read, delete | table u
EXPLAIN ANALYZE WITH d AS (DELETE FROM u RETURNING 1) SELECT * FROM d
-- ## explain analyze of create | read, schema, write | table made
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1 AS a
-- ## create table as | read, schema, write | table made, table t
CREATE TABLE made AS SELECT * FROM t
-- ## create temporary table as | read, schema, write | table made, table t
CREATE TEMP TABLE made AS SELECT * FROM t
-- ## select into | read, schema, write | table made, table t
SELECT * INTO made FROM t
-- ## select into a temporary table | read, schema, write | table made, table t
SELECT * INTO TEMP made FROM t
-- ## materialized view | read, schema, write | table made, table t
CREATE MATERIALIZED VIEW made AS SELECT * FROM t
-- ## view | schema, read | table made, table t
CREATE VIEW made AS SELECT * FROM t
-- ## rule that deletes | schema, delete | table log, table u
CREATE RULE r AS ON INSERT TO log DO ALSO DELETE FROM u
-- ## function body as text | schema | function made
CREATE FUNCTION made() RETURNS void LANGUAGE sql AS 'DELETE FROM u'
-- ## function body as statements | schema, delete, read | function made
CREATE FUNCTION made() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM u RETURNING 1; END
-- ## cursor over a lock | session, read, write | table t
DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE
-- ## lock in a sub-select | read, write | table t
SELECT * FROM (SELECT 1) x, LATERAL (SELECT id FROM t FOR UPDATE) y
-- ## sequence | read, write | function nextval
SELECT nextval('s')
-- ## sequence set back | read, write | function setval
SELECT setval('s', 40)
-- ## sequence in a predicate | read, write | function nextval
SELECT 1 FROM t WHERE nextval('s') < 0
-- ## sequence by its full name | read, write | function nextval
SELECT pg_catalog.nextval('public.s'::regclass)
-- ## sequence in a field's clothes | read, write | function nextval
SELECT ('s'::regclass).nextval
-- ## update of the rows that move between partitions | write | table parts
-- beyond: a row that moves is deleted from one partition and inserted into another; the text names neither
-- still: the row is there still, in another partition
UPDATE parts SET kind = 'b' WHERE kind = 'a'
-- ## cascade by a foreign key | delete | table t
-- beyond: the rows of u go too; naming them needs the catalog
DELETE FROM t WHERE id = 1
-- ## cascade of TRUNCATE | delete | table t
-- beyond: u is emptied too; naming it needs the catalog
TRUNCATE t CASCADE
-- ## explain analyze of an insert | read, write | table log
EXPLAIN (ANALYZE, BUFFERS, WAL) INSERT INTO log VALUES ('x')
-- ## explain analyze verbose, the old way | read, delete | table u
EXPLAIN ANALYZE VERBOSE DELETE FROM u
-- ## a writing CTE in a recursive WITH | read, delete | table u
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3), d AS (DELETE FROM u) SELECT * FROM r
-- ## a writing CTE under an insert | read, write, delete | table log, table u
WITH d AS (DELETE FROM u RETURNING note) INSERT INTO log SELECT note FROM d
-- ## a writing CTE where the server takes none | read, write, delete | table log, table u
-- how: fails
INSERT INTO log WITH d AS (DELETE FROM u RETURNING note) SELECT note FROM d
-- ## a writing CTE in parentheses | read, delete | table u
(WITH d AS (DELETE FROM u RETURNING 1) SELECT * FROM d) LIMIT 1
-- ## a writing CTE that returns a constant | read, write | table t
WITH w AS (UPDATE t SET total = 0 RETURNING 'nothing happened') SELECT * FROM w
-- ## TABLE with a lock | read, write | table t
TABLE t FOR UPDATE
-- ## select into an unlogged table | read, schema, write | table made
SELECT * INTO UNLOGGED TABLE made FROM t
-- ## create table as without data | read, schema, write | table made
CREATE TABLE made AS SELECT * FROM t WITH NO DATA
-- ## create table as from values | schema, write | table made
CREATE TABLE made (a) AS VALUES (1), (2)
-- ## upsert that overwrites all | read, write | table t
INSERT INTO t SELECT id, 'x' FROM t ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING t.*
-- ## insert of defaults | write | table numbered
INSERT INTO numbered DEFAULT VALUES
-- ## update of several columns at once | read, write | table t
UPDATE t SET (name, total) = (SELECT note, 0 FROM u LIMIT 1) WHERE id = 1
-- ## delete where current | session, read, write, delete | table u
DECLARE c CURSOR FOR SELECT * FROM u FOR UPDATE; FETCH c; DELETE FROM u WHERE CURRENT OF c
-- ## truncate of several | delete | table u, table archive
TRUNCATE TABLE u, ONLY archive RESTART IDENTITY
-- ## an insert through a view | write | table v
-- beyond: the row is inserted into the view's table; naming it needs the catalog
INSERT INTO v VALUES (70, 'x')
-- ## a delete through a view | delete | table v
-- beyond: the row is deleted from the view's table; naming it needs the catalog
DELETE FROM v WHERE id = 3
-- ## an insert into a partitioned table | write | table parts
-- beyond: the row is inserted into a partition; naming it needs the catalog
INSERT INTO parts VALUES (3, 'b')
-- ## an insert into a partition | write | table parts_a
INSERT INTO parts_a VALUES (3, 'a')
-- ## a rule that is made to delete on update | schema, read, delete | table archive, table u
CREATE OR REPLACE RULE r AS ON UPDATE TO archive DO INSTEAD (DELETE FROM u; SELECT 1)
