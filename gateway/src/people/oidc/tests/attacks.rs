//! What must not count, each with the checks that are there for it: with all of them it is refused, with any one of them it
//! is, and without them it gets through.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use oauth2::PkceCodeVerifier;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{super::*, Key, message};
use crate::{
    config::{OidcClaims, OidcGroups},
    people::oidc::{
        Check,
        http::Http,
        keys, logout,
        logout::LogoutToken,
        metadata, profile, token,
        token::{Expected, IdToken},
        verify,
    },
};

/// Something that must not count.
struct Attack<E> {
    name: &'static str,
    evidence: E,
    /// The checks of which each is enough to refuse it.
    refused_by: &'static [&'static str],
    /// Of the refusal.
    word: &'static str,
}

/// Tries every attack with and without what is there for it, and wants one for every check.
#[track_caller]
fn try_all<E>(checks: &[Check<E>], attacks: Vec<Attack<E>>) {
    let without = |names: &[&str]| -> Vec<Check<E>> {
        checks.iter().filter(|check| !names.contains(&check.name)).copied().collect()
    };
    let mut tried = BTreeSet::new();
    for Attack { name, evidence, refused_by, word } in attacks {
        let why = verify(checks, &evidence).expect_err(name).to_string();
        assert!(why.contains(word), "{name}: {why}");
        let open = verify(&without(refused_by), &evidence);
        assert_eq!(open, Ok(()), "{name} is refused by something else than {refused_by:?}");
        for one in refused_by {
            let others: Vec<_> = refused_by.iter().filter(|other| *other != one).copied().collect();
            assert!(verify(&without(&others), &evidence).is_err(), "{name} is not refused by {one}");
        }
        tried.extend(refused_by);
    }
    let all: BTreeSet<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(tried, all, "each check has something that it is there for");
}

/// An honest ID token, to be spoilt.
struct Honest {
    own: Key,
    header: Value,
    claims: Value,
    expected: Expected,
}

const NOW: u64 = 1_800_000_000;

impl Honest {
    fn new(own: &Key) -> Self {
        Self {
            own: own.clone(),
            header: own.header(),
            claims: json!({
                "iss": "https://id.example", "sub": "1", "aud": "hp", "exp": NOW + 300, "iat": NOW, "nonce": "n",
                "auth_time": NOW - 10, "acr": "gold", "amr": ["pwd", "mfa"],
            }),
            expected: Expected {
                issuer: "https://id.example".to_owned(),
                client_id: "hp".to_owned(),
                nonce: Some("n".to_owned()),
                begun: NOW,
                max_age: None,
                subject: None,
                acr: Vec::new(),
                amr: BTreeSet::new(),
                now: NOW,
            },
        }
    }

    fn claims(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().expect("an object").remove(name);
        self
    }

    fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    fn expecting(mut self, change: impl FnOnce(&mut Expected)) -> Self {
        change(&mut self.expected);
        self
    }

    fn signed(self) -> IdToken {
        let own = self.own.clone();
        self.signed_by(&own)
    }

    fn signed_by(self, signer: &Key) -> IdToken {
        let token = signer.sign(&self.header, &self.claims);
        self.token(&token)
    }

    fn token(self, token: &str) -> IdToken {
        let token = Jws::read(token).expect("three parts");
        let key = key_of(&token, &self.own);
        IdToken {
            key,
            claims: token.claims().expect("they are claims"),
            token,
            access_token: "access".to_owned(),
            expected: self.expected,
        }
    }
}

/// As the provider finds it.
fn key_of(token: &Jws, own: &Key) -> Option<jsonwebtoken::jwk::Jwk> {
    let published = [own.public.clone()];
    let kid = token.header.kid.as_deref();
    token.algorithm().and_then(|algorithm| keys::choose(&published, kid, algorithm)).cloned()
}

