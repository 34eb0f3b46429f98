//! What people owe and lend each other: reviews of broken glass, and delegations.

use maud::{Markup, html};

use super::{Viewer, page, steps::span};
use crate::hold::{DelegationView, ReviewView};

/// Reviews that nobody has written.
pub fn reviews(viewer: &Viewer, open: &[ReviewView]) -> Markup {
    let body = html! {
        h1 { "Reviews to write" }
        @if open.is_empty() {
            section class="empty" { p { "Nobody has broken the glass without a review since." } }
        }
        @for one in open {
            section class="card" {
                span class="row" {
                    strong class="who" { (one.by) " released a request alone" }
                    a href={ "/requests/" (one.request) } { "the request" }
                }
                p { "As one of " (one.group) ": " (one.reason) }
                p class="small" {
                    "Passed over: " (one.skipped.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                    " · review " (one.short)
                }
                @if one.by == viewer.name {
                    p class="small" { "Somebody else reviews it." }
                } @else {
                    form data-api={ "/api/v1/reviews/" (one.review) } data-done="Reviewed." aria-label={ "Review " (one.short) } {
                        label for={ "review-" (one.short) } { "What to think of it" }
                        textarea id={ "review-" (one.short) } name="text" rows="3" maxlength="2000" required {}
                        p class="problem" role="alert" {}
                        button { "Close with this review" }
                    }
                }
            }
        }
    };
    page(viewer, "Reviews", "/reviews", &body)
}

/// Who decides in whose stead, and how to let somebody.
pub fn delegations(viewer: &Viewer, lent: &[DelegationView]) -> Markup {
    let body = html! {
        h1 { "Delegations in force" }
        @if lent.is_empty() { section class="empty" { p { "Nobody decides in another's stead." } } }
        @for one in lent {
            section class="card" {
                span class="row" {
                    strong class="who" { (one.to) " for " (one.from) }
                    span class="left" { (span(one.seconds_left)) " left" }
                }
                p {
                    @if one.groups.is_empty() { "Under their name alone" } @else { "In " (one.groups.join(", ")) }
                    span class="small" { " · delegation " (one.short) }
                }
                button type="button" class="deny" data-post={ "/api/v1/delegations/" (one.delegation) "/end" } { "End it" }
            }
        }
        section class="card" {
            h2 { "Let somebody decide for you" }
            form data-api="/api/v1/delegations" data-done="Lent." aria-label="A delegation" {
                label for="to" { "Whom" }
                input id="to" name="to" type="text" maxlength="200" autocomplete="off" required;
                label for="seconds" { "For how long" }
                select id="seconds" name="seconds" data-number="yes" {
                    option value="3600" { "an hour" }
                    option value="28800" selected { "eight hours" }
                    option value="86400" { "a day" }
                    option value="604800" { "a week" }
                }
                p class="small" { "They decide where you may, and never where they ask themselves. It is recorded, and ends by itself." }
                p class="problem" role="alert" {}
                button { "Lend it" }
            }
        }
    };
    page(viewer, "Delegations", "/delegations", &body)
}
