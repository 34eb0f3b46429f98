//! Pages that are lists.

use maud::{Markup, html};
use serde::Deserialize;

use super::{Viewer, page};
use crate::{hold::GrantView, live::About, people::Role};

/// One line of a list: its cells, and where it leads.
#[derive(Debug, Clone)]
pub struct Row {
    /// When it happened in what is played.
    pub moment: Option<Moment>,
    /// Where the first cell leads.
    pub to: Option<String>,
    /// What is in it.
    pub cells: Vec<String>,
}

/// A moment of a session.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds after the session began.
    pub after: u64,
    /// Whether something was held here.
    pub hold: bool,
}

/// Which sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// All.
    #[default]
    All,
    /// Those in which something was held.
    Held,
    /// Those in which something was refused.
    Refused,
    /// Those that are open.
    Open,
}

impl Only {
    const EACH: [(Self, &'static str, &'static str); 4] = [
        (Self::All, "all", "all sessions"),
        (Self::Held, "held", "with something held"),
        (Self::Refused, "refused", "with something refused"),
        (Self::Open, "open", "open now"),
    ];
}

fn table(caption: &str, heads: &[&str], rows: &[Row], empty: &str) -> Markup {
    html! {
        @if rows.is_empty() { section class="empty" { p { (empty) } } } @else {
            div class="wide" tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption class="hidden" { (caption) }
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody {
                        @for row in rows {
                            tr data-after=[row.moment.map(|moment| moment.after)]
                                data-hold=[row.moment.and_then(|moment| moment.hold.then_some("yes"))] {
                                @for (place, cell) in row.cells.iter().enumerate() {
                                    td data-head=(heads.get(place).copied().unwrap_or_default()) {
                                        @match &row.to {
                                            Some(to) if place == 0 => a href=(to) { (cell) },
                                            _ => (cell),
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The grants in force.
pub fn grants(viewer: &Viewer, grants: &[GrantView]) -> Markup {
    let body = html! {
        h1 { "Grants in force" }
        @if grants.is_empty() {
            section class="empty" { p { "No approval goes on releasing anything. An approver can make one on a request's page." } }
        }
        @for grant in grants {
            section class="card" {
                span class="row" {
                    strong class="who" { (grant.workload) " on " (grant.resource) }
                    span class="left" { (grant.uses - grant.used.min(grant.uses)) " of " (grant.uses) " uses left" }
                }
                pre class="statement" tabindex="0" aria-label="What was approved" { code { (grant.statement) } }
                p class="small" {
                    "grant " (grant.short) " · by " (grant.by.join(", ")) " · rule " (grant.rule) " · "
                    (humantime::format_duration(std::time::Duration::from_secs(grant.seconds_left)).to_string()) " left"
                }
                button type="button" class="deny" data-post={ "/api/v1/grants/" (grant.grant) "/revocation" } { "Revoke" }
            }
        }
    };
    page(viewer, "Grants", "/grants", &body)
}

/// The connections that are open.
pub fn live(viewer: &Viewer, open: &[About]) -> Markup {
    let body = html! {
        h1 { "Open connections" }
        @if open.is_empty() { section class="empty" { p { "No guarded workload is connected to anything governed." } } }
        @for one in open {
            section class="card" {
                span class="row" { strong class="who" { (one.workload) } span class="small" { (one.short) } }
                p { (one.user) " · " (one.executable.as_deref().unwrap_or("unknown program")) }
                p { (one.resource.as_deref().unwrap_or("no resource")) " at " (one.destination) " · " (one.protocol) }
                @if viewer.may(Role::Admin) {
                    button type="button" class="deny" data-post={ "/api/v1/sessions/" (one.session) "/termination" } {
                        "End this connection"
                    }
                }
            }
        }
    };
    page(viewer, "Connections", "/live", &body)
}

/// Recorded sessions.
pub fn sessions(viewer: &Viewer, rows: &[Row], sought: &str, only: Only) -> Markup {
    let heads = ["Session", "Started", "Lasted", "Workload", "Resource", "Operations", "Held", "Refused"];
    let body = html! {
        h1 { "Sessions" }
        form method="get" action="/sessions" role="search" class="row" {
            label class="hidden" for="q" { "Workload or resource" }
            input id="q" name="q" type="search" value=(sought) placeholder="workload or resource";
            label class="hidden" for="only" { "Which" }
            select id="only" name="only" {
                @for (which, word, words) in Only::EACH { option value=(word) selected[which == only] { (words) } }
            }
            button { "Search" }
        }
        (table("Recorded sessions, newest first", &heads, rows, "No session matches."))
    };
    page(viewer, "Sessions", "/sessions", &body)
}

/// What happened in one session, a line each.
pub fn transcript(
    viewer: &Viewer,
    title: &str,
    facts: &[(String, String)],
    rows: &[Row],
    more: Option<&str>,
) -> Markup {
    let body = html! {
        h1 { (title) }
        dl class="facts" { @for (name, value) in facts { (super::request::fact(name, value)) } }
        @if rows.len() > 1 { (player(rows)) }
        (table("What happened, in order", &["At", "What", "Text"], rows, "Nothing was recorded."))
        @if let Some(more) = more { p { a class="button" href=(more) { "More" } } }
    };
    page(viewer, title, "/sessions", &body)
}

/// Plays a session's lines in their own time.
fn player(rows: &[Row]) -> Markup {
    let holds = rows.iter().filter(|row| row.moment.is_some_and(|moment| moment.hold)).count();
    html! {
        section class="card player" aria-label="Player" data-player="yes" {
            div class="row" {
                button type="button" class="main" data-play="yes" { "Play" }
                button type="button" data-next-hold="yes" disabled[holds == 0] { "Next hold (" (holds) ")" }
                label { "Speed " select data-speed="yes" {
                    option value="1" { "1×" } option value="4" { "4×" } option value="16" selected { "16×" }
                    option value="64" { "64×" }
                } }
                output data-clock="yes" { "0:00" }
            }
            label class="hidden" for="timeline" { "Where it is" }
            input id="timeline" type="range" min="0" max=(rows.len() - 1) value="0" data-timeline="yes";
            p class="small hint" { "Pauses of more than two seconds are passed over. Space plays and pauses; n goes to the next hold." }
        }
    }
}

/// What people did at the console and to it.
pub fn audit(viewer: &Viewer, rows: &[Row]) -> Markup {
    let body = html! {
        h1 { "Audit of the console" }
        (table("What people did, newest first", &["At", "Who", "What"], rows, "Nobody has done anything yet."))
    };
    page(viewer, "Audit", "/audit", &body)
}
