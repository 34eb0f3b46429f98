//! One answer's way from text to an assertion that counts.
//!
//! # Security
//! *Invariant:* each step reads what the step before it verified and nothing else: the answer from the text under its
//! signature where it has one, the assertion from the text under its own where it has one, else from that of the answer.

use roxmltree::Node;

use super::{
    Check, Expected,
    answer::{self, Answer},
    assertion::{self, Assertion, Vouched},
    c14n,
    check::verify,
    encryption::{self, Sealed},
    error::Why,
    layout::{self, Layout},
    pending::Used,
    profile::{self, Profile},
    signature::{self, Signed},
    xml::{self, ASSERTION, LONGEST, LONGEST_CANONICAL, SIGNATURE},
};

/// All that is checked of an answer.
#[derive(Clone, Copy)]
pub(super) struct Rules<'r> {
    pub(super) layout: &'r [Check<Layout>],
    pub(super) signature: &'r [Check<Signed>],
    pub(super) answer: &'r [Check<Answer>],
    pub(super) sealed: &'r [Check<Sealed>],
    pub(super) assertion: &'r [Check<Vouched>],
    pub(super) profile: &'r [Check<Profile>],
}

/// Everything.
pub(super) const RULES: Rules<'static> = Rules {
    layout: layout::CHECKS,
    signature: signature::CHECKS,
    answer: answer::CHECKS,
    sealed: encryption::CHECKS,
    assertion: assertion::CHECKS,
    profile: profile::CHECKS,
};

/// What reads answers.
pub(super) struct Reader<'r> {
    pub(super) rules: Rules<'r>,
    /// The keys with which the provider signs, from the settings.
    pub(super) keys: &'r [Vec<u8>],
    /// The gateway's own private key.
    pub(super) own: Option<&'r [u8]>,
    pub(super) used: &'r Used,
    pub(super) expected: Expected,
}

/// The text of an element, and whether it is its signer's.
struct Verified {
    text: String,
    is_signed: bool,
}

impl Reader<'_> {
    /// Reads an answer.
    ///
    /// # Errors
    /// Whatever of it does not count.
    pub(super) fn read(&self, text: &str) -> Result<Assertion, Why> {
        let document = xml::read(text, LONGEST)?;
        verify(self.rules.layout, &Layout::of_answer(&document))?;
        let answer = self.verified(document.root_element())?;
        let document = xml::read(&answer.text, LONGEST_CANONICAL)?;
        let root = document.root_element();
        verify(self.rules.answer, &Answer::read(root, self.expected.clone())?)?;
        let said = root.children().find(|child| layout::is_assertion(*child)).ok_or(Why::NoAssertion)?;
        let was_encrypted = !xml::is(said, ASSERTION, "Assertion");
        let assertion = if was_encrypted { self.opened(said)? } else { self.verified(said)? };
        let document = xml::read(&assertion.text, LONGEST_CANONICAL)?;
        let said = Assertion::read(document.root_element())?;
        let vouched = Vouched {
            is_signed: answer.is_signed || assertion.is_signed,
            was_encrypted,
            is_new: self.used.is_new(&said.id),
            expected: self.expected.clone(),
            said,
        };
        verify(self.rules.assertion, &vouched)?;
        Ok(vouched.said)
    }

    fn opened(&self, said: Node<'_, '_>) -> Result<Verified, Why> {
        let sealed = Sealed::read(said)?;
        verify(self.rules.sealed, &sealed)?;
        let opened = sealed.open(self.own.ok_or(Why::NoKey)?)?;
        let document = xml::read(&opened, LONGEST)?;
        verify(self.rules.layout, &Layout::of_assertion(&document))?;
        self.verified(document.root_element())
    }

    /// The text of this element, which is what its signature is over where it has one.
    fn verified(&self, element: Node<'_, '_>) -> Result<Verified, Why> {
        let Some(signature) = xml::child(element, SIGNATURE, "Signature") else {
            return Ok(Verified { text: c14n::canonical(element, None, &[])?, is_signed: false });
        };
        let signed = Signed::read(element, signature, self.keys.to_vec())?;
        verify(self.rules.signature, &signed)?;
        Ok(Verified { text: signed.content, is_signed: true })
    }
}
