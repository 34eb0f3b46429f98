//! What stands behind names: the gateway asks the backend's catalog on the bot's own connection, and judges by it.

use tests::{Lab, Postgres, Rules};

/// Reading and writing rows passes, and so do definitions; deleting, and what nobody can see through, does not.
fn rules() -> Rules {
    Rules::refusing()
        .policy("policy: everyday\nmatch: { resource: shop, effects: [read, write, session, schema] }\ndecide: allow\n")
        .refuse("unseen", "unknown, execute")
}

/// Functions and what hangs on them, made past the gateway.
const WORLD: &str = "
    CREATE TABLE counted (id int); INSERT INTO counted VALUES (1), (2);
    CREATE TABLE doomed (id int); INSERT INTO doomed VALUES (1), (2);
    CREATE TABLE watched (id int);
    CREATE TABLE ruled (id int);
    CREATE FUNCTION counting() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM counted';
    CREATE FUNCTION adding(n int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN IF n > 0 THEN INSERT INTO counted VALUES (n); END IF; RETURN n; END $$;
    CREATE FUNCTION wiping() RETURNS int LANGUAGE sql AS 'DELETE FROM doomed RETURNING 1';
    CREATE FUNCTION hiding() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM doomed'; END $$;
    CREATE FUNCTION on_watched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM doomed; RETURN NEW; END $$;
    CREATE TRIGGER t BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION on_watched();
    CREATE RULE r AS ON INSERT TO ruled DO ALSO DELETE FROM doomed;
    CREATE VIEW innocent AS SELECT wiping();
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.upper(text) RETURNS text LANGUAGE sql AS 'DELETE FROM public.doomed RETURNING $1';
    CREATE TYPE pair AS (n int);
    CREATE FUNCTION hungry(pair, pair) RETURNS bool LANGUAGE sql AS 'DELETE FROM public.doomed; SELECT true';
    CREATE OPERATOR >= (LEFTARG = pair, RIGHTARG = pair, FUNCTION = hungry);
    CREATE OPERATOR < (LEFTARG = pair, RIGHTARG = pair, FUNCTION = hungry);
    CREATE FUNCTION hungry(int, int) RETURNS bool LANGUAGE sql AS 'DELETE FROM public.doomed; SELECT true';
    CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hungry);
    CREATE TABLE pairs (p pair); INSERT INTO pairs VALUES (ROW(1));
    CREATE EXTENSION pg_trgm;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON SCHEMA public, evil TO PUBLIC";

fn world(name: &str, rules: &Rules) -> (Lab, Postgres) {
    let (lab, pg) = Lab::with_shop(name, rules);
    pg.admin(WORLD);
    (lab, pg)
}

fn doomed(pg: &Postgres) -> String {
    pg.admin("SELECT count(*) FROM doomed")
}

#[test]
fn p3_a_call_is_judged_by_what_it_does() {
    let (lab, pg) = world("inside", &rules());
    let bot = lab.bot("ci");
    for sql in [
        "SELECT counting() AS plain_call",
        "SELECT adding(7) AS writing_call",
        "SELECT similarity('ada', 'adb') AS extension_call",
        "SELECT 'ada' %> 'adb' AS extension_operator",
        "INSERT INTO counted VALUES (9)",
    ] {
        bot.psql(&pg.url(), sql).ok();
        assert_eq!(pg.ran(sql), 1, "{sql}");
    }
    for sql in [
        "SELECT wiping() AS wiped",
        "SELECT hiding()",
        "SELECT * FROM innocent",
        "INSERT INTO watched VALUES (1)",
        "INSERT INTO ruled VALUES (1)",
        "WITH w AS (INSERT INTO watched VALUES (1) RETURNING id) SELECT * FROM w",
        "SET search_path = evil, pg_catalog; SELECT upper('x')",
        "SELECT p BETWEEN p AND p FROM pairs",
        "SELECT p NOT BETWEEN p AND p FROM pairs",
        "SELECT p BETWEEN SYMMETRIC p AND p FROM pairs",
        "SET search_path = evil, pg_catalog, public; SELECT CASE 2 WHEN 3 THEN 4 END",
        "SET search_path = evil, pg_catalog, public; SELECT 2 IN (SELECT id FROM counted)",
        "SET search_path = evil, pg_catalog, public; SELECT 1 FROM counted JOIN counted AS other USING (id)",
        "SET search_path = evil, pg_catalog, public; SELECT 1 FROM counted NATURAL JOIN counted AS other",
    ] {
        let said = bot.psql(&pg.url(), sql).failed();
        assert!(said.all().contains("holdpoint"), "{sql}: {said}");
        assert_eq!(pg.ran(sql), 0, "{sql}");
    }
    assert_eq!(doomed(&pg), "2", "nothing was deleted");
    assert!(lab.record().contains("what stands behind names"), "what the gateway asks of itself is recorded");
    lab.verify();
}

#[test]
fn p3_by_the_text_alone_a_trigger_is_not_seen() {
    let (lab, pg) = world("outside", &rules().resource_line("postgres: { classify: text }"));
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "SELECT counting()").failed();
    bot.psql(&pg.url(), "INSERT INTO watched VALUES (1)").ok();
    assert_eq!(doomed(&pg), "0", "the trigger deletes");
    assert!(!lab.record().contains("what stands behind names"), "nothing was asked");
}

#[test]
fn p3_a_session_that_makes_the_lookup_fail_gains_nothing() {
    let (lab, pg) = world("blind", &rules());
    let script = |timeout: &str, sql: &str| {
        let url = format!("{}?options=-c%20statement_timeout%3D{timeout}", pg.url());
        lab.bot("ci").psql(&url, sql)
    };
    script("1ms", "INSERT INTO watched VALUES (1)").failed();
    script("1ms", "SET statement_timeout = 0").ok();
    assert_eq!(doomed(&pg), "2");
    script("9s", "INSERT INTO counted VALUES (5)").ok();
}

