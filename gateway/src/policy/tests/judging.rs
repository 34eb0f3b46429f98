//! The rules of judging, each with the case that would go wrong without it.

use proptest::prelude::*;

use super::*;

/// One door: policies (beside the usual resource), an operation, and the verdict in short.
#[track_caller]
fn check(policies: &str, notation: &str, expected: &str) {
    check_as(&Caller::named("importer"), policies, notation, expected);
}

#[track_caller]
fn check_as(caller: &Caller, policies: &str, notation: &str, expected: &str) {
    let set = set(&format!("{ORDERS}{policies}"));
    let verdict = judge(&set, caller, notation);
    let observed = verdict.observed.as_ref().map(|(decide, rule)| format!(", {rule} would {decide}"));
    let got = format!("{} by {}{}", verdict.decide, verdict.rule, observed.unwrap_or_default());
    assert_eq!(got, expected, "\noperation: {notation}\npolicies: {policies}");
    assert_eq!(verdict.approval.is_some(), verdict.decide == Decide::Hold, "approval goes with hold");
    let resource = set.resources().first().expect("one resource");
    let explained = set.explain(caller, resource, &operation(notation));
    let matched = explained.considered.iter().any(|rule| rule.matched && rule.rule == verdict.rule);
    assert!(matched || verdict.rule.starts_with("default of"), "explain and judge disagree: {explained:#?}");
}

const READS: &str = "
---
policy: reads
match: { resource: orders-db, effects: [read] }
decide: allow
";

#[test]
fn no_match_takes_the_default() {
    check("", "read", "hold by default of orders-db");
    check(READS, "write", "hold by default of orders-db");
}

#[test]
fn an_allow_covers_all_effects_or_none() {
    check(READS, "read", "allow by reads");
    // A SELECT with a writing CTE.
    check(READS, "read,write", "hold by default of orders-db");
}

#[test]
fn a_hold_needs_one_shared_effect() {
    let writes = "
---
policy: anything
match: { effects: [read, write, delete, schema] }
decide: allow
---
policy: writes
match: { effects: [write, delete] }
decide: hold
";
    check(writes, "read", "allow by anything");
    check(writes, "read,write", "hold by writes");
}

#[test]
fn the_strictest_wins_whatever_the_order() {
    let rules = ["allow", "refuse", "hold"]
        .map(|decide| format!("---\npolicy: {decide}-it\nmatch: {{ effects: [read] }}\ndecide: {decide}\n"));
    check(&rules.concat(), "read", "refuse by refuse-it");
    check(&[rules[0].as_str(), &rules[2]].concat(), "read", "hold by hold-it");
    check(&[rules[2].as_str(), &rules[0]].concat(), "read", "hold by hold-it");
}

#[test]
fn of_two_holds_the_one_that_asks_more_people_decides() {
    let rules = "
---
policy: one
match: { effects: [schema] }
decide: hold
---
policy: two
match: { effects: [schema] }
decide: hold
approval: { quorum: 2 }
";
    check(rules, "schema", "hold by two");
}

#[test]
fn unknown_is_allowed_only_by_name() {
    let everything = "---\npolicy: everything\nmatch: { resource: '*' }\ndecide: allow\n";
    check(everything, "read,write,admin", "allow by everything");
    check(everything, "unknown", "hold by default of orders-db");
    check(everything, "read,unknown", "hold by default of orders-db");
    let named = "---\npolicy: scripts\nmatch: { effects: [unknown, execute] }\ndecide: allow\n";
    check(named, "unknown,execute", "allow by scripts");
}

#[test]
fn an_operation_of_which_nothing_was_said_is_unknown() {
    let set = set(&format!("{ORDERS}{READS}"));
    let caller = Caller::default();
    let scope = set.scope(&caller.workload, &caller.process, set.resources().first());
    let nothing_said = Operation { meaning: Arc::default(), ..operation("read") };
    assert_eq!(&*scope.judge(&nothing_said).rule, "default of orders-db");
    // An empty statement, which clients send to see whether the connection lives.
    check(READS, "-", "allow by reads");
}

#[test]
fn a_default_that_allows_holds_what_is_unknown() {
    let open = ORDERS.replace("default: hold", "default: allow");
    let verdict = judge(&set(&open), &Caller::default(), "unknown,execute");
    assert_eq!((verdict.decide, &*verdict.rule), (Decide::Hold, "default of orders-db"));
    assert!(verdict.reason.contains("the body of a DO block"), "{}", verdict.reason);
    let nobody = open.replace("approval: { from: [{ group: dba }] }", "");
    let verdict = judge(&set(&nobody), &Caller::default(), "unknown");
    assert_eq!(verdict.decide, Decide::Refuse, "nobody could approve");
    assert_eq!(judge(&set(&nobody), &Caller::default(), "admin").decide, Decide::Allow);
}

