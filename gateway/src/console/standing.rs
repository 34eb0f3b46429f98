//! How things stand: the policies as loaded, with what each did lately, and the workloads.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Viewer, page};
use crate::{
    assess::{Assessed, Enforcement},
    policy::{Mode, PolicySet, Resource, RuleView},
};

/// What a rule did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Did {
    /// It let through.
    pub allowed: u64,
    /// It held.
    pub held: u64,
    /// It refused.
    pub refused: u64,
    /// It would have held or refused, and only looks on.
    pub observed: u64,
}

/// What rules did lately: rule → what, and since when.
#[derive(Debug, Clone, Default)]
pub struct Lately {
    /// When what was looked at begins, as people read it.
    pub since: String,
    /// By rule.
    pub by_rule: BTreeMap<String, Did>,
}

/// The policies in force.
pub fn policies(viewer: &Viewer, set: &PolicySet, lately: &Lately) -> Markup {
    let body = html! {
        h1 { "Policies in force" }
        p class="small" {
            "Load " (set.generation()) " · digest " code class="hash" { (set.digest()) }
            @if !lately.since.is_empty() { " · counted since " (lately.since) }
        }
        h2 { "Rules" }
        @if set.rule_count() == 0 { section class="empty" { p { "There are no rules: each resource's default decides." } } }
        @for rule in set.views() { (one(&rule, lately)) }
        h2 { "Resources" }
        @for resource in set.resources() { (place(resource, lately)) }
    };
    page(viewer, "Policies", "/policies", &body)
}

fn one(rule: &RuleView<'_>, lately: &Lately) -> Markup {
    html! {
        section class="card" {
            span class="row" {
                strong class="who" { (rule.name) }
                span class={ "tag " (rule.decide) } {
                    (rule.decide) @if rule.mode == Mode::Observe { " (looks on)" }
                }
            }
            p { (rule.reason) }
            p class="small" { (rule.origin) @if !rule.asks.is_empty() { " · asks " (rule.asks.iter().cloned().collect::<Vec<_>>().join(", ")) } }
            (did(lately.by_rule.get(rule.name)))
        }
    }
}

fn place(resource: &Resource, lately: &Lately) -> Markup {
    let endpoints: Vec<_> = resource.endpoints.iter().map(ToString::to_string).collect();
    html! {
        section class="card" {
            span class="row" {
                strong class="who" { (resource.name) }
                span class={ "tag " (resource.default) } { "otherwise " (resource.default) }
            }
            p { (resource.protocol) " at " (endpoints.join(", ")) }
            p class="small" { (resource.origin) }
            (did(lately.by_rule.get(&format!("default of {}", resource.name))))
        }
    }
}

fn did(did: Option<&Did>) -> Markup {
    let Did { allowed, held, refused, observed } = did.copied().unwrap_or_default();
    let all = [(allowed, "let through"), (held, "held"), (refused, "refused"), (observed, "only seen")];
    let some: Vec<_> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    html! { p class="did" { @if some.is_empty() { "Nothing lately" } @else { (some.join(", ")) } } }
}

/// The workloads with processes, and whether each is really guarded.
pub fn workloads(viewer: &Viewer, all: &[Assessed], problems: &[String]) -> Markup {
    let body = html! {
        h1 { "Workloads" }
        @for problem in problems { p class="caution" { (problem) } }
        @if all.is_empty() {
            section class="empty" { p { "No guarded workload has a process now. `holdpoint exec` starts one." } }
        }
        @for one in all {
            section class="card" {
                span class="row" {
                    strong class="who" { (one.name) }
                    span class={ "tag " (class(one.enforcement)) } { (word(one.enforcement)) }
                }
                p class="small" { (one.cgroup) " · " (one.processes) " processes" }
                @for reason in &one.reasons {
                    p class=[(one.enforcement != Enforcement::Guarded).then_some("caution")] { (reason) }
                }
            }
        }
    };
    page(viewer, "Workloads", "/workloads", &body)
}

fn word(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Guarded => "guarded",
        Enforcement::Bypassable => "can go round",
        Enforcement::Unguardable => "cannot be guarded",
        Enforcement::Unknown => "not known",
    }
}

fn class(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Guarded => "allow",
        Enforcement::Bypassable | Enforcement::Unguardable => "refuse",
        Enforcement::Unknown => "hold",
    }
}
