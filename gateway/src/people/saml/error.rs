//! Why somebody is not signed in: each check's own words.

use crate::visible::visible_start;

/// Why a provider's word does not count, or there is none.
#[derive(Debug, thiserror::Error)]
#[error("sign-in with {provider}: {why}")]
pub struct SamlError {
    /// The provider's name here.
    pub provider: String,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A file of the settings.
    #[error("{0}")]
    Settings(String),

    /// Not what an answer is made of.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// To no question of ours, or too late.
    #[error("this answers no sign-in that was begun here in the last ten minutes; begin again")]
    NotAsked,
    /// An answer to another provider's question.
    #[error("this sign-in was begun with another provider; begin again")]
    OtherProvider,
    /// To no question at all.
    #[error("the provider was not asked for this; begin at the gateway's page, not at the provider's")]
    Unsolicited,
    /// To another question.
    #[error("this answers another sign-in than the one that was begun; begin again")]
    OtherRequest,
    /// The provider refuses.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// Not an answer.
    #[error("this is no answer but `{0}`")]
    Root(String),
    /// Two elements have one name.
    #[error("two elements in it are called `{0}`; somebody has put it together from parts")]
    Ids(String),
    /// A signature where none belongs.
    #[error("there is a signature where none belongs; somebody has put it together from parts")]
    Astray,
    /// Several assertions, or one elsewhere.
    #[error("there must be one assertion where it belongs, and there are {0}; somebody has put it together from parts")]
    Assertions(usize),
    /// Success, and nobody.
    #[error("the answer vouches for nobody: it has no assertion")]
    NoAssertion,

    /// Something beside what a signature is made of.
    #[error("there is a `{0}` in the signature, which has no place there")]
    Object(String),
    /// Canonicalised in another way.
    #[error("the signature canonicalises by {0}; only exclusive canonicalisation without comments counts")]
    Canonicalization(String),
    /// Signed by a method that does not count.
    #[error("it is signed with {0}; only RSA with SHA-256 or longer and ECDSA with SHA-256 or SHA-384 count")]
    Method(String),
    /// A signature over several things, or none.
    #[error("the signature is over {0} things; it must be over one")]
    References(usize),
    /// A signature over something else.
    #[error("the signature is over `{0}`, not over what it stands in")]
    Reference(String),
    /// What is signed was changed first in a way that does not count.
    #[error(
        "what is signed was transformed by {0}; only an enveloped signature with exclusive canonicalisation counts"
    )]
    Transforms(String),
    /// Digested by a method that does not count.
    #[error("it is digested with {0}; only SHA-256, SHA-384 and SHA-512 count")]
    DigestMethod(String),
    /// Altered.
    #[error("it was altered after it was signed")]
    Digest,
    /// By somebody else, or altered.
    #[error("the signature is wrong: it was altered, or a key has signed it that the settings do not name")]
    Signature,
    /// Not signed at all.
    #[error("neither the answer nor the assertion is signed; have the provider sign one of them")]
    Unsigned,

    /// The gateway has no key.
    #[error("the assertion is encrypted, and this gateway has no key for it; set `key:` and `certificate:`")]
    NoKey,
    /// Encrypted by a cipher that does not count.
    #[error("the assertion is encrypted with {0}; only AES-GCM counts, which the provider can be set to")]
    Cipher(String),
    /// The key is encrypted by a cipher that does not count.
    #[error("the assertion's key is encrypted with {0}; only RSA-OAEP counts, which the provider can be set to")]
    KeyCipher(String),
    /// OAEP with hashes that are not known here.
    #[error("the assertion's key is padded with {0}; the hash and its mask must be the same of SHA-1 and SHA-2")]
    Padding(String),
    /// Several keys.
    #[error("the assertion comes with {0} keys; it must come with one, for this gateway alone")]
    Keys(usize),
    /// It cannot be opened.
    #[error("the assertion cannot be decrypted: it is for another key, or was altered")]
    Sealed,
    /// Not encrypted.
    #[error("the assertion is not encrypted, and `require: {{ encrypted: true }}` wants it to be")]
    InClear,

    /// Another version.
    #[error("it is of version `{0}`; only 2.0 counts")]
    Version(String),
    /// Another issuer's.
    #[error("it is {0}'s, who was not asked; somebody may be trying to mix up two providers")]
    Issuer(String),
    /// For another address.
    #[error("the answer was meant for {0}")]
    Destination(String),
    /// The assertion is for another address.
    #[error("the assertion was meant to be brought to {0}")]
    Recipient(String),
    /// For somebody else.
    #[error("the assertion is for somebody else; is the gateway registered at the provider under its entity id?")]
    Audience,
    /// No bearer's.
    #[error("the assertion must be confirmed once, by whoever brings it (bearer)")]
    Bearer,
    /// Too old.
    #[error("the assertion has expired; if it is new, this machine's clock or the provider's is wrong")]
    Expired,
    /// From the future.
    #[error("it counts only from a later time on; if it is new, this machine's clock or the provider's is wrong")]
    Future,
    /// A condition that this version does not know.
    #[error("the assertion counts only under a condition that is not known here: `{0}`")]
    Condition(String),
    /// They did not show who they are, or several times.
    #[error("the assertion must say once how you showed the provider who you are")]
    Statement,
    /// Their session there is over.
    #[error("your session at the provider is over; sign in there again")]
    SessionOver,
    /// People did not show who they are lately.
    #[error("the provider did not ask who you are anew, as it was told to")]
    Stale,
    /// Not by the right means.
    #[error("you did not show who you are in a way that counts here; the settings want one of {0}")]
    Means(String),
    /// Seen before.
    #[error("this assertion was used before, or has no name to tell by")]
    Replayed,

    /// Nobody is named.
    #[error("the assertion does not say whom it is of")]
    Nobody,
    /// Named by another kind of name.
    #[error("the provider calls you by a name of another kind than it was asked for: {0}; see `name_id:`")]
    Format(String),
    /// Several values where there can be one.
    #[error("the provider gives several values for `{0}`, by which people are known here")]
    Several(String),
    /// Groups are left out.
    #[error(
        "the provider leaves your groups out, since they are too many (groups overage); have its administrator give the \
         gateway only the groups that are assigned to it"
    )]
    Overage,
    /// No address.
    #[error("`{0}` is no e-mail address")]
    Address(String),
    /// The address is elsewhere.
    #[error("your e-mail address is in none of the domains that may sign in here")]
    Domain,
    /// Nothing to call them by.
    #[error("the provider does not say `{0}`, by which people are called here (`claims: {{ name: … }}`)")]
    NoName(String),
}

impl Why {
    /// The provider's own words, harmless and short.
    pub(super) fn words(text: &str) -> String {
        visible_start(text.as_bytes(), 200)
    }
}
