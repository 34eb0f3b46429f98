//! The clients that bots use, unmodified, with each way to log in; and no masked value in anything they print.

use tests::{Lab, Method, Outcome, Postgres, Rules, venv, wire};

fn rules() -> Rules {
    Rules::allowing().refuse("no-schema", "schema, delete")
}

/// No masked value in what the client got, nor in what the record keeps.
#[track_caller]
fn assert_masked(lab: &Lab, said: &Outcome) {
    for canary in Postgres::CANARIES {
        assert!(!said.all().contains(canary), "{canary} reached the client: {said}");
        assert!(!lab.record().contains(canary), "{canary} is in the record");
    }
}

#[test]
fn psql_logs_in_by_each_method() {
    let (lab, pg) = Lab::with_shop("psql-auth", &rules());
    for method in Method::ALL {
        let said = lab.bot("ci").psql(&pg.url_of(method), "SELECT current_user, email FROM customers").ok();
        assert!(said.stdout.contains(method.role()), "{method:?}: {said}");
        assert_masked(&lab, &said);
    }
}

#[test]
fn wrong_password_is_the_servers_own_refusal() {
    let (lab, pg) = Lab::with_shop("bad-password", &rules());
    for method in [Method::Password, Method::Md5, Method::Scram] {
        let url = pg.url_of(method).replace(method.password(), "not-it");
        lab.bot("ci").psql(&url, "SELECT 1").failed().says(&["password authentication failed"]);
    }
    assert!(!lab.record().contains("not-it"), "a password is in the record");
}

#[test]
fn psycopg_speaks_the_extended_protocol() {
    venv();
    let (lab, pg) = Lab::with_shop("psycopg", &rules());
    for method in Method::ALL {
        let said = lab.bot("ci").python(PSYCOPG, &pg.url_of(method)).ok();
        let said = said.says(&[
            "text 2",
            "binary 2",
            "server 2",
            "pipeline 1 2",
            "copied out",
            "refused 42501",
            "alive 42",
            "copied in 2",
        ]);
        assert_masked(&lab, &said);
    }
    assert_eq!(pg.ran("DROP TABLE"), 0);
}

const PSYCOPG: &str = r"
import random, sys, psycopg
conn = psycopg.connect(sys.argv[1], autocommit=True)
everything = 'SELECT id, name, email, ssn, phone, token, born, note FROM customers WHERE id > %s ORDER BY id'
print('text', len(conn.execute('SELECT name, email, ssn, phone, token, note FROM customers WHERE id > %s', [0]).fetchall()))
rows = conn.execute('SELECT id, name, email, ssn, phone, token, note FROM customers WHERE id > %s', [0], binary=True).fetchall()
print('binary', len(rows), rows)
try:
    print(conn.execute(everything, [0], binary=True).fetchall())
except psycopg.Error as error:
    print('withheld', error)
with conn.transaction():
    with conn.cursor(name='c') as cursor:
        cursor.itersize = 1
        cursor.execute('SELECT name, email AS harmless FROM customers')
        rows = list(cursor)
        print('server', len(rows), rows)
with conn.pipeline():
    a = conn.execute('SELECT 1')
    b = conn.execute('SELECT ssn FROM customers WHERE id = %s', [2])
    c = conn.execute('SELECT 2')
    print('pipeline', a.fetchone()[0], c.fetchone()[0], b.fetchone())
for how in ('', ' (FORMAT csv)', ' (FORMAT binary)'):
    try:
        with conn.cursor().copy('COPY customers TO STDOUT' + how) as copy:
            print('copied out', how, sum(len(chunk) for chunk in copy))
    except psycopg.Error as error:
        print('withheld', how, error)
try:
    with conn.cursor().copy('COPY (SELECT email, ssn, note FROM customers) TO STDOUT') as copy:
        for chunk in copy:
            print(bytes(chunk))
except psycopg.Error as error:
    print('withheld', error)
first = random.randrange(1000, 2000000000)
with conn.cursor().copy('COPY orders (id, customer, total) FROM STDIN') as copy:
    copy.write_row((first, 1, 5))
    copy.write_row((first + 1, 2, 6))
print('copied in', conn.execute('SELECT count(*) FROM orders WHERE id IN (%s, %s)', [first, first + 1]).fetchone()[0])
try:
    conn.execute('DROP TABLE orders')
except psycopg.errors.InsufficientPrivilege as error:
    print('refused', error.sqlstate)
print('alive', conn.execute('SELECT 42').fetchone()[0])
";

#[test]
fn asyncpg_speaks_binary_and_copies_both_ways() {
    venv();
    let (lab, pg) = Lab::with_shop("asyncpg", &rules());
    for method in Method::ALL {
        let said = lab.bot("ci").python(ASYNCPG, &pg.url_of(method)).ok();
        let said = said.says(&["prepared 2", "copied in 2", "copied out", "refused 42501", "alive 42"]);
        assert_masked(&lab, &said);
    }
    assert_eq!(pg.ran("DROP TABLE"), 0);
}

