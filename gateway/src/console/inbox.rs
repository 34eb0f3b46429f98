//! What waits.

use maud::{Markup, html};

use super::{Viewer, page};
use crate::hold::View;

/// The inbox: the first of `all` requests.
pub fn inbox(viewer: &Viewer, open: &[View], all: usize) -> Markup {
    page(viewer, "Inbox", "/", &html! { div id="live" data-live="/inbox" { (open_requests(open, all)) } })
}

/// The part of it that changes.
pub fn open_requests(open: &[View], all: usize) -> Markup {
    html! {
        h1 {
            @match all {
                0 => "Nothing waits for you",
                1 => "One request waits",
                count => { (count) " requests wait" }
            }
        }
        @if open.is_empty() {
            section class="empty" {
                p { "When a bot asks for something that a rule holds, it appears here by itself." }
            }
        }
        ol class="requests" {
            @for view in open {
                li {
                    a class="card" href={ "/requests/" (view.request) } {
                        span class="row" {
                            strong class="who" { (view.workload) }
                            (countdown(view.seconds_left))
                        }
                        span class="question" { (question(view)) }
                        code class="statement one" { (view.statement) }
                        span class="small" {
                            (view.rule) " · " (view.approvals) " of " (view.quorum) " approvals · " (view.short)
                        }
                    }
                }
            }
        }
        @if all > open.len() {
            p class="caution" { "These are the oldest " (open.len()) "; the other " (all - open.len()) " follow as they end." }
        }
    }
}

/// The question in one sentence, for somebody who was asleep a moment ago.
pub(super) fn question(view: &View) -> Markup {
    let effects: Vec<_> = view.effects.iter().map(|effect| effect.as_str()).collect();
    html! {
        "wants to "
        strong { (if effects.is_empty() { "do something unknown".to_owned() } else { effects.join(", ") }) }
        " on " strong { (view.resource) }
        @if let Some(object) = view.objects.first() {
            ": " (object)
            @if view.objects.len() > 1 { " and " (view.objects.len() - 1) " more" }
        }
    }
}

/// How long is left. A script counts it down.
pub(super) fn countdown(seconds: u64) -> Markup {
    html! {
        time class="left" data-left=(seconds) role="timer" {
            (humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()) " left"
        }
    }
}
