//! What the client sees is masked on every channel, and what it sees is what the record has.

use super::{
    POLICY,
    stage::{Stage, check, check_from_start, check_in_pieces},
};

/// A test card number with a valid checksum.
const CARD: &str = "4111111111111111";
/// What stands in its place.
const STARS: &str = "****************";

pub(super) fn by_content() -> String {
    POLICY.replacen("default: refuse", "mask: [{ detect: [card], with: redact }]\ndefault: refuse", 1)
}

fn by_column() -> String {
    POLICY.replacen("default: refuse", "mask: [{ column: public.customers.email, with: redact }]\ndefault: refuse", 1)
}

#[tokio::test(start_paused = true)]
async fn v16_masked_bytes_are_delivered_and_recorded_and_the_raw_ones_nowhere() {
    let mut stage = Stage::new(&by_content());
    stage.log_in().await;
    for (step, seen) in [
        ("> Q SELECT card FROM payments", ">> Q SELECT card FROM payments".to_owned()),
        (
            &format!("<< T card,name | D {CARD},ada | C SELECT 1 | Z I"),
            format!("< T card,name | D {STARS},ada | C SELECT 1 | Z I"),
        ),
    ] {
        stage.step(step).await;
        assert_eq!(stage.look().await, [seen]);
    }
    let ground = stage.leave().await;
    assert!(!ground.has_on_record(CARD.as_bytes()));
    assert!(ground.has_on_record(STARS.as_bytes()));
}

#[test]
fn v16_errors_notices_and_copy_are_masked_too() {
    check(
        &by_content(),
        &format!(
            "
            > Q SELECT 1 FROM payments
            >> Q SELECT 1 FROM payments
            << N 00000 {CARD} is odd | E 22P02 invalid input syntax: {CARD}; Key (card)=({CARD}) exists | Z I
            < N 00000 {STARS} is odd | E 22P02 invalid input syntax: {STARS}; Key (card)=({STARS}) exists | Z I
            > Q COPY payments TO STDOUT
            >> Q COPY payments TO STDOUT
            << H 2 | d {CARD}\\tada\\n | c | C COPY 1 | Z I
            < H 2 | d \\N\\tada\\n | c | C COPY 1 | Z I
            "
        ),
    );
}

#[test]
fn v16_a_description_is_asked_for_where_the_client_asks_for_none() {
    check(
        &by_content(),
        &format!(
            "
            > P - SELECT card FROM payments | B - - | E - | S
            >> P - SELECT card FROM payments | B - - | D P - | E - | S
            << 1 | 2 | T card | D {CARD} | C SELECT 1 | Z I
            < 1 | 2 | D {STARS} | C SELECT 1 | Z I
            > P - SELECT card FROM payments | B - - | D P - | E - | S
            >> P - SELECT card FROM payments | B - - | D P - | E - | S
            << 1 | 2 | T card | D {CARD} | C SELECT 1 | Z I
            < 1 | 2 | T card | D {STARS} | C SELECT 1 | Z I
            "
        ),
    );
}

#[test]
fn v16_masked_rows_look_the_same_wherever_their_bytes_are_cut() {
    check_in_pieces(
        &by_content(),
        &format!(
            "
            > Q SELECT card FROM payments
            >> Q SELECT card FROM payments
            << T card | D {CARD} | D ~ | C SELECT 2 | Z I
            < T card | D {STARS} | D ~ | C SELECT 2 | Z I
            > Q COPY payments TO STDOUT
            >> Q COPY payments TO STDOUT
            << H | d {CARD}\\n | c | C COPY 1 | Z I
            < H | d \\N\\n | c | C COPY 1 | Z I
            "
        ),
        true,
    );
}

#[test]
fn masks_that_are_loaded_hold_for_a_portal_that_is_open_already() {
    check(
        POLICY,
        &format!(
            "
            > Q BEGIN
            >> Q BEGIN
            << C BEGIN | Z T
            < C BEGIN | Z T
            > P - SELECT card FROM payments | B c - | E c | H
            >> P - SELECT card FROM payments | B c - | E c | H
            << 1 | 2 | D {CARD} | s
            < 1 | 2 | D {CARD} | s
            ! policies mask cards
            > E c | S
            >> D P c | E c | S
            << T card | D {CARD} | C SELECT 1 | Z T
            < D {STARS} | C SELECT 1 | Z T
            "
        ),
    );
}

