//! Why a decision does nothing, in words for the person who decided.

use super::GrantError;
use crate::record::RecordError;

/// Why a decision does nothing.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// No such request, now or lately.
    #[error("there is no request {0}; `holdpoint approvals list` shows the open ones")]
    Unknown(String),
    /// The typed form fits several.
    #[error("{0} names several requests; type more of it")]
    Ambiguous(String),
    /// It has ended.
    #[error("request {0} has already ended: {1}; nothing was done")]
    Ended(String, &'static str),
    /// This person has already approved it.
    #[error("you have already approved request {0}; it needs other people too")]
    Twice(String),
    /// This person cannot be told from one who has.
    #[error(
        "{1} has already approved request {0}, and nothing shows that you are somebody else; sign in the same way as \
         {1} did, or let an administrator say who you both are with `holdpoint people set`"
    )]
    PerhapsTwice(String, String),
    /// The person who asks.
    #[error("the person who asks may not decide: request {0} comes from a process of yours (user {1})")]
    OwnRequest(String, String),
    /// Not one of the approvers.
    #[error("{0} may not decide on request {1}: the rule asks {2}")]
    NotAnApprover(String, String, String),
    /// One of the approvers, but not yet.
    #[error("{0} may decide on request {1} only {2} from now")]
    NotYet(String, String, humantime::FormattedDuration),
    /// The rule wants a reason.
    #[error("this rule requires a reason: add --reason \"…\"")]
    ReasonRequired,
    /// What they saw is not what is held.
    #[error("request {0} has another digest than the one given; look at it again")]
    OtherDigest(String),
    /// The approval cannot become the grant that was asked for.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// It cannot be recorded.
    #[error("the decision cannot be recorded, so it does not count: {0}")]
    Record(#[from] RecordError),
}
