-- One channel a section: what psql is given, and what must bring no secret to it through the gateway. Past the gateway
-- each one brings at least one, or it shows nothing.

-- channel: columns
SELECT * FROM vault;
TABLE vault;
-- channel: aliases
SELECT secret AS harmless, code AS n, "uid" u FROM vault;
-- channel: an alias list
SELECT a.c, a.c || '' FROM vault AS a(a, b, c);
-- channel: a join that renames
SELECT j.x4 FROM (vault v CROSS JOIN (VALUES (1)) o) AS j(x1, x2, x3, x4);
-- channel: a CTE
WITH x (a, b, c) AS MATERIALIZED (TABLE vault) SELECT c, c || '' FROM x;
-- channel: a recursive CTE
WITH RECURSIVE x (s, n) AS (SELECT secret, 1 FROM vault UNION ALL SELECT s || '.', n + 1 FROM x WHERE n < 3) SELECT s FROM x;
-- channel: set operations
SELECT secret FROM vault UNION SELECT 'x';
SELECT label FROM vault UNION ALL SELECT secret FROM vault;
-- channel: a sub-select
SELECT (SELECT secret FROM vault), ARRAY(SELECT secret FROM vault), x.y FROM (SELECT secret FROM vault) x (y);
-- channel: lateral
SELECT l.z FROM vault v, LATERAL (SELECT v.secret AS z) l;
-- channel: values
SELECT f.v FROM vault, LATERAL (VALUES (secret), (code::text)) f (v);
-- channel: whole rows
SELECT v FROM vault v;
SELECT v::text FROM vault v;
SELECT row(v.*) FROM vault v;
-- channel: rows as documents
SELECT row_to_json(v) FROM vault v;
SELECT to_jsonb(v) ->> 'secret' FROM vault v;
SELECT json_agg(v) FROM vault v;
SELECT j.value FROM vault v, jsonb_each_text(to_jsonb(v)) j;
SELECT (json_populate_record(NULL::vault, to_json(v))).secret FROM vault v;
-- channel: rows as calls
SELECT v.row_to_json, v.to_jsonb FROM vault v;
-- channel: rows as xml
SELECT query_to_xml('SELECT * FROM vault', true, false, '');
SELECT table_to_xml('vault', true, false, '');
-- channel: parts of composites
SELECT (who).mail, (who).pin, others[1].mail FROM vault;
SELECT (v).secret FROM vault v;
SELECT u.* FROM vault, unnest(others) u;
SELECT unnest(tags) FROM vault;
-- channel: encodings
SELECT encode(convert_to(secret, 'UTF8'), 'base64'), encode(secret::bytea, 'hex'), reverse(secret), upper(secret) FROM vault;
SELECT quote_literal(secret), format('%s', code), to_char(born, 'YYYY-MM-DD"T"HH24:MI:SS'), doc -> 'plate' FROM vault;
-- channel: aggregates
SELECT max(secret), string_agg(secret, ','), array_agg(code), min(born) FROM vault;
SELECT first_value(secret) OVER (ORDER BY id) FROM vault;
SELECT mode() WITHIN GROUP (ORDER BY secret) FROM vault;
-- channel: a case
SELECT CASE WHEN id = 1 THEN secret END, coalesce(secret, ''), nullif(secret, '') FROM vault;
-- channel: views
SELECT harmless, louder FROM window_on;
SELECT (everything).secret FROM window_on;
SELECT kept_text FROM kept;
-- channel: functions
SELECT tell();
SELECT * FROM tell_all();
SELECT harmless, number FROM tell_as();
SELECT (tell_all()).*;
-- channel: prepared
PREPARE p AS SELECT secret AS s FROM vault WHERE id = $1;
EXECUTE p(1);
-- channel: a cursor
BEGIN; DECLARE c CURSOR FOR SELECT secret || '' AS s FROM vault; FETCH ALL c; MOVE BACKWARD ALL c; FETCH 1 FROM c; COMMIT;
-- channel: a binary cursor
BEGIN; DECLARE c BINARY CURSOR FOR SELECT code, uid, raw, born, amount, who FROM vault; FETCH ALL c; COMMIT;
-- channel: a cursor that is held
BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT harmless FROM window_on; COMMIT; FETCH ALL c; CLOSE c;
-- channel: psql's own cursor
\set FETCH_COUNT 1
SELECT secret, code FROM vault;
-- channel: a write that returns
BEGIN; UPDATE vault SET label = secret RETURNING label; ROLLBACK;
BEGIN; INSERT INTO vault SELECT 2, secret, 'other', 1, uid, raw, doc, tags, who, others, born, amount FROM vault RETURNING label, uid; ROLLBACK;
BEGIN; INSERT INTO vault SELECT * FROM vault ON CONFLICT (id) DO UPDATE SET label = excluded.secret RETURNING label; ROLLBACK;
BEGIN; DELETE FROM ledger RETURNING secret; ROLLBACK;
-- channel: what a CTE returns
BEGIN; WITH x AS (UPDATE vault SET label = 'x' RETURNING secret AS s) SELECT s || '' FROM x; ROLLBACK;
-- channel: COPY of a table
COPY vault TO STDOUT;
-- channel: COPY of columns
COPY vault (label, secret, code) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *, DELIMITER ';', NULL 'Canary');
-- channel: COPY of a query
COPY (SELECT secret AS harmless FROM vault) TO STDOUT;
COPY (UPDATE vault SET label = label RETURNING secret AS s) TO STDOUT;
-- channel: COPY of a view
COPY (TABLE window_on) TO STDOUT (FORMAT csv);
-- channel: psql copies
\copy vault TO STDOUT (FORMAT binary)
-- channel: statistics
SELECT tablename, most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename = 'vault';
SELECT staattnum, stavalues1 FROM pg_statistic WHERE starelid = 'vault'::regclass;
SELECT * FROM pg_stats WHERE tablename = 'vault';
-- channel: an error of a cast
SELECT secret::int FROM vault;
-- channel: an error of a cast elsewhere
SELECT 1 FROM vault WHERE secret::date > now();
-- channel: an error of a cast in a write
UPDATE vault SET id = secret::int;
-- channel: an error of a cast in a function's argument
SELECT num_nonnulls((to_jsonb(v) ->> 'secret')::uuid) FROM vault v;
-- channel: an error of a cast of a cursor
BEGIN; DECLARE c CURSOR FOR SELECT tags[1]::uuid FROM vault; FETCH c; ROLLBACK;
-- channel: an error of a pattern
SELECT 'x' ~ ('(' || secret) FROM vault; SELECT 'x'::text LIKE secret || '\' FROM vault; SELECT to_timestamp(secret, 'YYYY') FROM vault; SELECT secret::xml::text, ('<' || secret)::xml FROM vault;
-- channel: an error of a format
SELECT format('%' || secret) FROM vault; SELECT convert_from(raw, secret) FROM vault; SELECT to_regclass(secret), secret::regclass FROM vault;
-- channel: an error of a range
SELECT (code * 10) FROM vault; SELECT code::int FROM vault; SELECT format('%s', code)::int FROM vault;
-- channel: an error of a name
SELECT set_config('work_mem', secret, true) FROM vault; SELECT nextval(secret) FROM vault; SELECT current_setting(secret) FROM vault; SELECT currval(secret::regclass) FROM vault;
-- channel: a unique violation
INSERT INTO vault (id, secret, amount) SELECT 9, secret, 1 FROM vault;
-- channel: a unique violation of an index's making
CREATE TABLE twice AS SELECT secret FROM vault, generate_series(1, 2); CREATE UNIQUE INDEX ON twice (secret); DROP TABLE twice;
-- channel: a check violation
UPDATE vault SET code = -1;
-- channel: a not-null violation
UPDATE vault SET amount = NULL;
-- channel: a foreign key violation
UPDATE vault SET secret = 'other';
-- channel: a foreign key violation in the other direction
INSERT INTO ledger SELECT 5, secret || '!' FROM vault;
-- channel: an exclusion violation
INSERT INTO ledger SELECT id, secret FROM vault;
-- channel: no partition
INSERT INTO parts SELECT secret FROM vault;
INSERT INTO wide SELECT secret FROM vault;
-- channel: a check option
INSERT INTO narrow SELECT 3, label, reverse(secret), code, uid, raw, doc, tags, who, others, born, amount FROM vault;
-- channel: a domain
SELECT secret::short, json_populate_record(NULL::contact, json_build_object('pin', secret)) FROM vault; SELECT json_populate_record(NULL::contact, json_build_object('pin', secret)) FROM vault;
-- channel: a notice
SELECT shout();
-- channel: a notice of a block
DO $$BEGIN RAISE WARNING 'it is %', (SELECT secret FROM vault); END$$;
-- channel: a notice by a renamed column
DO $$DECLARE r record; BEGIN FOR r IN SELECT harmless AS h FROM window_on LOOP RAISE INFO USING MESSAGE = r.h; END LOOP; END$$;
-- channel: an assertion
DO $$BEGIN ASSERT false, (SELECT secret FROM vault); END$$;
-- channel: an error's fields
SELECT fail_in_fields();
-- channel: dynamic SQL
SELECT fail_in_words();
-- channel: dynamic SQL of a block
DO $$BEGIN EXECUTE (SELECT 'SELECT ' || quote_literal(secret) || '::int' FROM vault); END$$;
-- channel: a trigger
INSERT INTO watched VALUES (1);
-- channel: a trigger under COPY
COPY watched FROM STDIN;
1
\.
-- channel: notifications
LISTEN changes;
INSERT INTO watched VALUES (2);
-- channel: notifications by function
LISTEN letters;
SELECT pg_notify('letters', secret) FROM vault;
-- channel: notifications by block
LISTEN letters;
DO $$BEGIN EXECUTE 'NOTIFY letters, ' || quote_literal((SELECT secret FROM vault)); END$$;
-- channel: a setting that the backend reports
SELECT set_config('application_name', secret, false) FROM vault;
-- channel: a setting that a block makes
DO $$BEGIN PERFORM set_config('application_name', (SELECT secret FROM vault), false); END$$;
-- channel: gexec
SELECT 'SELECT ' || quote_literal(secret) FROM vault \gexec
-- channel: gset
SELECT secret AS s FROM vault \gset
SELECT :'s';