#[test]
fn v16_rows_under_way_stay_masked_when_their_resource_is_gone() {
    check(
        &by_content(),
        &format!(
            "
            > Q SELECT card FROM payments
            >> Q SELECT card FROM payments
            << T card | D {CARD}
            < T card | D {STARS}
            ! policies forget
            > Q SELECT 1
            >> Q holdpoint: operation refused
            << D {CARD} | C SELECT 2 | Z I | E 42601 syntax error | Z I
            < D {STARS} | C SELECT 2 | Z I | E 42501 holdpoint: no resource names this destination, so nothing may go there; rule \"no resource\" | Z I
            "
        ),
    );
}

#[test]
fn v16_rows_that_nobody_described_are_withheld() {
    let why = "a reply was withheld because it cannot be masked: rows that were not described";
    check(
        &by_content(),
        &format!(
            "> Q SELECT 1\n>> Q SELECT 1\n<< D {CARD} | C SELECT 1 | Z I\n>> (end)\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}"
        ),
    );
}

/// The gateway asks for the catalog before the client hears that the backend is ready.
fn with_catalog(rows: &str, then: &str) {
    with_catalog_under(&by_column(), rows, then);
}

fn with_catalog_under(policy: &str, rows: &str, then: &str) {
    let start = "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R | K | Z I
        >> Q (the catalog lookup)
        < R | K
        ";
    check_from_start(policy, &format!("{start}\n<< T a,b,c,d,e,f,g | {rows} | Z I\n< Z I\n{then}"));
}

#[test]
fn p15_a_column_is_masked_by_where_it_comes_from() {
    with_catalog(
        "D r,16400,r,public,customers,16402,16401 | D a,16400,1,id,23,,~ | D a,16400,2,email,25,,~ | C SELECT 3",
        "
        > Q SELECT id, email AS x FROM customers
        >> Q SELECT id, email AS x FROM customers
        << T id@16400.1,x@16400.2 | D 1,ada@example.org | C SELECT 1 | Z I
        < T id@16400.1,x@16400.2 | D 1,[masked] | C SELECT 1 | Z I
        ",
    );
}

#[test]
fn a_lookup_that_fails_masks_what_is_not_known_and_ends_nothing() {
    with_catalog(
        "E 42501 permission denied",
        "
        > Q SELECT id, email FROM customers
        >> Q SELECT id, email FROM customers
        << T id@16400.1,email@16400.2 | D 1,ada@example.org | C SELECT 1 | Z I
        >> Q (the catalog lookup)
        < T id@16400.1,email@16400.2 | D [masked],[masked] | C SELECT 1
        << T a,b,c,d,e,f,g | C SELECT 0 | Z I
        < Z I
        ",
    );
}

const CUSTOMERS: &str = "D r,16400,r,public,customers,16402,16401 | D a,16400,1,id,23,,~ | D a,16400,2,email,25,,~ | \
                         D a,16400,3,name,25,,~";

/// How the policy refuses what is unknown.
fn unseen(why: &str) -> String {
    format!(
        "< E 42501 holdpoint: what this does cannot be seen through ({why}), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I"
    )
}

#[test]
fn p15_what_a_statement_stores_and_returns_is_masked() {
    with_catalog(
        &format!("{CUSTOMERS} | C SELECT 4"),
        "
        > Q UPDATE customers SET name = email WHERE id = 1 RETURNING id, name
        >> Q UPDATE customers SET name = email WHERE id = 1 RETURNING id, name
        << T id@16400.1,name@16400.3 | D 1,ada@example.org | C UPDATE 1 | Z I
        < T id@16400.1,name@16400.3 | D [masked],[masked] | C UPDATE 1 | Z I
        > Q UPDATE customers SET name = 'Ada' WHERE email = 'ada@example.org' RETURNING id, name
        >> Q UPDATE customers SET name = 'Ada' WHERE email = 'ada@example.org' RETURNING id, name
        << T id@16400.1,name@16400.3 | D 1,Ada | C UPDATE 1 | Z I
        < T id@16400.1,name@16400.3 | D 1,Ada | C UPDATE 1 | Z I
        > Q PREPARE p AS UPDATE customers SET name = email RETURNING name
        >> Q PREPARE p AS UPDATE customers SET name = email RETURNING name
        << C PREPARE | Z I
        < C PREPARE | Z I
        > Q EXECUTE p
        >> Q EXECUTE p
        << T name@16400.3 | D ada@example.org | C UPDATE 1 | Z I
        < T name@16400.3 | D [masked] | C UPDATE 1 | Z I
        ",
    );
}

