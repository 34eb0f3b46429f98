//! One door: [`effects`] says what a text does; the corpus under `tests/corpus` goes through it line by line.

use serde_json::Value;

use std::{fmt::Write as _, thread, time::Instant};

use proptest::prelude::*;

use super::*;

const CORPUS: &str = concat!(
    include_str!("../../../../../tests/corpus/postgres-effects.txt"),
    include_str!("../../../../../tests/corpus/postgres-clients.txt")
);

fn look(text: &str) -> Classified {
    examine(text.as_bytes(), &Lexical::default())
}

fn effects(text: &str) -> String {
    look(text).meaning.effects.to_string()
}

fn objects(text: &str) -> Vec<String> {
    look(text).meaning.objects.iter().map(ToString::to_string).collect()
}

fn field(text: &str, name: &str) -> Value {
    look(text).meaning.fields[name].clone()
}

struct Line<'c> {
    id: &'c str,
    lexical: Lexical,
    expected: Effects,
    text: String,
}

fn corpus() -> impl Iterator<Item = Line<'static>> {
    CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut parts = line.splitn(3, '|');
        let mut next = || parts.next().expect("a corpus line has three parts").trim();
        let (head, expected, text) = (next(), next(), next());
        let mut words = head.split(' ');
        let id = words.next().expect("split yields one item at least");
        let lexical = Lexical { standard_conforming_strings: words.next() != Some("off"), utf8: true };
        let words = expected.split(',').map(str::trim).filter(|word| *word != "none");
        let expected = words.map(|word| word.parse::<Effect>().expect("the corpus names effects")).collect();
        Line { id, lexical, expected, text: text.replace("\\n", "\n") }
    })
}

#[test]
fn constructs_stand_for_operators_that_are_looked_up() {
    let operators =
        |sql: &str| -> Vec<String> { look(sql).inside.operators.iter().map(|called| called.name.clone()).collect() };
    for (sql, expected) in [
        ("SELECT 2 BETWEEN 1 AND 3", &["<=", ">="][..]),
        ("SELECT 2 NOT BETWEEN 1 AND 3", &["<", ">"]),
        ("SELECT 2 BETWEEN SYMMETRIC 1 AND 3", &["<=", ">="]),
        ("SELECT CASE a WHEN 1 THEN 2 END FROM t", &["="]),
        ("SELECT 1 FROM t JOIN u USING (a)", &["="]),
        ("SELECT 1 FROM t NATURAL JOIN u", &["="]),
        ("SELECT a IN (SELECT b FROM u) FROM t", &["="]),
        ("SELECT CASE WHEN a THEN 2 END FROM t", &[]),
        ("SELECT EXISTS (SELECT b FROM u) FROM t", &[]),
    ] {
        assert_eq!(operators(sql), expected, "{sql}");
    }
}

