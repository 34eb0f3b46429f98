//! What a set knows of its resources, and the tests beside the rules.

use super::*;
use crate::mask::Method;

const RESOURCE: &str = r#"
resource: orders-db
protocol: postgres
endpoints: ["10.0.3.7:5432", "Orders-DB.prod.svc.:5432", "[::1]:5432", "localhost:6432", "[::ffff:10.0.3.8]:5432"]
default: hold
tls: required
credential: orders-db/app
postgres: { lookup: catalog }
approval: { from: [{ user: ann }, { group: oncall, after: 5m }], timeout: 10m, reason: required }
on_hold: retry
mask:
  - { column: "public.customers.email", with: partial }
  - { name: "*ssn*", with: null }
  - { detect: [card, iban], with: redact }
"#;

#[test]
fn a_resource_is_read_whole() {
    let set = set(RESOURCE);
    let resource = set.resource_named("orders-db").expect("it is there");
    assert_eq!(resource.protocol.as_str(), "postgres");
    assert_eq!(
        serde_json::to_value(&resource.extra).expect("plain"),
        serde_json::json!({ "tls": "required", "credential": "orders-db/app", "postgres": { "lookup": "catalog" } })
    );
    assert_eq!(resource.masks.for_column("public", "customers", "email"), Some(Method::Partial));
    assert_eq!(resource.masks.for_name("old_ssn"), Some(Method::Null));
    assert!(resource.masks.detectors().is_some());
    let approval = resource.approval.as_deref().expect("stated");
    assert_eq!(approval.steps[0].from[1].after.as_secs(), 300);
    assert_eq!((approval.people(), approval.timeout.as_secs(), approval.reason_required), (1, 600, true));
    assert_eq!(resource.on_hold, OnHold::Retry);
}

#[test]
fn a_tls_section_may_be_a_mapping() {
    let set = set(&RESOURCE.replace("tls: required", "tls: { upstream: verify-full }"));
    assert_eq!(set.resources()[0].extra["tls"], serde_json::json!({ "upstream": "verify-full" }));
}

#[test]
fn resources_are_found_by_address_and_by_name() {
    let set = set(RESOURCE);
    let find = |addr: &str, name| set.resource_for(addr.parse().expect("an address"), name).is_some();
    assert!(find("10.0.3.7:5432", None));
    assert!(find("[::ffff:10.0.3.7]:5432", None), "the mapped address is the same place");
    assert!(find("10.0.3.8:5432", None), "as is one that is written mapped");
    assert!(find("[::1]:5432", None));
    assert!(find("127.0.0.1:6432", None) && find("[::1]:6432", None), "localhost is both loopbacks");
    assert!(find("192.0.2.1:5432", Some("orders-db.PROD.svc")));
    assert!(!find("192.0.2.1:5432", None));
    assert!(!find("10.0.3.7:5433", None));
    assert!(!find("192.0.2.1:5433", Some("orders-db.prod.svc")));
    assert_eq!(
        set.endpoints().map(|(_, e)| e.to_string()).collect::<Vec<_>>()[1..3],
        ["orders-db.prod.svc:5432", "[::1]:5432"]
    );
}

#[test]
fn the_digest_is_of_the_bytes() {
    assert_eq!(set(RESOURCE).digest(), set(RESOURCE).digest());
    assert_ne!(set(RESOURCE).digest(), set(&format!("{RESOURCE}\n# a comment")).digest());
}

#[test]
fn an_inspector_s_objection_has_file_and_line() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("a.yaml"), RESOURCE).expect("written");
    let errors = PolicySet::load_inspected(directory.path(), &|resource| {
        let about = |key: &str, message: &str| Objection { key: key.into(), message: message.into() };
        assert_eq!(&*resource.name, "orders-db");
        vec![about("tls", "no such mode"), about("postgres", "no such lookup")]
    })
    .expect_err("it objects");
    let said: Vec<_> = errors.iter().map(|error| (error.at.line, error.message.as_str())).collect();
    assert_eq!(said, [(6, "no such mode"), (8, "no such lookup")]);
}

#[test]
fn tests_run_against_the_whole_set() {
    let set = set(&format!(
        "{ORDERS}tests:
  - {{ statement: admin, expect: hold }}
---
policy: reads
match: {{ resource: orders-db, effects: [read], workload: {{ name: 'imp*' }} }}
decide: allow
tests:
  - {{ sql: 'read', expect: allow }}
  - {{ sql: 'read', workload: {{ name: other }}, expect: hold }}
  - {{ sql: 'read table:secret.x', expect: refuse }}
  - {{ effects: [read], kind: connect, expect: allow }}
  - {{ sql: 'read role=dba', expect: refuse }}
  - {{ sql: 'read', state: {{ role: dba }}, expect: refuse }}
---
policy: secrets
match: {{ objects: 'secret.*' }}
decide: refuse
---
policy: dba
match: {{ effects: [read] }}
when: 'has(operation.state.role) && operation.state.role == \"dba\"'
decide: refuse
tests:
  - {{ sql: 'read', expect: allow }}
"
    ));
    let report = set.test(&classify);
    assert_eq!(report.run, 8);
    assert_eq!(report.untested.iter().map(|name| &**name).collect::<Vec<_>>(), ["secrets"]);
    let [failure] = &report.failures[..] else { panic!("{:#?}", report.failures) };
    assert_eq!((&*failure.beside, failure.origin.line), ("dba", 30));
    let Failure::Verdict { expected, got, .. } = &failure.why else { panic!("{failure:?}") };
    assert_eq!(
        (*expected, got.verdict.decide, &*got.verdict.rule),
        (Decide::Allow, Decide::Hold, "default of orders-db")
    );
}
