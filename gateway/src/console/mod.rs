//! The console's pages: what the gateway knows, as HTML. Pure: data in, a page out.
//!
//! # Security
//! Everything from bots, backends and people is text: `maud` escapes it, and nothing here hands it data as markup, puts
//! data into a script, a style or an address. Scripts and styles are files of their own, so that the pages can forbid
//! all others.

mod duties;
mod inbox;
mod lists;
mod request;
mod signin;
mod standing;
mod steps;
#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, html};

pub use duties::{delegations, reviews};
pub use inbox::{inbox, open_requests};
pub use lists::{Moment, Only, Row, audit, grants, live, sessions, transcript};
pub use request::{Past, ended, request};
pub use signin::{enrol, sign_in};
pub use standing::{Did, Lately, policies, workloads};

use crate::people::{Person, Role};

/// A page, or a part of one.
pub type Page = Markup;

/// Whose page it is.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Their name.
    pub name: String,
    /// What they may use.
    pub roles: Vec<Role>,
    /// What their page says to change something.
    pub csrf: String,
    /// How far the desk had come before anything of the page was read: what came later, the page is told.
    pub seen: u64,
}

impl Viewer {
    /// The page's viewer.
    pub fn of(person: &Person, csrf: &str, seen: u64) -> Self {
        Self { name: person.name.clone(), roles: person.roles.iter().copied().collect(), csrf: csrf.to_owned(), seen }
    }

    fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// A file that pages load.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path below `/assets/`.
    pub name: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

/// Every file that pages load.
pub const ASSETS: [Asset; 5] = [
    Asset { name: "console.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("assets/console.css") },
    Asset { name: "console.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("assets/console.js") },
    Asset { name: "passkey.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("assets/passkey.js") },
    Asset { name: "player.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("assets/player.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("assets/icon.svg") },
];

/// A page with the way to all others.
fn page(viewer: &Viewer, title: &str, here: &str, body: &Markup) -> Markup {
    let ways = [
        ("/", "Inbox", true),
        ("/grants", "Grants", true),
        ("/live", "Connections", viewer.may(Role::Auditor)),
        ("/sessions", "Sessions", viewer.may(Role::Auditor)),
        ("/policies", "Policies", viewer.may(Role::Viewer)),
        ("/workloads", "Workloads", viewer.may(Role::Viewer)),
        ("/delegations", "Delegations", true),
        ("/reviews", "Reviews", true),
        ("/audit", "Audit", viewer.may(Role::Auditor)),
    ];
    shell(
        title,
        Some(viewer),
        &html! {
            a class="skip" href="#main" { "Skip to the content" }
            header class="bar" {
                a class="brand" href="/" { img src="/assets/icon.svg" alt="" width="24" height="24"; "Holdpoint" }
                nav aria-label="Pages" {
                    @for (to, words, may) in ways {
                        @if may {
                            a href=(to) aria-current=[(to == here).then_some("page")] { (words) }
                        }
                    }
                }
                div class="who" {
                    span class="name" { (viewer.name) }
                    button type="button" class="quiet" data-do="sign-out" { "Sign out" }
                }
            }
            main id="main" tabindex="-1" { (body) }
            div id="said" role="status" aria-live="polite" {}
            dialog id="keys" aria-labelledby="keys-title" {
                h2 id="keys-title" { "Keys" }
                dl class="facts" {
                    dt { kbd { "j" } " " kbd { "k" } } dd { "next, previous request" }
                    dt { kbd { "Enter" } } dd { "open it" }
                    dt { kbd { "a" } } dd { "go to Approve" }
                    dt { kbd { "d" } } dd { "go to Deny" }
                    dt { kbd { "i" } } dd { "back to the inbox" }
                    dt { kbd { "Space" } " " kbd { "n" } } dd { "play a session, its next hold" }
                    dt { kbd { "?" } } dd { "this list" }
                }
                form method="dialog" { button { "Close" } }
            }
        },
    )
}

/// What every page has.
fn shell(title: &str, viewer: Option<&Viewer>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(viewer) = viewer {
                    meta name="csrf" content=(viewer.csrf);
                    meta name="seen" content=(viewer.seen);
                }
                title { (title) " · Holdpoint" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/console.js" defer {}
                script src="/assets/passkey.js" defer {}
                script src="/assets/player.js" defer {}
            }
            body { (body) }
        }
    }
}

/// A page that says one thing.
pub fn note(viewer: Option<&Viewer>, title: &str, words: &str) -> Markup {
    let body = html! {
        section class="empty" { h1 { (title) } p { (words) } a class="button" href="/" { "To the inbox" } }
    };
    match viewer {
        Some(viewer) => page(viewer, title, "", &body),
        None => shell(title, None, &html! { main id="main" class="alone" { (body) } }),
    }
}
