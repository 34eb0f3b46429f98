//! XML signatures, as little of them as SAML uses: one enveloped signature over the element that it stands in.
//!
//! # Security
//! *Invariant:* nothing is looked up by a signature's word. What is digested is the element around the signature, and what
//! is read afterwards is the text that was digested ([`Signed::content`]), so no other element can take its place. The same
//! holds for `SignedInfo`: what it says is read from the text over which the signature was computed.

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use roxmltree::Node;

use super::{
    Check, c14n,
    check::must,
    error::Why,
    xml::{self, LONGEST_CANONICAL, SIGNATURE},
};

/// A signature with what it stands in.
pub(super) struct Signed {
    /// The `ID` of the element that it stands in.
    pub(super) id: String,
    /// That element without the signature, in the canonical form: what is digested, and read afterwards.
    pub(super) content: String,
    /// `SignedInfo` in the canonical form: what is signed.
    pub(super) info: String,
    pub(super) canonicalization: String,
    pub(super) method: String,
    pub(super) references: Vec<Reference>,
    pub(super) value: Vec<u8>,
    /// What stands in the signature and has no place there.
    pub(super) strange: Option<String>,
    /// The keys that the settings name. What the signature says of keys is not read.
    pub(super) keys: Vec<Vec<u8>>,
}

/// What a signature says that it is over.
pub(super) struct Reference {
    pub(super) uri: Option<String>,
    pub(super) transforms: Vec<String>,
    pub(super) digest_method: String,
    pub(super) digest: Vec<u8>,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Signed>] = &[
    Check { name: "object", holds: object },
    Check { name: "canonicalization", holds: canonicalization },
    Check { name: "method", holds: method },
    Check { name: "one_reference", holds: one_reference },
    Check { name: "reference", holds: reference },
    Check { name: "transforms", holds: transforms },
    Check { name: "digest_method", holds: digest_method },
    Check { name: "digest", holds: digest_matches },
    Check { name: "signature", holds: signature },
];

impl Signed {
    /// Reads the signature in `element`.
    ///
    /// # Errors
    /// It has not the parts of one.
    pub(super) fn read(element: Node<'_, '_>, signature: Node<'_, '_>, keys: Vec<Vec<u8>>) -> Result<Self, Why> {
        let missing = |name: &str| Why::Malformed(format!("its signature has no `{name}`"));
        let info = xml::only(signature, SIGNATURE, "SignedInfo")?.ok_or_else(|| missing("SignedInfo"))?;
        let value = xml::only(signature, SIGNATURE, "SignatureValue")?.ok_or_else(|| missing("SignatureValue"))?;
        let known = ["SignedInfo", "SignatureValue", "KeyInfo"];
        let strange = signature
            .children()
            .find(|child| child.is_element() && !known.iter().any(|name| xml::is(*child, SIGNATURE, name)));
        let method = xml::only(info, SIGNATURE, "CanonicalizationMethod")?;
        let method = method.ok_or_else(|| missing("CanonicalizationMethod"))?;
        let info = c14n::canonical(info, None, &inclusive(method))?;
        let said = xml::read(&info, LONGEST_CANONICAL)?;
        let said = said.root_element();
        let named = |name| -> Result<String, Why> {
            let method = xml::only(said, SIGNATURE, name)?.ok_or_else(|| missing(name))?;
            xml::attribute(method, "Algorithm").ok_or_else(|| missing(name))
        };
        let all: Vec<_> = xml::children(said, SIGNATURE, "Reference").collect();
        let inclusive = all.first().and_then(|first| last_transform(*first)).map(inclusive).unwrap_or_default();
        Ok(Self {
            id: xml::attribute(element, "ID").unwrap_or_default(),
            content: c14n::canonical(element, Some(signature.id()), &inclusive)?,
            canonicalization: named("CanonicalizationMethod")?,
            method: named("SignatureMethod")?,
            references: all.into_iter().map(Reference::read).collect::<Result<_, _>>()?,
            value: decoded(&xml::text(value)?)?,
            strange: strange.map(|strange| Why::words(strange.tag_name().name())),
            info,
            keys,
        })
    }

    fn reference(&self) -> Result<&Reference, Why> {
        self.references.first().ok_or(Why::References(0))
    }
}

