# Random sessions, run on two copies of one database at once: directly, and through the gateway. What comes back must be
# the same: statuses, rows, SQLSTATEs, and what the transaction stands at. See ../random.rs.
#
# twins.py HOW DIRECT GATEWAY SEED COUNT [FILE]: COUNT statements from the grammar below, or those of FILE (one a line),
# each in a transaction that is rolled back. HOW is `exact`, or `ends` where only how each ends must be the same.
import random, re, sys, time
import psycopg
from psycopg import pq

compares, direct, gateway, seed, count = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
dice = random.Random(seed)
pick, chance = dice.choice, lambda part: dice.random() < part

# ---- the grammar ----

def text():
    word = pick(["", "x", "b7", "it''s", "%", "ä€😀", "a\\b", "null", "--", "/*", ";", "$1", "b" * 300])
    return pick(["'%s'", "'%s'", "E'%s'", "$$%s$$", "$q$%s$q$", "U&'%s'", "N'%s'", "'%s'::text"]) % word

def number():
    return str(pick([0, 1, 2, 7, 40, 41, -1, 2147483647, 99999999999, "1e3", "0.5", "1_000", "0x1F", "null", "'3'"]))

def value(depth=2):
    kinds = [number, text, column, lambda: pick(["true", "false", "null", "current_date - current_date", "'{1,2}'::int[]"])]
    if depth > 0:
        kinds += [lambda: call(depth - 1), lambda: operation(depth - 1), lambda: "(%s)" % select(depth - 1, 1),
                  lambda: "CASE WHEN %s THEN %s ELSE %s END" % (condition(depth - 1), value(depth - 1), value(depth - 1)),
                  lambda: "CAST(%s AS %s)" % (value(depth - 1), kind()), lambda: "(%s)::%s" % (value(depth - 1), kind()),
                  lambda: "ARRAY[%s, %s]" % (value(depth - 1), value(depth - 1)), lambda: "ROW(%s)" % value(depth - 1),
                  lambda: "EXISTS (%s)" % select(depth - 1, 1), lambda: "(%s) IS NULL" % value(depth - 1)]
    return pick(kinds)()

def kind():
    return pick(["int", "text", "numeric", "date", "bool", "jsonb", "text[]", "int8", "name", "varchar(3)", "nope"])

def column():
    return pick(["a", "b", "c", "d", "e", "f", "g", "t1.a", "t1.b", "t2.f", "x.a", "v.n", "nope", "e->'n'", "g[1]"])

def call(depth):
    name = pick(["lower", "upper", "length", "coalesce", "abs", "twice", "touch", "count", "sum", "max", "md5", "to_char",
                 "substr", "concat", "array_length", "jsonb_build_object", "nullif", "row_number", "pg_typeof", "nope",
                 "public.twice", "pg_catalog.lower", "string_agg", "generate_series", "unnest", "regexp_replace"])
    arguments = ", ".join(value(depth) for _ in range(dice.randint(0, 3)))
    return "%s(%s)%s" % (name, arguments, " OVER ()" if chance(0.05) else "")

def operation(depth):
    return "%s %s %s" % (value(depth), pick(["+", "-", "*", "/", "||", "%", "=", "<>", "<", ">=", "&&", "@>", "~", "->>",
                         "IS DISTINCT FROM", "LIKE", "NOT ILIKE", "COLLATE \"C\" <", "AND", "OR", "OPERATOR(pg_catalog.+)"]), value(depth))

def condition(depth=1):
    return pick([lambda: "a = %s" % number(), lambda: "a < %d" % dice.randint(0, 50), lambda: "b LIKE %s" % text(),
                 lambda: value(depth), lambda: "a IN (%s, %s)" % (number(), number()), lambda: "a BETWEEN 3 AND 9",
                 lambda: "NOT (%s)" % condition(0), lambda: "a IN (SELECT a FROM t2)"])()

