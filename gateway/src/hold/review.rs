//! Reviews: what somebody else must write after one person released an operation alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Desk, delegation::recorded};
use crate::{
    operation::{RequestId, ReviewId},
    people::{Person, Role},
    policy::Who,
    record::{
        RecordError,
        entry::{Body, BrokenGlass, Entry, Timestamp},
    },
    visible::visible,
};

/// Why a review was not written.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// No such review is open.
    #[error("no review {0} is open; `holdpoint approvals reviews` lists those that are")]
    Unknown(String),
    /// The typed form fits several.
    #[error("{0} names several reviews; type more of it")]
    Ambiguous(String),
    /// By the very person, or one who cannot be told from them.
    #[error("{0} broke the glass, and nothing shows that you are somebody else; a review is written by another person")]
    Own(String),
    /// Somebody who was not skipped.
    #[error("{0} may not write review {1}: it is for those who were not asked, an auditor or root")]
    NotTheirs(String, String),
    /// No text, or too much.
    #[error("a review is 1 to {LONGEST} bytes of text")]
    Text,
    /// It cannot be recorded.
    #[error("the review cannot be recorded: {0}")]
    Record(#[from] RecordError),
}

/// An open review, as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ReviewView {
    /// Its full name.
    pub review: ReviewId,
    /// The form that people type.
    pub short: String,
    /// The request that was released.
    pub request: RequestId,
    /// Who released it alone.
    pub by: String,
    /// As one of which group.
    pub group: String,
    /// Why, in their words, made visible.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Who was not asked.
    pub skipped: Vec<Who>,
}

/// Those that are open.
#[derive(Default)]
pub(super) struct Reviews(BTreeMap<ReviewId, (Timestamp, BrokenGlass)>);

impl Reviews {
    pub(super) fn begin(&mut self, at: Timestamp, broken: BrokenGlass) {
        self.0.insert(broken.review, (at, broken));
    }
}

impl ReviewView {
    /// Whether a person may read and write it: those who were not asked, who broke the glass, auditors and root.
    pub fn concerns(&self, person: &Person) -> bool {
        self.by == person.name || may_write(&self.skipped, person)
    }
}

fn may_write(skipped: &[Who], person: &Person) -> bool {
    person.is_root() || person.roles.contains(&Role::Auditor) || skipped.iter().any(|who| person.is(who))
}

impl Desk {
    /// Takes up what a former gateway left.
    pub(super) fn take_up_reviews(&self) -> Result<(), RecordError> {
        let left = self.0.recorder.records()?.open_reviews()?;
        let mut state = self.state();
        left.into_iter().for_each(|(at, broken)| state.reviews.begin(at, broken));
        Ok(())
    }

    /// Every open review, oldest first.
    pub fn reviews(&self) -> Vec<ReviewView> {
        let view = |(at, broken): &(Timestamp, BrokenGlass)| ReviewView {
            review: broken.review,
            short: broken.review.short(),
            request: broken.request,
            by: broken.by.clone(),
            group: broken.group.clone(),
            reason: visible(broken.reason.as_bytes()),
            at: *at,
            skipped: broken.skipped.clone(),
        };
        self.state().reviews.0.values().map(view).collect()
    }

    /// Somebody else says what to think of it, and the review is closed. `typed` names the review or its request.
    ///
    /// # Errors
    /// It stays open, and why.
    pub fn review(&self, typed: &str, person: &Person, text: &str) -> Result<ReviewId, ReviewError> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST {
            return Err(ReviewError::Text);
        }
        let mut state = self.state();
        let is_named = |broken: &BrokenGlass| broken.review.is_named(typed) || broken.request.is_named(typed);
        let mut found = state.reviews.0.values().map(|(_, broken)| broken).filter(|broken| is_named(broken));
        let broken = match (found.next(), found.next()) {
            (Some(one), None) => one.clone(),
            (Some(_), Some(_)) => return Err(ReviewError::Ambiguous(typed.to_owned())),
            (None, _) => return Err(ReviewError::Unknown(typed.to_owned())),
        };
        let breaker = recorded(&broken.person, &broken.by, broken.uid, &[]);
        if !person.is_surely_another(&breaker) {
            return Err(ReviewError::Own(broken.by));
        }
        if !may_write(&broken.skipped, person) {
            return Err(ReviewError::NotTheirs(person.name.clone(), broken.review.short()));
        }
        let review = broken.review;
        let (by, id) = (person.name.clone(), person.id.to_string());
        let body = Body::Reviewed { review, by, person: id, text: text.to_owned() };
        let _ = self.0.recorder.append_written(Entry { at: Timestamp::now(), session: None, body })?;
        state.reviews.0.remove(&review);
        drop(state);
        self.changed();
        Ok(review)
    }
}

/// The longest review, in bytes.
const LONGEST: usize = 10_000;
