//! Whole sign-ins at issuers on the loopback, some of which misbehave.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{super::*, Issuer, Key, METADATA, Reply, parameter, provider, providers};
use crate::config::OidcGroups;

fn why<T>(outcome: Result<T, OidcError>) -> String {
    outcome.map(|_| ()).expect_err("it is refused").to_string()
}

#[tokio::test]
async fn ada_signs_in_whichever_way_the_provider_signs() {
    for algorithm in [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let issuer = Issuer::with(Key::make(algorithm, "one")).await;
        let mut settings = issuer.settings("corp");
        settings.groups = OidcGroups::Named([("DBA".to_owned(), "dba".to_owned())].into());
        let provider = provider(settings);
        let ada = issuer.sign_in(&provider, |claims| claims["groups"] = json!(["DBA", "x"])).await.expect("Ada");
        assert_eq!((&ada.name[..], ada.email.as_deref()), ("ada@corp.example", Some("ada@corp.example")));
        assert_eq!((ada.groups, ada.sid.as_deref()), (vec!["dba".to_owned()], Some("s1")));
    }
}

#[tokio::test]
async fn a_browser_is_sent_with_all_that_binds_the_answer() {
    let issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    let begun = provider.begin().await.expect("it begins");
    let said = |name: &str| parameter(&begun, name);
    assert!(begun.url.starts_with(&format!("{}/authorize?", issuer.url)), "{}", begun.url);
    assert_eq!((&said("response_type")[..], &said("client_id")[..]), ("code", "hp"));
    assert_eq!(said("redirect_uri"), "https://desk.example/signin/oidc/corp/return");
    assert_eq!((&said("scope")[..], &said("code_challenge_method")[..]), ("openid profile email", "S256"));
    assert!(said("state").len() >= 43 && said("nonce").len() >= 43 && said("state") != said("nonce"));
    assert_eq!((&said("prompt")[..], &said("max_age")[..]), ("", ""));
    let challenge = said("code_challenge");
    let (query, nonce) = issuer.back(&begun);
    let mut claims = issuer.claims();
    claims["nonce"] = nonce.into();
    issuer.issues(&claims);
    provider.finish(begun.pending, &query).await.expect("Ada");
    let posted = issuer.posted("/token");
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&posted["code_verifier"])), challenge);
    assert_eq!((&posted["code"][..], &posted["client_id"][..]), ("c", "hp"));
}

#[tokio::test]
async fn who_is_signed_in_shows_anew_who_they_are() {
    let issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    for (subject, auth_time, refused) in
        [("1", now(), None), ("1", now() - 3600, Some("anew")), ("2", now(), Some("else"))]
    {
        let begun = provider.begin_again("1").await.expect("it begins");
        assert_eq!((&parameter(&begun, "prompt")[..], &parameter(&begun, "max_age")[..]), ("login", "0"));
        let (query, nonce) = issuer.back(&begun);
        let mut claims = issuer.claims();
        (claims["nonce"], claims["sub"], claims["auth_time"]) = (nonce.into(), subject.into(), auth_time.into());
        issuer.issues(&claims);
        let outcome = provider.finish(begun.pending, &query).await;
        match refused {
            None => assert_eq!(outcome.expect("Ada").subject, "1"),
            Some(word) => assert!(why(outcome).contains(word)),
        }
    }
}

#[tokio::test]
async fn a_secret_is_shown_as_the_provider_wants_it() {
    let issuer = Issuer::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    crate::net::tls::write_private(&path, b"s3 cret\n").expect("it is ours");
    let settings = || OidcProvider { client_secret_file: Some(path.clone()), ..issuer.settings("corp") };
    issuer.sign_in(&provider(settings()), |_| ()).await.expect("Ada");
    let expected = base64::engine::general_purpose::STANDARD.encode("hp:s3+cret");
    assert_eq!(issuer.shown(), [format!("Basic {expected}")]);
    let mut metadata = issuer.metadata();
    metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    issuer.says(METADATA, metadata);
    issuer.sign_in(&provider(settings()), |_| ()).await.expect("Ada");
    assert_eq!(issuer.posted("/token")["client_secret"], "s3 cret");
}