#[test]
fn p15_what_is_fetched_is_masked_by_what_the_cursor_reads() {
    with_catalog(
        &format!("{CUSTOMERS} | C SELECT 4"),
        "
        > Q BEGIN; DECLARE n CURSOR FOR SELECT upper(name) FROM customers; DECLARE e CURSOR FOR SELECT upper(email) FROM customers
        >> Q BEGIN; DECLARE n CURSOR FOR SELECT upper(name) FROM customers; DECLARE e CURSOR FOR SELECT upper(email) FROM customers
        << C BEGIN | C DECLARE CURSOR | C DECLARE CURSOR | Z T
        < C BEGIN | C DECLARE CURSOR | C DECLARE CURSOR | Z T
        > Q FETCH n
        >> Q FETCH n
        << T upper | D ADA | C FETCH 1 | Z T
        < T upper | D ADA | C FETCH 1 | Z T
        > Q FETCH e
        >> Q FETCH e
        << T upper | D ADA@EXAMPLE.ORG | C FETCH 1 | Z T
        < T upper | D [masked] | C FETCH 1 | Z T
        > P n2 SELECT upper(name) FROM customers | S
        >> P n2 SELECT upper(name) FROM customers | S
        << 1 | Z T
        < 1 | Z T
        > Q EXECUTE n2
        >> Q EXECUTE n2
        << T upper | D ADA | C SELECT 1 | Z T
        < T upper | D ADA | C SELECT 1 | Z T
        ",
    );
}

#[test]
fn p15_what_is_fetched_is_not_certain_once_code_has_run() {
    with_catalog_under(
        &by_column().replacen("transfer]", "transfer, execute]", 1),
        &format!("{CUSTOMERS} | C SELECT 4"),
        "
        > Q BEGIN; DECLARE n CURSOR FOR SELECT upper(name) FROM customers
        >> Q BEGIN; DECLARE n CURSOR FOR SELECT upper(name) FROM customers
        << C BEGIN | C DECLARE CURSOR | Z T
        < C BEGIN | C DECLARE CURSOR | Z T
        > Q SELECT pg_sleep(1)
        >> Q SELECT pg_sleep(1)
        << T pg_sleep | D x | C SELECT 1 | Z T
        < T pg_sleep | D x | C SELECT 1 | Z T
        > Q FETCH n
        >> Q FETCH n
        << T upper | D ADA | C FETCH 1 | Z T
        < T upper | D [masked] | C FETCH 1 | Z T
        > Q DECLARE later CURSOR FOR SELECT upper(name) FROM customers
        >> Q DECLARE later CURSOR FOR SELECT upper(name) FROM customers
        << C DECLARE CURSOR | Z T
        < C DECLARE CURSOR | Z T
        > Q FETCH later
        >> Q FETCH later
        << T upper | D ADA | C FETCH 1 | Z T
        < T upper | D ADA | C FETCH 1 | Z T
        > Q COMMIT
        >> Q COMMIT
        << C COMMIT | Z I
        >> Q (the catalog lookup)
        < C COMMIT
        << E 42501 permission denied | Z I
        < Z I
        > Q FETCH later
        < E 42501 holdpoint: what this does cannot be seen through (fetches from the cursor later, which this gateway did not see declared), and no policy that matches allows `unknown`; rule \"default of orders-db\" | Z I
        ",
    );
}

#[test]
fn p3_a_function_that_takes_rows_is_called_as_a_column() {
    with_catalog(
        &format!("{CUSTOMERS} | D f,20000,wipe,~,~,~,~ | C SELECT 5"),
        &format!(
            "
            > Q SELECT c.name FROM customers c
            >> Q SELECT c.name FROM customers c
            << T name@16400.3 | D ada | C SELECT 1 | Z I
            < T name@16400.3 | D ada | C SELECT 1 | Z I
            > Q SELECT c.wipe FROM customers c
            {}
            ",
            unseen("reads the column wipe, or calls the function of that name")
        ),
    );
}

