//! What must not count, each with the checks that are there for it: with all of them it is refused, with any one of them it
//! is, and without them it gets through.

use std::collections::BTreeSet;

use super::*;
use crate::people::saml::{
    Check, answer as answers,
    encryption::{self, Sealed},
    layout::Layout,
    signature::Signed,
};

/// An answer that must not count.
struct Attack {
    name: &'static str,
    text: String,
    /// The checks of which each is enough to refuse it.
    refused_by: &'static [&'static str],
    /// Of the refusal.
    word: &'static str,
    expected: Expected,
    settings: SamlProvider,
    used: bool,
}

/// Some checks of all.
struct Kept {
    layout: Vec<Check<Layout>>,
    signature: Vec<Check<Signed>>,
    answer: Vec<Check<answers::Answer>>,
    assertion: Vec<Check<assertion::Vouched>>,
    profile: Vec<Check<Profile>>,
}

impl Kept {
    fn without(names: &[&str]) -> Self {
        fn but<E>(all: &[Check<E>], names: &[&str]) -> Vec<Check<E>> {
            all.iter().filter(|check| !names.contains(&check.name)).copied().collect()
        }
        Self {
            layout: but(RULES.layout, names),
            signature: but(RULES.signature, names),
            answer: but(RULES.answer, names),
            assertion: but(RULES.assertion, names),
            profile: but(RULES.profile, names),
        }
    }

    fn rules(&self) -> Rules<'_> {
        let Self { layout, signature, answer, assertion, profile } = self;
        Rules { layout, signature, answer, assertion, profile, ..RULES }
    }

    fn names(&self) -> BTreeSet<&'static str> {
        let names = |all: &mut dyn Iterator<Item = &'static str>| all.collect::<Vec<_>>();
        let all = [
            names(&mut self.layout.iter().map(|check| check.name)),
            names(&mut self.signature.iter().map(|check| check.name)),
            names(&mut self.answer.iter().map(|check| check.name)),
            names(&mut self.assertion.iter().map(|check| check.name)),
            names(&mut self.profile.iter().map(|check| check.name)),
        ]
        .concat();
        let set: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!(set.len(), all.len(), "two checks have one name");
        set
    }
}

impl Attack {
    fn read(&self, world: &World, without: &[&str]) -> Result<Subject, Why> {
        let provider = world.provider(self.settings.clone());
        if self.used {
            provider.read(RULES, &honest(), expected()).expect("it counts once");
        }
        provider.read(Kept::without(without).rules(), &self.text, self.expected.clone())
    }

    fn expecting(mut self, change: impl FnOnce(&mut Expected)) -> Self {
        change(&mut self.expected);
        self
    }

    fn with(self, settings: SamlProvider) -> Self {
        Self { settings, ..self }
    }
}

/// What a check's text says when only that stands before its assertion.
fn spoilt_answer(from: &str, to: &str) -> String {
    let honest = honest();
    let at = honest.find("<saml:Assertion").expect("it has one");
    let head = honest[..at].replacen(from, to, 1);
    assert_ne!(head, honest[..at], "{from}");
    format!("{head}{}", &honest[at..])
}

/// An assertion with this in it, signed as it should be.
fn spoilt(from: &str, to: &str) -> String {
    let spoilt = assertion().replacen(from, to, 1);
    assert_ne!(spoilt, assertion(), "{from}");
    answer(&Signer::honest(&keys().0).sign(&spoilt, "_a"))
}

/// The honest assertion, signed in another way.
fn signed(change: impl FnOnce(&mut Signer<'_>)) -> String {
    let mut signer = Signer::honest(&keys().0);
    change(&mut signer);
    answer(&signer.sign(&assertion(), "_a"))
}

fn hmac(key: &Key, message: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac;
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.public()), message).as_ref().to_vec()
}