def source():
    return pick(["t1", "t1", "t2", "v", "t1 JOIN t2 ON t2.t1 = t1.a", "t1 NATURAL JOIN t2", "t1 x", "generate_series(1, 4) AS a",
                 "(SELECT a, b FROM t1) x", "t1 LEFT JOIN t2 USING (a)", "other.t1", "nope", "pg_language", "temp1", "ONLY t1",
                 "(VALUES (1, 'x'), (2, 'y')) AS x(a, b)", "t1, LATERAL (SELECT f FROM t2 WHERE t2.t1 = t1.a LIMIT 1) l",
                 "t1 TABLESAMPLE system (100)", "unnest(ARRAY[1, 2]) WITH ORDINALITY AS x(a, b)"])

def plain():
    low = dice.randint(0, 40)
    return pick([
        "SELECT a, b FROM t1 WHERE a > %d ORDER BY a" % low, "SELECT count(*), max(b) FROM t1 WHERE a BETWEEN %d AND 30" % low,
        "SELECT t1.a, g[1], upper(b) AS u FROM t1 JOIN t2 ON t2.t1 = t1.a WHERE t1.a = %d ORDER BY t2.a" % low,
        "SELECT a, CASE WHEN a > %d THEN b ELSE 'less' END, e->>'n' FROM t1 ORDER BY c DESC NULLS LAST, a LIMIT 4" % low,
        "SELECT f, array_agg(a ORDER BY a), string_agg(g[1], ',' ORDER BY a) FROM t2 GROUP BY f ORDER BY f", "SELECT * FROM v WHERE a = %d" % low,
        "WITH x AS (SELECT a, row_number() OVER (ORDER BY a DESC) AS r FROM t1) SELECT * FROM x WHERE r < 4 ORDER BY r",
        "SELECT twice(a), d + 1, c::text || '%%' FROM t1 WHERE b LIKE 'b%d%%' ORDER BY a" % (low % 10), "SELECT touch(%s)" % text(),
        "VALUES (%d, %s), (2, 'y')" % (low, text()), "TABLE t2 ORDER BY a LIMIT 2", "SELECT row_to_json(t1) FROM t1 WHERE a = %d" % low,
        "SELECT a FROM t1 WHERE a IN (SELECT t1 FROM t2 WHERE f) INTERSECT SELECT a FROM t2 ORDER BY 1", "SELECT $%d" % low, "",
    ])

def select(depth=2, width=None):
    if width is None and chance(0.6):
        return plain()
    items = ", ".join(pick([lambda: "*", lambda: value(depth), column, lambda: "%s AS z" % value(depth)])() for _ in range(width or dice.randint(1, 3)))
    query = "SELECT %s%s FROM %s" % ("DISTINCT " if chance(0.1) else "", items, source())
    if chance(0.5): query += " WHERE " + condition(depth - 1)
    if chance(0.1): query += " GROUP BY " + pick(["a", "1", "b, a", "ROLLUP (a)", "()"])
    if chance(0.1): query += " HAVING count(*) > 0"
    if chance(0.1) and depth > 0: query += " %s %s" % (pick(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]), select(depth - 1, width))
    query += " ORDER BY 1" if chance(0.8) else ""
    return query + pick(["", " LIMIT 3", " OFFSET 1", " FETCH FIRST ROW ONLY", "", " LIMIT 5 OFFSET 2"])

def change():
    returning = pick(["", "", " RETURNING a", " RETURNING *"])
    return pick([
        lambda: "INSERT INTO t1 (a, b) VALUES (%s, %s)%s" % (number(), text(), returning),
        lambda: "INSERT INTO t1 (a, b) VALUES (%d, %s) ON CONFLICT (a) DO UPDATE SET b = excluded.b || '!'%s" % (dice.randint(1, 60), text(), returning),
        lambda: "INSERT INTO t2 (t1, f) SELECT a, %s FROM t1 WHERE a < 3 ON CONFLICT DO NOTHING%s" % (condition(0), returning),
        lambda: "UPDATE t1 SET b = %s WHERE a = %d%s" % (value(1), dice.randint(1, 45), returning),
        lambda: "UPDATE t2 SET f = NOT f FROM t1 WHERE t1.a = t2.t1 AND t1.a = %d" % dice.randint(1, 45),
        lambda: "DELETE FROM t1 WHERE a = %d%s" % (dice.randint(1, 60), returning),
        lambda: "MERGE INTO t1 USING t2 ON t2.t1 = t1.a AND t1.a < 4 WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN DO NOTHING",
        lambda: "WITH gone AS (DELETE FROM t2 WHERE a = %d RETURNING a) %s" % (dice.randint(1, 90), select(1)),
        lambda: "TRUNCATE t2" if chance(0.1) else "SELECT count(*) FROM t2",
    ])()