#[test]
fn p3_what_is_defined_anew_counts_from_the_next_statement_on() {
    let (lab, pg) = world("anew", &rules());
    let anew =
        "CREATE OR REPLACE FUNCTION counting() RETURNS bigint LANGUAGE sql AS 'DELETE FROM doomed RETURNING 1::bigint'";
    pg.admin("ALTER FUNCTION counting() OWNER TO app");
    let script = |statements: &[&str]| {
        let words: Vec<&str> = statements.iter().flat_map(|statement| ["-c", *statement]).collect();
        lab.bot("ci").run(&[&["psql", "-v", "ON_ERROR_STOP=1", &pg.url()][..], &words].concat())
    };
    script(&["SELECT counting() AS before", anew, "SELECT counting() AS after"]).failed();
    assert_eq!((pg.ran("AS before"), pg.ran("AS after")), (1, 0));
    // Inside a transaction the catalog cannot be asked, so what was defined there stays unknown.
    script(&["BEGIN", "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT mine()"]).failed();
    assert_eq!(pg.ran("SELECT mine()"), 0);
    assert_eq!(doomed(&pg), "2");
}

/// Code of users' own that nothing in a statement calls by name. What is held here is seen to; what is not, runs.
const UNNAMED: &str = "
    CREATE TABLE log (id int);
    CREATE FUNCTION wipe(text) RETURNS bool LANGUAGE sql AS 'DELETE FROM public.doomed; SELECT true';
    CREATE FUNCTION hide(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM doomed'; RETURN true; END $$;
    CREATE DOMAIN checked AS text CHECK (hide(VALUE));
    CREATE DOMAIN nested AS checked;
    CREATE TYPE holder AS (a int, b nested);
    CREATE TABLE domained (a checked); CREATE TABLE deep (a holder); CREATE TABLE listed (a checked[]);
    CREATE TYPE coin AS (n int);
    CREATE FUNCTION spend(coin) RETURNS text LANGUAGE sql AS 'DELETE FROM public.doomed RETURNING ''x''';
    CREATE CAST (coin AS text) WITH FUNCTION spend(coin) AS IMPLICIT;
    CREATE TABLE purse (c coin); INSERT INTO purse VALUES (ROW(1));
    CREATE TABLE settled (id int, a text DEFAULT set_config('app.tenant', '7', false));
    CREATE TABLE numbered (id serial, a int);
    CREATE TABLE policed (id int); ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON policed USING (pg_notify('c', 'x') IS NOT NULL);
    CREATE FUNCTION hash(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN $1; END $$;
    CREATE TABLE parted (id int) PARTITION BY RANGE (hash(id));
    CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE generated (id int, a int GENERATED ALWAYS AS (hash(id)) STORED);
    CREATE FUNCTION body() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM doomed; SELECT 1; END;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC";

#[test]
fn p3_code_that_no_statement_names_is_seen_too() {
    let (lab, pg) = world("unnamed", &rules());
    pg.admin(UNNAMED);
    let bot = lab.bot("ci");
    for sql in [
        "INSERT INTO domained VALUES ('x')",
        "INSERT INTO deep VALUES (ROW(1, 'x'))",
        "INSERT INTO listed VALUES ('{x}')",
        "SELECT 'x'::checked",
        "SELECT CAST('x' AS nested)",
        "SELECT 'x'::public.nested[]",
        "SELECT c::text FROM purse",
        "SELECT lower(c) FROM purse",
        "INSERT INTO settled VALUES (1)",
        "INSERT INTO parted VALUES (1)",
        "INSERT INTO generated VALUES (1)",
        "SELECT body()",
    ] {
        let said = bot.psql(&pg.url(), sql).failed();
        assert!(said.all().contains("holdpoint"), "{sql}: {said}");
        assert_eq!(pg.ran(sql), 0, "{sql}");
    }
    bot.psql(&pg.url(), "SELECT * FROM policed").failed().says(&["holdpoint"]);
    for sql in ["INSERT INTO numbered (a) VALUES (1)", "SELECT a FROM numbered", "SELECT 'x'::text, '1'::int"] {
        bot.psql(&pg.url(), sql).ok();
    }
    assert_eq!(doomed(&pg), "2", "nothing was deleted");
    lab.verify();
}

#[test]
fn p3_truncate_cascade_and_event_triggers_reach_further() {
    let rules = Rules::allowing()
        .policy("policy: kept\nmatch: { resource: shop, objects: [{ kind: table, name: grandchild }] }\ndecide: refuse\nreason: it is kept\n");
    let (lab, pg) = world("reaching", &rules.refuse("unseen", "unknown"));
    pg.admin(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY REFERENCES parent);
         CREATE TABLE grandchild (id int REFERENCES child); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);
         INSERT INTO grandchild VALUES (1); ALTER TABLE parent OWNER TO app; ALTER TABLE child OWNER TO app;
         ALTER TABLE grandchild OWNER TO app",
    );
    let bot = lab.bot("ci");
    bot.psql(&pg.url(), "TRUNCATE parent CASCADE").failed().says(&["it is kept"]);
    assert_eq!(pg.admin("SELECT count(*) FROM grandchild"), "1");
    bot.psql(&pg.url(), "CREATE TABLE before (id int)").ok();
    pg.admin(
        "CREATE FUNCTION fired() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; END $$;
         CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION fired()",
    );
    bot.psql(&pg.url(), "CREATE TABLE after (id int)").failed().says(&["holdpoint"]);
    lab.verify();
}
