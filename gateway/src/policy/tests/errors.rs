//! What people read when a file is wrong.

use std::{fs, os::unix::fs::symlink, path::Path};

use proptest::prelude::*;

use super::*;

/// One door: a file that is wrong, and every error that is reported, kept beside it in `snapshots/`.
fn check(name: &str, yaml: &str) {
    let shown: Vec<String> =
        yaml.trim_end().lines().enumerate().map(|(n, line)| format!("{:>3} {line}", n + 1)).collect();
    let shown = if yaml.len() > 4000 { "(long)".to_owned() } else { shown.join("\n") };
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots" }, {
        insta::assert_snapshot!(name, format!("{shown}\n----\n{}", errors(yaml.as_bytes())));
    });
}

/// The same, beside the usual resource.
fn check_policy(name: &str, policy: &str) {
    check(name, &format!("{ORDERS}---{policy}"));
}

#[test]
fn unknown_keys_are_named_with_what_was_meant() {
    check_policy(
        "unknown_keys_are_named_with_what_was_meant_1",
        "
policy: p
match: { efects: [read], resource: orders-db }
decied: hold
decide: hold
approval: { form: [{ group: dba }], quorm: 1 }
zzz: 1
",
    );
}

#[test]
fn wrong_types_say_what_was_expected() {
    check_policy(
        "wrong_types_say_what_was_expected_1",
        "
policy: p
match: [read]
decide: 3
approval: yes
when: { a: b }
unless: reads
tests: none
",
    );
}

#[test]
fn durations_and_counts() {
    check_policy(
        "durations_and_counts_1",
        "
policy: p
match: { effects: [schema] }
decide: hold
approval:
  from: [{ group: dba, after: soon }, { group: dba, after: 30m }]
  quorum: 0
  timeout: 15
---
policy: q
match: { effects: [schema] }
decide: hold
approval: { from: [{ group: dba, after: 30m }], timeout: 15m }
---
policy: r
match: { effects: [schema] }
decide: hold
approval: { timeout: 0s }
",
    );
}

#[test]
fn globs() {
    check_policy(
        "globs_1",
        "
policy: p
match: { resource: 'orders-[', objects: ['.x', 'a.{b'], workload: { name: '', executable_sha256: abc, labels: [x] } }
decide: refuse
",
    );
}

#[test]
fn conditions() {
    for (n, when) in [
        "operation.kind ==",
        "operaton.kind == \"a\"",
        "workload.nmae == \"a\"",
        "operation.tables.exist(t, t.name == \"a\")",
        "operation.kind.matches(operation.text)",
        "operation.kind.matches(\"(\")",
        "operation.a.all(a, operation.b.all(b, operation.c.all(c, true)))",
        "exit()",
    ]
    .iter()
    .enumerate()
    {
        check_policy(
            &format!("condition_{n}"),
            &format!("\npolicy: p\nmatch: {{ resource: '*' }}\nwhen: '{when}'\ndecide: refuse\n"),
        );
    }
    let long =
        format!("\npolicy: p\nmatch: {{ resource: '*' }}\nwhen: '{}true'\ndecide: refuse\n", "true && ".repeat(600));
    check_policy("condition_long", &long);
}

#[test]
fn effects_and_decisions_are_closed_lists() {
    check_policy(
        "effects_and_decisions_are_closed_lists_1",
        "\npolicy: p\nmatch: { effects: [reed, drop, read] }\ndecide: block\n",
    );
}

#[test]
fn names_are_unique() {
    check(
        "names_are_unique_1",
        &format!(
            "{ORDERS}---{ORDERS}---\npolicy: p\nmatch: {{ effects: [read] }}\ndecide: allow\n---\npolicy: p\nmatch: {{ effects: [write] }}\ndecide: allow\n"
        ),
    );
}

#[test]
fn a_resource_states_its_default_and_its_place() {
    check("a_resource_states_its_default_and_its_place_1", "resource: a\nprotocol: postgres\nendpoints: ['a:1']\n");
    check("a_resource_states_its_default_and_its_place_2", "resource: a\ndefault: allow\n");
    check(
        "a_resource_states_its_default_and_its_place_3",
        "resource: a\nprotocol: postgres\nendpoints: ['a:1']\ndefault: hold\n",
    );
}

#[test]
fn endpoints() {
    check(
        "endpoints_1",
        "resource: a\nprotocol: postgres\ndefault: refuse\nendpoints:\n- a\n- a:b\n- 'a:0'\n- '::1:5432'\n- '[::g]:1'\n- '0.0.0.0:5432'\n- '10.0.3.777:1'\n- 'a b:1'\n- 5432\n- a:1\n- a:1\n",
    );
    check(
        "endpoints_2",
        &format!("{ORDERS}---\nresource: b\nprotocol: postgres\nendpoints: ['10.0.3.7:5432']\ndefault: refuse\n"),
    );
}

