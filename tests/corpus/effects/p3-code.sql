-- P3: code, and functions that do more than compute.

-- ## DO | execute, unknown
DO $$ BEGIN DELETE FROM u; END $$
-- ## DO in another quote | execute, unknown
DO 'BEGIN DELETE FROM u; END'
-- ## CALL | execute, unknown | function tidy
-- inside: delete
CALL tidy()
-- ## CALL with an argument | execute, unknown | function tidy_by
-- inside: delete
CALL tidy_by(1)
-- ## function in a select list | read, execute, unknown | function touch
-- inside: read, write
SELECT touch()
-- ## function in FROM | read, execute, unknown | function wipe
-- inside: read, delete
SELECT * FROM wipe()
-- ## function that runs as its owner | read, execute, unknown | function wipe_as_owner
-- inside: read, delete, privilege
SELECT wipe_as_owner()
-- ## function in a predicate | read, execute, unknown | function touch
-- inside: read, write
SELECT * FROM t WHERE touch(id) > 0
-- ## function in ORDER BY | read, execute, unknown | function touch
-- inside: read, write
SELECT 1 ORDER BY touch()
-- ## function in LIMIT | read, execute, unknown | function touch
-- inside: read, write
SELECT 1 LIMIT touch()
-- ## function in GROUP BY | read, execute, unknown | function touch
-- inside: read, write
SELECT count(*) FROM t GROUP BY touch(id)
-- ## function in HAVING | read, execute, unknown | function touch
-- inside: read, write
SELECT count(*) FROM t HAVING touch() > 0
-- ## function in a filter | read, execute, unknown | function touch
-- inside: read, write
SELECT count(*) FILTER (WHERE touch(id) > 0) FROM t
-- ## function in a window | read, execute, unknown | function touch
-- inside: read, write
SELECT sum(id) OVER (ORDER BY touch(id)) FROM t
-- ## function in CASE | read, execute, unknown | function touch
-- inside: read, write
SELECT CASE WHEN true THEN touch() END
-- ## function in an array | read, execute, unknown | function touch
-- inside: read, write
SELECT ARRAY[ROW(1, touch())]
-- ## function in VALUES | read, execute, unknown | function touch
-- inside: read, write
VALUES (touch())
-- ## function in JOIN | read, execute, unknown | function touch
-- inside: read, write
SELECT 1 FROM t JOIN u ON touch(t.id) = u.id
-- ## function in INSERT | write, execute, unknown | function touch
-- inside: read, write
INSERT INTO log VALUES (touch()::text)
-- ## function in UPDATE | write, execute, unknown | function touch
-- inside: read, write
UPDATE t SET total = touch()
-- ## function in DELETE | delete, execute, unknown | function touch
-- inside: read, write, delete
DELETE FROM u WHERE touch(id) > 0
-- ## function in RETURNING | read, write, execute, unknown | function touch
-- inside: read, write
INSERT INTO log VALUES ('x') RETURNING touch()
-- ## function in an index | schema, execute, unknown | function fixed
-- inside: read, schema
CREATE INDEX made ON t (fixed(id))
-- ## function in a default that fills | schema, execute, unknown | function touch
-- inside: read, write, schema
ALTER TABLE t ADD COLUMN made int DEFAULT touch()
-- ## function that changes a type | schema, write, execute, unknown | function touch
-- inside: read, write, schema
ALTER TABLE u ALTER note TYPE int USING touch(id)
-- ## the planner runs an immutable function | read, execute, unknown | function fixed
-- inside: read
EXPLAIN SELECT fixed(1)
-- ## a function in a column's clothes | read, execute, unknown
SELECT (t).secret_of FROM t
-- ## a function as a column of a table | read | table t
-- beyond: t.secret_of calls a function; the session asks the catalog which names do
SELECT t.secret_of FROM t
-- ## quoted name | read, execute, unknown | function touch
-- inside: read, write
SELECT "touch"()
-- ## escaped name | read, execute, unknown | function touch
-- inside: read, write
SELECT U&"t\006fuch"()
-- ## named schema | read, execute, unknown | function public.touch
-- inside: read, write
SELECT public.touch()
-- ## aggregate of one's own | read, execute, unknown | function total_of
-- inside: read
SELECT total_of(id) FROM t
-- ## operator of one's own | read, execute, unknown
-- inside: read, write
SELECT 'calm'::mood === 'cross'::mood
-- ## operator spelled as a built-in | read
-- beyond: ## on this type is a user's function; seeing that needs the catalog
-- inside: read, write
SELECT 'calm'::mood ## 'cross'::mood
-- ## cast of one's own | read
-- beyond: the cast is a user's function; seeing that needs the catalog
-- still: casts are not followed
SELECT 1::mood
-- ## domain with a check | read
-- beyond: the domain's check calls a user's function; seeing that needs the catalog
SELECT 1::positive
-- ## view over a function | read | table v_code
-- beyond: the view calls a user's function; seeing that needs the catalog
-- inside: read, write
SELECT * FROM v_code
-- ## trigger | write | table watched
-- beyond: a trigger deletes from u; seeing that needs the catalog
-- inside: read, write, delete
INSERT INTO watched VALUES (2, 'y')
-- ## trigger on update | write | table watched
-- beyond: a trigger deletes from u; seeing that needs the catalog
-- inside: read, write, delete
UPDATE watched SET name = 'z'
-- ## rule beside | write | table ruled
-- beyond: a rule deletes from u; seeing that needs the catalog
-- inside: write, delete
INSERT INTO ruled VALUES (2)
-- ## rule instead | write | table ruled
-- beyond: a rule deletes from u; seeing that needs the catalog
-- inside: write, delete
UPDATE ruled SET id = 3
-- ## check constraint | write | table checked
-- beyond: the check calls a user's function; seeing that needs the catalog
-- inside: read, write
INSERT INTO checked VALUES (1)
-- ## column default | write | table defaulted
-- beyond: the default calls a user's function; seeing that needs the catalog
-- inside: read, write
INSERT INTO defaulted (name) VALUES ('x')
-- ## expression index | write | table indexed
-- beyond: the index calls a user's function; seeing that needs the catalog
-- inside: read, write
INSERT INTO indexed VALUES (2)
-- ## row security | read | table guarded
-- how: as clerk
-- beyond: the policy calls a user's function; seeing that needs the catalog
SELECT * FROM guarded
-- ## a function that shadows by search_path | read
-- after: SET search_path = evil, pg_catalog, public
-- beyond: initcap is evil's; the search path is shown to the approver, the shadowing needs the catalog
-- inside: read, write
SELECT initcap('X')
-- ## read a file | read, admin, transfer | function pg_read_file
SELECT length(pg_read_file('PG_VERSION'))
-- ## read a file by its full name | read, admin, transfer | function pg_read_binary_file
SELECT pg_catalog.pg_read_binary_file('PG_VERSION')
-- ## list a directory | read, admin, transfer | function pg_ls_dir
SELECT count(*) FROM pg_ls_dir('.')
-- ## list the log | read, admin
SELECT count(*) FROM pg_ls_waldir()
-- ## write a file | read, admin, transfer | function pg_file_write
-- how: own
SELECT pg_file_write('out/one', 'x', false)
-- ## large object from a file | read, write, admin, transfer | function lo_import
SELECT lo_import('{dir}/PG_VERSION')
-- ## large object to a file | read, admin, transfer | function lo_export
-- how: own
SELECT lo_export(4242, '{dir}/out/two')
-- ## large object removed | read, delete | function lo_unlink
SELECT lo_unlink(4242)
-- ## large object changed | read, write | function lo_put
SELECT lo_put(4242, 0, 'x')
-- ## large object made | read, write | function lo_from_bytea
SELECT lo_from_bytea(0, 'x')
-- ## large object read | read | function lo_get
SELECT lo_get(4242)
-- ## another connection | read, execute, transfer, unknown | function dblink_exec
-- how: own
SELECT dblink_exec('host=127.0.0.1 port={port} user=postgres dbname={database}', 'DELETE FROM u')
-- ## another connection in FROM | read, execute, transfer, unknown | function dblink
-- how: own
SELECT * FROM dblink('host=127.0.0.1 port={port} user=postgres dbname={database}', 'DELETE FROM u RETURNING id') AS x(id int)
-- ## ends a session | read, admin | function pg_terminate_backend
SELECT pg_terminate_backend({victim})
-- ## ends sessions by a query | read, admin | function pg_terminate_backend
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {victim}
-- ## cancels | read, admin | function pg_cancel_backend
SELECT pg_cancel_backend({victim})
-- ## reloads | read, admin | function pg_reload_conf
SELECT pg_reload_conf()
-- ## statistics thrown away | read, admin
SELECT pg_stat_reset()
-- ## replication slot | read, admin, transfer | function pg_create_physical_replication_slot
-- how: own
SELECT pg_create_physical_replication_slot('spare_slot', true)
-- ## and gone again | read, admin, transfer | function pg_drop_replication_slot
-- how: own
-- after: SELECT pg_create_physical_replication_slot('spare_slot', true)
SELECT pg_drop_replication_slot('spare_slot')
-- ## message in the log | read, admin, transfer | function pg_logical_emit_message
SELECT pg_logical_emit_message(true, 'x', 'y')
-- ## advisory lock | read, session | function pg_advisory_lock
SELECT pg_advisory_lock(1)
-- ## advisory lock of the transaction | read, session | function pg_try_advisory_xact_lock
SELECT pg_try_advisory_xact_lock(1, 2)
-- ## query as text | read, execute, unknown | function query_to_xml
SELECT query_to_xml('SELECT touch()', true, true, '')
-- ## table as text | read, transfer, unknown | function table_to_xml
SELECT table_to_xml('t', true, true, '')
-- ## catalog written by hand | write, privilege, admin | table pg_authid
UPDATE pg_authid SET rolcanlogin = true WHERE rolname = 'clerk'
-- ## catalog deleted by hand | delete, privilege, admin | table pg_catalog.pg_description
DELETE FROM pg_catalog.pg_description WHERE objoid = 0
-- ## settings as a table | write, session, privilege, admin, unknown | table pg_settings
UPDATE pg_settings SET setting = '1234' WHERE name = 'statement_timeout'
-- ## DO in another language's name | execute, unknown
DO LANGUAGE plpgsql $x$ BEGIN PERFORM wipe(); END $x$
-- ## CALL with a name | execute, unknown | function public.tidy_by
-- inside: delete
CALL public.tidy_by(which => 1)
-- ## function in ROWS FROM | read, execute, unknown | function touch
-- inside: read, write
SELECT * FROM ROWS FROM (generate_series(1, 2), touch()) AS x
-- ## function in LATERAL | read, execute, unknown | function touch
-- inside: read, write
SELECT * FROM t, LATERAL touch(t.id) AS x
-- ## function in EXISTS | read, execute, unknown | function touch
-- inside: read, write
SELECT 1 WHERE EXISTS (SELECT touch())
-- ## function in a sample | read, execute, unknown | function fixed
-- inside: read
SELECT * FROM t TABLESAMPLE bernoulli (fixed(100))
-- ## function in an aggregate | read, execute, unknown | function touch
-- inside: read, write
SELECT json_agg(touch(id) ORDER BY touch(id)) FROM t
-- ## function in an upsert | write, execute, unknown | function touch
-- inside: read, write
INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET total = touch()
-- ## function in MERGE | read, delete, execute, unknown | function touch
-- inside: read, write, delete
MERGE INTO u USING t ON t.id = u.t_id WHEN MATCHED AND touch() > 0 THEN DELETE
-- ## function in a new table's default | schema, execute, unknown | function touch
-- inside: read, write, schema
CREATE TABLE made (a int DEFAULT touch())
-- ## function in a view | schema, read, execute, unknown | function touch
-- inside: read, write, schema
CREATE VIEW made AS SELECT touch() AS a
-- ## function in a COPY | read, transfer, execute, unknown | function touch
-- inside: read, write, transfer
COPY (SELECT touch()) TO STDOUT
-- ## function in EXPLAIN ANALYZE | read, execute, unknown | function touch
-- inside: read, write
EXPLAIN ANALYZE SELECT touch()
-- ## function behind a row | read, execute, unknown
SELECT (t.*).secret_of FROM t
-- ## operator by its full name | read, execute, unknown
-- inside: read, write
SELECT 'calm'::mood OPERATOR(public.===) 'cross'::mood
-- ## operator over an array | read, execute, unknown
-- inside: read, write
SELECT 'calm'::mood === ANY (ARRAY['cross']::mood[])
-- ## operator over a sub-select | read, execute, unknown
-- inside: read, write
SELECT 'calm'::mood === ALL (SELECT 'cross'::mood)
-- ## cast by CAST | read
-- beyond: the cast is a user's function; seeing that needs the catalog
-- still: casts are not followed
SELECT CAST(1 AS mood)
-- ## trigger by COPY | write, transfer | table watched
-- beyond: a trigger deletes from u; seeing that needs the catalog
-- inside: read, write, delete, transfer
COPY watched FROM STDIN
-- ## trigger by a CTE | read, write | table watched
-- beyond: a trigger deletes from u; seeing that needs the catalog
-- inside: read, write, delete
WITH w AS (INSERT INTO watched VALUES (3, 'z') RETURNING id) SELECT * FROM w
-- ## trigger by EXPLAIN ANALYZE | read, write | table watched
-- beyond: a trigger deletes from u; seeing that needs the catalog
-- inside: read, write, delete
EXPLAIN ANALYZE INSERT INTO watched VALUES (3, 'z')
-- ## view over a function, by COPY | read, transfer | table v_code
-- beyond: the view calls a user's function; seeing that needs the catalog
-- inside: read, write, transfer
COPY (SELECT * FROM v_code) TO STDOUT
-- ## view over a function, in a sub-select | read | table v_code
-- beyond: the view calls a user's function; seeing that needs the catalog
-- inside: read, write
SELECT (SELECT one FROM v_code)
-- ## view over a function, in another's predicate | delete, read | table u, table v_code
-- beyond: the view calls a user's function; seeing that needs the catalog
-- inside: read, write, delete
DELETE FROM u WHERE id IN (SELECT one FROM v_code)
-- ## a search path set in the same text | read, session
-- beyond: initcap is evil's; the search path is shown to the approver, the shadowing needs the catalog
-- inside: read, write, session
SET search_path = evil, pg_catalog; SELECT initcap('X')
-- ## a search path set by a function in the same text | read, session
-- beyond: initcap is evil's; the search path is shown to the approver, the shadowing needs the catalog
-- inside: read, write, session
SELECT set_config('search_path', 'evil, pg_catalog', false); SELECT initcap('X')
-- ## read a file whose name is computed | read, admin, transfer | function pg_read_file
SELECT pg_read_file('PG_' || 'VERSION')
-- ## read a file in a field's clothes | read, admin, transfer | function pg_read_file
SELECT ('PG_VERSION'::text).pg_read_file
-- ## read a file by an escaped name | read, admin, transfer | function pg_read_file
SELECT U&"pg_re\0061d_file"('PG_VERSION')
-- ## read a file in upper case | read, admin, transfer | function pg_read_file
SELECT PG_READ_FILE('PG_VERSION', 0, 2)
-- ## read a file in FROM | read, admin, transfer | function pg_read_file
SELECT * FROM pg_read_file('PG_VERSION') AS x
-- ## read a file's facts | read, admin, transfer, execute, unknown | function pg_stat_file
SELECT (pg_stat_file('PG_VERSION')).size
-- ## read a file in a predicate | read, admin, transfer | function pg_read_file
SELECT 1 FROM t WHERE pg_read_file('PG_VERSION') LIKE '15%'
-- ## write a table to a file | read, admin, transfer, unknown | function pg_file_write
-- how: own
SELECT pg_catalog.pg_file_write('{dir}/out/six', name, true) FROM t; SELECT pg_file_sync('{dir}/out/six')
-- ## rename a file | read, admin, transfer | function pg_file_rename
-- how: own
-- after: SELECT pg_file_write('out/seven', 'x', false)
SELECT pg_file_rename('out/seven', 'out/eight')
-- ## remove a file | read, admin, transfer | function pg_file_unlink
-- how: own
-- after: SELECT pg_file_write('out/nine', 'x', false)
SELECT pg_file_unlink('out/nine')
-- ## large object opened and written | read, write | function lowrite
SELECT lowrite(lo_open(4242, x'60000'::int), 'x')
-- ## large object cut | read, write | function lo_truncate
SELECT lo_truncate(lo_open(4242, x'60000'::int), 2)
-- ## large object of no content | read, write | function lo_creat
SELECT lo_creat(-1)
-- ## large object made of a table | read, write, transfer, unknown | function lo_from_bytea
SELECT lo_from_bytea(0, name::bytea) FROM t
-- ## large objects removed by a query | read, delete | function lo_unlink
SELECT lo_unlink(oid) FROM pg_largeobject_metadata
-- ## a connection kept open | read, execute, transfer, unknown | function dblink_connect
-- how: own
SELECT dblink_connect('c', 'host=127.0.0.1 port={port} user=postgres dbname={database}')
-- ## a connection kept open, in a column's clothes | read, execute, transfer, unknown | function dblink_connect
-- how: own
SELECT ('host=127.0.0.1 port={port} user=postgres dbname={database}'::text).dblink_connect
-- ## ends a session by its full name | read, admin | function pg_terminate_backend
SELECT pg_catalog.pg_terminate_backend({victim}, 0)
-- ## ends a session in a field's clothes | read, admin | function pg_terminate_backend
SELECT ({victim}).pg_cancel_backend, pg_terminate_backend({victim})
-- ## ends a session in a predicate | read, admin | function pg_terminate_backend
SELECT 1 FROM t WHERE id = 1 AND pg_terminate_backend({victim})
-- ## sleeps | read, execute | function pg_sleep
SELECT pg_sleep(0)
-- ## sleeps by an interval | read, execute | function pg_sleep_for
SELECT pg_sleep_for('0 seconds')
-- ## snapshot for others | read, session | function pg_export_snapshot
SELECT pg_export_snapshot()
-- ## a transaction's number | read
-- beyond: it takes a number for its transaction, which nobody else reads
-- still: it takes a number for its transaction, which nobody else reads
SELECT txid_current()
-- ## a schema as text | read, transfer, unknown | function schema_to_xml
SELECT schema_to_xml('evil', true, true, '')
-- ## the sequence's last value | read
-- after: SELECT nextval('s')
SELECT lastval(), currval('s')
-- ## a sequence in a default of its own | schema, write | function nextval
CREATE TABLE made (id int DEFAULT nextval('s'))
-- ## an extension's operator | read
SELECT 'ada' % 'adb', 'a=>1'::hstore -> 'a'
-- ## an extension's function | read, execute, unknown | function similarity
-- inside: read
SELECT similarity('ada', 'adb')
-- ## a password's hash | read, execute, unknown | function crypt
-- inside: read
SELECT crypt('x', gen_salt('md5'))