const ASYNCPG: &str = r"
import asyncio, io, random, sys, asyncpg
async def main():
    conn = await asyncpg.connect(sys.argv[1])
    statement = await conn.prepare('SELECT id, name, email, ssn, phone, token, note FROM customers WHERE id > $1 ORDER BY id')
    rows = await statement.fetch(0)
    print('prepared', len(rows), [dict(row) for row in rows])
    try:
        print(await conn.fetch('SELECT born FROM customers'))
    except Exception as error:
        print('withheld', type(error).__name__, error)
    async with conn.transaction():
        async for row in conn.cursor('SELECT email AS x FROM customers', prefetch=1):
            print('cursor', row['x'])
    out = io.BytesIO()
    try:
        await conn.copy_from_table('customers', output=out)
        print('copied out', len(out.getvalue()), out.getvalue())
    except asyncpg.PostgresError as error:
        print('copied out, withheld', error)
    first = random.randrange(1000, 2000000000)
    await conn.copy_records_to_table('orders', records=[(first, 1, 5), (first + 1, 2, 6)], columns=['id', 'customer', 'total'])
    print('copied in', await conn.fetchval('SELECT count(*) FROM orders WHERE id = ANY($1::int[])', [first, first + 1]))
    try:
        await conn.execute('DROP TABLE orders')
    except asyncpg.InsufficientPrivilegeError as error:
        print('refused', error.sqlstate)
    print('alive', await conn.fetchval('SELECT 42'))
    await conn.close()
asyncio.run(main())
";

const COMPUTES: &str = "policy: computes
match:
  resource: shop
  effects: [read, write, transfer, session, reveal]
decide: allow
";

#[test]
fn tokio_postgres_works_unmodified() {
    // It asks for a masked column as text: computed, so masked whole, and `reveal`.
    let (lab, pg) = Lab::with_shop("tokio", &rules().policy(COMPUTES));
    for method in Method::ALL {
        let said = lab.bot("ci").run(&[&lab.tool("tokio_client"), &pg.url_of(method)]).ok();
        let said = said.says(&["row 1 Ada", "rows 2", "refused 42501", "orders 10"]);
        assert_masked(&lab, &said);
    }
    assert_eq!(pg.ran("TRUNCATE"), 0);
}

#[test]
fn p8_where_there_is_no_tls_it_is_answered_no_and_a_client_that_insists_learns_why() {
    let (lab, pg) = Lab::with_shop("sslmode", &rules().resource_line("tls: { client: off }"));
    let bot = lab.bot("ci");
    bot.psql(&format!("{}?sslmode=prefer", pg.url()), "SELECT 1").ok();
    bot.psql(&format!("{}?sslmode=require", pg.url()), "SELECT 1").failed().says(&["server does not support SSL"]);

    let mut raw = bot.raw();
    let conn = raw.open("127.0.0.1", pg.port());
    raw.send(conn, &wire::ssl_request());
    assert_eq!(raw.bytes(conn, 1), b"N");
    raw.send(conn, &wire::gssenc_request());
    assert_eq!(raw.bytes(conn, 1), b"N");
    raw.send(conn, &wire::startup(&[("user", "app"), ("database", "shop")]));
    raw.until(conn, b'Z');
}

#[test]
fn a_resource_that_requires_tls_refuses_clients_without() {
    let rules = Rules::allowing().resource_line("tls: { client: required }");
    let lab = Lab::new("tls-required");
    let pg = Postgres::start(&lab);
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    lab.start();
    lab.bot("ci").psql(&format!("{}?sslmode=disable", pg.url()), "SELECT 'plain'").failed().says(&["tls"]);
    assert!(!pg.saw("'plain'"));
}

#[test]
fn replication_is_refused() {
    let (lab, pg) = Lab::with_shop("replication", &rules());
    let before = pg.connections();
    for kind in ["database", "true"] {
        let url = format!("{}?replication={kind}", pg.url());
        lab.bot("ci").psql(&url, "IDENTIFY_SYSTEM").failed().says(&["replication"]);
    }
    assert!(!pg.saw("IDENTIFY_SYSTEM"), "a replication command reached the backend");
    assert!(!pg.saw("replication connection authorized"), "{} connections before", before);
    assert!(lab.record().contains("replication"), "the refusal is recorded");
}

#[test]
fn a_long_answer_arrives_whole() {
    let (lab, pg) = Lab::with_shop("long", &rules());
    let said = lab.bot("ci").psql(&pg.url(), "SELECT repeat('x', 1000) FROM generate_series(1, 20000)").ok();
    assert_eq!(said.stdout.len(), 20_000 * 1_001, "bytes lost or gained on the way");
}
