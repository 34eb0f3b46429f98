//! Which events about which requests a channel hears of.

use super::event::{Case, What, asked};
use crate::{
    config::{About, OneOrMany},
    operation::Effects,
    policy::{Pattern, Who},
};

/// What a channel hears of. What is not written lets everything through.
pub(super) struct Filter {
    groups: Option<Vec<Pattern>>,
    rules: Option<Vec<Pattern>>,
    resources: Option<Vec<Pattern>>,
    effects: Option<Effects>,
    events: Option<Vec<What>>,
}

impl Filter {
    /// As the settings say.
    ///
    /// # Errors
    /// A glob or an event that is none, in words.
    pub(super) fn read(about: &About, events: Option<&[String]>) -> Result<Self, String> {
        Ok(Self {
            groups: patterns("groups", about.groups.as_ref())?,
            rules: patterns("rules", about.rules.as_ref())?,
            resources: patterns("resources", about.resources.as_ref())?,
            effects: about.effects.as_ref().map(|effects| effects.iter().copied().collect()),
            events: events.map(|events| events.iter().map(|event| named(event)).collect()).transpose()?,
        })
    }

    /// The same without such events.
    pub(super) fn without(mut self, what: What) -> Self {
        let events = self.events.unwrap_or_else(|| What::ALL.to_vec());
        self.events = Some(events.into_iter().filter(|event| *event != what).collect());
        self
    }

    /// Whether it hears of such events.
    pub(super) fn hears(&self, what: What) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(&what))
    }

    /// Whether the request is one of those it is for.
    pub(super) fn chooses(&self, case: &Case) -> bool {
        let requested = &case.requested;
        let groups = asked(&requested.approval).filter_map(|approver| match &approver.who {
            Who::Group(name) => Some(name.as_str()),
            Who::User(_) | Who::OnCall(_) | Who::Program(_) => None,
        });
        some(self.groups.as_deref(), groups)
            && some(self.rules.as_deref(), [requested.asked.rule.as_str()])
            && some(self.resources.as_deref(), [requested.resource.as_str()])
            && self.effects.is_none_or(|effects| effects.intersects(requested.asked.effects))
    }
}

fn some<'n>(patterns: Option<&[Pattern]>, names: impl IntoIterator<Item = &'n str>) -> bool {
    let Some(patterns) = patterns else { return true };
    names.into_iter().any(|name| patterns.iter().any(|pattern| pattern.is_match(name)))
}

fn patterns(key: &str, globs: Option<&OneOrMany>) -> Result<Option<Vec<Pattern>>, String> {
    let read = |glob: &String| Pattern::new(glob).map_err(|why| format!("`{key}: {glob}` is no glob: {why}"));
    globs.map(|globs| globs.globs().iter().map(read).collect()).transpose()
}

fn named(event: &str) -> Result<What, String> {
    What::ALL.into_iter().find(|what| what.as_str() == event).ok_or_else(|| {
        let all: Vec<_> = What::ALL.iter().map(|what| what.as_str()).collect();
        format!("there are no events `{event}`; expected some of: {}", all.join(", "))
    })
}
