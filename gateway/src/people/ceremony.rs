//! What was asked of a passkey at sign-in or enrolment, until it answers.

use std::time::Duration;

use super::once::Once;

/// Why a passkey was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To sign in.
    SignIn,
    /// To be enrolled by this link.
    Enrol(String),
}

/// The questions that are open, by their challenges.
pub type Ceremonies = Once<Purpose>;

/// How long a person may take to find their key.
pub const CEREMONY: Duration = Duration::from_secs(5 * 60);