def session():
    name = pick(["p1", "p2", '"P 3"'])
    return pick([
        lambda: "BEGIN", lambda: "BEGIN ISOLATION LEVEL REPEATABLE READ", lambda: "START TRANSACTION READ ONLY", lambda: "COMMIT",
        lambda: "ROLLBACK", lambda: "ROLLBACK AND CHAIN", lambda: "END", lambda: "SAVEPOINT s1", lambda: "RELEASE s1",
        lambda: "ROLLBACK TO s1", lambda: "PREPARE %s AS %s" % (name, pick([select, change])()), lambda: "EXECUTE %s" % name,
        lambda: "PREPARE %s (int) AS SELECT b FROM t1 WHERE a = $1" % name, lambda: "EXECUTE %s (%s)" % (name, number()),
        lambda: "DEALLOCATE %s" % name, lambda: "DEALLOCATE ALL", lambda: "DECLARE %s CURSOR%s FOR %s" % (name, pick(["", " WITH HOLD"]), select(1)),
        lambda: "DECLARE %s SCROLL CURSOR FOR SELECT a, b FROM t1 ORDER BY a" % name, lambda: "FETCH %s FROM %s" % (pick(["1", "ALL", "-1", "LAST"]), name),
        lambda: "MOVE 2 IN %s" % name, lambda: "CLOSE %s" % name, lambda: "CLOSE ALL", lambda: "SET search_path = %s" % pick(["public", "other, public", "''", "DEFAULT"]),
        lambda: "SET LOCAL search_path = other", lambda: "SET standard_conforming_strings = %s" % pick(["on", "off", "on"]),
        lambda: "SET DateStyle = %s" % pick(["'SQL, DMY'", "ISO", "German"]), lambda: "RESET ALL", lambda: "SHOW search_path", lambda: "SHOW DateStyle",
        lambda: "SELECT set_config('search_path', 'other', %s)" % pick(["true", "false"]), lambda: "DISCARD %s" % pick(["PLANS", "TEMP", "ALL", "SEQUENCES"]),
        lambda: "CREATE TEMP TABLE temp1 (a int, b text)", lambda: "DROP TABLE temp1", lambda: "INSERT INTO temp1 VALUES (1, 'x')",
        lambda: "CREATE TEMP VIEW t2v AS %s" % select(0), lambda: "LISTEN here", lambda: "UNLISTEN *", lambda: "EXPLAIN (COSTS off) " + select(1),
        lambda: "DO $$ BEGIN PERFORM touch('d'); END $$", lambda: "CALL nope()", lambda: "LOCK TABLE t1 IN SHARE MODE", lambda: "SET ROLE app", lambda: "RESET ROLE",
        lambda: "COPY t1 (a, b) TO STDOUT", lambda: "COPY (%s) TO STDOUT (FORMAT csv)" % select(1), lambda: "COPY temp1 FROM STDIN",
        lambda: "SET client_encoding = %s" % pick(["'UTF8'", "'LATIN1'", "'UTF8'"]), lambda: "SET TIME ZONE 'UTC'", lambda: "SET CONSTRAINTS ALL DEFERRED",
    ])()

def spoiled(statement):
    for _ in range(dice.randint(1, 3)):
        at = dice.randint(0, len(statement))
        statement = statement[:at] + pick(["", "'", '"', "(", ")", ";", "--", "/*", "\\", "$$", " ", ",", ".", "E'", "ü"]) + statement[at + dice.randint(0, 2):]
    return statement

