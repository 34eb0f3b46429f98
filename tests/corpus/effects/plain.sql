-- Statements that hide nothing.

-- ## a constant | read
SELECT 1
-- ## a table | read | table t
SELECT * FROM t
-- ## TABLE | read | table t
TABLE t
-- ## VALUES | read
VALUES (1), (2)
-- ## join and aggregate | read | table t, table u
SELECT t.name, count(*) FROM t JOIN u ON u.t_id = t.id GROUP BY t.name ORDER BY 1
-- ## recursive | read
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r
-- ## through a view | read | table v
SELECT * FROM v
-- ## a materialized view | read | table mv
SELECT * FROM mv
-- ## by the extended protocol | read | table t
-- how: extended
SELECT * FROM t
-- ## window | read | table t
SELECT row_number() OVER (ORDER BY total) FROM t
-- ## system catalog | read | table pg_class
SELECT count(*) FROM pg_class
-- ## insert | write | table log
INSERT INTO log VALUES ('x')
-- ## insert from a query | write, read | table archive, table t
INSERT INTO archive SELECT * FROM t
-- ## insert returning | write, read | table t
INSERT INTO t (id, name) VALUES (9, 'x') RETURNING id
-- ## upsert | write | table t
INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name
-- ## upsert that does nothing | write | table t
INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING
-- ## update | write | table t
UPDATE t SET total = total + 1 WHERE id = 1
-- ## update from another table | write, read | table t, table u
UPDATE t SET name = u.note FROM u WHERE u.t_id = t.id
-- ## update through a view | write | table v
-- beyond: the view's table changes; naming it needs the catalog
UPDATE v SET name = 'x' WHERE id = 1
-- ## delete | delete | table u
DELETE FROM u WHERE id = 1
-- ## delete using | delete, read | table u, table t
DELETE FROM u USING t WHERE t.id = u.t_id
-- ## delete returning | delete, read | table u
DELETE FROM u RETURNING *
-- ## delete by the extended protocol | delete | table u
-- how: extended
DELETE FROM u
-- ## truncate | delete | table u
TRUNCATE u
-- ## row locks | read, write | table t
SELECT * FROM t WHERE id = 1 FOR UPDATE
-- ## shared row locks | read, write | table t
SELECT * FROM t FOR KEY SHARE
-- ## show | read
SHOW search_path
-- ## a sequence by its default | write | table numbered
INSERT INTO numbered (name) VALUES ('x')
-- ## not SQL | unknown
-- how: fails
SELEC 1
-- ## series | read
SELECT * FROM generate_series(1, 3) AS x(n)
-- ## text functions | read | table t
SELECT upper(name), substring(name FROM 1 FOR 2), name || '!', length(name) FROM t WHERE name LIKE 'a%' OR name ~ '^b'
-- ## dates | read
SELECT now(), current_date, extract(year FROM now()), now() - interval '1 day', date_trunc('day', now())
-- ## JSON | read | table t
SELECT json_build_object('id', id, 'name', name) -> 'id', to_jsonb(t) FROM t
-- ## arrays | read
SELECT ARRAY[1, 2] || 3, unnest(ARRAY[1, 2]), array_length(ARRAY[1], 1)
-- ## what drivers ask | read
SELECT version(), current_user, current_setting('server_version'), pg_backend_pid()
-- ## information_schema | read | table information_schema.tables
SELECT count(*) FROM information_schema.tables
-- ## union and except | read | table t, table u
SELECT id FROM t UNION SELECT id FROM u EXCEPT SELECT 1
-- ## lateral | read | table t, table u
SELECT t.id, x.note FROM t LEFT JOIN LATERAL (SELECT note FROM u WHERE u.t_id = t.id LIMIT 1) x ON true
-- ## random | read
SELECT random(), gen_random_uuid()
-- ## sizes | read
SELECT pg_size_pretty(pg_total_relation_size('t'))
-- ## grouping sets | read | table t
SELECT name, sum(total) FROM t GROUP BY ROLLUP (name)