#[test]
fn a_destination_that_no_resource_names_is_refused() {
    let set = set(ORDERS);
    let caller = Caller::default();
    let verdict = set.scope(&caller.workload, &caller.process, None).judge(&operation("read"));
    assert_eq!((verdict.decide, &*verdict.rule), (Decide::Refuse, NO_RESOURCE));
}

#[test]
fn objects_touch_a_hold_and_cover_an_allow() {
    let rules = "
---
policy: public
match: { effects: [read], objects: { kind: table, name: 'public.*' } }
decide: allow
---
policy: salaries
match: { objects: [ '*.salaries' ] }
decide: refuse
";
    check(rules, "read table:public.orders", "allow by public");
    check(rules, "read table:public.orders function:count", "allow by public");
    check(rules, "read table:public.orders table:hr.people", "hold by default of orders-db");
    check(rules, "read table:public.orders table:hr.salaries", "refuse by salaries");
    // Without an object there is nothing to cover.
    check(rules, "read function:pg_read_file", "hold by default of orders-db");
    // Where the schema depends on the search path nothing is certain.
    check(rules, "read table:orders", "hold by default of orders-db");
    check(rules, "read table:salaries", "refuse by salaries");
}

#[test]
fn the_schema_that_is_not_written_may_be_any() {
    let hold = "
---
policy: all
match: { effects: [read] }
decide: allow
---
policy: secrets
match: { objects: 'vault.keys' }
decide: hold
";
    check(hold, "read table:keys", "hold by secrets");
    check(hold, "read table:other.keys", "allow by all");
}

#[test]
fn exceptions_to_a_hold_cover_and_exceptions_to_an_allow_are_touched() {
    let hold = "
---
policy: all
match: { effects: [read, write, delete] }
decide: allow
---
policy: changes
match: { effects: [write, delete] }
unless: { workload: { name: importer }, effects: [write] }
decide: hold
";
    check(hold, "write", "allow by all");
    check(hold, "write,delete", "hold by changes");
    check_as(&Caller::named("other"), hold, "write", "hold by changes");
    let allow = "
---
policy: all
match: { effects: [read, write, delete] }
unless: [{ effects: [delete] }, { objects: 'audit.*' }]
decide: allow
";
    check(allow, "read,write", "allow by all");
    check(allow, "read,delete", "hold by default of orders-db");
    check(allow, "write table:public.a table:audit.log", "hold by default of orders-db");
    check(allow, "write table:log", "hold by default of orders-db");
}

#[test]
fn workloads_are_matched_by_every_fact() {
    let rules = "
---
policy: ci
match:
  workload: { namespace: ci, service_account: 'deploy-*', image: 'registry/{a,b}:*', labels: { team: [dba, db] } }
  effects: [schema]
decide: allow
";
    let mut caller = Caller::named("pod");
    for (fact, value) in [("namespace", "ci"), ("service_account", "deploy-7"), ("image", "registry/b:1/2")] {
        assert!(caller.set(fact, value));
    }
    caller.workload.labels.insert("team".into(), "db".into());
    check_as(&caller, rules, "schema", "allow by ci");
    caller.workload.labels.remove("team");
    check_as(&caller, rules, "schema", "hold by default of orders-db");
}

#[test]
fn the_facts_of_a_pod_can_be_named() {
    let rules = "
---
policy: pods
match:
  workload: { pod: 'deploy-*', owner: 'Job/*', image_digest: 'sha256:ab*' }
  effects: [schema]
when: 'workload.pod.startsWith(\"deploy\") && workload.owner == \"Job/deploy\"'
decide: allow
";
    let mut caller = Caller::named("ci/deploy-1 (deployer)");
    for (fact, value) in [("pod", "deploy-1"), ("owner", "Job/deploy"), ("image_digest", "sha256:abcd")] {
        assert!(caller.set(fact, value));
    }
    check_as(&caller, rules, "schema", "allow by pods");
    caller.set("owner", "ReplicaSet/deploy");
    check_as(&caller, rules, "schema", "hold by default of orders-db");
}

