-- P11: acting as somebody else, and the session's own state.

-- ## role | session, privilege
SET ROLE clerk
-- ## role for the transaction | session, privilege
SET LOCAL ROLE clerk
-- ## role by its setting | session, privilege
SET "role" = 'clerk'
-- ## role by set_config | read, session, privilege | setting role
SELECT set_config('role', 'clerk', false)
-- ## role by a computed name | read, session, privilege, unknown
SELECT set_config('ro' || 'le', 'clerk', false)
-- ## role by an escaped name | read, session, privilege | setting role
SELECT set_config(U&'r\006fle', 'clerk', false)
-- ## role by upper case | read, session, privilege | setting role
SELECT set_config('ROLE', 'clerk', true)
-- ## role by named arguments, which it has not | read, session, privilege, unknown
-- how: fails
SELECT set_config(new_value => 'clerk', setting_name => 'role', is_local => true)
-- ## role behind a read | read, session, privilege
SELECT 1; SET ROLE clerk
-- ## role reset | session, privilege
-- after: SET ROLE clerk
RESET ROLE
-- ## role set to none | session, privilege
-- after: SET ROLE clerk
SET ROLE NONE
-- ## session's user | session, privilege
SET SESSION AUTHORIZATION clerk
-- ## session's user by its setting | session, privilege
SET session_authorization = 'clerk'
-- ## session's user for the transaction | session, privilege
SET LOCAL SESSION AUTHORIZATION clerk
-- ## session's user reset | session, privilege
-- after: SET SESSION AUTHORIZATION clerk
RESET SESSION AUTHORIZATION
-- ## search path | session | setting search_path
SET search_path = evil, public
-- ## search path by SCHEMA | session
SET SCHEMA 'evil'
-- ## search path by set_config | read, session | setting search_path
SELECT set_config('search_path', 'evil', false)
-- ## search path for the transaction | session
SET LOCAL search_path = evil
-- ## a table of another path | delete | table t
-- after: SET search_path = evil, public
DELETE FROM t
-- ## timeout | session
SET statement_timeout = 5000
-- ## time zone | session
SET TIME ZONE 'Europe/Paris'
-- ## names | session
SET NAMES 'LATIN1'
-- ## an application's own | session
SET app.tenant = '7'
-- ## an application's own by set_config | read, session
SELECT set_config('app.tenant', '7', false)
-- ## triggers off | session, admin
SET session_replication_role = replica
-- ## log off | session, admin
SET log_statement = none
-- ## reset all | session
-- after: SET statement_timeout = 77
RESET ALL
-- ## reset one | session
-- after: SET statement_timeout = 77
RESET statement_timeout
-- ## discard plans | session
DISCARD PLANS
-- ## discard sequences | session
DISCARD SEQUENCES
-- ## row security off | session
SET row_security = off
-- ## default | session
-- after: SET work_mem = '7MB'
SET work_mem TO DEFAULT
-- ## constraints | session
SET CONSTRAINTS ALL DEFERRED
-- ## lock to read | session
LOCK TABLE t IN ACCESS SHARE MODE
-- ## lock that keeps others out | session, admin | table t
LOCK TABLE t IN ACCESS EXCLUSIVE MODE
-- ## lock by default | session, admin | table t
LOCK t
-- ## lock against writers | session, admin | table t
LOCK TABLE t IN SHARE MODE NOWAIT
-- ## role in quotes | session, privilege
SET ROLE 'clerk'
-- ## role with SESSION | session, privilege
SET SESSION ROLE clerk
-- ## role by an escaped word | session, privilege
SET U&"r\006fle" TO clerk
-- ## role in a wrapper | session, privilege, delete | table u
-- how: own
BEGIN; SET LOCAL ROLE postgres; DELETE FROM u; COMMIT
-- ## session's user by set_config | read, session, privilege | setting session_authorization
SELECT set_config('session_authorization', 'clerk', false)
-- ## role by set_config of a column | read, session, privilege, unknown
SELECT set_config(s, 'clerk', false) FROM (VALUES ('role')) AS x(s)
-- ## role by set_config's full name | read, session, privilege | setting role
SELECT pg_catalog.set_config('role', 'clerk', true)
-- ## role by set_config in a CTE | read, session, privilege | setting role
WITH c AS (SELECT set_config('role', 'clerk', false)) SELECT * FROM c
-- ## role by set_config in a dollar quote | read, session, privilege | setting role
SELECT set_config($$role$$, $$clerk$$, false)
-- ## search path in quotes | session | setting search_path
SET "search_path" TO "evil", pg_catalog
-- ## search path by an escaped name | read, session | setting search_path
SELECT set_config(E'search\x5fpath', 'evil', false)
-- ## encoding | session
SET client_encoding = 'SQL_ASCII'
-- ## strings read another way | session
SET standard_conforming_strings = off
-- ## triggers off by set_config | read, session, admin
SELECT set_config('session_replication_role', 'replica', false)
-- ## a lock of the session's | read, session
SELECT pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7), pg_try_advisory_lock(8)
-- ## a lock by its full name | session, admin | table public.t
LOCK TABLE ONLY public.t IN ACCESS EXCLUSIVE MODE NOWAIT
-- ## everything thrown away | session
-- how: own
-- after: SET work_mem = '7MB'; PREPARE p AS SELECT 1
DISCARD ALL
-- ## a temporary table thrown away | session
-- after: CREATE TEMP TABLE made AS SELECT 1 AS a
-- beyond: the table was nobody's but this session's
-- still: the table was nobody's but this session's
DISCARD TEMP
-- ## one setting by its row, as pg_dump does it | read, session | setting restrict_nonsystem_relation_kind
SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'
-- ## role by its row | read, session, privilege | setting role
SELECT set_config(name, 'clerk', false) FROM pg_settings WHERE name = 'role'
-- ## some settings by their rows | read, session, privilege, transfer, unknown
SELECT set_config(name, 'off', true) FROM pg_settings WHERE name = 'enable_sort' OR name = 'enable_hashjoin'
