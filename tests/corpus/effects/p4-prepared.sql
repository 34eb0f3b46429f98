-- P4: prepared now, run later; cursors.

-- ## PREPARE does nothing yet | session | table u
PREPARE p AS DELETE FROM u
-- ## EXECUTE of a delete | delete | table u
-- after: PREPARE p AS DELETE FROM u
EXECUTE p
-- ## EXECUTE with a value | write | table t
-- after: PREPARE p (int) AS UPDATE t SET total = $1
EXECUTE p(7)
-- ## EXECUTE of a CTE that writes | read, delete | table u
-- after: PREPARE p AS WITH d AS (DELETE FROM u RETURNING *) SELECT * FROM d
EXECUTE p
-- ## prepared and executed in one text | session, delete | table u
PREPARE p AS DELETE FROM u; EXECUTE p
-- ## prepared anew under the same name | session, delete | table u
-- after: PREPARE p AS SELECT 1
DEALLOCATE p; PREPARE p AS DELETE FROM u; EXECUTE p
-- ## EXPLAIN ANALYZE EXECUTE | read, delete | table u
-- after: PREPARE p AS DELETE FROM u
EXPLAIN ANALYZE EXECUTE p
-- ## CREATE TABLE AS EXECUTE | read, schema, write | table made
-- after: PREPARE p AS SELECT * FROM t
CREATE TABLE made AS EXECUTE p
-- ## a portal executed row by row | read, delete | table u
-- how: portal
DELETE FROM u RETURNING id
-- ## a portal over a writing CTE executed row by row | read, write | table t
-- how: portal
WITH w AS (UPDATE t SET total = 5 RETURNING id) SELECT * FROM w
-- ## a portal over a function | read, write | function nextval
-- how: portal
SELECT nextval('s') FROM t
-- ## EXECUTE of what nobody saw | execute, unknown
-- how: fails
EXECUTE nobody
-- ## DEALLOCATE | session
-- after: PREPARE p AS SELECT 1
DEALLOCATE p
-- ## DEALLOCATE ALL | session
-- after: PREPARE p AS SELECT 1
DEALLOCATE ALL
-- ## DECLARE | session, read | table t
DECLARE c CURSOR FOR SELECT * FROM t
-- ## FETCH | read | table t
-- after: DECLARE c CURSOR FOR SELECT * FROM t
FETCH ALL FROM c
-- ## MOVE | read | table t
-- after: DECLARE c CURSOR FOR SELECT * FROM t
MOVE 1 IN c
-- ## FETCH of a cursor over code | read, execute, unknown
-- inside: read, write, execute, unknown
-- after: DECLARE c CURSOR FOR SELECT touch()
FETCH c
-- ## CLOSE | session
-- after: DECLARE c CURSOR FOR SELECT * FROM t
CLOSE c
-- ## declared and fetched in one text | session, read | table t
DECLARE c SCROLL CURSOR FOR SELECT * FROM t; FETCH 2 FROM c