#[test]
fn what_is_not_known_of_a_pod_counts_on_the_strict_side() {
    let rule =
        |key: &str, decide| format!("---\npolicy: it\nmatch: {{ workload: {{ {key}: trusted }} }}\ndecide: {decide}\n");
    // Its container's image is not known yet.
    let mut caller = Caller::named("ci/deploy-1 (deployer)");
    caller.set("pod", "deploy-1");
    for key in ["image", "image_digest"] {
        check_as(&caller, &rule(key, "refuse"), "read", "refuse by it");
        check_as(&caller, &rule(key, "allow"), "read", "hold by default of orders-db");
    }
    // It has no owner, and that is known.
    check_as(&caller, &rule("owner", "refuse"), "read", "hold by default of orders-db");
    // Nothing is known of it but its cgroup: not even its name, which is only a stand-in.
    let mut caller = Caller::named("trusted");
    caller.workload.labels.insert("doubt".into(), "nobody has told of it".into());
    for key in ["name", "namespace", "service_account", "pod", "owner", "image", "unit"] {
        check_as(&caller, &rule(key, "refuse"), "read", "refuse by it");
        check_as(&caller, &rule(key, "allow"), "read", "hold by default of orders-db");
    }
}

#[test]
fn an_executable_that_was_not_verified_is_not_certain() {
    let rule = |decide| {
        format!("---\npolicy: psql\nmatch: {{ workload: {{ executable: /usr/bin/psql }} }}\ndecide: {decide}\n")
    };
    let mut caller = Caller::named("bot");
    caller.set("executable", "/usr/bin/psql");
    check_as(&caller, &rule("allow"), "read", "allow by psql");
    caller.process.verified = false;
    check_as(&caller, &rule("allow"), "read", "hold by default of orders-db");
    caller.set("executable", "/usr/bin/other");
    check_as(&caller, &rule("refuse"), "read", "refuse by psql");
    caller.process.verified = true;
    check_as(&caller, &rule("refuse"), "read", "hold by default of orders-db");
}

#[test]
fn a_workload_that_was_not_identified_matches_what_is_strict() {
    let mut caller = Caller::named("cgroup 17");
    caller.workload.path.clear();
    let rule = |decide| format!("---\npolicy: ci\nmatch: {{ workload: {{ namespace: ci }} }}\ndecide: {decide}\n");
    check_as(&caller, &rule("refuse"), "read", "refuse by ci");
    check_as(&caller, &rule("allow"), "read", "hold by default of orders-db");
}

