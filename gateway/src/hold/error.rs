//! Why a decision does nothing, in words for the person who decided.

use super::GrantError;
use crate::{policy::Approval, record::RecordError};

/// Why a request was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be recorded.
    #[error("the request for approval cannot be recorded: {0}")]
    Record(#[from] RecordError),
    /// Nobody is asked at this hour.
    #[error("people are asked only {0}, so this is refused now; send it again then")]
    OutsideHours(String),
}

impl OpenError {
    pub(super) fn outside(approval: &Approval) -> Self {
        OpenError::OutsideHours(approval.hours.as_ref().map_or_else(String::new, ToString::to_string))
    }
}

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
    /// Asked in a step that is not open yet.
    #[error("{0} is asked about request {1} in step {2}, and it waits for {3} first")]
    StepNotYet(String, String, usize, String),
    /// Asked in a step that is through.
    #[error("{0} was asked about request {1} in step {2}, which is through; it waits for {3}")]
    StepOver(String, String, usize, String),
    /// Everybody's place that they could take is taken.
    #[error("somebody has already approved request {0} in your place; it waits for {1}")]
    PlaceTaken(String, String),
    /// Somebody decided by what this person lent them.
    #[error("{0} has approved request {1} by what you lent them, and that is one vote")]
    Spent(String, String),
    /// The rule keeps them out.
    #[error("{0} may not decide on request {1}: they are its owner or author, and the rule keeps those out")]
    Barred(String, String),
    /// The rule wants a ticket.
    #[error("this rule requires a ticket that matches {0}: add --ticket …")]
    TicketRequired(String),
    /// The rule wants a passkey's signature.
    #[error("request {0} must be decided with a passkey, at the console; nothing else can sign for you")]
    PasskeyRequired(String),
    /// The rule has no way past it.
    #[error("the rule of request {0} names nobody who may break the glass; ask those whom it asks")]
    NoGlass(String),
    /// Not one of those who may.
    #[error("{0} may not break the glass for request {1}: only group {2} may")]
    MayNotBreak(String, String, String),
    /// A remark that is none.
    #[error("a remark is 1 to 4000 bytes of text, and a request has 100 of them at most")]
    Remark,
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