#[tokio::test]
async fn an_answer_counts_once() {
    let issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    let waiting = Waiting::default();
    let begun = provider.begin().await.expect("it begins");
    let (query, nonce) = issuer.back(&begun);
    let mut claims = issuer.claims();
    claims["nonce"] = nonce.into();
    issuer.issues(&claims);
    let cookie = waiting.keep(begun.pending);
    assert!(waiting.take("another browser's").is_none());
    let pending = waiting.take(cookie.reveal()).expect("it waits");
    provider.finish(pending, &query).await.expect("Ada");
    assert!(waiting.take(cookie.reveal()).is_none(), "a state that was used is gone");
    // The state of one sign-in and the code of another.
    let other = provider.begin().await.expect("it begins");
    assert!(why(provider.finish(other.pending, &query).await).contains("no sign-in"));
    // A code that was used.
    issuer
        .replies("/token", Reply::Status(400, json!({ "error": "invalid_grant", "error_description": "used\u{1b}" })));
    let again = provider.begin().await.expect("it begins");
    let (query, _) = issuer.back(&again);
    let error = why(provider.finish(again.pending, &query).await);
    assert!(error.contains("invalid_grant") && error.contains("corp") && !error.contains('\u{1b}'), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_is_forgotten() {
    let (waiting, pending) = (Waiting::default(), || Pending {
        provider: "corp".to_owned(),
        state: Token::random(),
        nonce: Token::random(),
        verifier: oauth2::PkceCodeVerifier::new("v".repeat(43)),
        begun: now(),
        max_age: None,
        subject: None,
        until: Instant::now() + PATIENCE,
    });
    let late = waiting.keep(pending());
    tokio::time::advance(PATIENCE).await;
    assert!(waiting.take(late.reveal()).is_none());
    let first = waiting.keep(pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    let others: Vec<_> = (0..10_000).map(|_| waiting.keep(pending())).collect();
    assert!(waiting.take(first.reveal()).is_none(), "they are bounded");
    assert!(others.iter().all(|other| waiting.take(other.reveal()).is_some()));
}

#[tokio::test]
async fn two_providers_are_not_mixed_up() {
    let (one, two) = (Issuer::start().await, Issuer::start().await);
    let both = providers(vec![one.settings("one"), two.settings("two")]).expect("they are two");
    let (at_one, at_two) = (both.get("one").expect("one"), both.get("two").expect("two"));
    one.sign_in(at_one, |_| ()).await.expect("Ada");
    two.sign_in(at_two, |_| ()).await.expect("Ada");
    let begun = at_one.begin().await.expect("it begins");
    let (state, _) = (parameter(&begun, "state"), ());
    let error = why(at_one.finish(begun.pending, &format!("code=c&state={state}&iss={}", two.url)).await);
    assert!(error.contains(&two.url[7..]) && error.contains("was not asked"), "{error}");
    // At the other's address.
    let begun = at_one.begin().await.expect("it begins");
    let (query, _) = one.back(&begun);
    assert!(why(at_two.finish(begun.pending, &query).await).contains("another provider"));
    // A token of the other's, with the other's key.
    let begun = at_one.begin().await.expect("it begins");
    let (query, nonce) = one.back(&begun);
    let mut claims = one.claims();
    claims["nonce"] = nonce.into();
    let token = two.key.sign(&two.key.header(), &claims);
    one.says("/token", json!({ "access_token": "access", "token_type": "Bearer", "id_token": token }));
    assert!(why(at_one.finish(begun.pending, &query).await).contains("another's key"));
    one.says("/token", json!({ "access_token": "access", "token_type": "Bearer" }));
    let begun = at_one.begin().await.expect("it begins");
    let (query, _) = one.back(&begun);
    assert!(why(at_one.finish(begun.pending, &query).await).contains("no ID token"));
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_a_minute() {
    let mut issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    issuer.sign_in(&provider, |_| ()).await.expect("Ada");
    assert_eq!(issuer.asked("/jwks"), 1);
    issuer.key = Key::make(Algorithm::ES256, "two");
    issuer.says("/jwks", json!({ "keys": [issuer.key.public, { "kty": "unheard-of" }] }));
    for _ in 0..3 {
        assert!(why(issuer.sign_in(&provider, |_| ()).await).contains("does not publish"));
    }
    assert_eq!(issuer.asked("/jwks"), 1);
    pass(keys::PAUSE).await;
    issuer.sign_in(&provider, |_| ()).await.expect("Ada");
    issuer.sign_in(&provider, |_| ()).await.expect("Ada");
    assert_eq!(issuer.asked("/jwks"), 2);
    // A key that is withdrawn.
    issuer.says("/jwks", json!({ "keys": [] }));
    issuer.sign_in(&provider, |_| ()).await.expect("still believed");
    pass(Duration::from_secs(3600)).await;
    assert!(why(issuer.sign_in(&provider, |_| ()).await).contains("does not publish"));
}

/// Lets time pass without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_provider_that_is_down_says_which_and_stops_nobody_else() {
    let (up, down) = (Issuer::start().await, Issuer::start().await);
    let both = providers(vec![down.settings("down"), up.settings("up")]).expect("they are two");
    down.replies(METADATA, Reply::Status(503, json!({})));
    let provider = both.get("down").expect("there");
    let error = why(provider.begin().await);
    assert!(error.starts_with("sign-in with down:") && error.contains("503"), "{error}");
    assert!(why(provider.begin().await).contains("503"));
    assert_eq!(down.asked(METADATA), 1, "it is not asked at once again");
    up.sign_in(both.get("up").expect("there"), |_| ()).await.expect("Ada");
    down.says(METADATA, down.metadata());
    pass(Duration::from_secs(5)).await;
    down.sign_in(provider, |_| ()).await.expect("Ada");
    down.sign_in(provider, |_| ()).await.expect("Ada");
    assert_eq!(down.asked(METADATA), 2, "it is known now");
}

// The clock goes on by itself where all wait.
#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_given_up() {
    let issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    issuer.replies(METADATA, Reply::Silence);
    let error = why(provider.begin().await);
    assert!(error.contains("within 10 s"), "{error}");
}

#[tokio::test]
async fn what_a_provider_answers_is_bounded_and_it_sends_nowhere_else() {
    let (issuer, elsewhere) = (Issuer::start().await, Issuer::start().await);
    for (path, reply, word) in [
        (METADATA, Reply::Huge(300_000), "length limit"),
        (METADATA, Reply::Redirect(format!("{}{METADATA}", elsewhere.url)), "sends elsewhere"),
        (METADATA, Reply::Json(json!({ "issuer": issuer.url })), "something else"),
        (METADATA, Reply::Json(elsewhere.metadata()), "calls itself"),
        ("/jwks", Reply::Huge(300_000), "length limit"),
        ("/jwks", Reply::Redirect(format!("{}/jwks", elsewhere.url)), "sends elsewhere"),
    ] {
        issuer.says(METADATA, issuer.metadata());
        issuer.replies(path, reply);
        let error = why(issuer.sign_in(&provider(issuer.settings("corp")), |_| ()).await);
        assert!(error.contains(word), "{path}: {error}");
    }
    assert_eq!(elsewhere.asked("/jwks") + elsewhere.asked(METADATA), 0);
    // The code and the secret go to nobody else either.
    let begun = provider(issuer.settings("corp")).begin().await.expect("it begins");
    let (query, _) = issuer.back(&begun);
    issuer.replies("/token", Reply::Redirect(format!("{}/token", elsewhere.url)));
    assert!(why(provider(issuer.settings("corp")).finish(begun.pending, &query).await).contains("sends elsewhere"));
    assert_eq!(elsewhere.asked("/token"), 0);
    let canary = "canary".repeat(9);
    let begun = provider(issuer.settings("corp")).begin().await.expect("it begins");
    let (query, _) = issuer.back(&begun);
    issuer.says("/token", json!({ "access_token": 7, "refresh_token": canary }));
    let error = why(provider(issuer.settings("corp")).finish(begun.pending, &query).await);
    assert!(error.contains("for tokens") && !error.contains("canary"), "{error}");
}

#[tokio::test]
async fn what_the_token_leaves_out_is_in_the_profile() {
    let issuer = Issuer::start().await;
    let mut metadata = issuer.metadata();
    metadata["userinfo_endpoint"] = format!("{}/me", issuer.url).into();
    issuer.says(METADATA, metadata);
    let provider = provider(OidcProvider { groups: OidcGroups::AsIs, ..issuer.settings("corp") });
    issuer.says("/me", json!({ "sub": "1", "groups": ["dba"], "email": "eve@x.example", "email_verified": true }));
    let ada = issuer.sign_in(&provider, |_| ()).await.expect("Ada");
    assert_eq!((&ada.name[..], &ada.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
    assert_eq!(issuer.shown(), ["Bearer access"]);
    issuer.says("/me", json!({ "sub": "2", "groups": ["dba"] }));
    assert!(why(issuer.sign_in(&provider, |_| ()).await).contains("somebody else"));
    issuer.sign_in(&provider, |claims| claims["groups"] = json!([])).await.expect("it is not asked");
}

#[tokio::test]
async fn whoever_signs_out_there_is_signed_out_here() {
    let issuer = Issuer::start().await;
    let provider = provider(issuer.settings("corp"));
    let ada = issuer.sign_in(&provider, |_| ()).await.expect("Ada");
    let token = |jti: &str, who: serde_json::Value| {
        let mut claims = json!({
            "iss": issuer.url, "aud": "hp", "iat": now(), "exp": now() + 120, "jti": jti,
            "events": { logout::EVENT: {} },
        });
        claims.as_object_mut().expect("an object").extend(who.as_object().expect("an object").clone());
        issuer.key.sign(&issuer.key.header(), &claims)
    };
    let ends = |out: LoggedOut| out.ends(&ada);
    for (jti, who, expected) in [
        ("a", json!({ "sid": "s1" }), true),
        ("b", json!({ "sid": "s2", "sub": "1" }), false),
        ("c", json!({ "sub": "1" }), true),
        ("d", json!({ "sub": "2" }), false),
        ("e", json!({ "sid": "s1", "sub": "1" }), true),
    ] {
        let token = token(jti, who.clone());
        assert_eq!(provider.logged_out(&token).await.map(ends).expect("it counts"), expected, "{who}");
        assert!(why(provider.logged_out(&token).await).contains("used before"));
    }
    let url = provider.sign_out_url(&ada, "https://desk.example/").await.expect("it is known").expect("it has one");
    let url = Url::parse(&url).expect("an address");
    let said: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!((url.path(), &said["client_id"][..]), ("/end", "hp"));
    assert_eq!(
        (&said["id_token_hint"][..], &said["post_logout_redirect_uri"][..]),
        (ada.id_token.as_ref().expect("it gave one").reveal(), "https://desk.example/")
    );
    assert!(!format!("{ada:?}").contains(ada.id_token.as_ref().expect("it gave one").reveal()));
}

#[tokio::test]
async fn a_code_on_a_terminal_is_waited_for() {
    let issuer = Issuer::start().await;
    let settings = issuer.settings("corp");
    assert!(why(provider(settings.clone()).begin_device().await).contains("device: true"));
    let provider = provider(OidcProvider { device: true, ..settings });
    let mut device = json!({
        "device_code": "d", "user_code": "ABCD-EFGH", "verification_uri": format!("{}/code", issuer.url),
        "expires_in": 1, "interval": 0,
    });
    issuer.says("/device", device.clone());
    let begun = provider.begin_device().await.expect("it begins");
    assert_eq!((begun.code(), begun.address()), ("ABCD-EFGH", &format!("{}/code", issuer.url)[..]));
    assert_eq!(issuer.posted("/device")["scope"], "openid profile email");
    issuer.replies("/token", Reply::Status(400, json!({ "error": "access_denied" })));
    assert!(why(provider.finish_device(begun).await).contains("access_denied"));
    // In the end it has come.
    issuer.replies("/token", Reply::Status(400, json!({ "error": "authorization_pending" })));
    let begun = provider.begin_device().await.expect("it begins");
    let typed = async {
        while issuer.asked("/token") < 4 {
            tokio::task::yield_now().await;
        }
        issuer.issues(&issuer.claims());
    };
    let (ada, ()) = tokio::join!(provider.finish_device(begun), typed);
    assert_eq!(ada.expect("Ada").name, "ada@corp.example");
    let (asked, posted) = (issuer.posted("/device"), issuer.posted("/token"));
    assert_eq!(posted["device_code"], "d");
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&posted["code_verifier"])), asked["code_challenge"]);
    device["verification_uri"] = "http://evil.example/".into();
    issuer.says("/device", device);
    assert!(why(provider.begin_device().await).contains("not https"));
}

#[tokio::test]
async fn a_provider_that_says_slow_down_is_asked_later() {
    let issuer = Issuer::start().await;
    let provider = provider(OidcProvider { device: true, ..issuer.settings("corp") });
    let address = format!("{}/code", issuer.url);
    issuer.says(
        "/device",
        json!({ "device_code": "d", "user_code": "A", "verification_uri": address, "expires_in": 60, "interval": 0 }),
    );
    issuer.replies("/token", Reply::Status(400, json!({ "error": "slow_down" })));
    let begun = provider.begin_device().await.expect("it begins");
    let started = Instant::now();
    let typed = async {
        while issuer.asked("/token") == 0 {
            tokio::task::yield_now().await;
        }
        issuer.issues(&issuer.claims());
    };
    let (ada, ()) = tokio::join!(provider.finish_device(begun), typed);
    assert_eq!(ada.expect("Ada").subject, "1");
    // RFC 8628, 3.5: five seconds more than before.
    assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(issuer.asked("/token"), 2);
}