#[test]
fn every_way_to_spoil_an_id_token_is_refused_by_its_check() {
    let own = Key::make(Algorithm::ES256, "one");
    let other = Key::make(Algorithm::ES256, "one");
    let rsa = Key::make(Algorithm::RS256, "rsa");
    let honest = || Honest::new(&own);
    assert_eq!(verify(token::CHECKS, &honest().signed()), Ok(()));

    let unsigned = {
        let honest = honest().header("alg", "none");
        let token = format!("{}.", message(&honest.header, &honest.claims));
        honest.token(&token)
    };
    // The old trick: the public key, which everybody has, as the secret of a method that signs with one.
    let confused = {
        let honest = Honest::new(&rsa).header("alg", "HS256");
        let secret = EncodingKey::from_secret(serde_json::to_string(&rsa.public).expect("a key").as_bytes());
        let message = message(&honest.header, &honest.claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).expect("it signs");
        honest.token(&format!("{message}.{signature}"))
    };
    let altered = {
        let token = own.sign(&own.header(), &honest().claims);
        let signature = token.rsplit_once('.').expect("three parts").1.to_owned();
        let honest = honest().claims("sub", "2");
        let message = message(&honest.header, &honest.claims);
        honest.token(&format!("{message}.{signature}"))
    };
    let attack = |name, evidence, refused_by, word| Attack { name, evidence, refused_by, word };
    let attacks = vec![
        attack("unsigned", unsigned, &["algorithm", "signature"][..], "none"),
        attack("HS256 with the public key", confused, &["algorithm", "signature"], "HS256"),
        attack("HS512", honest().header("alg", "HS512").signed(), &["algorithm", "signature"], "HS512"),
        attack("altered", altered, &["signature"], "altered"),
        attack("another's key", honest().signed_by(&other), &["signature"], "another's key"),
        attack("unknown key", honest().header("kid", "two").signed(), &["signature"], "does not publish"),
        attack("a key of another kind", honest().header("alg", "ES384").signed(), &["signature"], "does not publish"),
        attack("an access token", honest().header("typ", "at+jwt").signed(), &["kind"], "at+jwt"),
        attack("a logout token", honest().header("typ", "logout+jwt").signed(), &["kind"], "logout+jwt"),
        attack("unencoded payload", honest().header("crit", json!(["b64"])).signed(), &["critical"], "b64"),
        attack("wrong issuer", honest().claims("iss", "https://evil.example").signed(), &["issuer"], "evil"),
        attack("issuer with a slash", honest().claims("iss", "https://id.example/").signed(), &["issuer"], "is"),
        attack("wrong audience", honest().claims("aud", "shop").signed(), &["audience"], "somebody else"),
        attack("no audience", honest().claims("aud", json!([])).signed(), &["audience"], "somebody else"),
        attack("extra audience", honest().claims("aud", json!(["hp", "shop"])).signed(), &["azp"], "another one"),
        attack("another presenter", honest().claims("azp", "shop").signed(), &["azp"], "another one"),
        attack("expired", honest().claims("exp", NOW - 60).signed(), &["exp"], "expired"),
        attack("from the future", honest().claims("iat", NOW + 61).signed(), &["iat"], "future"),
        attack("not yet", honest().claims("nbf", NOW + 61).signed(), &["nbf"], "future"),
        attack("wrong nonce", honest().claims("nonce", "m").signed(), &["nonce"], "another sign-in"),
        attack("no nonce", honest().without("nonce").signed(), &["nonce"], "another sign-in"),
        attack("another access token", honest().claims("at_hash", "AAAA").signed(), &["at_hash"], "access token"),
        attack(
            "not anew",
            honest().claims("auth_time", NOW - 61).expecting(|expected| expected.max_age = Some(0)).signed(),
            &["auth_time"],
            "anew",
        ),
        attack(
            "does not say when",
            honest().without("auth_time").expecting(|expected| expected.max_age = Some(3600)).signed(),
            &["auth_time"],
            "anew",
        ),
        attack(
            "somebody else",
            honest().expecting(|expected| expected.subject = Some("2".to_owned())).signed(),
            &["subject"],
            "somebody else",
        ),
        attack(
            "too low a level",
            honest().claims("acr", "tin").expecting(|expected| expected.acr = vec!["gold".to_owned()]).signed(),
            &["acr"],
            "gold",
        ),
        attack(
            "without a second factor",
            honest().expecting(|expected| expected.amr = ["hwk".to_owned()].into()).signed(),
            &["amr"],
            "hwk",
        ),
    ];
    try_all(token::CHECKS, attacks);
}

