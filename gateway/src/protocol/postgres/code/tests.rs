//! Bodies that are read, bodies that are not, and what names stand for.

use super::*;

/// The SQL in a PL/pgSQL body, a line for each text, or why it is not read.
fn read(body: &str) -> String {
    body::texts(body).map_or_else(|why| format!("in which {why}"), |texts| texts.join("\n"))
}

#[test]
fn simple_bodies_become_their_sql() {
    for (body, sql) in [
        ("BEGIN RETURN 1; END", "SELECT 1"),
        ("BEGIN NULL; END;", ""),
        ("DECLARE a int := f(); b text; BEGIN a := g(1, 2); END", "SELECT f ( )\nSELECT g ( 1 , 2 )"),
        ("BEGIN INSERT INTO log VALUES ('x'); RETURN NEW; END", "INSERT INTO log VALUES ( 'x' )\nSELECT NEW"),
        ("BEGIN SELECT a, b INTO STRICT x, r.y FROM t WHERE c = 1; END", "SELECT a , b FROM t WHERE c = 1"),
        (
            "BEGIN INSERT INTO t (a) VALUES (1) RETURNING id INTO x; END",
            "INSERT INTO t ( a ) VALUES ( 1 ) RETURNING id",
        ),
        (
            "BEGIN IF f() > 0 THEN PERFORM g(); ELSIF h() THEN NULL; ELSE RETURN; END IF; END",
            "SELECT f ( ) > 0\nSELECT g ( )\nSELECT h ( )",
        ),
        ("BEGIN FOR r IN SELECT * FROM t LOOP DELETE FROM u; END LOOP; END", "SELECT * FROM t\nDELETE FROM u"),
        ("BEGIN FOR i IN 1..f(2) LOOP NULL; END LOOP; END", "SELECT 1\nSELECT f ( 2 )"),
        ("BEGIN WHILE f() LOOP EXIT WHEN g(); END LOOP; END", "SELECT f ( )\nSELECT g ( )"),
        ("BEGIN RAISE NOTICE 'a % b %', f(), g() USING hint = h(); END", "SELECT f ( )\nSELECT g ( )\nSELECT h ( )"),
        ("BEGIN ASSERT f() > 0, g(); END", "SELECT f ( ) > 0\nSELECT g ( )"),
        ("BEGIN RETURN QUERY SELECT f(); END", "SELECT f ( )"),
        ("BEGIN BEGIN DELETE FROM u; EXCEPTION WHEN others THEN PERFORM f(); END; END", "DELETE FROM u\nSELECT f ( )"),
        ("BEGIN -- a; comment\n PERFORM 1; /* ; EXECUTE */ END", "SELECT 1"),
        // A variable that is called like a statement.
        ("DECLARE raise int; BEGIN raise := pg_terminate_backend(1); END", "SELECT pg_terminate_backend ( 1 )"),
        ("DECLARE null int; BEGIN null = f(); END", "SELECT f ( )"),
    ] {
        assert_eq!(read(body), sql, "{body}");
    }
}

#[test]
fn what_is_not_simple_is_not_read() {
    for body in [
        "BEGIN EXECUTE 'DELETE FROM u'; END",
        "BEGIN EXECUTE q = 'x'; END",
        "BEGIN RETURN QUERY EXECUTE 'SELECT 1'; END",
        "BEGIN FOR r IN EXECUTE 'DELETE FROM u RETURNING 1' LOOP NULL; END LOOP; END",
        "BEGIN OPEN c FOR EXECUTE 'SELECT 1'; END",
        "DECLARE c CURSOR FOR SELECT f(); BEGIN NULL; END",
        "BEGIN raise[1] := f(); END",
        "BEGIN null.a[1] := f(); END",
        "BEGIN a[f()] := 1; END",
        "BEGIN CASE f() WHEN 1 THEN NULL; END CASE; END",
        "<<outer>> BEGIN NULL; END",
        "#option dump\nBEGIN NULL; END",
        "BEGIN COMMIT; END",
        "BEGIN PERFORM f(; END",
        "BEGIN PERFORM f()); END",
        "BEGIN RETURN 1 END",
        "BEGIN NULL; END; DELETE FROM u;",
        "BEGIN 'unfinished",
        "",
    ] {
        assert!(read(body).starts_with("in which"), "{body}: {}", read(body));
    }
}

