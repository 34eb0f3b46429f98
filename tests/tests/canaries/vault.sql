-- What the canary test looks after: one row in which every value but `id` and `label` is a secret, in the types that
-- travel in different forms, and the code of the database's own through which values get out.
SET ROLE app;
CREATE TYPE contact AS (mail text, pin bigint);
CREATE DOMAIN short AS text CHECK (length(VALUE) < 4);
CREATE TABLE vault (
  id int PRIMARY KEY, label text, secret text UNIQUE, code bigint CHECK (code > 0), uid uuid, raw bytea, doc jsonb,
  tags text[], who contact, others contact[], born timestamp, amount numeric NOT NULL);
INSERT INTO vault VALUES (
  1, 'open', 'Canary/of-the-vault', 7305129846021374465, '5f0c9be2-71d4-4a6e-8b3d-c2a917e4d086', '\xfeedc0dedeadbeef91',
  '{"plate": "canary-plate-77"}', '{canary-tag-a,canary-tag-b}', ('canary@who.example', 6120483975514470218),
  '{"(canary@others.example,5540917326608813407)"}', '1931-07-19 03:14:07.251803', 48151623421108.61803);
CREATE TABLE ledger (id int, secret text REFERENCES vault (secret), EXCLUDE USING btree (secret WITH =));
INSERT INTO ledger SELECT id, secret FROM vault;
CREATE TABLE parts (secret text) PARTITION BY LIST (secret);
CREATE VIEW window_on AS SELECT id, secret AS harmless, upper(secret) AS louder, v AS everything FROM vault v;
CREATE VIEW narrow AS SELECT * FROM vault WHERE id > 5 WITH CHECK OPTION;
CREATE MATERIALIZED VIEW kept AS SELECT id, secret AS kept_text, md5(secret) FROM vault;
CREATE FUNCTION tell() RETURNS text LANGUAGE sql AS 'SELECT secret FROM vault';
CREATE FUNCTION tell_all() RETURNS SETOF vault LANGUAGE sql AS 'SELECT * FROM vault';
CREATE FUNCTION tell_as(OUT harmless text, OUT number bigint) LANGUAGE sql AS 'SELECT secret, code FROM vault';
CREATE FUNCTION shout() RETURNS void LANGUAGE plpgsql AS
  $$BEGIN RAISE NOTICE 'it is %', (SELECT secret FROM vault) USING DETAIL = tell(), HINT = tell(); END$$;
CREATE FUNCTION fail_in_fields() RETURNS void LANGUAGE plpgsql AS
  $$BEGIN RAISE EXCEPTION 'odd' USING COLUMN = tell(), CONSTRAINT = tell(), DATATYPE = tell(), TABLE = tell(), SCHEMA = tell(); END$$;
CREATE FUNCTION fail_in_words() RETURNS void LANGUAGE plpgsql AS
  $$BEGIN EXECUTE 'no sql but ' || quote_literal(tell()); END$$;
CREATE FUNCTION fail_in_context(text) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM 1 / (length($1) - length($1)); END$$;
CREATE FUNCTION shout_change() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN RAISE NOTICE '% of %', TG_OP, tell(); PERFORM pg_notify('changes', tell()); RETURN NEW; END$$;
CREATE TABLE watched (id int);
CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION shout_change();
CREATE TABLE wide (secret text) PARTITION BY RANGE (secret);
RESET ROLE;
ANALYZE vault;