#[test]
fn p3_a_built_in_counts_only_where_the_backend_has_it() {
    let why = "calls a function that PostgreSQL has since version 18 only";
    for (version, answer) in [("15.20 (Debian)", unseen(why)), ("18.1", ">> Q SELECT uuidv7()".into())] {
        check_from_start(
            POLICY,
            &format!(
                "
                > startup user=bot database=shop
                >> startup user=bot database=shop
                << R | S server_version={version} | K | Z I
                < R | S server_version={version} | K | Z I
                > Q SELECT uuidv7()
                {answer}
                "
            ),
        );
    }
}

#[test]
fn v16_the_catalog_is_asked_in_utf8_only() {
    check_from_start(
        &by_column(),
        "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R | S client_encoding=LATIN1 | K | Z I
        < R | S client_encoding=LATIN1 | K | Z I
        > Q SELECT id FROM customers
        >> Q SELECT id FROM customers
        << T id@16400.1 | D 1 | C SELECT 1 | Z I
        < T id@16400.1 | D [masked] | C SELECT 1 | Z I
        > Q SET client_encoding = 'UTF8'
        >> Q SET client_encoding = 'UTF8'
        << C SET | S client_encoding=UTF8 | Z I
        >> Q (the catalog lookup)
        < C SET | S client_encoding=UTF8
        << E 42501 permission denied | Z I
        < Z I
        ",
    );
}

#[test]
fn v16_settings_that_the_backend_reports_are_searched() {
    check(
        &by_content(),
        &format!(
            "
            > Q SET application_name = 'x'
            >> Q SET application_name = 'x'
            << C SET | S application_name={CARD} | Z I
            < C SET | S application_name={STARS} | Z I
            "
        ),
    );
}

/// A catalog with `customers (id, email)`.
const SHOPPERS: &str =
    "D r,16400,r,public,customers,16402,16401 | D a,16400,1,id,23,,~ | D a,16400,2,email,25,,~ | C SELECT 3";

#[test]
fn c5_a_cursor_that_took_a_portals_name_is_masked_as_a_cursor() {
    with_catalog(
        SHOPPERS,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > P a SELECT 'x'::text | B c a | E c | S
        >> P a SELECT 'x'::text | B c a | D P c | E c | S
        << 1 | 2 | T text | D x | C SELECT 1 | Z T
        < 1 | 2 | D x | C SELECT 1 | Z T
        > Q CLOSE c
        >> Q CLOSE c
        << C CLOSE CURSOR | Z T
        < C CLOSE CURSOR | Z T
        > Q DECLARE c CURSOR FOR SELECT lower(email) FROM customers
        >> Q DECLARE c CURSOR FOR SELECT lower(email) FROM customers
        << C DECLARE CURSOR | Z T
        < C DECLARE CURSOR | Z T
        > E c | S
        >> D P c | E c | S
        << T lower | D ada | C SELECT 1 | Z T
        < D [masked] | C SELECT 1 | Z T
        ",
    );
}

#[test]
fn c5_a_portal_is_described_for_each_bundle_that_executes_it() {
    with_catalog(
        SHOPPERS,
        "
        > Q BEGIN
        >> Q BEGIN
        << C BEGIN | Z T
        < C BEGIN | Z T
        > P a SELECT id FROM customers | B c a | D P c | E c | S
        >> P a SELECT id FROM customers | B c a | D P c | E c | S
        << 1 | 2 | T id@16400.1 | D 1 | s | Z T
        < 1 | 2 | T id@16400.1 | D 1 | s | Z T
        > E c | S
        >> D P c | E c | S
        << T id@16400.1 | D 2 | C SELECT 1 | Z T
        < D 2 | C SELECT 1 | Z T
        ",
    );
}

#[test]
fn c4_what_either_reading_of_a_text_reads_is_masked() {
    with_catalog(
        SHOPPERS,
        "
        > Q SET standard_conforming_strings=off | Q SELECT 'x\\', ', email||'' FROM customers --'
        >> Q SET standard_conforming_strings=off | Q SELECT 'x\\', ', email||'' FROM customers --'
        << C SET | S standard_conforming_strings=off | Z I | T ?column?,?column? | D x,ada | C SELECT 1 | Z I
        < C SET | S standard_conforming_strings=off | Z I | T ?column?,?column? | D [masked],[masked] | C SELECT 1 | Z I
        ",
    );
}
