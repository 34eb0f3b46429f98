//! Why somebody is not signed in: each check's own words.

use crate::visible::visible_start;

/// Why a provider's word does not count, or there is none.
#[derive(Debug, thiserror::Error)]
#[error("sign-in with {provider}: {why}")]
pub struct OidcError {
    /// The provider's name here.
    pub provider: String,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The provider is not there, or answers with what is no answer.
    #[error("the provider cannot be asked {about}: {why}; try again, or sign in another way")]
    Unreachable {
        /// What.
        about: &'static str,
        /// Why not.
        why: String,
    },
    /// What the provider says of itself cannot be used.
    #[error("what the provider says of itself cannot be used: {0}")]
    Metadata(String),
    /// The gateway's own secret.
    #[error("{0}")]
    Secret(String),

    /// The sign-in was begun too long ago.
    #[error("it took too long; begin again")]
    Overdue,
    /// An answer to another provider's question.
    #[error("this sign-in was begun with another provider; begin again")]
    OtherProvider,
    /// Something stands twice in the answer.
    #[error("the answer says `{0}` twice; begin again")]
    Twice(&'static str),
    /// The answer is to another question.
    #[error("this answers no sign-in that was begun in this browser; begin again")]
    State,
    /// The answer is another issuer's (RFC 9207).
    #[error("the answer comes from {0}, which was not asked; somebody may be trying to mix up two providers")]
    MixedUp(String),
    /// The provider refuses.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// Neither a code nor an error.
    #[error("the answer has no code; begin again")]
    NoCode,
    /// The code or the device's code is not taken.
    #[error("the provider does not take the code: {0}; begin again")]
    Exchange(String),
    /// It gives no ID token.
    #[error("the provider gives no ID token; is the gateway registered there for `openid`?")]
    NoToken,

    /// Not what a token is made of.
    #[error("the token cannot be read: {0}")]
    Malformed(String),
    /// A token of another kind.
    #[error("this is a token of another kind ({0})")]
    Kind(String),
    /// A token with conditions that this version does not know.
    #[error("the token says that it cannot be understood without: {0}")]
    Critical(String),
    /// Signed by a method that does not count, or not at all.
    #[error("the token is signed with {0}; only {methods} count", methods = ALGORITHMS.join(", "))]
    Algorithm(String),
    /// By a key that the provider does not publish.
    #[error("the token is signed by a key that the provider does not publish ({0})")]
    UnknownKey(String),
    /// By somebody else, or altered.
    #[error("the token's signature is wrong: it was altered, or another's key has signed it")]
    Signature,
    /// Another issuer's.
    #[error("the token is {0}'s")]
    Issuer(String),
    /// For somebody else.
    #[error("the token is for somebody else")]
    Audience,
    /// For several, and not for this one above all.
    #[error("the token was made for another one of its readers")]
    Presenter,
    /// Too old.
    #[error("the token has expired; if it is new, this machine's clock or the provider's is wrong")]
    Expired,
    /// From the future.
    #[error("the token is from the future; this machine's clock or the provider's is wrong")]
    Future,
    /// Of another sign-in.
    #[error("the token is from another sign-in")]
    Nonce,
    /// Not with this access token.
    #[error("the token belongs to another access token than came with it")]
    AccessToken,
    /// People did not show who they are lately.
    #[error("the provider did not ask who you are anew, as it was told to")]
    Stale,
    /// Somebody else.
    #[error("somebody else signed in; sign in as the one who asked")]
    SomebodyElse,
    /// Not by the right means.
    #[error("the sign-in was not as the settings want it: {0}")]
    Means(String),

    /// The profile is somebody else's.
    #[error("the provider's profile is of somebody else than its token")]
    Profile,
    /// Groups are left out.
    #[error(
        "the provider leaves your groups out, since they are too many (groups overage); have its administrator give the \
         gateway only the groups that are assigned to it, or application roles"
    )]
    Overage,
    /// Nothing to call them by.
    #[error("the provider does not say `{0}`, by which people are called here (`claims: {{ name: … }}`)")]
    NoName(String),
    /// The address is not verified.
    #[error("the provider has not verified your e-mail address")]
    Unverified,
    /// The address is elsewhere.
    #[error("your e-mail address is in none of the domains that may sign in here")]
    Domain,
    /// A claim that is no list of texts.
    #[error("the provider's claim `{0}` is not a list of texts")]
    Groups(String),

    /// No word that somebody signed out.
    #[error("this token does not say that somebody signed out")]
    NoEvent,
    /// A nonce where there must be none.
    #[error("this is an ID token, which ends no session")]
    HasNonce,
    /// Nobody and no session.
    #[error("the token names neither a person nor a session")]
    Nobody,
    /// Seen before, or nothing to tell by.
    #[error("this token was used before, or has no `jti` to tell by")]
    Replayed,

    /// Not offered.
    #[error("codes on terminals are not offered: {0}")]
    NoDevice(&'static str),
}

impl Why {
    /// The provider's own words, harmless and short.
    pub(super) fn words(text: &str) -> String {
        visible_start(text.as_bytes(), 200)
    }
}

/// The methods of signing that count.
pub(super) const ALGORITHMS: &[&str] = &["RS256", "PS256", "ES256", "ES384", "EdDSA"];
