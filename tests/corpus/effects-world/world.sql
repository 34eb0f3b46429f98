-- What the statements of the corpus act on: small, and with something behind every kind of door.
-- What user code does it also says (`RAISE INFO 'witness: ran …'`), so that the test hears of it.

CREATE EXTENSION dblink;
CREATE EXTENSION adminpack;
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION hstore;
CREATE EXTENSION pgcrypto;

CREATE TABLE t (id int PRIMARY KEY, name text, total int DEFAULT 0);
INSERT INTO t VALUES (1, 'ada', 10), (2, 'bob', 20), (3, 'cyd', 30);
CREATE TABLE u (id int PRIMARY KEY, t_id int REFERENCES t ON DELETE CASCADE, note text);
INSERT INTO u VALUES (1, 1, 'one'), (2, 2, 'two');
CREATE TABLE log (what text);
INSERT INTO log VALUES ('start');
CREATE TABLE archive (LIKE t);
INSERT INTO archive SELECT * FROM t;
CREATE INDEX t_name ON t (name);
CREATE SEQUENCE s;
CREATE TABLE numbered (id serial PRIMARY KEY, name text);
CREATE TABLE parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts VALUES (1, 'a'), (2, 'b');
CREATE TABLE files (body bytea, big oid);
CREATE VIEW v AS SELECT id, name FROM t;
CREATE MATERIALIZED VIEW mv AS SELECT id, total FROM t;
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TYPE pair AS (a int, b text);
SELECT lo_from_bytea(4242, 'large');

CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran touch';
    INSERT INTO log VALUES ('touched');
    RETURN 1;
END $$;
CREATE FUNCTION touch(int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran touch(int)';
    INSERT INTO log VALUES ('touched');
    RETURN $1;
END $$;
CREATE FUNCTION fixed(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran fixed';
    RETURN $1;
END $$;
CREATE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM u';
CREATE FUNCTION wipe_as_owner() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM u';
CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM u';
CREATE PROCEDURE tidy_by(which int) LANGUAGE plpgsql AS $$ BEGIN DELETE FROM u WHERE id = which; END $$;
CREATE FUNCTION secret_of(t) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran secret_of';
    RETURN $1.name;
END $$;

CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran noted';
    DELETE FROM u;
    RETURN NEW;
END $$;
CREATE TABLE watched (id int, name text, total int);
INSERT INTO watched VALUES (1, 'x');
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TABLE ruled (id int);
INSERT INTO ruled VALUES (1);
CREATE RULE also AS ON INSERT TO ruled DO ALSO DELETE FROM u;
CREATE RULE rather AS ON UPDATE TO ruled DO INSTEAD DELETE FROM u;
CREATE VIEW v_code AS SELECT touch() AS one;
CREATE TABLE checked (id int CHECK (fixed(id) > 0));
CREATE DOMAIN positive AS int CHECK (fixed(value) > 0);
CREATE TABLE defaulted (id int DEFAULT touch(), name text);
CREATE TABLE indexed (id int);
INSERT INTO indexed VALUES (1);
CREATE INDEX indexed_fixed ON indexed (fixed(id));
CREATE TABLE guarded (id int, owner text);
INSERT INTO guarded VALUES (1, 'clerk'), (2, 'boss');
GRANT ALL ON guarded TO clerk;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded USING (fixed(id) > 0 AND owner = current_user);
GRANT USAGE ON SCHEMA public TO clerk;
GRANT SELECT ON t, u TO clerk;

CREATE FUNCTION same(mood, mood) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran same';
    INSERT INTO log VALUES ('same');
    RETURN true;
END $$;
CREATE OPERATOR === (LEFTARG = mood, RIGHTARG = mood, FUNCTION = same);
CREATE OPERATOR ## (LEFTARG = mood, RIGHTARG = mood, FUNCTION = same);
CREATE FUNCTION mood_of(int) RETURNS mood LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran mood_of';
    INSERT INTO log VALUES ('mood_of');
    RETURN 'calm';
END $$;
CREATE CAST (int AS mood) WITH FUNCTION mood_of(int);
CREATE FUNCTION summed(int, int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran summed';
    RETURN 1;
END $$;
CREATE AGGREGATE total_of(int) (SFUNC = summed, STYPE = int, INITCOND = '0');

CREATE SCHEMA evil;
CREATE FUNCTION evil.initcap(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran evil.initcap';
    INSERT INTO public.log VALUES ('initcap');
    RETURN 'x';
END $$;
CREATE FUNCTION evil.abs(smallint) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'witness: ran evil.abs';
    RETURN 1;
END $$;
CREATE TABLE evil.t (id int);
INSERT INTO evil.t VALUES (1);

CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname 'postgres');
CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS (user 'postgres', password_required 'false');
CREATE FOREIGN TABLE far_log (what text) SERVER here OPTIONS (schema_name 'public', table_name 'log');
CREATE SERVER disk FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE version_file (line text) SERVER disk OPTIONS (filename '{dir}/PG_VERSION');
CREATE PUBLICATION news FOR TABLE files;