#[test]
fn sections_of_a_resource() {
    check(
        "sections_of_a_resource_1",
        &format!(
            "{ORDERS}tsl: required\nmysql: {{}}\nmask:\n- {{ name: a }}\n- {{ name: a, column: a.b.c, with: partial }}\n- {{ name: a, with: partly }}\n- {{ detect: [], with: hash }}\n- {{ detect: [card, cards], with: hash }}\n- {{ column: email, with: hash }}\n- {{ name: '[a', with: hash }}\n- {{ name: a, with: null, when: now }}\n"
        ),
    );
}

#[test]
fn rules_that_could_never_work() {
    check_policy(
        "rules_that_could_never_work_1",
        "\npolicy: p\nmatch: { resource: [orders-bd, '*'] }\ndecide: refuse\n",
    );
    check_policy(
        "rules_that_could_never_work_2",
        "\npolicy: p\nmatch: { effects: [read] }\ndecide: allow\napproval: { from: [{ user: a }] }\n",
    );
    check_policy("rules_that_could_never_work_3", "\npolicy: p\nmatch: { effects: [] }\ndecide: allow\nunless: {}\n");
    check_policy(
        "rules_that_could_never_work_4",
        "\npolicy: p\nmatch: { effects: [read] }\ndecide: hold\napproval: { from: [] }\n",
    );
    check_policy(
        "rules_that_could_never_work_5",
        "\npolicy: p\nmatch: { effects: [read] }\ndecide: hold\napproval: { from: [{ user: a, group: b }] }\n",
    );
    check(
        "rules_that_could_never_work_6",
        "resource: a\nprotocol: postgres\nendpoints: ['a:1']\ndefault: refuse\n---\npolicy: p\nmatch: { effects: [read] }\ndecide: hold\n",
    );
    check("rules_that_could_never_work_7", "policy: p\nmatch: { effects: [read] }\ndecide: allow\n");
}

#[test]
fn approvals_in_steps_with_all_that_may_be_asked() {
    let approvals = [
        "steps: []",
        "steps: { from: [{ group: a }] }",
        "steps: [{ need: any }]",
        "steps: [{ from: [{ group: a }], need: some }]",
        "steps: [{ from: [{ group: a }], need: 0 }]",
        "steps: [{ from: [{ user: a }], need: 2 }]",
        "steps: [{ from: [{ user: a }], need: all }, { from: [{ user: a }] }]",
        "steps: [{ from: [{ group: a }] }], quorum: 2",
        "steps: [{ from: [{ group: a }], after: 30m }], timeout: 15m",
        "steps: [{ from: [{ group: a }, { group: b, after: 30m }], need: all }], timeout: 15m",
        "from: [{ on_call: a, group: b }]",
        "from: [{ oncall: a }]",
        "from: [{ group: a }], ticket: '('",
        "from: [{ group: a }], ticket: 7",
        "from: [{ group: a }], separation: [boss]",
        "from: [{ group: a }], veto: [a]",
        "from: [{ group: a }], veto: [{ group: a, after: 5m }]",
        "from: [{ group: a }], break_glass: a",
        "from: [{ group: a }], break_glass: { user: a }",
        "from: [{ group: a }], passkey: please",
        "from: [{ group: a }], hours: { days: mon-fry, from: \"8\", to: \"25:00\", zone: Berlin, otherwise: hold }",
        "from: [{ group: a }], hours: { days: [mon], from: \"18:00\", to: \"08:00\", zone: UTC, otherwise: { group: a } }",
        "from: [{ group: a }], hours: { days: [] }",
    ];
    let policies: Vec<String> = (1..)
        .zip(approvals)
        .map(|(number, approval)| {
            format!(
                "---\npolicy: p{number}\nmatch: {{ effects: [schema] }}\ndecide: hold\napproval: {{ {approval} }}\n"
            )
        })
        .collect();
    check("approvals_in_steps_1", &format!("{ORDERS}{}", policies.concat()));
    let steps = ORDERS.replace("{ from: [{ group: dba }] }", "{ steps: [{ from: [{ group: dba }] }] }");
    let quorum = "---\npolicy: p\nmatch: { effects: [schema] }\ndecide: hold\napproval: { quorum: 2 }\n";
    check("approvals_in_steps_2", &format!("{steps}{quorum}"));
}

#[test]
fn tests_of_policies() {
    check_policy(
        "tests_of_policies_1",
        "
policy: p
match: { effects: [read] }
decide: allow
tests:
- { sql: a }
- { expect: allow }
- { sql: a, effects: [read], expect: allow }
- { sql: a, expect: alow, resource: orders }
- { sql: a, expect: allow, workload: { nam: x } }
- { sql: a, expect: allow, resource: orders }
",
    );
}

#[test]
fn what_is_no_document() {
    check("what_is_no_document_1", "recource: a\n---\n- a\n---\njust text\n---\npolicy: a\nresource: b\n");
    check("what_is_no_document_2", "");
    check("what_is_no_document_3", "# nothing\n");
}

#[test]
fn what_is_no_yaml() {
    check("what_is_no_yaml_1", "resource: a\n\tprotocol: b\n");
    check("what_is_no_yaml_2", "resource: a\nresource: b\n");
    check("what_is_no_yaml_3", "resource: [a\n");
    check("what_is_no_yaml_4", "resource: *nobody\n");
    check("what_is_no_yaml_5", &format!("resource: {}{}\n", "[".repeat(100), "]".repeat(100)));
}

