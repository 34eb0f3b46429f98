-- Shape: definitions made, changed and dropped.

-- ## table | schema | table made
CREATE TABLE made (id int PRIMARY KEY, b text NOT NULL DEFAULT 'x' CHECK (length(b) > 0), c int REFERENCES t)
-- ## temporary table | schema | table made
CREATE TEMP TABLE made (a int)
-- ## unlogged table | schema | table made
CREATE UNLOGGED TABLE made (a int)
-- ## temporary table in front of a real one | schema | table t
CREATE TEMP TABLE t (a int)
-- ## partition | schema | table made
CREATE TABLE made PARTITION OF parts FOR VALUES IN ('c')
-- ## like | schema | table made
CREATE TABLE made (LIKE t INCLUDING ALL)
-- ## typed | schema | table made
CREATE TABLE made OF pair
-- ## inherits | schema | table made
CREATE TABLE made (x int) INHERITS (t)
-- ## if not exists | schema | table made
CREATE TABLE IF NOT EXISTS made (a int)
-- ## identity | schema | table made
CREATE TABLE made (a int GENERATED ALWAYS AS IDENTITY)
-- ## generated | schema | table made
CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) STORED)
-- ## index | schema | table t
CREATE INDEX made ON t USING btree (lower(name), id DESC) INCLUDE (total) WHERE id > 1
-- ## unique index | schema | table t
CREATE UNIQUE INDEX ON t (name)
-- ## index concurrently | schema | table t
-- how: own
CREATE INDEX CONCURRENTLY made ON t (total)
-- ## column | schema | table t
ALTER TABLE t ADD COLUMN made int
-- ## column with a value | schema | table t
ALTER TABLE t ADD COLUMN made int NOT NULL DEFAULT 7
-- ## column gone | schema, delete | table archive
ALTER TABLE archive DROP COLUMN total
-- ## type | schema, write | table archive
ALTER TABLE archive ALTER COLUMN total TYPE bigint
-- ## type with an expression | schema, write | table archive
ALTER TABLE archive ALTER total TYPE text USING total::text
-- ## default | schema | table t
ALTER TABLE t ALTER total SET DEFAULT 4
-- ## not null | schema | table t
ALTER TABLE t ALTER name SET NOT NULL
-- ## constraint | schema | table t
ALTER TABLE t ADD CONSTRAINT made CHECK (total >= 0)
-- ## constraint not valid | schema | table t
ALTER TABLE t ADD CONSTRAINT made CHECK (total >= 0) NOT VALID
-- ## foreign key | schema | table archive
ALTER TABLE archive ADD FOREIGN KEY (id) REFERENCES t
-- ## storage | schema | table t
ALTER TABLE t ALTER name SET STORAGE external
-- ## statistics target | schema | table t
ALTER TABLE t ALTER name SET STATISTICS 5
-- ## rename | schema | table t
ALTER TABLE t RENAME TO made
-- ## rename column | schema | table t
ALTER TABLE t RENAME name TO made
-- ## owner | schema, privilege | table t
ALTER TABLE t OWNER TO boss
-- ## row security | schema, privilege | table t
ALTER TABLE t ENABLE ROW LEVEL SECURITY
-- ## row security off | schema, privilege | table guarded
ALTER TABLE guarded DISABLE ROW LEVEL SECURITY
-- ## row security forced | schema, privilege | table guarded
ALTER TABLE guarded FORCE ROW LEVEL SECURITY
-- ## row security no longer forced | schema, privilege | table guarded
ALTER TABLE guarded NO FORCE ROW LEVEL SECURITY
-- ## triggers off | schema, admin | table watched
ALTER TABLE watched DISABLE TRIGGER ALL
-- ## one trigger off | schema, admin | table watched
ALTER TABLE watched DISABLE TRIGGER watch
-- ## trigger always | schema, admin | table watched
ALTER TABLE watched ENABLE ALWAYS TRIGGER watch
-- ## rule off | schema, admin | table ruled
ALTER TABLE ruled DISABLE RULE also
-- ## detach | schema, delete | table parts
ALTER TABLE parts DETACH PARTITION parts_a
-- ## attach | schema | table parts
CREATE TABLE made (id int, kind text); ALTER TABLE parts ATTACH PARTITION made FOR VALUES IN ('c')
-- ## cluster on | schema | table t
ALTER TABLE t CLUSTER ON t_name
-- ## unlogged | schema | table log
ALTER TABLE log SET UNLOGGED
-- ## replica identity | schema | table t
ALTER TABLE t REPLICA IDENTITY FULL
-- ## parameters | schema | table t
ALTER TABLE t SET (fillfactor = 70)
-- ## drop | schema, delete | table archive
DROP TABLE archive
-- ## drop several | schema, delete | table u, table archive
DROP TABLE IF EXISTS u, archive CASCADE
-- ## drop with what hangs on it | schema, delete | table t
DROP TABLE t CASCADE
-- ## drop view | schema, delete | table v
DROP VIEW v
-- ## drop materialized view | schema, delete | table mv
DROP MATERIALIZED VIEW mv
-- ## drop index | schema, delete | index t_name
DROP INDEX t_name
-- ## drop sequence | schema, delete | sequence s
DROP SEQUENCE s
-- ## drop function | schema, delete | function wipe
DROP FUNCTION wipe()
-- ## drop procedure | schema, delete | function tidy
DROP PROCEDURE tidy()
-- ## drop type | schema, delete | type pair
DROP TYPE pair
-- ## drop schema | schema, delete | schema evil
DROP SCHEMA evil CASCADE
-- ## drop trigger | schema, delete | table watched
DROP TRIGGER watch ON watched
-- ## drop rule | schema, delete | table ruled
DROP RULE also ON ruled
-- ## drop cast | schema, delete
DROP CAST (int AS mood)
-- ## drop operator | schema, delete
DROP OPERATOR === (mood, mood)
-- ## drop aggregate | schema, delete
DROP AGGREGATE total_of(int)
-- ## drop policy | schema, delete, privilege | table guarded
-- inside: read, delete, schema, privilege
DROP POLICY own ON guarded
-- ## drop extension | schema, delete, admin | extension pgcrypto
DROP EXTENSION pgcrypto
-- ## drop server | schema, delete, admin | server disk
DROP SERVER disk CASCADE
-- ## drop publication | schema, delete, admin | publication news
DROP PUBLICATION news
-- ## schema | schema | schema made
CREATE SCHEMA made
-- ## schema with things in it | schema, read, privilege | schema made
CREATE SCHEMA made CREATE TABLE a (b int) CREATE VIEW c AS SELECT 1 AS d GRANT SELECT ON a TO clerk
-- ## schema for somebody | schema, privilege
CREATE SCHEMA AUTHORIZATION boss
-- ## enum | schema
CREATE TYPE made AS ENUM ('a')
-- ## enum value | schema
ALTER TYPE mood ADD VALUE 'keen'
-- ## composite type | schema
CREATE TYPE made AS (a int)
-- ## range type | schema
CREATE TYPE made AS RANGE (subtype = float8)
-- ## domain | schema
CREATE DOMAIN made AS int CHECK (value > 0)
-- ## domain changed | schema
ALTER DOMAIN positive SET NOT NULL
-- ## sequence | schema
CREATE SEQUENCE made
-- ## sequence restarted | schema
ALTER SEQUENCE s RESTART WITH 70
-- ## comment | schema
COMMENT ON TABLE t IS 'x'
-- ## aggregate | schema
CREATE AGGREGATE made (int) (sfunc = int4pl, stype = int)
-- ## operator | schema
CREATE OPERATOR ==== (leftarg = mood, rightarg = mood, function = same)
-- ## cast | schema
CREATE CAST (mood AS pair) WITH INOUT
-- ## collation | schema
CREATE COLLATION made FROM "C"
-- ## statistics | schema
CREATE STATISTICS made ON id, name FROM t
-- ## text search | schema
CREATE TEXT SEARCH CONFIGURATION made (COPY = simple)
-- ## trigger | schema | trigger made, table t
CREATE TRIGGER made AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted()
-- ## function replaced | schema | function wipe
CREATE OR REPLACE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'SELECT'
-- ## function renamed | schema
ALTER FUNCTION wipe() RENAME TO made
-- ## view replaced | schema, read | table v
CREATE OR REPLACE VIEW v AS SELECT id, upper(name) AS name FROM t
-- ## rule that does nothing | schema | table u
CREATE RULE r AS ON DELETE TO u DO INSTEAD NOTHING
-- ## event trigger | schema, admin | event_trigger made
CREATE EVENT TRIGGER made ON ddl_command_start EXECUTE FUNCTION witness.command()
-- ## extension | schema, execute, admin | extension citext
CREATE EXTENSION citext
-- ## extension with others | schema, execute, admin | extension earthdistance
CREATE EXTENSION earthdistance CASCADE
-- ## function in C | schema, execute, admin | function made
CREATE FUNCTION made(int) RETURNS int LANGUAGE internal AS 'int4abs'
-- ## function as its owner | schema, privilege | function made
CREATE FUNCTION made() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'
