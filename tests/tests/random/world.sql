CREATE TABLE t1 (a int PRIMARY KEY, b text, c numeric, d date, e jsonb);
CREATE TABLE t2 (a serial PRIMARY KEY, t1 int REFERENCES t1 ON DELETE CASCADE, f bool, g text[], CHECK (cardinality(g) < 9));
INSERT INTO t1 SELECT n, 'b' || n, n / 3.0, date '2026-01-01' + n, jsonb_build_object('n', n) FROM generate_series(1, 40) n;
INSERT INTO t2 (t1, f, g) SELECT n % 40 + 1, n % 3 = 0, ARRAY['g' || n, 'h'] FROM generate_series(1, 80) n;
CREATE VIEW v AS SELECT t1.a, b, count(t2.a) AS n FROM t1 LEFT JOIN t2 ON t2.t1 = t1.a GROUP BY t1.a;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION touch(text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  UPDATE t1 SET b = $1 WHERE a = 1;
  RETURN (SELECT count(*) FROM t1 WHERE b = $1);
END $$;
CREATE SCHEMA other;
CREATE TABLE other.t1 (a int, b text);
INSERT INTO other.t1 VALUES (1, 'other');
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
GRANT ALL ON SCHEMA public, other TO app;