#[test]
fn bombs_of_aliases_are_small() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(["b", "c", "d", "e", "f", "g", "h", "i"]) {
        bomb.push_str(&format!(
            "{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"
        ));
    }
    check("bombs_of_aliases_are_small_1", &bomb);
}

#[test]
fn what_is_not_utf8() {
    let said = errors(b"resource: a\nprotocol: \xffpostgres\n");
    assert_eq!(said, "test.yaml:2:11: byte 0xff is not UTF-8; save the file as UTF-8");
}

#[test]
fn all_errors_of_all_files_are_reported_together() {
    let files: [(&str, &[u8]); 3] =
        [("b.yaml", b"resource: [\n"), ("a.yaml", b"policy: p\nmach: {}\ndecide: no\n"), ("c.yaml", b"policy: q\n")];
    let said = PolicySet::parse(files).expect_err("three files are wrong").to_string();
    assert_eq!(
        said,
        "a.yaml:1:1: policy has no `match`; expected `match: { resource: NAME }` or more: what the policy is about\n\
         a.yaml:2:1: unknown key `mach` in policy, did you mean `match`?\n\
         a.yaml:3:9: `decide` cannot be the text `no`; expected one of allow, hold, hold_commit, refuse\n\
         b.yaml:1:11: this is not valid YAML: unclosed bracket '['\n\
         c.yaml:1:1: policy has no `match`; expected `match: { resource: NAME }` or more: what the policy is about\n\
         c.yaml:1:1: policy has no `decide`; expected `decide: allow`, `hold`, `hold_commit` or `refuse`"
    );
}

/// Loads a directory that is wrong; its own path is left out of the answer.
fn load(directory: &Path) -> String {
    let said = PolicySet::load(directory).expect_err("it is wrong").to_string();
    said.replace(&directory.display().to_string(), "DIR")
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    assert_eq!(
        load(&path.join("none")),
        "DIR: cannot be read: No such file or directory (os error 2); give the directory of the policy files, or mend the link"
    );
    assert_eq!(load(path), "DIR: there is no policy file here; expected at least one `*.yaml` with a `resource:`");

    symlink("nowhere", path.join("a.yaml")).expect("linked");
    nix::unistd::mkfifo(&path.join("b.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::write(path.join("c.yml"), vec![b'#'; 1024 * 1024 + 1]).expect("written");
    assert_eq!(
        load(path),
        "DIR/a.yaml: cannot be read: No such file or directory (os error 2); give the directory of the policy files, or mend the link\n\
         DIR/b.yaml: this is no regular file; a policy file must be one\n\
         DIR/c.yml: the file has 1048577 bytes; the largest is 1048576: split it into several files"
    );
}

#[test]
fn a_directory_that_holds_itself_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    symlink(".", directory.path().join("loop")).expect("linked");
    fs::write(directory.path().join("a.yaml"), ORDERS).expect("written");
    assert!(load(directory.path()).contains("is written twice"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever the bytes, loading answers.
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = PolicySet::parse([("x.yaml", bytes.as_slice())]);
    }

    /// Nor do files that are nearly right, where decoding goes deep.
    #[test]
    fn nearly_right_files_never_panic(at in 0..WHOLE.len(), cut in 0..12usize, put in "[ -~\n]{0,6}") {
        let mut text = WHOLE.to_owned();
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &put);
        if let Ok(set) = PolicySet::parse([("x.yaml", text.as_bytes())]) {
            let set = Arc::new(set);
            let _ = set.test(&classify);
            if !set.resources().is_empty() {
                judge(&set, &Caller::default(), "read,write table:public.orders");
            }
        }
    }
}

/// Every key that there is, once.
const WHOLE: &str = r#"
resource: orders-db
protocol: postgres
endpoints: ["10.0.3.7:5432", "[::1]:5432", "db.prod.svc:5432"]
default: hold
tls: { upstream: verify-full }
credential: orders-db/app
approval: { from: [{ group: dba }, { user: ann, after: 5m }], quorum: 1, timeout: 15m, reason: required }
on_hold: wait
mask: [{ column: "public.customers.email", with: partial }, { detect: [card, iban], with: redact }]
tests: [{ effects: [admin], expect: hold }]
---
policy: all
description: everything
owner: platform
match:
  workload: { name: "a*", unit: "*.service", namespace: ci, labels: { team: [x, "y?"] } }
  resource: ["orders-*"]
  effects: [read, unknown]
  objects: [{ kind: table, name: ["public.*", "{a,b}.[cd]"] }, "x"]
  kinds: [query]
when: 'operation.tables.exists(t, t.schema == "public" && t.name.matches("^a"))'
unless: [{ when: 'size(operation.text) > 10', effects: [read] }]
decide: hold
mode: observe
on_hold: retry
approval: { from: [{ user: bob }] }
reason: because
tests: [{ sql: "read", state: { role: x }, workload: { name: a, user: b }, expect: hold }]
"#;

#[test]
fn the_whole_example_is_right() {
    set(WHOLE);
}
