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

/// Everything that may be asked of people.
const ASKED: &str = r#"
steps:
  - { from: [{ group: dba }, { on_call: databases, after: 5m }] }
  - { from: [{ group: security }, { user: ann }], need: all, after: 10m }
  - { from: { group: dba }, need: 2 }
timeout: 1h
reason: required
ticket: 'OPS-[0-9]+'
separation: [owner, author]
veto: [{ group: security }, { on_call: databases }]
hours: { days: [mon-wed, fri], from: "08:00", to: "18:30", zone: Europe/Berlin, otherwise: { on_call: databases } }
break_glass: { group: incident }
passkey: required
"#;

fn asking(of_resource: &str, of_rule: &str) -> Approval {
    let indented = |text: &str| text.replace('\n', "\n  ");
    let resource = ORDERS.replace("{ from: [{ group: dba }] }", &indented(of_resource));
    let rule =
        format!("---\npolicy: p\nmatch: {{ effects: [schema] }}\ndecide: hold\napproval: {}\n", indented(of_rule));
    let verdict = judge(&set(&format!("{resource}{rule}")), &Caller::default(), "schema");
    let approval = verdict.approval.expect("it holds");
    Approval::clone(&approval)
}

#[test]
fn v15_everything_that_may_be_asked_of_people_is_read() {
    let after = |who, minutes: u64| Approver { who, after: Duration::from_secs(60 * minutes) };
    let (dba, ann) = (Who::Group("dba".into()), Who::User("ann".into()));
    let (security, on_call) = (Who::Group("security".into()), Who::OnCall("databases".into()));
    let whole = Approval {
        steps: vec![
            Step { from: vec![after(dba.clone(), 0), after(on_call.clone(), 5)], need: Need::Number(1) },
            Step { from: vec![after(security.clone(), 10), after(ann, 10)], need: Need::All },
            Step { from: vec![after(dba.clone(), 0)], need: Need::Number(2) },
        ],
        timeout: Duration::from_secs(3600),
        reason_required: true,
        ticket: Some("OPS-[0-9]+".into()),
        separation: vec![Separation::Owner, Separation::Author],
        veto: vec![security, on_call],
        hours: Some(Hours {
            days: [true, true, true, false, true, false, false],
            from: 480,
            to: 1110,
            zone: "Europe/Berlin".into(),
            otherwise: Otherwise::OnCall("databases".into()),
        }),
        break_glass: Some("incident".into()),
        passkey: true,
    };
    assert_eq!(asking("{ from: [{ group: dba }] }", ASKED), whole);
    // A policy takes from its resource what it does not say itself, and may say that it does not hold.
    assert_eq!(asking(ASKED, "{}"), whole);
    let none = "{ from: [{ group: dba }], ticket: none, separation: [], veto: [], hours: none, break_glass: none, passkey: optional, reason: optional }";
    let simple = Approval::simple(vec![after(dba, 0)], 1, Duration::from_secs(3600));
    assert_eq!(asking(ASKED, none), simple);
}

#[test]
fn what_asks_more_of_people_is_stricter() {
    let from = "from: [{ group: dba }]";
    let asks = |more: &str| asking("{ from: [{ group: dba }] }", &format!("{{ {from}{more} }}"));
    let plain = asks("");
    for more in [
        ", quorum: 2",
        ", reason: required",
        ", ticket: a",
        ", separation: owner",
        ", veto: [{ group: security }]",
        ", hours: { days: mon, from: \"08:00\", to: \"18:00\", zone: UTC, otherwise: refuse }",
        ", passkey: required",
        ", timeout: 1m",
    ] {
        let stricter = asks(more);
        assert!(stricter.strictness() > plain.strictness(), "{more}");
        let only_time = stricter.timeout != plain.timeout;
        assert_eq!(stricter.is_no_stricter_than(&plain), only_time, "{more}");
        assert!(plain.is_no_stricter_than(&stricter), "{more}");
    }
    let lenient = asks(", break_glass: { group: incident }");
    assert!(lenient.strictness() < plain.strictness() && !plain.is_no_stricter_than(&lenient));
    let steps = |steps: &str| asking("{ from: [{ group: dba }] }", &format!("{{ steps: [{steps}] }}"));
    let (one, two) = ("{ from: [{ group: dba }], need: 2 }", "{ from: [{ group: dba }] }, { from: [{ group: dba }] }");
    assert!(steps(two).strictness() > steps(one).strictness());
    assert!(!steps(two).is_no_stricter_than(&steps(one)) && !steps(one).is_no_stricter_than(&steps(two)));
}