#[test]
fn corpus_has_the_expected_effects() {
    let mut wrong = String::new();
    let mut count = 0;
    for Line { id, lexical, expected, text } in corpus() {
        count += 1;
        let found = examine(text.as_bytes(), &lexical).meaning.clone();
        if found.effects != expected {
            writeln!(
                wrong,
                "{id}: {text}\n    expected {expected}\n    found    {} {:?}",
                found.effects, found.unknown
            )
            .expect("a String takes all");
        }
    }
    assert!(count >= 450, "the corpus has only {count} lines");
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn named(statements: &[Statement]) -> Vec<&str> {
    statements
        .iter()
        .map(|statement| match statement {
            Statement::Prepare { name, .. } | Statement::Execute { name } => name,
            _ => "",
        })
        .collect()
}

#[test]
fn p1_every_statement_of_a_text_counts() {
    assert_eq!(effects("SELECT 1; DROP TABLE t"), "read, delete, schema");
    assert_eq!(
        field("SELECT 1; DROP TABLE t; ALTER INDEX i RENAME TO j", "statements"),
        json!(["select", "drop_table", "alter_index"])
    );
    assert_eq!(field("SELECT 1; SELECT 2;", "statement_count"), json!(2));
    assert_eq!(look("SELECT 1; SELECT 2;").statements.len(), 2);
}

#[test]
fn p1_backslashes_mean_what_the_session_says() {
    let text = br"SELECT '\'; DROP TABLE t; --'";
    let lexical = |on| Lexical { standard_conforming_strings: on, utf8: true };
    let classifier = Classifier::new(1 << 20);
    let on = classifier.classify(text, &lexical(true));
    let off = classifier.classify(text, &lexical(false));
    assert!(on.meaning.effects.contains(Effect::Schema), "the literal ends at the backslash");
    assert!(!off.meaning.effects.contains(Effect::Schema), "the literal goes on to the last quote");
    // What one session was told is not told to another, and a text that fails leaves no setting behind in the parser.
    assert_eq!(classifier.classify(text, &lexical(true)), on);
    assert!(classifier.classify(br"SELECT '\'", &lexical(false)).meaning.effects.contains(Effect::Unknown));
    assert_eq!(examine(text, &lexical(true)), *on);
}

#[test]
fn p1_other_encodings_are_unknown_beyond_ascii() {
    let sjis = Lexical { utf8: false, ..Lexical::default() };
    assert_eq!(examine("SELECT 'ä'".as_bytes(), &sjis).meaning.effects, Effects::of(Effect::Unknown));
    assert_eq!(examine(b"SELECT 'a'", &sjis).meaning.effects, Effects::of(Effect::Read));
    assert_eq!(examine(b"SELECT '\xff'", &Lexical::default()).meaning.effects, Effects::of(Effect::Unknown));
    assert_eq!(examine("SELECT 'ä'".as_bytes(), &Lexical::default()).meaning.effects, Effects::of(Effect::Read));
}

#[test]
fn p1_what_cannot_be_read_is_unknown_with_a_reason() {
    let reason = |text: &[u8]| examine(text, &Lexical::default()).meaning.unknown.join("; ");
    assert!(reason(b"SELEC 1").contains("does not parse as SQL (syntax error at or near \"SELEC\")"));
    assert!(reason(b"SELECT '\xff'").contains("not UTF-8"));
    assert!(reason(b"SELECT 1\0; DROP TABLE t").contains("does not parse"));
    assert!(reason(&vec![b' '; LARGEST + 1]).contains("bytes long"));
    assert!(look("SELEC 1").reads.whole_row, "masking takes the unread for the worst");
}

#[test]
fn p2_effects_come_from_the_whole_tree() {
    assert_eq!(effects("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d"), "read, delete");
    let text =
        "SELECT (SELECT 1 FROM (WITH a AS (SELECT 1) SELECT * FROM a) x) UNION SELECT 1 FROM b WHERE EXISTS (TABLE c)";
    assert_eq!(field(text, "tables"), json!([{"schema": "", "name": "b"}, {"schema": "", "name": "c"}]));
    assert_eq!(objects("INSERT INTO s.t SELECT * FROM u"), ["table u", "table s.t"]);
    assert_eq!(field("INSERT INTO s.t SELECT * FROM u", "targets"), json!([{"schema": "s", "name": "t"}]));
}

#[test]
fn p2_a_cte_hides_no_table() {
    let tables = |text| field(text, "tables").as_array().expect("a list").len();
    assert_eq!(tables("WITH t AS (SELECT * FROM t) SELECT * FROM t"), 1, "the inner t is the table");
    assert_eq!(tables("WITH RECURSIVE t AS (SELECT * FROM t) SELECT * FROM t"), 0);
    assert_eq!(tables("WITH t AS (SELECT 1) SELECT * FROM public.t"), 1);
    assert_eq!(tables("WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t"), 1, "a target is never a CTE");
    assert_eq!(tables("SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) x, t"), 1, "the scope ends");
}

#[test]
fn p2_a_missing_where_shows_wherever_it_is() {
    for text in [
        "DELETE FROM t",
        "UPDATE t SET a = 1",
        "SELECT 1; DELETE FROM t",
        "WITH d AS (DELETE FROM t) SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM t",
    ] {
        assert_eq!(field(text, "where_missing"), json!(true), "{text}");
    }
    assert_eq!(field("DELETE FROM t WHERE true", "where_missing"), json!(false));
}

#[test]
fn p3_reasons_name_the_function() {
    assert_eq!(look("SELECT app.f(1)").meaning.unknown, ["calls app.f, which this gateway cannot see through"]);
    assert_eq!(look("DO 'x'").meaning.unknown, ["runs a DO block, which this gateway cannot see through"]);
    assert!(objects("SELECT pg_read_file('/etc/passwd')").contains(&"file /etc/passwd".to_owned()));
    assert!(objects("COPY t TO PROGRAM 'id'").contains(&"program id".to_owned()));
    assert_eq!(field("SELECT upper(a), app.f() FROM t", "functions"), json!(["app.f", "upper"]));
}

#[test]
fn p3_attribute_notation_is_a_call() {
    // Tried on PostgreSQL 15: this returns the file.
    assert_eq!(effects("SELECT ('/etc/hostname'::text).pg_read_file"), "read, transfer, admin");
    assert!(look("SELECT c.row_to_json FROM customers c").reads.whole_row);
}

#[test]
fn p3_a_column_of_a_function_that_is_none_is_a_call() {
    // Each was tried on PostgreSQL 15: it runs the function.
    for (text, found) in [
        ("SELECT f.pg_read_file FROM unnest(ARRAY['/etc/hostname']) AS f", "read, transfer, admin"),
        ("SELECT f.pg_terminate_backend FROM generate_series(1, 1) AS f", "read, admin"),
        ("SELECT f.nextval FROM unnest(ARRAY['sq'::regclass]) AS f", "read, write"),
        ("SELECT t.nextval FROM t", "read, write"),
        ("SELECT f.wipe_int FROM generate_series(1, 1) f", "read, execute, unknown"),
        ("SELECT 1 FROM generate_series(1, 1) WHERE generate_series.wipe_int", "read, execute, unknown"),
        ("SELECT 1 FROM generate_series(1, 1) AS f(i) ORDER BY f.f", "read, execute, unknown"),
        ("SELECT d.wipe_date FROM current_date d", "read, execute, unknown"),
        (
            "PREPARE p AS SELECT 1; SELECT f.x FROM ROWS FROM (unnest($1), unnest($2)) AS f(a)",
            "read, execute, session, unknown",
        ),
        ("EXPLAIN SELECT f.wipe_int FROM generate_series(1, 1) f", "read, execute, unknown"),
    ] {
        assert_eq!(effects(text), found, "{text}");
    }
    for text in [
        "SELECT f.f FROM generate_series(1, 1) f",
        "SELECT generate_series.generate_series FROM generate_series(1, 1)",
        "SELECT g.i, g.n FROM unnest($1) WITH ORDINALITY AS g(i, n)",
        "SELECT g.ordinality FROM unnest($1) WITH ORDINALITY g",
        "SELECT e.key, upper(e.value) FROM t, jsonb_each_text(t.doc) e",
        "SELECT r.a FROM jsonb_to_recordset($1) AS r(a int, b text)",
        "SELECT r.id FROM jsonb_populate_recordset(null::t, $1) r",
        "SELECT a.grantee FROM aclexplode($1) a",
        "SELECT t.wipe FROM t",
    ] {
        assert_eq!(effects(text), "read", "{text}");
    }
    assert!(look("SELECT t.wipe, s.t.x FROM t").reads.dotted.iter().eq(["wipe", "x"]), "the catalog is asked");
}

#[test]
fn p3_a_row_is_taken_by_every_function_that_can() {
    for name in functions::TAKES_ROW {
        assert!(look(&format!("SELECT c.{name} FROM customers c")).reads.whole_row, "{name}");
        assert!(look(&format!("SELECT 1 FROM customers WHERE public.customers.{name} = $1")).reads.whole_row, "{name}");
    }
    for name in ["name", "date", "position", "count", "rank", "id"] {
        assert!(!look(&format!("SELECT c.{name} FROM customers c")).reads.whole_row, "{name} can take no row");
    }
    // PostgreSQL 18: rows before and after.
    for text in [
        "UPDATE t SET a = 1 RETURNING old::text",
        "DELETE FROM t RETURNING WITH (OLD AS o) upper(o::text)",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded::text",
    ] {
        assert!(look(text).reads.whole_row, "{text}");
    }
}

#[test]
fn p3_operators_are_postgresqls_own_or_unknown() {
    for text in
        ["SELECT 1 ==> 2", "SELECT 1 ORDER BY 1 USING <<<", "SELECT 1 ==> ANY (SELECT 2)", "SELECT 1 OPERATOR(s.+) 2"]
    {
        assert_eq!(effects(text), "read, execute, unknown", "{text}");
    }
    assert_eq!(
        effects(
            "SELECT a <> 1 AND b != 2 AND c NOT BETWEEN SYMMETRIC 1 AND 2 AND d !~* 'x' OR e @> $1 OR f ? 'x' FROM t"
        ),
        "read"
    );
    assert_eq!(
        effects("SELECT a LIKE 'x' OR b NOT ILIKE 'y' OR c SIMILAR TO 'z' OR d IN (1) OR e IS DISTINCT FROM 1 FROM t"),
        "read"
    );
}

#[test]
fn p3_what_is_newer_than_the_backend_is_told() {
    assert_eq!(look("SELECT uuidv7()").reads.newest, 18);
    assert_eq!(look("PREPARE p AS SELECT erf(x) FROM t").reads.newest, 16);
    assert_eq!(look("SELECT now()").reads.newest, 0);
    assert!(
        functions::NEWER
            .iter()
            .flat_map(|(_, names)| *names)
            .all(|name| functions::builtin(name) == functions::Call::Harmless)
    );
}

#[test]
fn p3_what_keeps_a_value_out_of_a_table_is_unknown() {
    for text in [
        "SELECT set_config('application_name', ssn, false) FROM customers",
        "SELECT set_config('x.y', (SELECT ssn FROM customers), false)",
        "SELECT pg_advisory_lock(num) FROM customers",
        "SELECT pg_try_advisory_xact_lock(1, num) FROM customers",
        "SELECT pg_notify('a', ssn) FROM customers",
        "SELECT setval('s', num) FROM customers",
        "SELECT lo_from_bytea(1, ssn::bytea) FROM customers",
    ] {
        let found = look(text).meaning.effects;
        assert!(found.contains(Effect::Transfer) && found.contains(Effect::Unknown), "{text}: {found}");
    }
    for text in [
        "SELECT set_config('application_name', 'x', false), relname FROM pg_class",
        "SELECT pg_advisory_lock($1::bigint) FROM t",
        "SELECT pg_advisory_xact_lock(hashtext('job'))",
        "SELECT setval('s', -5, true)",
    ] {
        assert!(!look(text).meaning.effects.contains(Effect::Unknown), "{text}");
    }
}

#[test]
fn p15_columns_that_shape_the_result_are_a_field() {
    assert_eq!(field("SELECT id, name FROM customers WHERE ssn LIKE '123%'", "computed"), json!(["ssn"]));
    assert_eq!(field("SELECT id FROM a JOIN b ON a.x = substr(b.ssn, 1)", "computed"), json!(["ssn", "x"]));
    assert_eq!(field("SELECT ssn FROM customers", "computed"), json!([]));
}

#[test]
fn p15_what_is_stored_is_told_from_what_is_compared() {
    let stored = |text: &str| look(text).reads.stored.clone().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(stored("UPDATE customers SET name = ssn WHERE id = 1 RETURNING name"), "ssn");
    assert_eq!(stored("UPDATE customers SET name = $1 WHERE ssn = $2 RETURNING id"), "");
    assert_eq!(stored("INSERT INTO notes SELECT id, ssn FROM customers RETURNING note"), "id ssn");
    assert_eq!(
        stored(
            "INSERT INTO customers (ssn) VALUES ($1) ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn RETURNING id"
        ),
        ""
    );
    assert!(
        stored(
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = (SELECT excluded.ssn FROM customers excluded)"
        )
        .contains("ssn")
    );
    assert!(stored("WITH s AS (SELECT ssn AS x FROM customers) UPDATE t SET a = x FROM s RETURNING a").contains("ssn"));
    assert!(stored("WITH s AS (SELECT ssn AS x FROM customers), u AS (UPDATE t SET a = (SELECT x FROM s) RETURNING a) SELECT a FROM u").contains("ssn"));
    assert_eq!(
        stored("MERGE INTO t USING (SELECT ssn FROM customers) s ON true WHEN MATCHED THEN UPDATE SET a = s.ssn"),
        "ssn"
    );
    assert!(
        look("UPDATE t SET a = 1").reads.stores && !look("SELECT a FROM t").reads.stores && look("SELEC").reads.stores
    );
}

#[test]
fn p3_only_listed_functions_are_harmless() {
    for name in [
        "pg_read_file",
        "set_config",
        "nextval",
        "dblink",
        "query_to_xml",
        "lo_export",
        "pg_sleep",
        "ts_stat",
        "ts_rewrite",
    ] {
        assert_ne!(functions::builtin(name), functions::Call::Harmless, "{name}");
    }
    for name in ["no_such_function", "pg_catalog", "", "#"] {
        assert_eq!(functions::builtin(name), functions::Call::Unseen, "{name}");
    }
}

#[test]
fn p4_execute_means_what_was_prepared() {
    let nothing = |_: &str| None;
    let text = look("PREPARE p AS DELETE FROM t; EXECUTE p");
    assert_eq!(named(&text.statements), ["p", "p"]);
    assert!(text.meaning.effects.contains(Effect::Unknown));
    let resolved = text.resolve(nothing, nothing).meaning.clone();
    assert_eq!(resolved.effects.to_string(), "delete, session");
    assert_eq!(resolved.fields["where_missing"], json!(true));
    assert_eq!(resolved.fields["tables"], json!([{"schema": "", "name": "t"}]));

    let earlier = look("PREPARE p AS SELECT f() FROM x").statements;
    let [Statement::Prepare { sense, .. }] = &earlier[..] else { panic!("one PREPARE") };
    let execute = look("EXECUTE p").resolve(|name| (name == "p").then(|| sense.clone()), nothing).meaning.clone();
    assert_eq!(execute.effects.to_string(), "read, execute, unknown");
    assert_eq!(execute.unknown, ["calls f, which this gateway cannot see through"]);
    assert_eq!(effects("PREPARE p AS DROP TABLE x"), "unknown", "the grammar prepares no DDL");
}

#[test]
fn p4_a_name_that_nobody_knows_stays_unknown() {
    let harmless = || look("PREPARE p AS SELECT 1").statements;
    let known = |_: &str| match &harmless()[..] {
        [Statement::Prepare { sense, .. }] => Some(sense.clone()),
        _ => None,
    };
    let nothing = |_: &str| None;
    let resolved = |text: &str| look(text).resolve(known, nothing).meaning.effects.to_string();
    assert_eq!(look("EXECUTE p").resolve(nothing, nothing).meaning.effects.to_string(), "execute, unknown");
    assert_eq!(resolved("EXECUTE p"), "read");
    assert_eq!(resolved("DEALLOCATE p; EXECUTE p"), "execute, session, unknown");
    assert_eq!(resolved("DEALLOCATE ALL; EXECUTE p"), "execute, session, unknown");
    assert_eq!(resolved("DISCARD ALL; EXECUTE p"), "execute, session, unknown");
    assert_eq!(resolved("EXPLAIN ANALYZE EXECUTE p"), "read");
    assert_eq!(resolved("CREATE TABLE x AS EXECUTE p"), "read, write, schema");
    assert_eq!(resolved("EXECUTE p; DROP TABLE t"), "read, delete, schema");
}

#[test]
fn p4_a_cursor_means_its_query() {
    let nothing = |_: &str| None;
    assert_eq!(
        look("DECLARE c CURSOR FOR SELECT 1; FETCH c").resolve(nothing, nothing).meaning.effects.to_string(),
        "read, session"
    );
    assert_eq!(
        look("DECLARE c CURSOR FOR SELECT 1; CLOSE c; FETCH c").resolve(nothing, nothing).meaning.effects.to_string(),
        "read, execute, session, unknown"
    );
    assert_eq!(look("SELECT 1").resolve(nothing, nothing).meaning.effects.to_string(), "read");
}

#[test]
fn p7_copy_tells_what_masking_needs() {
    let copy = |text: &str| look(text).statements.swap_remove(0);
    let expected = Statement::Copy {
        to_stdout: true,
        from_stdin: false,
        relation: Some((Some("s".to_owned()), "t".to_owned())),
        columns: vec!["a".to_owned(), "b".to_owned()],
        query: false,
        format: CopyFormat::Csv,
        options: [("format", "csv"), ("delimiter", ";"), ("header", ""), ("null", "-")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    assert_eq!(copy("COPY s.t (a, b) TO STDOUT (FORMAT csv, DELIMITER ';', HEADER, NULL '-')"), expected);
    let Statement::Copy { to_stdout, from_stdin, format, .. } = copy("COPY t FROM STDIN WITH BINARY") else {
        panic!("a COPY")
    };
    assert_eq!((to_stdout, from_stdin, format), (false, true, CopyFormat::Binary));
    let Statement::Copy { query, relation, .. } = copy("COPY (SELECT ssn FROM t) TO STDOUT") else { panic!("a COPY") };
    assert_eq!((query, relation), (true, None));
    let Statement::Copy { to_stdout, from_stdin, .. } = copy("COPY t TO '/tmp/x'") else { panic!("a COPY") };
    assert!(!to_stdout && !from_stdin);
}

#[test]
fn p11_the_tracker_learns_of_roles_and_settings() {
    let one = |text: &str| look(text).statements.swap_remove(0);
    let set = |name: &str, value: Option<&str>, local| Statement::Set {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        local,
    };
    let role =
        |role: Option<&str>, session, local| Statement::SetRole { role: role.map(str::to_owned), session, local };
    assert_eq!(one("SET LOCAL ROLE bob"), role(Some("bob"), false, true));
    assert_eq!(one("SET ROLE NONE"), role(None, false, false));
    assert_eq!(one("RESET ROLE"), role(None, false, false));
    assert_eq!(one("SET SESSION AUTHORIZATION bob"), role(Some("bob"), true, false));
    assert_eq!(one("SET SESSION AUTHORIZATION DEFAULT"), role(None, true, false));
    assert_eq!(one("SET search_path TO a, \"B\""), set("search_path", Some("a, B"), false));
    assert_eq!(one("SET LOCAL Statement_Timeout = 5000"), set("statement_timeout", Some("5000"), true));
    assert_eq!(one("SET work_mem TO DEFAULT"), set("work_mem", None, false));
    assert_eq!(one("SET standard_conforming_strings = off"), set("standard_conforming_strings", Some("off"), false));
    assert_eq!(one("RESET work_mem"), Statement::Reset { name: "work_mem".to_owned() });
    assert_eq!(one("RESET ALL"), Statement::ResetAll);
    assert_eq!(one("SELECT set_config('Role', $1, true)"), Statement::MaySet { names: vec![Some("role".to_owned())] });
    assert_eq!(one("SELECT set_config($1, $2, true)"), Statement::MaySet { names: vec![None] });
    let selected = |from: &str, condition: &str| {
        one(&format!("SELECT set_config(name, 'x', false) FROM {from} WHERE {condition}"))
    };
    let known = Statement::MaySet { names: vec![Some("lock_timeout".to_owned())] };
    assert_eq!(selected("pg_settings", "name = 'lock_timeout'"), known);
    assert_eq!(selected("pg_catalog.pg_settings", "pg_settings.name = 'lock_timeout'"), known);
    for (from, condition) in [
        ("pg_settings", "name = 'lock_timeout' OR true"),
        ("pg_settings", "name <> 'lock_timeout'"),
        ("pg_settings", "name ~ 'lock_timeout'"),
        ("pg_settings", "name OPERATOR(app.=) 'lock_timeout'"),
        ("pg_settings", "name = 'lock_timeout'::app.t"),
        ("pg_settings AS s(x, name)", "name = 'lock_timeout'"),
        ("pg_settings, pg_class", "name = 'lock_timeout'"),
        ("app.pg_settings", "name = 'lock_timeout'"),
        ("settings", "name = 'lock_timeout'"),
    ] {
        assert_eq!(selected(from, condition), Statement::MaySet { names: vec![None] }, "{from} {condition}");
    }
    let inner = "SELECT (SELECT set_config(name, 'x', false)) FROM pg_settings WHERE name = 'lock_timeout'";
    assert_eq!(one(inner), Statement::MaySet { names: vec![None] });
    assert_eq!(one("ALTER ROLE bob SET search_path = x"), Statement::Other);
}

#[test]
fn p12_transaction_statements_are_told_apart() {
    let found =
        look("COMMIT; BEGIN READ WRITE; ROLLBACK AND CHAIN; SAVEPOINT a; RELEASE a; ROLLBACK TO a; END").statements;
    let name = || "a".to_owned();
    assert_eq!(
        found,
        [
            Statement::Commit { chain: false },
            Statement::Begin,
            Statement::Rollback { chain: true },
            Statement::Savepoint { name: name() },
            Statement::Release { name: name() },
            Statement::RollbackTo { name: name() },
            Statement::Commit { chain: false },
        ]
    );
    assert_eq!(effects("/* SELECT only */ COMMIT; DROP TABLE t"), "delete, schema, session");
}

#[test]
fn p15_references_show_what_lineage_cannot() {
    let reads = |text: &str| look(text).reads.clone();
    let plain = reads("SELECT ssn AS x, Email FROM customers c WHERE id = 1");
    assert_eq!(plain.columns.iter().collect::<Vec<_>>(), ["email", "id", "ssn"]);
    assert_eq!(plain.computed.iter().collect::<Vec<_>>(), ["id"]);
    assert!(!plain.whole_row && !plain.inner_star && !plain.set_operation);
    assert!(!reads("SELECT * FROM customers").whole_row);
    for text in [
        "SELECT row_to_json(c) FROM customers c",
        "SELECT customers FROM customers",
        "SELECT public.customers FROM public.customers",
        "SELECT ROW(c.*) FROM customers c",
        "SELECT md5(c::text) FROM customers c",
        "SELECT (c).* FROM customers c",
        "SELECT upper(c.b) FROM customers AS c(a, b)",
        "SELECT 1 FROM customers NATURAL JOIN (VALUES ('123')) v(ssn)",
        "SELECT upper(s.b) FROM (SELECT * FROM customers) s(a, b)",
        "WITH s(a, b) AS (SELECT * FROM customers) SELECT upper(b) FROM s",
        "SELECT json_agg(x) FROM (SELECT * FROM customers) x",
    ] {
        assert!(reads(text).whole_row, "{text}");
    }
    for text in [
        "SELECT s.a FROM (SELECT * FROM t) s",
        "INSERT INTO u SELECT * FROM t",
        "COPY (SELECT * FROM t) TO STDOUT",
        "CREATE TABLE x AS SELECT * FROM t",
    ] {
        assert!(reads(text).inner_star, "{text}");
    }
    assert!(reads("SELECT a FROM t UNION SELECT ssn FROM customers").set_operation);
    assert!(reads("SELECT 1 FROM customers JOIN v USING (ssn)").computed.contains("ssn"));
    assert!(reads("SELECT (SELECT ssn FROM customers)").computed.contains("ssn"));
    assert!(reads("SELECT 1 FROM customers ORDER BY ssn").computed.contains("ssn"));
    for sql in [
        "SELECT id, ssn FROM customers ORDER BY 2",
        "SELECT id, ssn AS z FROM customers ORDER BY z DESC",
        "SELECT ssn FROM customers GROUP BY 1",
        "SELECT ssn FROM customers GROUP BY GROUPING SETS ((1), ())",
        "SELECT DISTINCT ON (1) ssn, id FROM customers",
        "SELECT id FROM a UNION ALL SELECT ssn FROM customers ORDER BY 1",
    ] {
        assert!(reads(sql).computed.contains("ssn"), "{sql}");
    }
    for sql in ["SELECT id, ssn FROM customers ORDER BY 1", "SELECT id AS z, ssn FROM customers ORDER BY z"] {
        assert!(!reads(sql).computed.contains("ssn"), "{sql}");
    }
    assert!(reads("SELECT * FROM customers ORDER BY 2").whole_row);
    assert!(reads("DELETE FROM customers RETURNING ssn").columns.contains("ssn"));
    assert!(reads("PREPARE p AS SELECT upper(ssn) FROM customers").computed.contains("ssn"));
}

/// Everything of a kind in the tree as the parser's own JSON form shows it, which owes nothing to the walk.
fn dumped<'v>(value: &'v Value, found: &mut Vec<&'v serde_json::Map<String, Value>>) {
    match value {
        Value::Object(map) => {
            found.push(map);
            map.iter().filter(|(name, _)| *name != "locked_rels").for_each(|(_, value)| dumped(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| dumped(item, found)),
        _ => {}
    }
}

fn last_string(list: &Value) -> Option<&str> {
    list.as_array()?.last()?.pointer("/node/String/sval")?.as_str()
}

fn all_is_seen(text: &str, lexical: &Lexical) {
    let Ok(tree) = parse(text.as_bytes(), lexical) else { return };
    let seen = survey(&tree);
    let dump = serde_json::to_value(&tree).expect("the tree has a JSON form");
    let mut nodes = Vec::new();
    dumped(&dump, &mut nodes);
    let tables: Vec<&str> = seen.reads.tables.iter().map(|table| table.name.as_str()).collect();
    let ctes: Vec<&Value> = nodes.iter().filter_map(|node| node.get("ctename")).collect();
    let functions = seen.meaning.fields["functions"].to_string();
    for node in &nodes {
        if let (Some(name), Some(_)) = (node.get("funcname"), node.get("agg_star")) {
            let name = last_string(name).expect("a call has a name");
            assert!(functions.contains(&format!("{name}\"")), "the walk missed the call of {name} in {text}");
        }
        if let Some(Value::String(name)) = node.get("relname") {
            let known = tables.contains(&name.as_str()) || ctes.iter().any(|cte| *cte == name);
            assert!(known, "the walk missed the relation {name} in {text}");
        }
        if let Some(column) = node.get("ColumnRef").and_then(|column| last_string(&column["fields"])) {
            assert!(seen.reads.columns.contains(column), "the walk missed the column {column} in {text}");
        }
        for (statement, effect) in [
            ("DeleteStmt", Effect::Delete),
            ("InsertStmt", Effect::Write),
            ("UpdateStmt", Effect::Write),
            ("TruncateStmt", Effect::Delete),
            ("DropStmt", Effect::Schema),
            ("DoStmt", Effect::Unknown),
        ] {
            let later = text.contains("PREPARE") || text.contains("EXPLAIN");
            assert!(
                later || !node.contains_key(statement) || seen.meaning.effects.contains(effect),
                "{statement} left no trace in {text}"
            );
        }
    }
}

#[test]
fn the_walk_misses_nothing_that_the_parsers_own_dump_shows() {
    for line in corpus() {
        all_is_seen(&line.text, &line.lexical);
    }
}

/// The whole life of a text, in a thread with the smallest stack that the gateway gives its workers.
fn survives(text: String) -> Classified {
    let small = thread::Builder::new().stack_size(1 << 20);
    small.spawn(move || look(&text)).expect("a thread starts").join().expect("no text panics")
}

#[test]
fn deep_nesting_is_unknown_and_harms_nothing() {
    let n = 100_000;
    let wrap =
        |open: &str, core: &str, close: &str, n: usize| format!("SELECT {}{core}{}", open.repeat(n), close.repeat(n));
    let mut texts = Vec::new();
    for n in [60, 150, 1_000, 4_000, 9_000, 20_000, n] {
        texts.push(wrap("(", "1", ")", n));
        texts.push(wrap("", "a", "+a", n));
        texts.push(wrap("", "a", " AND a", n));
        texts.push(wrap("NOT ", "a", "", n / 2));
        texts.push(wrap("- ", "a", "", n));
        texts.push(format!("SELECT ARRAY{}1{}", "[".repeat(n), "]".repeat(n)));
        texts.push(wrap("CASE WHEN 1=1 THEN ", "1", " END", n / 10));
        texts.push(wrap("f(", "1", ")", n / 2));
        texts.push(wrap("(SELECT ", "1", ")", n / 10));
        texts.push(wrap("", "1", " UNION SELECT 1", n / 10));
        texts.push(format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(n / 10), ") x".repeat(n / 10)));
        texts.push(wrap("", "a", "[1]", n / 2));
        texts.push(wrap("", "a", "::text", n / 4));
        texts.push("EXPLAIN ".repeat(n / 10) + "SELECT 1");
        texts.push("SELECT 1;".repeat(n / 10));
        texts.push("(".repeat(n));
        texts.push("/*".repeat(n));
    }
    texts.push("(".repeat(300_000));
    for text in texts {
        let shown: String = text.chars().take(40).collect();
        let found = survives(text);
        let effects = found.meaning.effects;
        assert!(
            effects.within(Effects::of(Effect::Read).with(Effect::Unknown).with(Effect::Execute)),
            "{shown}… {effects}"
        );
    }
    let deep = survives(format!("SELECT {}1{}; DROP TABLE t", "f(".repeat(200), ")".repeat(200)));
    assert_eq!(deep.meaning.effects, Effects::of(Effect::Unknown));
    assert_eq!(deep.meaning.unknown, ["the statement is nested too deeply to be read"]);
}

#[test]
fn no_text_costs_more_than_its_size() {
    // Whatever is repeated, the largest text is read in a time that other connections can bear; `/*` once took a minute.
    let units = "/* + - +- * */ -- = <> @ ` ? | ( ) [ ] , ; . : :: ' '' \" \"\" $ $$ $a $a$ $1 \\ E'\\ U&' U&\" 1 1. .1 1e 0x a ä a. a, (a), a( NOT CASE WHEN \
                 SELECT UNION AND a=a, a::a, 'a' 'a'\\n B'1' X' #- @- ~- ~+ !+ ^- %- &- |- `- ?- <- >- =- ++- /- /+ */ /**/ --\\n '\\n'";
    let mut slow = Vec::new();
    for unit in units.split_whitespace().map(|unit| unit.replace("\\n", "\n")) {
        for head in ["", "SELECT ", "SELECT '", "SELECT $x$", "SELECT a FROM t WHERE a IN (", "/*"] {
            for gap in ["", " "] {
                let body = format!("{unit}{gap}");
                let text = head.to_owned() + &body.repeat((LARGEST - head.len()) / body.len());
                let start = Instant::now();
                examine(text.as_bytes(), &Lexical::default());
                if start.elapsed().as_millis() > 1_500 {
                    slow.push(format!("{head}{unit}{gap}: {:?}", start.elapsed()));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
    assert!(
        look(&("SELECT 1 /".to_owned() + &"*".repeat(2_000) + "/")).meaning.unknown.is_empty(),
        "a frame of stars is common"
    );
    assert!(look(&format!("SELECT {}1", "+".repeat(100_000))).meaning.unknown[0].contains("operator characters"));
}

#[test]
fn a10_only_integers_of_data_statements_are_folded() {
    let fold = |text: &str| String::from_utf8(cache::folded(text.as_bytes()).into_owned()).expect("ASCII stays ASCII");
    assert_eq!(fold("SELECT abalance FROM t WHERE aid = 4711;"), "SELECT abalance FROM t WHERE aid = 1;");
    for places in [
        "SELECT a, b FROM t ORDER BY 2",
        "SELECT a, b FROM t order  by a,(2) , 22",
        "SELECT DISTINCT ON (2) a, b FROM t",
        "SELECT a, b FROM t GROUP BY ROLLUP (2, 3)",
    ] {
        assert_eq!(fold(places), places);
    }
    assert_eq!(fold("SELECT a FROM t ORDER BY 2 LIMIT 20"), "SELECT a FROM t ORDER BY 2 LIMIT 1");
    assert_eq!(fold("update t set a=a+-30 where b in (0,22,333)"), "update t set a=a+-1 where b in (1,1,1)");
    for text in [
        "SELECT a1, _2, t2.c3, 1.5, .5, 1e5, 0x1F, 1_000, 1234567890 FROM t",
        "SELECT '12'",
        "SELECT \"12\"",
        "SELECT $12",
        "SELECT 12 -- x",
        "SELECT 12 /* x */",
        "SELECT 12, 'ä'",
        "SELECT 12; SELECT 13",
        "SET statement_timeout = 12",
        "FETCH 12 FROM c",
        "EXPLAIN (ANALYZE 0) DELETE FROM t",
        "COPY t FROM STDIN",
    ] {
        assert_eq!(fold(text), text);
    }
}

#[test]
fn a10_one_text_never_answers_for_another() {
    let classifier = Classifier::new(1 << 20);
    let lexical = Lexical::default();
    let ask = |text: &str| classifier.classify(text.as_bytes(), &lexical);
    for _ in 0..2 {
        for line in corpus() {
            let found = classifier.classify(line.text.as_bytes(), &line.lexical);
            assert_eq!(*found, examine(line.text.as_bytes(), &line.lexical), "{}", line.text);
        }
    }
    assert!(Arc::ptr_eq(&ask("SELECT 1"), &ask("SELECT 2")));
    assert!(!Arc::ptr_eq(&ask("SELECT 'a'"), &ask("SELECT 'b'")));
    assert_ne!(ask("SET statement_timeout = 1"), ask("SET statement_timeout = 2"));
}

#[test]
fn the_cache_keeps_within_its_bytes() {
    let classifier = Classifier::new(64 << 10);
    for number in 0..2_000 {
        classifier.classify(format!("SELECT column_{number} FROM t").as_bytes(), &Lexical::default());
    }
    assert!(classifier.cache.entries() <= 32, "{} entries", classifier.cache.entries());
}

/// Pieces of SQL that make many valid statements when strung together, and many broken ones.
fn piece() -> impl Strategy<Value = String> {
    let words = "SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE WITH AS ( ) , ; * = + - a b t f( 1 22 333 0 1.5 'x' E'\\' $$ $1 \" -- /* */ \
                 JOIN ON USING UNION ALL LIMIT ORDER BY GROUP CASE WHEN THEN ELSE END NOT IN EXISTS COPY TO STDOUT PROGRAM EXPLAIN ANALYZE PREPARE EXECUTE \
                 DROP TABLE ALTER CREATE FUNCTION DO CALL MERGE RETURNING ARRAY[ ] :: . ROW FOR SET ROLE U&'\\0027' \\ ' \0 ä";
    let words: Vec<&'static str> = words.split_whitespace().collect();
    prop_oneof![4 => prop::sample::select(words).prop_map(str::to_owned), 1 => "[ -~]{1,4}", 1 => "[0-9]{1,12}"]
}

/// Data statements with integers in every place that takes one.
fn data_statement() -> impl Strategy<Value = String> {
    let shapes = vec![
        "SELECT # FROM t# WHERE a = # AND b IN (#, #) LIMIT # OFFSET #",
        "SELECT a::numeric(#, #), b[#], c[#:#] FROM s.t GROUP BY # ORDER BY #",
        "INSERT INTO t (a, b) VALUES (#, -#), (#, f(#))",
        "UPDATE t SET a = a + -#, b = # WHERE c BETWEEN # AND # RETURNING *",
        "DELETE FROM t WHERE a = # OR pg_terminate_backend(#) OR b = #;",
        "WITH x AS (SELECT #) SELECT generate_series(#, #), set_config(a, b, c = #) FROM x",
        "VALUES (#, #)",
        "SELECT * FROM t TABLESAMPLE bernoulli(#) REPEATABLE (#) FETCH FIRST # ROWS ONLY",
        "MERGE INTO t USING u ON t.a = # WHEN MATCHED THEN UPDATE SET b = # WHEN NOT MATCHED THEN INSERT VALUES (#)",
        "SELECT sum(a) OVER (ORDER BY b ROWS # PRECEDING), nullif(a, #) FROM t",
    ];
    (prop::sample::select(shapes), prop::collection::vec(0u32..=999_999_999, 8)).prop_map(|(shape, numbers)| {
        let mut numbers = numbers.iter().cycle();
        shape
            .chars()
            .map(|c| if c == '#' { numbers.next().expect("endless").to_string() } else { c.to_string() })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a10_the_meaning_does_not_depend_on_integers(text in data_statement()) {
        let folded = cache::folded(text.as_bytes()).into_owned();
        prop_assert_ne!(&folded[..], text.as_bytes());
        prop_assert_eq!(examine(text.as_bytes(), &Lexical::default()), examine(&folded, &Lexical::default()));
    }

    #[test]
    fn folding_keeps_every_meaning(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.join(" ");
        let (found, folded) = (examine(text.as_bytes(), &Lexical::default()), cache::folded(text.as_bytes()).into_owned());
        let of_folded = examine(&folded, &Lexical::default());
        // Where PostgreSQL minds a value (`float(0)`) it refuses the text.
        prop_assert!(found == of_folded || found.meaning.effects.contains(Effect::Unknown));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), on: bool) {
        examine(&bytes, &Lexical { standard_conforming_strings: on, utf8: true });
    }

    #[test]
    fn random_sql_is_seen_whole(pieces in prop::collection::vec(piece(), 0..24), on: bool) {
        all_is_seen(&pieces.join(" "), &Lexical { standard_conforming_strings: on, utf8: true });
    }

    #[test]
    fn mutated_statements_are_seen_whole(which: prop::sample::Index, at: prop::sample::Index, cut in 0usize..6, new in piece()) {
        let lines: Vec<Line> = corpus().collect();
        let line = which.get(&lines);
        let mut text: Vec<char> = line.text.chars().collect();
        let start = at.index(text.len() + 1);
        let end = (start + cut).min(text.len());
        text.splice(start..end, new.chars());
        all_is_seen(&text.into_iter().collect::<String>(), &line.lexical);
    }
}

#[test]
fn a_hit_costs_less_than_a_parse() {
    let classifier = Classifier::new(8 << 20);
    let lexical = Lexical::default();
    let time = |rounds: u32, mut once: Box<dyn FnMut(u32) + '_>| {
        let start = Instant::now();
        (0..rounds).for_each(&mut once);
        start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    let select = |number: u32| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};");
    let hit = time(100_000, Box::new(|n| drop(classifier.classify(select(n).as_bytes(), &lexical))));
    let miss = time(5_000, Box::new(|n| drop(examine(select(n).as_bytes(), &lexical))));
    let parse_only = time(5_000, Box::new(|n| drop(parse(select(n).as_bytes(), &lexical))));
    println!("pgbench select: hit {hit:.2} µs, miss {miss:.1} µs, of which the parser {parse_only:.1} µs");
    assert!(hit < miss, "hit {hit} µs, miss {miss} µs");
}
