//! What bots and people write stays text: a page with hostile words has the elements and attributes of one with harmless
//! ones.

use super::*;
use crate::{
    assess::{Assessed, Enforcement},
    hold::{DelegationView, Desk, RemarkView, Requester, ReviewView},
    people::PersonId,
    policy::{Decide, PolicySet, Who},
    record::{
        Recorder,
        entry::{Body, Remark, Requested, Timestamp},
        samples,
    },
};

const POLICY: &str = "
resource: orders-db
protocol: postgres
endpoints: ['10.0.3.7:5432']
default: allow
---
policy: deletes
match: { resource: orders-db, effects: [delete] }
decide: hold
approval: { from: [{ group: dba }] }
";

/// Words that mean something where they are not taken for text.
const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</pre></code></title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "<!--",
    "&lt;b&gt;",
    "{{constructor.constructor('alert(1)')()}}",
    "\u{202e}<b>\u{0}\u{7}\r\n",
];

fn viewer() -> Viewer {
    let person = Person {
        id: PersonId::Local("ada".to_owned()),
        name: "ada".to_owned(),
        also: Vec::new(),
        uid: None,
        email: None,
        groups: Vec::new(),
        roles: Role::ALL.into(),
    };
    Viewer::of(&person, "token", 0)
}

/// Every page there is, about a request and people with these words everywhere.
async fn pages(words: &str) -> Vec<String> {
    let desk = Desk::open_on(Recorder::in_memory()).expect("memory");
    let Body::Requested(requested) = samples::requested(samples::asked(words, Decide::Hold), 1).body else {
        unreachable!("the sample is one")
    };
    let requested = Requested { workload: words.to_owned(), resource: words.to_owned(), ..*requested };
    let requester = Requester {
        session: samples::SESSION,
        uid: 1,
        user: Some(words.to_owned()),
        executable: Some(words.to_owned()),
        destination: words.to_owned(),
        owners: Vec::new(),
    };
    let _waiting = desk.open((requested, requester)).await.expect("memory");
    let mut view = desk.list().remove(0);
    view.why = words.to_owned();
    view.cautions = vec![words.to_owned()];
    view.parameters = vec![words.to_owned()];
    view.objects = vec![words.to_owned(), words.to_owned()];
    view.unknown = vec![words.to_owned()];
    view.state = [(words.to_owned(), words.to_owned())].into();
    view.impact_lines = vec![words.to_owned()];
    let past = Past {
        request: "id".to_owned(),
        at: words.to_owned(),
        statement: words.to_owned(),
        outcome: words.to_owned(),
        by: words.to_owned(),
    };
    let did = Did { allowed: 1, held: 2, refused: 3, observed: 4 };
    let lately = Lately { since: words.to_owned(), by_rule: [("r".to_owned(), did)].into() };
    let set = PolicySet::parse([("p.yaml", POLICY.as_bytes())]).expect("it is right");
    let assessed = Assessed {
        name: words.to_owned(),
        cgroup: words.to_owned(),
        enforcement: Enforcement::Bypassable,
        reasons: vec![words.to_owned()],
        processes: 1,
        namespaces: [].into(),
    };
    let lent = DelegationView {
        delegation: samples::DELEGATION,
        short: words.to_owned(),
        from: words.to_owned(),
        to: words.to_owned(),
        groups: vec![words.to_owned()],
        seconds_left: 60,
    };
    let owed = ReviewView {
        review: samples::REVIEW,
        short: "short".to_owned(),
        request: view.request,
        by: words.to_owned(),
        group: words.to_owned(),
        reason: words.to_owned(),
        at: Timestamp(1),
        skipped: vec![Who::User(words.to_owned())],
    };
    view.break_glass = Some(words.to_owned());
    view.remarks = vec![RemarkView { by: words.to_owned(), kind: Remark::Question, text: words.to_owned() }];
    for step in &mut view.steps {
        step.answered = vec![words.to_owned()];
    }
    let moment = Some(Moment { after: 1, hold: true });
    let row = Row { moment, to: Some("/sessions/id".to_owned()), cells: vec![words.to_owned(); 3] };
    let facts = [(words.to_owned(), words.to_owned())];
    let (viewer, rows) = (Viewer { name: words.to_owned(), ..viewer() }, [row.clone(), row]);
    [
        inbox(&viewer, &[view.clone()], 2),
        request(&viewer, &view, true, &[past]),
        ended(&viewer, words, words, &facts, words),
        sessions(&viewer, &rows, words, Only::Held),
        policies(&viewer, &set, &lately),
        workloads(&viewer, &[assessed], &[words.to_owned()]),
        delegations(&viewer, &[lent]),
        reviews(&Viewer { name: "other".to_owned(), ..viewer.clone() }, &[owed]),
        transcript(&viewer, words, &facts, &rows, Some("/sessions/id?from=1")),
        audit(&viewer, &rows),
        note(Some(&viewer), words, words),
        enrol("code", Some(words)),
    ]
    .map(Markup::into_string)
    .into()
}

/// The tags of a page in order, with their attributes' names but not what is in them.
fn tags(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {part}"));
        // Every other piece between quotes is a value.
        tags.push(tag.split('"').step_by(2).collect::<Vec<_>>().join("…"));
    }
    // How a statement is cut into words is its own affair; that nothing but `span` comes of it is not.
    tags.retain(|tag| tag != "span class=…" && tag != "/span");
    tags
}

#[tokio::test]
async fn a5_what_others_write_is_text_on_every_page() {
    let harmless = pages("SELECT 1").await;
    for words in HOSTILE {
        for (page, plain) in pages(words).await.iter().zip(&harmless) {
            assert_eq!(tags(page), tags(plain), "{words}");
            assert!(!page.contains('\u{202e}') || words.contains('\u{202e}'), "{words}");
        }
    }
}

#[tokio::test]
async fn no_page_has_a_script_a_style_or_a_handler_of_its_own() {
    for page in pages("SELECT 1").await {
        for tag in tags(&page) {
            assert!(!tag.contains("style=") && !tag.contains(" on"), "{tag}");
        }
        for script in page.split("<script").skip(1) {
            assert!(script.starts_with(" src=\"/assets/"), "{script}");
            assert!(script.contains("></script>"), "{script}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    }
    for asset in ASSETS {
        let text = String::from_utf8_lossy(asset.bytes);
        assert!(!text.contains("https://") && !text.contains("eval("), "{}", asset.name);
    }
}

#[test]
fn a_statement_in_colours_is_the_same_statement() {
    for statement in ["SELECT 'it''s' FROM t WHERE a = 1.5", "\\u{202e}\\", "'", "é\"", "a\\nb\\", "\\u{", "1e5x $1 --"]
    {
        let words: String = super::request::words(statement).into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, statement);
    }
}

proptest::proptest! {
    #[test]
    fn any_statement_in_colours_is_the_same_statement(statement in "\\PC*") {
        let words: String = super::request::words(&statement).into_iter().map(|(_, word)| word).collect();
        proptest::prop_assert_eq!(words, statement);
    }
}

#[test]
fn what_is_left_is_said_in_words() {
    assert!(super::inbox::countdown(90).into_string().contains("1m 30s left"));
}