/// A catalog of functions: schema, name, language, body, extension.
fn code(functions: &[(&str, &str, &str, &str, Option<&str>)]) -> Code {
    let mut code = Code::default();
    for (number, (schema, name, language, body, extension)) in functions.iter().enumerate() {
        let oid = 20_000 + u32::try_from(number).expect("few");
        let function = Function {
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            language: (*language).to_owned(),
            body: Some((*body).to_owned()),
            extension: extension.map(str::to_owned),
            ..Function::default()
        };
        code.functions.insert(oid, function);
        code.functions_by_name.entry((*name).to_owned()).or_default().push(oid);
    }
    code
}

/// The effects of `text` where the catalog is `code`.
fn effects(code: &Code, text: &str, is_fresh: bool) -> String {
    let classifier = Classifier::new(1 << 20);
    let classified = classifier.classify(text.as_bytes(), &Lexical::default());
    code.see_through(&classified.sense, &classified, is_fresh, &classifier).effects.to_string()
}

#[test]
fn a_call_does_what_its_body_does() {
    let code = code(&[
        ("app", "total", "sql", "SELECT sum(total) FROM orders", None),
        ("app", "note", "plpgsql", "BEGIN INSERT INTO log VALUES ('x'); RETURN app.total(); END", None),
        ("app", "any_of", "sql", "SELECT 1", None),
        ("evil", "any_of", "sql", "DELETE FROM u", None),
        ("app", "again", "sql", "SELECT app.again()", None),
        ("app", "dynamic", "plpgsql", "BEGIN EXECUTE 'DELETE FROM u'; END", None),
        ("app", "python", "plpython3u", "plpy.execute('x')", None),
        ("app", "quoted", "sql", "SELECT '\\'; DELETE FROM u; --'", None),
        ("app", "kept_as_tree", "sql", "", None),
        ("public", "similarity", "c", "similarity", Some("pg_trgm")),
        ("public", "dblink_exec", "c", "dblink_exec", Some("dblink")),
        ("app", "in_c", "c", "anything", None),
        ("app", "file", "sql", "SELECT pg_read_file('x')", None),
        ("app", "lower", "sql", "DELETE FROM u", None),
        ("app", "pg_sleep", "sql", "DELETE FROM u", None),
    ]);
    for (text, fresh, stale) in [
        ("SELECT app.total()", "read", "read, execute, unknown"),
        ("SELECT note()", "read, write", "read, write, execute, unknown"),
        ("SELECT any_of()", "read, delete", "read, delete, execute, unknown"),
        ("SELECT app.any_of()", "read", "read, execute, unknown"),
        ("SELECT app.again()", "read", "read, execute, unknown"),
        ("SELECT app.dynamic()", "read, execute, unknown", "read, execute, unknown"),
        ("SELECT app.python()", "read, execute, unknown", "read, execute, unknown"),
        ("SELECT app.quoted()", "read, execute, unknown", "read, execute, unknown"),
        ("SELECT app.kept_as_tree()", "read, execute, unknown", "read, execute, unknown"),
        ("SELECT similarity('a', 'b')", "read", "read, execute, unknown"),
        ("SELECT dblink_exec('x')", "read, execute, transfer, unknown", "read, execute, transfer, unknown"),
        ("SELECT app.in_c()", "read, execute, unknown", "read, execute, unknown"),
        ("SELECT app.file()", "read, transfer, admin", "read, execute, transfer, admin, unknown"),
        ("SELECT nobody()", "read, execute, unknown", "read, execute, unknown"),
        // A user's function with a built-in's name counts as both, and only where the name could mean it.
        ("SELECT lower('X')", "read, delete", "read, delete"),
        ("SELECT pg_catalog.lower('X')", "read", "read"),
        ("SELECT pg_sleep(1)", "read, delete, execute", "read, delete, execute"),
        ("CALL app.note()", "read, write", "execute, unknown"),
    ] {
        assert_eq!(effects(&code, text, true), fresh, "{text}");
        if text.starts_with("SELECT app.any_of") || text.starts_with("CALL") {
            continue;
        }
        let found = effects(&code, text, false);
        assert!(
            stale.split(", ").filter(|word| ["execute", "unknown"].contains(word)).all(|word| found.contains(word)),
            "stale: {text}: {found}"
        );
    }
}

