//! One request: everything that an approver has to know, the question first.

use maud::{Markup, html};

use super::{
    Viewer,
    inbox::{countdown, question},
    page, steps,
};
use crate::hold::View;

/// What the same bot asked for before, and how that ended.
#[derive(Debug, Clone)]
pub struct Past {
    /// The request.
    pub request: String,
    /// When, as people read it.
    pub at: String,
    /// What it was, made visible.
    pub statement: String,
    /// How it ended.
    pub outcome: String,
    /// By whom.
    pub by: String,
}

/// An open request. `may_decide`: whether the viewer is asked.
pub fn request(viewer: &Viewer, view: &View, may_decide: bool, past: &[Past]) -> Markup {
    let body = html! {
        div id="live" data-live={ "/requests/" (view.request) } data-request=(view.request) {
            section class="card ask" {
                span class="row" {
                    strong class="who" { (view.workload) }
                    (countdown(view.seconds_left))
                }
                h1 class="question" { (question(view)) }
                @for line in &view.impact_lines { p class="impact" { (line) } }
                @if !view.unknown.is_empty() {
                    p class="caution" { "The gateway cannot tell all that it does: " (view.unknown.join(", ")) }
                }
                @for caution in &view.cautions { p class="caution" { "Look closely: the statement " (caution) } }
                h2 { "The statement" span class="small" { " in the bot's own words" } }
                @if view.bytes > LONG {
                    p class="caution" { "It is " (view.bytes) " bytes long. What matters may be at its end." }
                }
                pre class="statement" tabindex="0" aria-label="The statement" { code { (highlighted(&view.statement)) } }
                @if !view.parameters.is_empty() {
                    h2 { "Its values" }
                    ol class="values" { @for value in &view.parameters { li { code { (value) } } } }
                }
            }
            @if may_decide { (decision(view)) } @else {
                section class="card" { p { "You see this request and are not asked to decide on it." } }
            }
            section class="card" {
                h2 { "Who, where, why" }
                dl class="facts" {
                    (fact("Workload", &view.workload))
                    (fact("User", &view.requester.user.clone().unwrap_or_else(|| view.requester.uid.to_string())))
                    (fact("Program", view.requester.executable.as_deref().unwrap_or("unknown")))
                    (fact("Resource", &view.resource))
                    (fact("Where", &view.requester.destination))
                    (fact("Touches", &view.objects.join(", ")))
                    (fact("Rule", &view.rule))
                    (fact("Because", &view.why))
                    (fact("Approvals", &format!("{} of {}", view.approvals, view.quorum)))
                    (fact("May say no", &view.veto.join(", ")))
                    (fact("Kept out", &view.barred.join(", ")))
                    @for (name, value) in &view.state { (fact(name, value)) }
                    (fact("Session", &view.requester.session.to_string()))
                    (fact("Request", &view.request.to_string()))
                    dt { "Approved is" } dd { code class="hash" { (view.digest) } }
                }
            }
            section class="card" { h2 { "Who is asked" } (steps::steps(&view.steps)) }
            (steps::said(view))
            (history(past))
        }
        (steps::speak(viewer, view))
    };
    page(viewer, &format!("{} on {}", view.workload, view.resource), "", &body)
}

/// A request that is over.
pub fn ended(viewer: &Viewer, short: &str, outcome: &str, lines: &[(String, String)], statement: &str) -> Markup {
    let body = html! {
        section class="card ask" {
            h1 class="question" { "Request " (short) ": " strong { (outcome) } }
            pre class="statement" tabindex="0" aria-label="The statement" { code { (highlighted(statement)) } }
            dl class="facts" { @for (name, value) in lines { (fact(name, value)) } }
        }
        p { a class="button" href="/" { "To the inbox" } }
    };
    page(viewer, &format!("Request {short}"), "", &body)
}