def statement():
    made = pick([select, select, change, session, session])()
    if chance(0.08): made = spoiled(made)
    if chance(0.05): made += "; " + pick([select, change, session])()
    return made

# ---- both sides ----

class Side:
    def __init__(self, url):
        self.url = url

    def connect(self):
        self.pg = psycopg.connect(self.url, autocommit=True).pgconn
        self.run(b"SET statement_timeout = '3s'", None)

    def run(self, query, how):
        pg = self.pg
        if how is None: pg.send_query(query)
        elif how == "params": pg.send_query_params(query, None)
        elif how == "binary": pg.send_query_params(query, None, result_format=1)
        else:
            pg.send_prepare(how.encode(), query)
            first = self.results()
            if first[0][0] != "COMMAND_OK": return first
            pg.send_query_prepared(how.encode(), None)
        return self.results()

    def results(self):
        pg, all = self.pg, []
        while True:
            while True:
                pg.flush()
                pg.consume_input()
                if not pg.is_busy(): break
                time.sleep(0)
            result = pg.get_result()
            if result is None: break
            status = pq.ExecStatus(result.status)
            rows = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
            names = [(result.fname(column), result.ftype(column)) for column in range(result.nfields)]
            state = result.error_field(pq.DiagnosticField.SQLSTATE)
            words = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
            all.append((status.name, result.command_status, names, rows, state, words))
            if status == pq.ExecStatus.COPY_OUT:
                data = b""
                while True:
                    got, piece = pg.get_copy_data(1)
                    if got == 0:
                        pg.consume_input(); continue
                    if got < 0: break
                    data += bytes(piece)
                all.append(data)
            elif status == pq.ExecStatus.COPY_IN:
                pg.put_copy_data(b"5\tcopied\n")
                pg.put_copy_end(None)
        return all + [pq.TransactionStatus(pg.transaction_status).name]

left, right = Side(direct), Side(gateway)
given = open(sys.argv[6], encoding="utf-8").read() if len(sys.argv) > 6 else None
# A sample must be the same on both sides.
given = given and re.sub(r"(tablesample \w+ \([0-9.]+\))(?! repeatable)", r"\1 repeatable (1)", given).splitlines()
ran, errors, differ, timeouts = 0, 0, 0, 0
while ran < count:
    left.connect(); right.connect()
    for _ in range(min(400, count - ran)):
        if given is None and left.pg.transaction_status == pq.TransactionStatus.INERROR and chance(0.6):
            query, how = pick([b"ROLLBACK", b"ROLLBACK TO s1", b"COMMIT"]), None
        elif given is None:
            query, how = statement().encode(), pick([None, None, "params", "binary", "", "named"])
        else:
            query, how = given[ran % len(given)].encode(), None
        query = query.replace(b"\0", b"")
        if given is not None:
            left.run(b"BEGIN", None); right.run(b"BEGIN", None)
        one, other = left.run(query, how), right.run(query, how)
        if compares == "ends":
            shown = lambda said: [(part[0], part[4]) if isinstance(part, tuple) else "data" for part in said[:-1]] + said[-1:]
            one, other = shown(one), shown(other)
        if given is not None:
            left.run(b"ROLLBACK", None); right.run(b"ROLLBACK", None)
        ran += 1
        failed = lambda said, state: any(isinstance(part, tuple) and state in part for part in said)
        errors += any(isinstance(part, tuple) and "FATAL_ERROR" in part for part in one)
        if failed(one, b"57014") or failed(other, b"57014"):
            timeouts += 1
            break
        if one != other:
            differ += 1
            print("DIFFERENT", repr(query), how, "\n  direct  ", repr(one)[:1500], "\n  gateway ", repr(other)[:1500], flush=True)
            break
        if left.pg.status != pq.ConnStatus.OK: break
    left.pg.finish(); right.pg.finish()
    if differ > 20: break
print("ran", ran, "errors", errors, "timeouts", timeouts, "different", differ)
