//! The pages before anybody is known.

use maud::{Markup, html};

use super::shell;

/// Where people sign in: with a passkey, or at one of these providers (which language it speaks, its name).
pub fn sign_in(providers: &[(&str, &str)]) -> Markup {
    alone(
        "Sign in",
        &html! {
            p { "This is where people release what bots ask for." }
            button type="button" class="main" data-passkey="/signin/passkey" { "Sign in with a passkey" }
            @for (language, name) in providers {
                p { a class="button" href={ "/signin/" (language) "/" (name) } { "Sign in with " (name) } }
            }
            p id="said" role="alert" {}
            p class="small" {
                "No passkey yet? An administrator gives you a link with "
                code { "holdpoint people set NAME" } "."
            }
        },
    )
}

/// Where the owner of a link enrols a passkey. `name`: whose link it is; `None`: it is none.
pub fn enrol(code: &str, name: Option<&str>) -> Markup {
    let Some(name) = name else {
        return alone(
            "This link does not work",
            &html! {
                p { "It has been used, or is more than a quarter of an hour old." }
                p { "An administrator makes another one with " code { "holdpoint people enrol NAME" } "." }
            },
        );
    };
    alone(
        "Make your passkey",
        &html! {
            p { "You are " strong { (name) } ". Your device makes a passkey that only works here; there is no password." }
            button type="button" class="main" data-enrol={ "/enrol/" (code) } { "Make a passkey" }
            p id="said" role="alert" {}
            p class="small" { "If you are not " (name) ", close this page and tell your administrator." }
        },
    )
}

fn alone(title: &str, body: &Markup) -> Markup {
    shell(
        title,
        None,
        &html! {
            main id="main" class="alone" {
                section class="card" {
                    img src="/assets/icon.svg" alt="" width="48" height="48";
                    h1 { (title) }
                    (body)
                    noscript { p { "Passkeys need JavaScript." } }
                }
            }
        },
    )
}