#[test]
fn what_is_odd_but_honest_counts() {
    let own = Key::make(Algorithm::ES256, "one");
    let honest = || Honest::new(&own);
    let hash = URL_SAFE_NO_PAD.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"access")[..16]);
    for (name, id) in [
        ("the clock is a minute off", honest().claims("exp", NOW - 59).claims("iat", NOW + 60).signed()),
        ("a list of one", honest().claims("aud", json!(["hp"])).signed()),
        ("two readers, for us", honest().claims("aud", json!(["hp", "shop"])).claims("azp", "hp").signed()),
        ("hash of the access token", honest().claims("at_hash", hash).signed()),
        ("a kind", honest().header("typ", "jwt").signed()),
        ("no key named", honest().header("kid", Value::Null).signed()),
        ("anew", honest().expecting(|expected| expected.max_age = Some(0)).signed()),
    ] {
        assert_eq!(verify(token::CHECKS, &id), Ok(()), "{name}");
    }
}

#[test]
fn a_key_is_chosen_by_name_kind_and_use() {
    let key = |algorithm, kid: &str| Key::make(algorithm, kid).public;
    let (ec, ed, rsa) = (key(Algorithm::ES256, "ec"), key(Algorithm::EdDSA, "ed"), key(Algorithm::RS256, "rsa"));
    let all = [ec.clone(), ed, rsa];
    let found = |kid, algorithm| keys::choose(&all, kid, algorithm).and_then(|key| key.common.key_id.clone());
    assert_eq!(found(Some("ec"), Algorithm::ES256).as_deref(), Some("ec"));
    assert_eq!(found(None, Algorithm::EdDSA).as_deref(), Some("ed"));
    assert_eq!(found(Some("rsa"), Algorithm::RS256).as_deref(), Some("rsa"));
    // The key's own word.
    assert_eq!(found(Some("rsa"), Algorithm::PS256), None);
    assert_eq!(found(Some("ec"), Algorithm::ES384), None);
    assert_eq!(found(Some("ed"), Algorithm::ES256), None);
    let two = [ec, key(Algorithm::ES256, "another")];
    assert_eq!(keys::choose(&two, None, Algorithm::ES256), None, "it could be either");
    let mut encrypts = serde_json::to_value(&two[0]).expect("a key");
    encrypts["use"] = "enc".into();
    assert_eq!(keys::read(encrypts), None);
    assert_eq!(keys::read(json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "x" })), None);
}

#[test]
fn what_is_no_token_is_none() {
    let mut long = "x".repeat(70_000);
    long.push_str(".x.x");
    for (token, word) in [
        ("", "three"),
        ("a.b", "three"),
        ("a.b.c.d.e", "encrypted"),
        ("!.e30.", "base64"),
        ("e30.e30.", "header"),
        (&long, "long"),
    ] {
        let why = Jws::read(token).expect_err(token).to_string();
        assert!(why.contains(word), "{token}: {why}");
    }
    let token = Jws::read(&format!("{}.", message(&json!({ "alg": "none" }), &json!({ "iss": "i" })))).expect("cut");
    let why = token.claims::<token::Claims>().expect_err("it lacks nearly all").to_string();
    assert!(why.contains("sub"), "{why}");
}