fn put_together(attack: impl Fn(&'static str, String, &'static [&'static str], &'static str) -> Attack) -> Vec<Attack> {
    let signature = Signer::honest(&keys().0).signature(&assertion(), "_a");
    let extension = |inside: &str| {
        spoilt_answer("<samlp:Status>", &format!("<samlp:Extensions>{inside}</samlp:Extensions><samlp:Status>"))
    };
    let second = assertion().replace("_a", "_b").replace("ada@", "eve@");
    let whole = honest();
    let first = whole.replacen("<saml:Assertion", &format!("{second}<saml:Assertion"), 1);
    let last = whole.replace("</samlp:Response>", &format!("{second}</samlp:Response>"));
    vec![
        attack("another message", whole.replace("samlp:Response", "samlp:LogoutResponse"), &["root"], "LogoutResponse"),
        attack("two of one name", extension("<x ID=\"_a\"/>"), &["ids"], "called `_a`"),
        attack("two of nearly one name", extension("<x xml:id=\"_p\"/>"), &["ids"], "called `_p`"),
        attack("a second signature", extension(&signature), &["signatures"], "where none belongs"),
        attack("a second assertion behind", last, &["alone"], "there are 2"),
        attack("a second assertion in front", first, &["alone", "signed"], "there are 2"),
    ]
}

fn signed_otherwise(
    attack: impl Fn(&'static str, String, &'static [&'static str], &'static str) -> Attack,
) -> Vec<Attack> {
    static STRANGER: OnceLock<Key> = OnceLock::new();
    let stranger = STRANGER.get_or_init(Key::ec);
    let theirs = STANDARD.encode(certificate(&stranger.public()));
    let info = format!(
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{theirs}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
    );
    let by_stranger = |object: String| answer(&Signer { object, ..Signer::honest(stranger) }.sign(&assertion(), "_a"));
    let reference = "<ds:Reference URI=\"#_p\"><ds:DigestMethod Algorithm=\"x\"/><ds:DigestValue>eA==</ds:DigestValue></ds:Reference>";
    vec![
        attack("never signed", answer(&assertion()), &["signed"], "neither"),
        attack("altered", honest().replace("ada@", "eve@"), &["digest"], "altered after"),
        attack("another's key", by_stranger(String::new()), &["signature"], "do not name"),
        attack("another's key, brought along", by_stranger(info), &["signature"], "do not name"),
        attack(
            "SHA-1",
            signed(|signer| signer.method = Some("http://www.w3.org/2000/09/xmldsig#rsa-sha1")),
            &["method", "signature"],
            "rsa-sha1",
        ),
        attack(
            "the public key as a secret",
            signed(|signer| {
                signer.method = Some("http://www.w3.org/2001/04/xmldsig-more#hmac-sha256");
                signer.by = Some(hmac);
            }),
            &["method", "signature"],
            "hmac-sha256",
        ),
        attack(
            "a digest by SHA-1",
            signed(|signer| signer.digest_method = "http://www.w3.org/2000/09/xmldsig#sha1"),
            &["digest_method", "digest"],
            "sha1",
        ),
        attack(
            "inclusive canonicalisation",
            signed(|signer| signer.canonicalization = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
            &["canonicalization"],
            "REC-xml-c14n",
        ),
        attack(
            "with comments",
            signed(|signer| signer.canonicalization = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
            &["canonicalization"],
            "WithComments",
        ),
        attack("over two things", signed(|signer| signer.more = reference.to_owned()), &["one_reference"], "2 things"),
        attack("over another", signed(|signer| signer.uri = Some("#_p".to_owned())), &["reference"], "`#_p`"),
        attack(
            "over whatever it stands in",
            signed(|signer| signer.uri = Some(String::new())),
            &["reference"],
            "over ``",
        ),
        attack(
            "over what others have",
            signed(|signer| signer.uri = Some("https://evil.example/".to_owned())),
            &["reference"],
            "evil.example",
        ),
        attack(
            "a transform more",
            signed(|signer| signer.transforms.push("http://www.w3.org/TR/1999/REC-xslt-19991116")),
            &["transforms"],
            "xslt",
        ),
        attack(
            "other transforms",
            signed(|signer| signer.transforms[1] = "http://www.w3.org/TR/1999/REC-xpath-19991116"),
            &["transforms"],
            "xpath",
        ),
        attack(
            "room in the signature",
            signed(|signer| signer.object = "<ds:Object><x/></ds:Object>".to_owned()),
            &["object"],
            "`Object`",
        ),
    ]
}

fn said_of_itself(
    attack: impl Fn(&'static str, String, &'static [&'static str], &'static str) -> Attack,
) -> Vec<Attack> {
    let status = "urn:oasis:names:tc:SAML:2.0:status:";
    vec![
        attack("SAML 1.1", spoilt_answer("\"2.0\"", "\"1.1\""), &["answer_version"], "1.1"),
        attack("another's answer", spoilt_answer("//id.", "//evil."), &["answer_issuer"], "evil.example"),
        attack("from the future", spoilt_answer(&at(NOW), &at(NOW + 61)), &["answer_issued"], "later time"),
        attack("to another", spoilt_answer("desk.example", "shop.example"), &["destination"], "shop.example"),
        attack("to nobody", spoilt_answer(&format!(" Destination=\"{ACS}\""), ""), &["destination"], "nobody"),
        attack("to another question", spoilt_answer("\"_r\"", "\"_q\""), &["in_response_to"], "another sign-in"),
        attack("to no question", spoilt_answer(" InResponseTo=\"_r\"", ""), &["in_response_to"], "was not asked"),
        attack(
            "a failure with an assertion",
            spoilt_answer(
                &format!("Value=\"{status}Success\"/>"),
                &format!(
                    "Value=\"{status}Responder\"><samlp:StatusCode Value=\"{status}AuthnFailed\"/></samlp:StatusCode>"
                ),
            ),
            &["status"],
            "AuthnFailed",
        ),
    ]
}

fn said_of_somebody(
    attack: impl Fn(&'static str, String, &'static [&'static str], &'static str) -> Attack,
) -> Vec<Attack> {
    let later = |to: u64| format!("NotOnOrAfter=\"{}\"", at(to));
    let (ours, until) = (format!("<saml:Audience>{AUDIENCE}</saml:Audience>"), later(NOW + 300));
    let restriction = format!("<saml:AudienceRestriction>{ours}</saml:AudienceRestriction>");
    let other =
        "<saml:AudienceRestriction><saml:Audience>https://shop.example</saml:Audience></saml:AudienceRestriction>";
    let confirmation = "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:";
    let statement = assertion();
    let from = statement.find("<saml:AuthnStatement").expect("it has one");
    let to = statement.find("<saml:AttributeStatement").expect("it has one");
    let statement = &statement[from..to];
    let expired = format!("{restriction}</saml:Conditions>");
    vec![
        attack("SAML 1.1", spoilt("\"2.0\"", "\"1.1\""), &["version"], "1.1"),
        attack("another's", spoilt("//id.", "//evil."), &["issuer"], "evil.example"),
        attack("from the future", spoilt(&at(NOW), &at(NOW + 61)), &["issued"], "later time"),
        attack("no bearer's", spoilt(":bearer", ":sender-vouches"), &["bearer"], "bearer"),
        attack(
            "confirmed by two",
            spoilt("</saml:Subject>", &format!("{confirmation}bearer\"/></saml:Subject>")),
            &["bearer"],
            "bearer",
        ),
        attack("brought to another", spoilt("desk.example", "shop.example"), &["recipient"], "shop.example"),
        attack("brought to nobody", spoilt(&format!("Recipient=\"{ACS}\" "), ""), &["recipient"], "nobody"),
        attack("to another question", spoilt("\"_r\"", "\"_q\""), &["confirmed_request"], "another sign-in"),
        attack("to no question", spoilt("InResponseTo=\"_r\" ", ""), &["confirmed_request"], "was not asked"),
        attack(
            "later, for a bearer",
            spoilt("Recipient", &format!("NotBefore=\"{}\" Recipient", at(NOW))),
            &["confirmed_from"],
            "later time",
        ),
        attack("brought too late", spoilt(&until, &later(NOW - 60)), &["confirmed_until"], "expired"),
        attack("to be brought at any time", spoilt(&until, ""), &["confirmed_until"], "expired"),
        attack(
            "of a name for one sign-in",
            spoilt("1.1:nameid-format:emailAddress", "2.0:nameid-format:transient"),
            &["format"],
            "transient",
        ),
        attack(
            "under a strange condition",
            spoilt("<saml:AudienceRestriction>", "<x:OnlyOnSundays xmlns:x=\"urn:x\"/><saml:AudienceRestriction>"),
            &["conditions"],
            "OnlyOnSundays",
        ),
        attack("not yet", spoilt(&at(NOW - 5), &at(NOW + 61)), &["not_before"], "later time"),
        attack(
            "no more",
            spoilt(&format!("{until}>{expired}"), &format!("{}>{expired}", later(NOW - 60))),
            &["not_on_or_after"],
            "expired",
        ),
        attack(
            "for another",
            spoilt(&ours, "<saml:Audience>https://shop.example</saml:Audience>"),
            &["audience"],
            "somebody else",
        ),
        attack("for nobody in particular", spoilt(&restriction, ""), &["audience"], "somebody else"),
        attack(
            "for us and only for another",
            spoilt(&restriction, &format!("{restriction}{other}")),
            &["audience"],
            "somebody else",
        ),
        attack("shown twice", spoilt(statement, &format!("{statement}{statement}")), &["statement"], "say once"),
        attack("over there", spoilt(&at(NOW + 3600), &at(NOW)), &["session"], "is over"),
        attack("shown before", honest(), &["auth_time"], "anew")
            .expecting(|expected| expected.shown_since = Some(NOW + 51)),
        attack("shown by a password", honest(), &["context"], "urn:platinum")
            .expecting(|expected| expected.contexts = vec!["urn:platinum".to_owned()]),
        attack("in clear", honest(), &["encrypted"], "not encrypted").expecting(|expected| expected.encrypted = true),
        Attack { used: true, ..attack("used before", honest(), &["replay"], "used before") },
        attack("nothing to tell by", answer_without_name(), &["replay", "reference"], "over `#`"),
    ]
}

/// An assertion whose `ID` is empty, signed.
fn answer_without_name() -> String {
    answer(&Signer::honest(&keys().0).sign(&assertion().replace("\"_a\"", "\"\""), ""))
}

fn said_of_their_names(
    world: &World,
    attack: impl Fn(&'static str, String, &'static [&'static str], &'static str) -> Attack,
) -> Vec<Attack> {
    let format = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
    let login = "<saml:Attribute Name=\"login\"><saml:AttributeValue>ada</saml:AttributeValue></saml:Attribute>";
    let persistent = |name: &str| {
        let text = assertion()
            .replace("urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress", format)
            .replace("ada@corp.example", name)
            .replace("<saml:Attribute Name", &format!("{login}<saml:Attribute Name"));
        answer(&Signer::honest(&keys().0).sign(&text, "_a"))
    };
    let by_login = || world.settings("name_id: persistent, claims: {name: login}");
    let of = |one: Attack| one.with(by_login()).expecting(|expected| expected.format = format.to_owned());
    let link = "<saml:Attribute Name=\"http://schemas.microsoft.com/claims/groups.link\"/>";
    vec![
        of(attack("of nobody", persistent(""), &["subject"], "whom it is of")),
        of(attack("of a name that writes elsewhere", persistent("a\u{9b}2Jb"), &["subject"], "whom it is of")),
        attack("two names", honest(), &["once"], "several values").with(world.settings("claims: {name: groups}")),
        attack(
            "groups left out (Entra)",
            spoilt("<saml:Attribute Name", &format!("{link}<saml:Attribute Name")),
            &["overage"],
            "overage",
        ),
        attack("two domains", spoilt("ada@corp.example", "ada@evil.example@corp.example"), &["address"], "no e-mail"),
        attack("no domain", spoilt("ada@corp.example", "ada"), &["address"], "no e-mail"),
        attack("another domain", honest(), &["domain"], "domains")
            .with(world.settings("require: {email_domain: [other.example]}")),
        attack("below the domain", spoilt("@corp", "@x.corp"), &["domain"], "domains")
            .with(world.settings("require: {email_domain: [corp.example]}")),
        attack("nothing to call them by", honest(), &["name"], "`login`").with(world.settings("claims: {name: login}")),
    ]
}

#[test]
fn every_way_to_spoil_an_answer_is_refused_by_its_check() {
    let world = World::new();
    let settings = world.settings("");
    let attack = |name, text, refused_by, word| Attack {
        name,
        text,
        refused_by,
        word,
        expected: expected(),
        settings: settings.clone(),
        used: false,
    };
    let ada = world.provider(settings.clone()).read(RULES, &honest(), expected()).expect("it is honest");
    assert_eq!((&ada.name[..], &ada.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
    let attacks = [
        put_together(attack),
        signed_otherwise(attack),
        said_of_itself(attack),
        said_of_somebody(attack),
        said_of_their_names(&world, attack),
    ];
    let mut tried = BTreeSet::new();
    for attack in attacks.into_iter().flatten() {
        let Attack { name, refused_by, word, .. } = &attack;
        let why = attack.read(&world, &[]).expect_err(name).to_string();
        assert!(why.contains(word), "{name}: {why}");
        let open = attack.read(&world, refused_by);
        assert!(open.is_ok(), "{name} is refused by something else than {refused_by:?}: {open:?}");
        for one in *refused_by {
            let others: Vec<_> = refused_by.iter().filter(|other| *other != one).copied().collect();
            assert!(attack.read(&world, &others).is_err(), "{name} is not refused by {one}");
        }
        tried.extend(*refused_by);
    }
    assert_eq!(tried, Kept::without(&[]).names(), "each check has something that it is there for");
}

#[test]
fn every_way_to_encrypt_badly_is_refused_by_its_check() {
    let whole = sealed(&assertion());
    let read = |from: &str, to: &str| {
        let text = whole.replacen(from, to, 1);
        let document = xml::read(&text, usize::MAX).expect("XML");
        Sealed::read(document.root_element()).expect("it has its parts")
    };
    assert_eq!(verify(encryption::CHECKS, &read("x", "x")), Ok(()));
    let (from, to) = (whole.find("<xenc:EncryptedKey>").expect("one"), whole.find("</ds:KeyInfo>").expect("one"));
    let (key, oaep) = (&whole[from..to], "2001/04/xmlenc#rsa-oaep-mgf1p\"");
    let sha = "2001/04/xmlenc#rsa-oaep-mgf1p\"><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/></xenc:EncryptionMethod>";
    let attacks = [
        ("CBC", read("2009/xmlenc11#aes256-gcm", "2001/04/xmlenc#aes256-cbc"), "cipher", "aes256-cbc"),
        ("3DES", read("2009/xmlenc11#aes256-gcm", "2001/04/xmlenc#tripledes-cbc"), "cipher", "tripledes"),
        ("two keys", read(key, &format!("{key}{key}")), "one_key", "2 keys"),
        ("RSA 1.5", read(oaep, "2001/04/xmlenc#rsa-1_5\""), "key_cipher", "rsa-1_5"),
        ("two hashes", read(&format!("{oaep}/>"), sha), "key_digest", "sha256 with MGF1 with SHA-1"),
    ];
    let mut tried = BTreeSet::new();
    for (name, evidence, refused_by, word) in attacks {
        let why = verify(encryption::CHECKS, &evidence).expect_err(name).to_string();
        assert!(why.contains(word), "{name}: {why}");
        let others: Vec<_> = encryption::CHECKS.iter().filter(|check| check.name != refused_by).copied().collect();
        assert_eq!(verify(&others, &evidence), Ok(()), "{name}");
        // Even so it is not opened by anything that is not on the list; two keys could be.
        assert_eq!(evidence.open(&keys().1.pkcs8()).is_ok(), refused_by == "one_key", "{name}");
        tried.insert(refused_by);
    }
    assert_eq!(tried, encryption::CHECKS.iter().map(|check| check.name).collect());
}

#[test]
fn what_is_odd_but_honest_counts() {
    let (world, (idp, _)) = (World::new(), keys());
    let signer = Signer::honest(idp);
    let signed = signer.sign(&assertion(), "_a");
    let around = signer.sign(&answer(&assertion()), "_p");
    let both = signer.sign(&answer(&signed), "_p");
    let inclusive = signer.sign(&assertion(), "_a").replace(
        "xml-exc-c14n#\"/></ds:Transforms>",
        "xml-exc-c14n#\"><ec:InclusiveNamespaces xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"xs\"/></ds:Transform></ds:Transforms>",
    );
    let cases = [
        ("the answer is signed", around.clone()),
        ("both are", both),
        (
            "a minute off",
            spoilt(&format!("NotOnOrAfter=\"{}\"", at(NOW + 300)), &format!("NotOnOrAfter=\"{}\"", at(NOW - 59))),
        ),
        ("a minute before", spoilt(&at(NOW - 5), &at(NOW + 60))),
        ("in the answer's place, encrypted", answer(&sealed(&signed))),
        ("encrypted, and the answer is signed", signer.sign(&answer(&sealed(&assertion())), "_p")),
        ("comments between", honest().replace("<saml:Subject>", "<!-- who --><saml:Subject>")),
        ("a declaration", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", honest())),
        ("text in another form", honest().replace(">DBA<", "><![CDATA[DBA]]><").replace("ada@", "&#97;da@")),
        ("other quotes and order", around.replace("ID=\"_p\" Version=\"2.0\"", "Version='2.0'\n  ID='_p'")),
    ];
    for (name, text) in cases {
        let ada = world.provider(world.keyed("")).read(RULES, &text, expected());
        assert_eq!(ada.map(|ada| ada.name), Ok("ada@corp.example".to_owned()), "{name}");
    }
    // Another prefix list is another text that is signed.
    assert!(inclusive.contains("PrefixList"));
    assert_eq!(world.provider(world.settings("")).read(RULES, &answer(&inclusive), expected()), Err(Why::Signature));
}

#[test]
fn a_comment_in_a_name_cuts_nothing_off() {
    let world = World::new();
    let text = spoilt("ada@corp.example", "ada@corp.example.evil.example");
    let text = text.replace("ada@corp.example.evil", "ada@corp.example<!-- -->.evil");
    let read = world.provider(world.settings("")).read(RULES, &text, expected());
    assert_eq!(read.map(|subject| subject.name), Ok("ada@corp.example.evil.example".to_owned()));
}

#[test]
fn a_key_of_another_kind_counts_and_any_of_the_settings_does() {
    let (world, ec) = (World::new(), Key::ec());
    world.write(
        "two.crt",
        &format!(
            "{}{}",
            pem("CERTIFICATE", &certificate(&ec.public())),
            fs::read_to_string(world.path("idp.crt")).expect("it is there")
        ),
    );
    let text = format!(
        "{{name: corp, entity_id: 'https://id.example', sso_url: 'https://id.example/sso', certificates: ['{}']}}",
        world.path("two.crt").display()
    );
    let provider = || world.provider(serde_saphyr::from_str(&text).expect("the settings are right"));
    for text in [honest(), answer(&Signer::honest(&ec).sign(&assertion(), "_a"))] {
        assert!(provider().read(RULES, &text, expected()).is_ok());
    }
    let stranger = answer(&Signer::honest(&Key::ec()).sign(&assertion(), "_a"));
    assert_eq!(provider().read(RULES, &stranger, expected()), Err(Why::Signature));
}

#[test]
fn what_is_encrypted_for_another_or_altered_is_not_opened() {
    let world = World::new();
    let text = answer(&sealed(&Signer::honest(&keys().0).sign(&assertion(), "_a")));
    assert_eq!(world.provider(world.settings("")).read(RULES, &text, expected()), Err(Why::NoKey));
    let at = text.rfind("</xenc:CipherValue>").expect("it has one") - 40;
    let letter = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    let altered = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
    assert_eq!(world.provider(world.keyed("")).read(RULES, &altered, expected()), Err(Why::Sealed));
    // What nobody signed is nobody's word, however well it is encrypted: everybody has the gateway's public key.
    let unsigned = answer(&sealed(&assertion()));
    assert_eq!(world.provider(world.keyed("")).read(RULES, &unsigned, expected()), Err(Why::Unsigned));
}

#[test]
fn what_is_no_answer_is_none() {
    let world = World::new();
    let deep = "<a>".repeat(9000) + &"</a>".repeat(9000);
    let entity = "<!DOCTYPE r [<!ENTITY x \"ada\">]>";
    for (text, word) in [
        ("", "cannot be read"),
        ("<samlp:Response/>", "namespace"),
        (&answer("<!ENTITY x>"), "DTD"),
        (&format!("{entity}{}", honest()), "DTD"),
        (&format!("<!DOCTYPE r SYSTEM \"file:///etc/passwd\">{}", honest()), "DTD"),
        (&honest().replace("ada@", "&x;@"), "entity"),
        (&answer("<?php x?>"), "processing instruction"),
        (&answer(&deep), "too deep"),
        (&answer(&"x".repeat(200_000)), "too long"),
        (&answer(&"<a/>".repeat(20_000)), "odes"),
        (&answer(&"<a xmlns:b=\"c\"/>".repeat(2000)), "namespaces"),
        (&answer(""), "no assertion"),
        (&spoilt(&at(NOW - 10), "2026-11-24T03:00:00+01:00"), "UTC"),
    ] {
        let why = world.provider(world.settings("")).read(RULES, text, expected()).expect_err(word).to_string();
        assert!(why.contains(word), "{word}: {why}");
    }
}

#[test]
fn used_assertions_are_remembered_as_long_as_they_would_be_taken() {
    let mut used = Used::default();
    used.add("one".to_owned(), NOW + 10, NOW);
    used.add("two".to_owned(), NOW + 20, NOW + 9);
    assert!(!used.is_new("one") && !used.is_new("two") && used.is_new("three"));
    used.add("three".to_owned(), NOW + 30, NOW + 10);
    assert!(used.is_new("one") && !used.is_new("two"));
    for number in 0..20_000 {
        used.add(number.to_string(), NOW + 500, NOW + 20);
    }
    assert!(used.is_new("three") && !used.is_new("19999"));
}
