//! What a person's passkey signs when they decide, so that the record proves who decided what.

use sha2::{Digest as _, Sha256};

use super::entry::{Body, Enrolled, Proof};
use crate::{
    operation::{Digest, RequestId},
    passkey::{self, Assertion, Expected, PasskeyError},
};

/// A decision, as its maker meant it.
#[derive(Debug, Clone, Copy)]
pub struct Meant<'a> {
    /// On which request.
    pub request: RequestId,
    /// Yes or no.
    pub approve: bool,
    /// Their words.
    pub reason: Option<&'a str>,
    /// What they saw.
    pub digest: Digest,
    /// Which human.
    pub person: &'a str,
    /// The grant that it is to become, in words.
    pub terms: Option<&'a str>,
}

/// The challenge for a passkey: SHA-256 over every part, each with its length before it.
pub fn challenge(meant: &Meant<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(b"holdpoint decision 1");
    part(meant.request.as_bytes());
    part(if meant.approve { b"approve" } else { b"deny" });
    part(&meant.digest.0);
    part(meant.person.as_bytes());
    // None is not the same as nothing said.
    for said in [meant.reason, meant.terms] {
        part(&[u8::from(said.is_some())]);
        part(said.unwrap_or_default().as_bytes());
    }
    hash.finalize().into()
}

impl<'a> Meant<'a> {
    /// What a recorded decision says that its maker meant.
    pub fn recorded(decided: &'a Body) -> Option<(Self, &'a Proof)> {
        let Body::Decided { request, approve, reason, digest, person, proof, terms, .. } = decided else { return None };
        let meant = Self {
            request: *request,
            approve: *approve,
            reason: reason.as_deref(),
            digest: *digest,
            person: person.as_deref()?,
            terms: terms.as_deref(),
        };
        Some((meant, proof.as_deref()?))
    }
}

/// Whether `proof` is this passkey's signature under this decision. `origin` as in [`Expected`].
///
/// # Errors
/// It is not.
pub fn check(meant: &Meant<'_>, proof: &Proof, key: &Enrolled, origin: Option<&str>) -> Result<(), PasskeyError> {
    let assertion =
        Assertion { authenticator: &proof.authenticator, client: &proof.client, signature: &proof.signature };
    let expected = Expected { party: &key.party, origin, challenge: &challenge(meant) };
    passkey::verify(&key.public, &assertion, &expected)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        passkey::samples::{Key, ORIGIN, PARTY, client, data},
        record::{
            Recorder,
            entry::Entry,
            samples::{self, REQUEST, asked, entry, requested},
            verify::verify,
        },
    };

    const ADA: &str = "local:ada";

    fn enrolled(key: &Key, person: &str) -> Entry {
        let (name, party) = ("ada".to_owned(), PARTY.to_owned());
        let key_name = Bytes::from_static(b"key");
        let public = key.cose().into();
        entry(Body::Enrolled(Box::new(Enrolled { person: person.to_owned(), name, key: key_name, public, party })))
    }

    fn signed(key: &Key, meant: &Meant<'_>) -> Proof {
        let (authenticator, client) = (data(PARTY, 0x05), client("webauthn.get", &challenge(meant), ORIGIN, false));
        let signature = key.sign(&authenticator, &client);
        let key = Bytes::from_static(b"key");
        Proof { key, authenticator: authenticator.into(), client: client.into(), signature: signature.into() }
    }

    /// A decision that ada made and signed, and then what `alter` makes of it.
    fn found(enrolled_for: Option<&str>, alter: impl Fn(&mut Body)) -> (u64, Vec<String>) {
        let (recorder, key) = (Recorder::in_memory(), Key::new());
        let mut decided = samples::decided(7, true);
        if let Body::Decided { person, terms, .. } = &mut decided.body {
            (*person, *terms) = (Some(ADA.to_owned()), Some("10 uses".to_owned()));
        }
        if let Body::Decided { request, approve, reason, digest, terms, proof, .. } = &mut decided.body {
            let (reason, terms) = (reason.as_deref(), terms.as_deref());
            let meant = Meant { request: *request, approve: *approve, reason, digest: *digest, person: ADA, terms };
            *proof = Some(Box::new(signed(&key, &meant)));
        }
        alter(&mut decided.body);
        let opened = requested(asked("DROP TABLE orders", crate::policy::Decide::Hold), 1);
        let enrolled = enrolled_for.map(|person| enrolled(&key, person));
        for one in [samples::connected(), opened].into_iter().chain(enrolled).chain([decided]) {
            let _ = recorder.append_written(one).expect("memory");
        }
        let verified = verify(&recorder.records().expect("memory"), None).expect("readable");
        (verified.signatures, verified.findings.into_iter().map(|finding| finding.what).collect())
    }

    #[test]
    fn the_record_proves_who_decided_what() {
        assert_eq!(found(Some(ADA), |_| ()), (1, Vec::new()));
        let finds = |enrolled_for: Option<&str>, words: &str, alter: &dyn Fn(&mut Body)| {
            let (signatures, found) = found(enrolled_for, alter);
            assert_eq!(signatures, 0, "{words}");
            assert!(found.iter().any(|what| what.contains(words)), "{words}: {found:?}");
        };
        finds(None, "not enrolled before", &|_| ());
        finds(Some("local:bob"), "a passkey of local:bob", &|_| ());
        let not_so = "did not sign so";
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { approve, .. } = body {
                *approve = false;
            }
        });
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { reason, .. } = body {
                *reason = None;
            }
        });
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { terms, .. } = body {
                *terms = Some("1000 uses".to_owned());
            }
        });
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { digest, .. } = body {
                digest.0[0] ^= 1;
            }
        });
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { request, .. } = body {
                *request = RequestId::from_bytes([0x34; 16]);
            }
        });
        finds(Some(ADA), not_so, &|body| {
            if let Body::Decided { proof: Some(proof), .. } = body {
                let mut signature = proof.signature.to_vec();
                let last = signature.len() - 1;
                signature[last] ^= 1;
                proof.signature = signature.into();
            }
        });
        assert_eq!(REQUEST, RequestId::from_bytes([0x33; 16]));
    }
}