#[test]
fn what_stands_behind_a_table_comes_with_it() {
    let mut code = code(&[("app", "noted", "plpgsql", "BEGIN DELETE FROM u; RETURN NEW; END", None)]);
    let table = |name: &str| Table { schema: "public".to_owned(), name: name.to_owned() };
    let watched = Relation {
        schema: "public".to_owned(),
        on_write: Behind { functions: vec![20_000], ..Behind::default() },
        ..Relation::default()
    };
    let view = Relation {
        schema: "public".to_owned(),
        always: Behind { relations: vec![(table("watched"), Via::View)], ..Behind::default() },
        ..Relation::default()
    };
    let by_key = |name: &str, effects: Effects| Relation {
        schema: "public".to_owned(),
        on_delete: Behind { relations: vec![(table(name), Via::Key(effects))], effects, ..Behind::default() },
        ..Relation::default()
    };
    code.relations.insert("parent".to_owned(), vec![by_key("child", Effects::of(Effect::Delete))]);
    code.relations.insert("grandparent".to_owned(), vec![by_key("parent", Effects::of(Effect::Write))]);
    code.relations.insert("watched".to_owned(), vec![watched]);
    code.relations.insert("v".to_owned(), vec![view]);
    for (text, expected) in [
        ("SELECT * FROM watched", "read"),
        ("INSERT INTO watched VALUES (1)", "read, write, delete"),
        ("INSERT INTO public.watched VALUES (1)", "read, write, delete"),
        ("INSERT INTO other.watched VALUES (1)", "write"),
        ("SELECT * FROM v", "read"),
        ("UPDATE v SET a = 1", "read, write, delete"),
        ("EXPLAIN UPDATE v SET a = 1", "read"),
        ("DELETE FROM watched", "delete"),
        ("DELETE FROM parent", "delete"),
        ("INSERT INTO parent VALUES (1)", "write"),
        ("DELETE FROM grandparent", "write, delete"),
        ("WITH w AS (INSERT INTO watched VALUES (1)) SELECT 1", "read, write, delete"),
    ] {
        assert_eq!(effects(&code, text, true), expected, "{text}");
        assert_eq!(effects(&code, text, false), expected, "stale: {text}");
    }
}

#[test]
fn the_lookup_is_read_alike_whatever_the_session_is_set_to() {
    let sql = lookup_sql();
    assert!(!sql.contains('\\') && !sql.contains('$'), "{sql}");
    let classifier = Classifier::new(1 << 20);
    let classified = classifier.classify(sql.as_bytes(), &Lexical::default());
    assert_eq!(classified.meaning.effects.to_string(), "read", "{:?}", classified.meaning.unknown);
    let bare = |name: &&crate::operation::Object| name.schema.as_deref() != Some("pg_catalog");
    let own = ["fn", "op", "trees", "own", "checks", "uses", "behind"];
    let strange: Vec<_> =
        classified.meaning.objects.iter().filter(bare).filter(|one| !own.contains(&one.name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