fn decision(view: &View) -> Markup {
    html! {
        form class="card decide" data-decide=(view.request) data-digest=(view.digest) aria-label="Your decision" {
            label for="reason" {
                "Why" @if view.reason_required { " (the rule requires it to approve)" } @else { " (for the record)" }
            }
            textarea id="reason" name="reason" rows="2" maxlength="2000" data-required=[view.reason_required.then_some("yes")] {}
            @if let Some(pattern) = &view.ticket {
                label for="ticket" { "Ticket" span class="small" { " (it must match " (pattern) ")" } }
                input id="ticket" name="ticket" type="text" maxlength="200" autocomplete="off";
            }
            @if view.fingerprint.is_some() {
                details {
                    summary { "Approve more like it at once" }
                    p class="small" {
                        "The same workload may then do the same again, with the same values, without asking."
                    }
                    label { input type="checkbox" name="grant" value="yes"; " Make this approval a grant" }
                    label { "How often " input type="number" name="uses" value="10" min="1" max="1000"; }
                    label { "For how many minutes " input type="number" name="minutes" value="60" min="1" max="43200"; }
                }
            }
            div class="buttons" {
                button type="submit" class="deny" name="decision" value="deny" { "Deny" }
                button type="submit" class="approve" name="decision" value="approve" { "Approve" }
            }
            p id="problem" role="alert" {}
            @if view.passkey { p class="small" { "Your passkey signs what you decide." } }
            p class="small" {
                @if view.waits { "The bot waits in its connection: your answer reaches it at once." }
                @else { "The bot was told to come back: approved, the identical operation passes once." }
            }
        }
    }
}

fn history(past: &[Past]) -> Markup {
    html! {
        section class="card" {
            h2 { "What this bot asked before" }
            @if past.is_empty() { p { "Nothing that was held." } }
            ul class="past" {
                @for one in past {
                    li {
                        a href={ "/requests/" (one.request) } { code { (one.statement) } }
                        span class="small" { (one.at) " · " (one.outcome) @if !one.by.is_empty() { " by " (one.by) } }
                    }
                }
            }
        }
    }
}

pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { @if !value.is_empty() { dt { (name) } dd { (value) } } }
}

/// The statement with its words told apart. Wrong colours are harmless: every character is there, in order.
fn highlighted(statement: &str) -> Markup {
    html! {
        @for (kind, text) in words(statement) {
            @match kind {
                Some(kind) => span class=(kind) { (text) },
                None => (text),
            }
        }
    }
}

/// Cuts a statement into words, quoted text, numbers and the rest; joined they are the statement again.
pub(super) fn words(statement: &str) -> Vec<(Option<&'static str>, &str)> {
    let mut pieces = Vec::new();
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        let end = |wanted: &dyn Fn(char) -> bool| rest.find(|next| !wanted(next)).unwrap_or(rest.len());
        let (kind, length) = match first {
            '\'' | '"' => {
                let close = rest[1..].find(first).map_or(rest.len(), |at| at + 2);
                (Some("quoted"), close)
            }
            // What `visible` makes of a character that could deceive.
            '\\' => (Some("made-visible"), escape(rest)),
            first if first.is_ascii_digit() => {
                (Some("number"), end(&|next| next.is_ascii_alphanumeric() || next == '.'))
            }
            first if first.is_alphabetic() || first == '_' => {
                let length = end(&|next| next.is_alphanumeric() || next == '_' || next == '$');
                let word = &rest[..length];
                (KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)).then_some("keyword"), length)
            }
            first => (None, first.len_utf8()),
        };
        let (piece, after) = rest.split_at(length);
        pieces.push((kind, piece));
        rest = after;
    }
    pieces
}

/// The length of what begins with a backslash: `\u{202e}`, `\x00`, or the next character.
fn escape(rest: &str) -> usize {
    match rest.strip_prefix("\\u{").and_then(|inside| inside.find('}')) {
        Some(close) => close + 4,
        None => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
    }
}

/// Words that do something, above all.
const KEYWORDS: [&str; 45] = [
    "ALTER", "AND", "AS", "BEGIN", "BY", "CALL", "CASCADE", "COMMIT", "COPY", "CREATE", "DATABASE", "DELETE", "DO",
    "DROP", "EXECUTE", "FROM", "FUNCTION", "GRANT", "GROUP", "IN", "INDEX", "INSERT", "INTO", "JOIN", "LIMIT", "MERGE",
    "NOT", "NULL", "ON", "OR", "ORDER", "REVOKE", "ROLE", "ROLLBACK", "SELECT", "SET", "TABLE", "TRUNCATE", "UNION",
    "UPDATE", "USING", "VALUES", "VIEW", "WHERE", "WITH",
];

/// From this many bytes on a statement is long.
const LONG: usize = 2000;