#[test]
fn when_sees_the_operation_the_caller_and_the_resource() {
    let rules = |when: &str| format!("---\npolicy: w\nmatch: {{ effects: [read] }}\nwhen: '{when}'\ndecide: allow\n");
    for when in [
        r#"operation.tables.exists(t, t.schema == "public")"#,
        r#"operation.kind == "query" && operation.text.startsWith("read")"#,
        r#"operation.effects == ["read"] && "read" in operation.effects"#,
        r#"operation.statements == 1 && operation.statements + 1 < 3"#,
        r#"operation.state.role == "app" && !has(operation.state.database)"#,
        r#"operation.objects.all(o, o.kind == "table" && o.name.matches("^ord[a-z]+$"))"#,
        r#"workload.name == "importer" && !has(workload.namespace)"#,
        r#"process.user == "nobody" && process.uid > 1000"#,
        r#"resource.name == "orders-db" && resource.protocol == "postgres""#,
        "size(operation.unknown) == 0 && size(operation.parameters) == 0",
    ] {
        check(&rules(when), "read table:public.orders role=app", "allow by w");
    }
    check(&rules(r#"operation.state.role == "app""#), "read role=dba", "hold by default of orders-db");
}

#[test]
fn a_when_that_fails_counts_on_the_strict_side() {
    for when in ["operation.nothing == 1", "operation.kind > 3", "operation.kind", "operation.tables[7].name == \"\""] {
        let rule = |decide| format!("---\npolicy: w\nmatch: {{ effects: [read] }}\nwhen: '{when}'\ndecide: {decide}\n");
        check(&rule("allow"), "read", "hold by default of orders-db");
        check(&rule("refuse"), "read", "refuse by w");
        let unless = |decide| {
            format!("---\npolicy: w\nmatch: {{ effects: [read] }}\nunless: {{ when: '{when}' }}\ndecide: {decide}\n")
        };
        check(&unless("refuse"), "read", "refuse by w");
        check(&unless("allow"), "read", "hold by default of orders-db");
    }
}

#[test]
fn evaluation_is_bounded_before_it_begins() {
    let rules = "
---
policy: w
match: { effects: [read] }
when: 'operation.objects.all(a, operation.objects.all(b, a.name != b.name || a.kind == b.kind))'
decide: refuse
";
    let set = set(&format!("{ORDERS}{rules}"));
    let many: String = (0..20_000).map(|n| format!(" table:t{n}")).collect();
    let begun = std::time::Instant::now();
    assert_eq!(judge(&set, &Caller::default(), &format!("read{many}")).decide, Decide::Refuse);
    assert!(begun.elapsed().as_millis() < 2000, "took {:?}", begun.elapsed());
}

#[test]
fn observing_never_decides() {
    let rules = "
---
policy: trial
match: { effects: [read, write] }
decide: refuse
mode: observe
---
policy: reads
match: { effects: [read] }
decide: allow
";
    check(rules, "read", "allow by reads, trial would refuse");
    check(rules, "write", "hold by default of orders-db, trial would refuse");
    check(&rules.replace("decide: refuse", "decide: allow"), "write", "hold by default of orders-db");
}

#[test]
fn approval_is_inherited_key_by_key() {
    let rules = "
---
policy: two
match: { effects: [schema] }
decide: hold
on_hold: retry
reason: schema changes are seen by two people
approval: { quorum: 2, timeout: 5m }
";
    let resource = ORDERS.replace("{ from: [{ group: dba }] }", "{ from: [{ group: dba }], reason: required }");
    let verdict = judge(&set(&format!("{resource}{rules}")), &Caller::default(), "schema");
    let approval = verdict.approval.expect("it holds");
    assert_eq!(approval.steps[0].from, [Approver { who: Who::Group("dba".into()), after: Duration::ZERO }]);
    assert_eq!((approval.people(), approval.timeout.as_secs(), approval.reason_required), (2, 300, true));
    assert_eq!((verdict.on_hold, &*verdict.reason), (OnHold::Retry, "schema changes are seen by two people"));
}

#[test]
fn a_scope_is_renewed_under_another_set() {
    let before = set(ORDERS);
    let caller = Caller::default();
    let resource = before.resources().first().expect("one");
    let scope = before.scope(&caller.workload, &caller.process, Some(resource));
    assert_eq!(scope.renew(&set(&format!("{ORDERS}{READS}"))).judge(&operation("read")).decide, Decide::Allow);
    let other = ORDERS.replace("protocol: postgres", "protocol: mysql");
    assert_eq!(&*scope.renew(&set(&other)).judge(&operation("read")).rule, NO_RESOURCE);
    let gone = ORDERS.replace("orders-db\n", "other-db\n");
    assert_eq!(&*scope.renew(&set(&gone)).judge(&operation("read")).rule, NO_RESOURCE);
}

fn a_rule() -> impl Strategy<Value = (String, String, String)> {
    let effect = prop::sample::subsequence(Effect::ALL.to_vec(), 1..5);
    let object = prop::option::of(prop::sample::select(vec!["public.*", "*.orders", "orders", "*"]));
    let unless = prop::option::of(prop::sample::subsequence(Effect::ALL.to_vec(), 1..3));
    let when = prop::option::of(prop::sample::select(vec![
        "operation.statements == 1",
        "operation.nothing",
        "size(operation.tables) > 1",
    ]));
    let decide = prop::sample::select(vec!["allow", "hold", "refuse"]);
    (effect, object, unless, when, decide, 1..4u32).prop_map(|(effects, object, unless, when, decide, quorum)| {
        let words = |effects: Vec<Effect>| effects.iter().map(|e| e.as_str()).collect::<Vec<_>>().join(", ");
        let mut body = format!("match:\n  effects: [{}]\n", words(effects));
        if let Some(object) = object {
            body.push_str(&format!("  objects: '{object}'\n"));
        }
        if let Some(unless) = unless {
            body.push_str(&format!("unless: {{ effects: [{}] }}\n", words(unless)));
        }
        if let Some(when) = when {
            body.push_str(&format!("when: '{when}'\n"));
        }
        let approval = if decide == "hold" { format!("approval: {{ quorum: {quorum} }}\n") } else { String::new() };
        (body, decide.to_owned(), approval)
    })
}

fn an_operation() -> impl Strategy<Value = String> {
    let effect = prop::sample::subsequence(Effect::ALL.to_vec(), 0..4);
    let object = prop::sample::subsequence(
        vec!["table:public.orders", "table:orders", "table:hr.salaries", "function:count"],
        0..4,
    );
    (effect, object).prop_map(|(effects, objects)| {
        let effects: Vec<&str> = effects.iter().map(|e| e.as_str()).collect();
        format!("{} {}", if effects.is_empty() { "-".into() } else { effects.join(",") }, objects.join(" "))
    })
}

fn strictness(verdict: &Verdict) -> (Decide, usize) {
    (verdict.decide, verdict.approval.as_ref().map_or(0, |approval| approval.people()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Wherever a rule that holds or refuses is added, no verdict becomes more lenient.
    #[test]
    fn adding_a_strict_rule_never_makes_a_verdict_lenient(
        rules in prop::collection::vec(a_rule(), 0..6),
        extra in a_rule(),
        at in 0..7usize,
        notation in an_operation(),
        open in any::<bool>(),
    ) {
        let written = |rules: &[(String, String, String)]| {
            let resource = if open { ORDERS.replace("default: hold", "default: allow") } else { ORDERS.to_owned() };
            let rules = rules.iter().enumerate().map(|(n, (body, decide, approval))| {
                format!("---\npolicy: p{n}\n{body}decide: {decide}\n{approval}")
            });
            set(&format!("{resource}{}", rules.collect::<String>()))
        };
        let mut more = rules.clone();
        let strict = if extra.1 == "allow" { (extra.0, "refuse".to_owned(), String::new()) } else { extra };
        more.insert(at.min(rules.len()), strict);
        let caller = Caller::default();
        let (before, after) = (judge(&written(&rules), &caller, &notation), judge(&written(&more), &caller, &notation));
        // The default's own terms give way to a rule's: there, only the decision is compared.
        if before.rule.starts_with("default of") {
            prop_assert!(after.decide >= before.decide, "{before:?} became {after:?}");
        } else {
            prop_assert!(strictness(&after) >= strictness(&before), "{before:?} became {after:?}");
        }
    }

    /// What judge says, explain explains.
    #[test]
    fn judge_and_explain_agree(rules in prop::collection::vec(a_rule(), 0..6), notation in an_operation()) {
        let rules = rules.iter().enumerate().map(|(n, (body, decide, approval))| {
            format!("---\npolicy: p{n}\n{body}decide: {decide}\n{approval}")
        });
        let set = set(&format!("{ORDERS}{}", rules.collect::<String>()));
        let resource = set.resources().first().expect("one");
        let explained = set.explain(&Caller::default(), resource, &operation(&notation));
        let strictest = explained.considered.iter().filter(|rule| rule.matched).map(|rule| rule.decide).max();
        match strictest {
            Some(strictest) => prop_assert_eq!(strictest, explained.verdict.decide),
            None => prop_assert!(explained.verdict.rule.starts_with("default of")),
        }
    }

    /// An allow never lets through an effect that no allowing rule names.
    #[test]
    fn what_is_allowed_is_covered(rules in prop::collection::vec(a_rule(), 0..6), notation in an_operation()) {
        let named: String = rules.iter().filter(|rule| rule.1 == "allow").map(|rule| rule.0.as_str()).collect();
        let rules = rules.iter().enumerate().map(|(n, (body, decide, approval))| {
            format!("---\npolicy: p{n}\n{body}decide: {decide}\n{approval}")
        });
        let set = set(&format!("{ORDERS}{}", rules.collect::<String>()));
        if judge(&set, &Caller::default(), &notation).decide == Decide::Allow {
            for effect in operation(&notation).meaning.effects.iter() {
                prop_assert!(named.contains(effect.as_str()), "{effect} in {named}");
            }
        }
    }
}

/// Not a gate, a figure: `cargo test -p gateway --lib judging_costs -- --ignored --nocapture`.
#[test]
#[ignore = "prints a figure"]
fn judging_costs() {
    let rules: String = (0..20)
        .map(|n| {
            let decide = ["allow", "hold", "refuse"][n % 3];
            let effects = ["read", "schema, privilege", "admin, transfer"][n % 3];
            format!(
                "---\npolicy: p{n}\nmatch: {{ workload: {{ name: 'imp*' }}, effects: [{effects}] }}\ndecide: {decide}\n"
            )
        })
        .collect();
    let set = set(&format!("{ORDERS}{rules}"));
    let caller = Caller::named("importer");
    let resource = set.resources().first().expect("one");
    let scope = set.scope(&caller.workload, &caller.process, Some(resource));
    for notation in ["read table:public.orders", "schema table:public.orders", "write", "unknown"] {
        let operation = operation(notation);
        let begun = std::time::Instant::now();
        let rounds = 1_000_000u32;
        for _ in 0..rounds {
            std::hint::black_box(scope.judge(std::hint::black_box(&operation)));
        }
        println!("{notation}: {:?} per judgement of 20 rules", begun.elapsed() / rounds);
    }
    let begun = std::time::Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(set.scope(&caller.workload, &caller.process, Some(resource)));
    }
    println!("scope: {:?}", begun.elapsed() / 10_000);
}
