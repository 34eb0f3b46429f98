//! How far a request is on its way through those who are asked, and what people say beside it.

use maud::{Markup, html};

use super::Viewer;
use crate::hold::{Remark, StepState, StepView, View};

/// The steps in order: whom each asks, who has answered, who is asked next and when.
pub(super) fn steps(steps: &[StepView]) -> Markup {
    html! {
        ol class="steps" {
            @for step in steps {
                li class=(class(step.state)) aria-current=[(step.state == StepState::Asked).then_some("step")] {
                    strong { (word(step)) }
                    ul {
                        @for asked in &step.from {
                            li {
                                (asked.who)
                                @if let Some(seconds) = asked.in_seconds {
                                    span class="small" { " asked in " (span(seconds)) }
                                }
                            }
                        }
                    }
                    @if !step.answered.is_empty() { p class="answered" { "Approved: " (step.answered.join(", ")) } }
                }
            }
        }
    }
}

fn class(state: StepState) -> &'static str {
    match state {
        StepState::Done => "done",
        StepState::Asked => "now",
        StepState::Next => "next",
    }
}

fn word(step: &StepView) -> String {
    let whom = match (step.all, step.people) {
        (true, 2) => "both of".to_owned(),
        (true, people) if people > 2 => "each of".to_owned(),
        (false, people) if people > 1 => format!("{people} of"),
        _ => "one of".to_owned(),
    };
    match step.state {
        StepState::Done => format!("Done: {whom}"),
        StepState::Asked => format!("Asked now: {whom}"),
        StepState::Next => format!("Then: {whom}"),
    }
}

/// What people said.
pub(super) fn said(view: &View) -> Markup {
    html! {
        @if !view.remarks.is_empty() {
            section class="card" {
                h2 { "What people said" span class="small" { " (it decides nothing)" } }
                ul class="past" {
                    @for said in &view.remarks {
                        li {
                            strong { (said.by) }
                            @match said.kind {
                                Remark::Comment => ": ",
                                Remark::Question => " asks: ",
                                Remark::Answer => " answers: ",
                            }
                            (said.text)
                        }
                    }
                }
            }
        }
    }
}

/// Where people say something, and where somebody breaks the glass. Beside the part that changes: what is typed stays.
pub(super) fn speak(viewer: &Viewer, view: &View) -> Markup {
    html! {
        details class="card" {
            summary { "Say or ask something" }
            form data-api={ "/api/v1/approvals/" (view.request) "/remarks" } data-done="Said." aria-label="A remark" {
                label for="kind" { "It is" }
                select id="kind" name="kind" {
                    option value="comment" { "a comment" }
                    option value="question" { "a question to the owner of the workload" }
                    option value="answer" { "an answer" }
                }
                label for="remark" { "Words" }
                textarea id="remark" name="text" rows="2" maxlength="2000" required {}
                p class="problem" role="alert" {}
                button { "Say it" }
            }
        }
        @if let Some(group) = &view.break_glass {
            details class="card" {
                summary { "Break the glass" }
                p class="caution" {
                    "In an emergency one of " (group) " releases it alone. Everybody who was passed over is told, and one of "
                    "them writes a review."
                }
                form data-api={ "/api/v1/approvals/" (view.request) "/break-glass" } data-sure="yes" data-done="Released."
                    aria-label="Break the glass" {
                    input type="hidden" name="digest" value=(view.digest);
                    label for="emergency" { "What is the emergency?" }
                    textarea id="emergency" name="reason" rows="2" maxlength="2000" required {}
                    p class="problem" role="alert" {}
                    button class="deny" { "Release it alone as " (viewer.name) }
                }
            }
        }
    }
}

/// A time in words, to the second.
pub(super) fn span(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}