fn pending(state: &str) -> Pending {
    Pending {
        provider: "corp".to_owned(),
        state: Token::returned(state),
        nonce: Token::random(),
        verifier: PkceCodeVerifier::new("v".repeat(43)),
        begun: NOW,
        max_age: None,
        subject: None,
        until: Instant::now() + PATIENCE,
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_spoil_an_answer_is_refused_by_its_check() {
    let answer = |query: &str| Answer {
        said: Answer::read(query),
        pending: pending("s"),
        provider: "corp".to_owned(),
        issuer: "https://id.example".to_owned(),
        names_itself: true,
    };
    let honest = "code=c&state=s&iss=https%3A%2F%2Fid.example";
    assert_eq!(verify(answer::CHECKS, &answer(honest)), Ok(()));
    let silent = Answer { names_itself: false, ..answer("code=c&state=s") };
    assert_eq!(verify(answer::CHECKS, &silent), Ok(()), "a provider that never says who answers");

    let late = Answer { pending: Pending { until: Instant::now(), ..pending("s") }, ..answer(honest) };
    let at = |provider: &str| Answer { provider: provider.to_owned(), ..answer(honest) };
    let query = |query: &str| answer(&format!("{query}&iss=https://id.example"));
    let attack = |name, evidence, refused_by, word| Attack { name, evidence, refused_by, word };
    let attacks = vec![
        attack("another sign-in's state", query("code=c&state=t"), &["state"][..], "no sign-in"),
        attack("no state", query("code=c"), &["state"], "no sign-in"),
        attack("two states", query("code=c&state=s&state=t"), &["once"], "twice"),
        attack("two codes", query("code=c&state=s&code=d"), &["once"], "twice"),
        attack("another issuer", answer("code=c&state=s&iss=https://evil.example"), &["iss"], "evil.example"),
        attack("issuer left out", answer("code=c&state=s"), &["iss"], "who does not say who"),
        attack("at another provider's address", at("evil"), &["provider"], "another provider"),
        attack("too late", late, &["age"], "too long"),
        attack("refused", query("error=access_denied&error_description=no%1b&code=c&state=s"), &["error"], "denied"),
        attack("no code", query("state=s"), &["code"], "no code"),
        attack("an empty code", query("state=s&code="), &["code"], "no code"),
    ];
    try_all(answer::CHECKS, attacks);
}

#[test]
fn every_way_to_spoil_a_profile_is_refused_by_its_check() {
    let object = |value: Value| -> Map<String, Value> { value.as_object().expect("an object").clone() };
    let profile = |claims: Value| Profile {
        subject: "1".to_owned(),
        claims: object(claims),
        userinfo: None,
        names: OidcClaims::default(),
        groups: OidcGroups::AsIs,
        domains: ["corp.example".to_owned()].into(),
    };
    let email = |email: &str| json!({ "email": email, "email_verified": true });
    assert_eq!(verify(profile::CHECKS, &profile(email("ada@Corp.Example"))), Ok(()));
    let text = json!({ "email": "ada@corp.example", "email_verified": "true" });
    assert_eq!(verify(profile::CHECKS, &profile(text)), Ok(()));

    let with = |userinfo: Value, of: Profile| Profile { userinfo: Some(object(userinfo)), ..of };
    let merged = |extra: Value| {
        let mut claims = email("ada@corp.example");
        claims.as_object_mut().expect("an object").extend(object(extra));
        profile(claims)
    };
    // The token's address with another source's word for it.
    let mixed = with(
        json!({ "sub": "1", "email": "ada@corp.example", "email_verified": true }),
        profile(json!({ "email": "eve@corp.example" })),
    );
    let attack = |name, evidence, refused_by, word| Attack { name, evidence, refused_by, word };
    let attacks = vec![
        attack(
            "not verified",
            profile(json!({ "email": "ada@corp.example", "email_verified": false })),
            &["verified"][..],
            "not verified",
        ),
        attack("does not say", profile(json!({ "email": "ada@corp.example" })), &["verified"], "not verified"),
        attack("verified by another source", mixed, &["verified"], "not verified"),
        attack("another domain", profile(email("ada@evil.example")), &["domain"], "domain"),
        attack("below the domain", profile(email("ada@x.corp.example")), &["domain"], "domain"),
        attack("looks like it", profile(email("ada@evilcorp.example")), &["domain"], "domain"),
        attack("two domains", profile(email("ada@evil.example@corp.example")), &["domain"], "domain"),
        attack(
            "groups left out (Azure)",
            merged(json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": {} })),
            &["overage"],
            "overage",
        ),
        attack("groups left out (Azure, implicit)", merged(json!({ "hasgroups": true })), &["overage"], "overage"),
        attack(
            "somebody else's profile",
            with(json!({ "sub": "2", "groups": ["dba"] }), merged(json!({}))),
            &["profile"],
            "somebody else",
        ),
        attack("no profile's owner", with(json!({ "groups": ["dba"] }), merged(json!({}))), &["profile"], "somebody"),
        attack(
            "no name",
            Profile { domains: BTreeSet::new(), ..profile(json!({ "name": "Ada" })) },
            &["name"],
            "`email`",
        ),
        attack(
            "a name that writes elsewhere",
            Profile { domains: BTreeSet::new(), ..profile(email("ada\u{1b}[2J@corp.example")) },
            &["name"],
            "`email`",
        ),
    ];
    try_all(profile::CHECKS, attacks);
}

#[test]
fn groups_are_ours_and_those_that_the_settings_name() {
    let read = |groups: OidcGroups, said: Value| {
        let profile = Profile {
            subject: "1".to_owned(),
            claims: [("groups".to_owned(), said)].into_iter().collect(),
            userinfo: None,
            names: OidcClaims::default(),
            groups,
            domains: BTreeSet::new(),
        };
        profile.groups().map(|groups| groups.into_iter().collect::<Vec<_>>().join(" "))
    };
    let named = || OidcGroups::Named([("DBA".to_owned(), "dba".to_owned())].into());
    assert_eq!(read(named(), json!(["DBA", "root", "dba"])), Ok("dba".to_owned()));
    assert_eq!(read(OidcGroups::default(), json!(["root"])), Ok(String::new()));
    assert_eq!(read(OidcGroups::AsIs, json!("ops")), Ok("ops".to_owned()));
    assert!(read(named(), json!(["DBA", 7])).is_err());
    assert!(read(OidcGroups::AsIs, json!({ "dba": true })).is_err());
}

#[test]
fn every_way_to_spoil_a_logout_token_is_refused_by_its_check() {
    let own = Key::make(Algorithm::ES256, "one");
    let other = Key::make(Algorithm::ES256, "one");
    let claims = json!({
        "iss": "https://id.example", "aud": "hp", "iat": NOW, "exp": NOW + 120, "jti": "j", "sub": "1", "sid": "s",
        "events": { logout::EVENT: {} },
    });
    let made = |signer: &Key, header: (&str, Value), change: &[(&str, Value)]| {
        let (mut claims, mut head) = (claims.clone(), own.header());
        head[header.0] = header.1;
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        let token = Jws::read(&signer.sign(&head, &claims)).expect("three parts");
        LogoutToken {
            key: key_of(&token, &own),
            claims: token.claims().expect("they are claims"),
            token,
            issuer: "https://id.example".to_owned(),
            client_id: "hp".to_owned(),
            is_new: true,
            now: NOW,
        }
    };
    let kind = || ("typ", json!("logout+jwt"));
    let with = |name: &str, value: Value| made(&own, kind(), &[(name, value)]);
    assert_eq!(verify(logout::CHECKS, &made(&own, kind(), &[])), Ok(()));
    let used = LogoutToken { is_new: false, ..made(&own, kind(), &[]) };
    let nobody = made(&own, kind(), &[("sub", Value::Null), ("sid", Value::Null)]);
    let attack = |name, evidence, refused_by, word| Attack { name, evidence, refused_by, word };
    let attacks = vec![
        attack("another kind", made(&own, ("typ", json!("at+jwt")), &[]), &["kind"][..], "at+jwt"),
        attack("critical", made(&own, ("crit", json!(["x"])), &[]), &["critical"], "x"),
        attack("unsigned", made(&own, ("alg", json!("none")), &[]), &["algorithm", "signature"], "none"),
        attack("another's key", made(&other, kind(), &[]), &["signature"], "another's key"),
        attack("another issuer's", with("iss", json!("https://evil.example")), &["issuer"], "evil"),
        attack("for somebody else", with("aud", json!(["shop"])), &["audience"], "somebody else"),
        attack("from the future", with("iat", json!(NOW + 61)), &["iat"], "future"),
        attack("made long ago", with("iat", json!(NOW - 301)), &["iat"], "expired"),
        attack("expired", with("exp", json!(NOW - 60)), &["exp"], "expired"),
        attack("another event", with("events", json!({ "x": {} })), &["events"], "does not say"),
        attack("no event", with("events", json!({})), &["events"], "does not say"),
        attack("an ID token", with("nonce", json!("n")), &["nonce"], "ID token"),
        attack("nobody", nobody, &["who"], "neither"),
        attack("no name of its own", with("jti", Value::Null), &["jti"], "jti"),
        attack("used before", used, &["jti"], "before"),
    ];
    try_all(logout::CHECKS, attacks);
}

#[test]
fn used_logout_tokens_are_remembered_as_long_as_they_would_be_taken() {
    let mut used = logout::Used::default();
    used.add("one".to_owned(), NOW);
    assert!(!used.is_new(Some("one")) && used.is_new(Some("two")));
    // Taken until its time and the clocks' difference are over, and remembered as long.
    used.add("two".to_owned(), NOW + 300 + 60);
    assert!(!used.is_new(Some("one")));
    used.add("three".to_owned(), NOW + 300 + 121);
    assert!(used.is_new(Some("one")));
    for number in 0..20_000 {
        used.add(number.to_string(), NOW + 500);
    }
    assert!(used.is_new(Some("three")) && !used.is_new(Some("19999")));
}

#[test]
fn every_way_to_spoil_what_a_provider_says_of_itself_is_refused_by_its_check() {
    let http = Http::new(None, false);
    let honest = json!({
        "issuer": "https://id.example",
        "authorization_endpoint": "https://id.example/a",
        "token_endpoint": "https://tokens.example/t",
        "jwks_uri": "https://id.example/k",
        "code_challenge_methods_supported": ["plain", "S256"],
    });
    let read = |change: &[(&str, Value)]| -> Metadata {
        let mut said = honest.clone();
        for (name, value) in change {
            said[*name] = value.clone();
        }
        serde_json::from_value(said).expect("it can be read")
    };
    let all = [
        ("itself another", read(&[("issuer", json!("https://evil.example"))]), &["issuer"][..], "evil"),
        ("tokens in clear", read(&[("token_endpoint", json!("http://id.example/t"))]), &["transport"], "http://id"),
        ("keys in clear", read(&[("jwks_uri", json!("http://127.0.0.1/k"))]), &["transport"], "127.0.0.1"),
        ("a script", read(&[("end_session_endpoint", json!("javascript:alert(1)"))]), &["transport"], "javascript"),
        ("no S256", read(&[("code_challenge_methods_supported", json!(["plain"]))]), &["pkce"], "PKCE"),
    ];
    let said = |metadata| metadata::Said { metadata, issuer: "https://id.example", http: &http };
    let right = read(&[]);
    assert_eq!(verify(&metadata::checks(), &said(&right)), Ok(()));
    let attacks = all
        .iter()
        .map(|(name, metadata, refused_by, word)| Attack { name, evidence: said(metadata), refused_by, word })
        .collect();
    try_all(&metadata::checks(), attacks);
}