impl Reference {
    fn read(node: Node<'_, '_>) -> Result<Self, Why> {
        let missing = |name: &str| Why::Malformed(format!("its signature's reference has no `{name}`"));
        let method = xml::only(node, SIGNATURE, "DigestMethod")?.ok_or_else(|| missing("DigestMethod"))?;
        let digest = xml::only(node, SIGNATURE, "DigestValue")?.ok_or_else(|| missing("DigestValue"))?;
        let transforms = xml::only(node, SIGNATURE, "Transforms")?;
        let transforms = transforms.iter().flat_map(|list| list.children().filter(|child| child.is_element()));
        Ok(Self {
            uri: xml::attribute(node, "URI"),
            transforms: transforms.map(|one| xml::attribute(one, "Algorithm").unwrap_or_default()).collect(),
            digest_method: xml::attribute(method, "Algorithm").unwrap_or_default(),
            digest: decoded(&xml::text(digest)?)?,
        })
    }
}

fn last_transform<'a, 'i>(reference: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    xml::child(reference, SIGNATURE, "Transforms")?.children().rfind(|child| child.is_element())
}

/// The prefixes that a canonicalisation writes where they are known.
fn inclusive(method: Node<'_, '_>) -> Vec<String> {
    let list =
        xml::child(method, c14n::METHOD, "InclusiveNamespaces").and_then(|list| xml::attribute(list, "PrefixList"));
    list.map(|list| list.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// base64 with whatever white space stands in it.
pub(super) fn decoded(text: &str) -> Result<Vec<u8>, Why> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| Why::Malformed("a part of it is not base64".to_owned()))
}

/// Whatever else can stand in a signature is room for somebody's second assertion.
fn object(signed: &Signed) -> Result<(), Why> {
    signed.strange.as_ref().map_or(Ok(()), |name| Err(Why::Object(name.clone())))
}

fn canonicalization(signed: &Signed) -> Result<(), Why> {
    must(signed.canonicalization == c14n::METHOD, || Why::Canonicalization(Why::words(&signed.canonicalization)))
}

fn method(signed: &Signed) -> Result<(), Why> {
    must(verification(&signed.method).is_some(), || Why::Method(Why::words(&signed.method)))
}

fn one_reference(signed: &Signed) -> Result<(), Why> {
    must(signed.references.len() == 1, || Why::References(signed.references.len()))
}

fn reference(signed: &Signed) -> Result<(), Why> {
    let uri = signed.reference()?.uri.as_deref();
    let own = uri.and_then(|uri| uri.strip_prefix('#')).is_some_and(|id| !id.is_empty() && id == signed.id);
    must(own, || Why::Reference(Why::words(uri.unwrap_or("nothing"))))
}

fn transforms(signed: &Signed) -> Result<(), Why> {
    let transforms = &signed.reference()?.transforms;
    must(transforms == &[ENVELOPED, c14n::METHOD], || Why::Transforms(Why::words(&transforms.join(", "))))
}

fn digest_method(signed: &Signed) -> Result<(), Why> {
    let method = &signed.reference()?.digest_method;
    must(hash(method).is_some(), || Why::DigestMethod(Why::words(method)))
}

fn digest_matches(signed: &Signed) -> Result<(), Why> {
    let reference = signed.reference()?;
    let digest = hash(&reference.digest_method).map(|hash| digest::digest(hash, signed.content.as_bytes()));
    must(digest.is_some_and(|digest| digest.as_ref() == reference.digest), || Why::Digest)
}

fn signature(signed: &Signed) -> Result<(), Why> {
    let Some(algorithm) = verification(&signed.method) else { return Err(Why::Signature) };
    let verified =
        |key: &Vec<u8>| UnparsedPublicKey::new(algorithm, key).verify(signed.info.as_bytes(), &signed.value).is_ok();
    must(signed.keys.iter().any(verified), || Why::Signature)
}

/// The methods of signing that count. (RFC 9231; a signature of ECDSA is its two numbers, one after the other.)
fn verification(method: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match method {
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" => &RSA_PKCS1_2048_8192_SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => &RSA_PKCS1_2048_8192_SHA384,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => &RSA_PKCS1_2048_8192_SHA512,
        "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1" => &RSA_PSS_2048_8192_SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256" => &ECDSA_P256_SHA256_FIXED,
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384" => &ECDSA_P384_SHA384_FIXED,
        _ => return None,
    })
}

/// The hashes that count.
fn hash(method: &str) -> Option<&'static digest::Algorithm> {
    Some(match method {
        "http://www.w3.org/2001/04/xmlenc#sha256" => &digest::SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => &digest::SHA384,
        "http://www.w3.org/2001/04/xmlenc#sha512" => &digest::SHA512,
        _ => return None,
    })
}

/// The transform that leaves the signature out of what it is over.
pub(super) const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
