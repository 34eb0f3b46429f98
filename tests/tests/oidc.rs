//! People sign in with real OpenID providers, in TLS, by a browser without eyes.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::mpsc, time::Duration};

use holdpoint::{
    config::OidcProvider,
    people::{
        Subject,
        oidc::{Begun, OidcError, Providers},
    },
};
use tests::{
    Certificates, Keycloak, Lab, Oidc, Postgres, Rules, Running, keycloak,
    oidc::{CLIENT_ID, OidcClient, SIGNED_OUT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A lab with an authority.
struct World {
    certificates: Certificates,
    lab: Lab,
}

impl World {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        Self { certificates: Certificates::make(&lab), lab }
    }

    fn provider(&self, client: &OidcClient) -> Oidc {
        Oidc::start(&self.lab, &self.certificates, client)
    }

    /// The settings of one that was started, with `extra` ones.
    fn settings(&self, name: &str, oidc: &Oidc, extra: &str) -> OidcProvider {
        self.settings_of(name, &oidc.issuer(), "email, groups", extra)
    }

    fn settings_of(&self, name: &str, issuer: &str, scopes: &str, extra: &str) -> OidcProvider {
        let ca = self.certificates.path("ca.crt");
        let text = format!(
            "{{name: {name}, issuer: '{issuer}', client_id: {CLIENT_ID}, scopes: [{scopes}], ca: '{ca}', \
             groups: {{DBA: dba}}, {extra}}}"
        );
        serde_saphyr::from_str(&text).expect("the settings are right")
    }

    /// A secret where settings can name it.
    fn secret(&self, text: &str) -> String {
        let path = self.lab.path("secret");
        fs::write(&path, text).expect("the lab's directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        path.display().to_string()
    }
}

fn providers(settings: &[OidcProvider]) -> Providers {
    Providers::from_config(settings, "https://desk.example").expect("the settings are right")
}

fn public() -> OidcClient {
    OidcClient {
        redirect: "https://desk.example/signin/oidc/corp/return",
        algorithm: "ES256",
        conform: true,
        ..OidcClient::default()
    }
}

/// What a browser brings back.
fn back<'a>(address: &'a str, path: &str) -> &'a str {
    let wanted = format!("https://desk.example{path}?");
    address.strip_prefix(&wanted).unwrap_or_else(|| panic!("{address} is not {wanted}"))
}

const RETURN: &str = "/signin/oidc/corp/return";

/// Somebody signs in at the provider `corp`.
async fn sign_in(all: &Providers, oidc: &Oidc, who: &str) -> Result<Subject, OidcError> {
    let provider = all.get("corp").expect("it is there");
    let Begun { url, pending } = provider.begin().await?;
    provider.finish(pending, back(&oidc.browse(&url, who), RETURN)).await
}

fn why<T>(outcome: Result<T, OidcError>) -> String {
    outcome.map(|_| ()).expect_err("it is refused").to_string()
}

#[tokio::test]
async fn people_sign_in_at_two_providers_and_an_answer_counts_at_one() {
    let world = World::new("oidc-two");
    let corp = world.provider(&public());
    let other = world.provider(&OidcClient {
        secret: Some("s3cret: +%20 & more"),
        redirect: "https://desk.example/signin/oidc/other/return",
        algorithm: "PS256",
        ..OidcClient::default()
    });
    let secret = format!("client_secret_file: '{}'", world.secret("s3cret: +%20 & more\n"));
    let all = providers(&[world.settings("corp", &corp, ""), world.settings("other", &other, &secret)]);

    let ada = sign_in(&all, &corp, "ada").await.expect("Ada signs in");
    assert_eq!((&ada.name[..], ada.email.as_deref()), ("ada@corp.example", Some("ada@corp.example")));
    assert_eq!((&ada.groups[..], &ada.issuer), (&["dba".to_owned()][..], &corp.issuer()));
    assert_eq!(ada.id().to_string(), format!("{}#ada", corp.issuer()));
    corp.was_asked("GET /me", 1); // This one says it in the profile.
    let bob = sign_in(&all, &corp, "bob").await.expect("Bob signs in");
    assert_eq!((&bob.subject[..], bob.groups.is_empty()), ("bob", true));

    let provider = all.get("other").expect("it is there");
    let begun = provider.begin().await.expect("it begins");
    let brought = other.browse(&begun.url, "ada");
    let query = back(&brought, "/signin/oidc/other/return").to_owned();
    let there = provider.finish(begun.pending, &query).await.expect("Ada signs in there too");
    assert_eq!((&there.name[..], &there.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
    assert_eq!(other.asked("GET /me"), 0, "this one says it in the token");

    // The same answer again, with a sign-in of one's own around its code.
    let begun = provider.begin().await.expect("it begins");
    let state =
        |query: &str| query.split('&').find_map(|part| part.strip_prefix("state=")).expect("it has one").to_owned();
    let fresh = other.browse(&begun.url, "bob");
    let forged = query.replace(&state(&query), &state(&fresh));
    let error = why(provider.finish(begun.pending, &forged).await);
    assert!(error.contains("invalid_grant"), "{error}");
    // The answer of one provider to a sign-in at the other.
    let at_corp = all.get("corp").expect("it is there");
    let begun = at_corp.begin().await.expect("it begins");
    let mine = corp.browse(&begun.url, "ada");
    let mixed = fresh.split_once('?').expect("it has a query").1.replace(&state(&fresh), &state(&mine));
    let error = why(at_corp.finish(begun.pending, &mixed).await);
    assert!(error.contains("was not asked") && error.contains("mix up"), "{error}");
}

#[tokio::test]
async fn who_refuses_or_is_not_vouched_for_does_not_sign_in() {
    let world = World::new("oidc-refused");
    let corp = world.provider(&public());
    let all = providers(&[world.settings("corp", &corp, "")]);
    let error = why(sign_in(&all, &corp, "-").await);
    assert!(error.contains("access_denied"), "{error}");
    let error = why(sign_in(&all, &corp, "eve").await);
    assert!(error.contains("not verified"), "{error}");
    let elsewhere = providers(&[world.settings("corp", &corp, "require: {email_domain: [other.example]}")]);
    let error = why(sign_in(&elsewhere, &corp, "ada").await);
    assert!(error.contains("domain"), "{error}");
    let strong = providers(&[world.settings("corp", &corp, "require: {amr: [mfa]}")]);
    let error = why(sign_in(&strong, &corp, "ada").await);
    assert!(error.contains("mfa"), "{error}");
}

#[tokio::test]
async fn who_is_signed_in_shows_anew_who_they_are() {
    let world = World::new("oidc-again");
    let corp = world.provider(&public());
    let all = providers(&[world.settings("corp", &corp, "")]);
    let provider = all.get("corp").expect("it is there");
    for (who, counts) in [("ada", true), ("bob", false)] {
        let Begun { url, pending } = provider.begin_again("ada").await.expect("it begins");
        let outcome = provider.finish(pending, back(&corp.browse(&url, who), RETURN)).await;
        if counts {
            assert!(outcome.expect("Ada").auth_time.is_some());
        } else {
            assert!(why(outcome).contains("somebody else"));
        }
    }
}

#[tokio::test]
async fn a_provider_changes_its_key() {
    let world = World::new("oidc-rotation");
    let mut corp = world.provider(&OidcClient { algorithm: "RS256", ..public() });
    let all = providers(&[world.settings("corp", &corp, "")]);
    sign_in(&all, &corp, "ada").await.expect("Ada");
    sign_in(&all, &corp, "ada").await.expect("Ada");
    corp.was_asked("GET /jwks", 1);
    corp.rotate();
    let error = why(sign_in(&all, &corp, "ada").await);
    assert!(error.contains("does not publish"), "it was asked less than a minute ago: {error}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    sign_in(&all, &corp, "ada").await.expect("Ada");
    corp.was_asked("GET /jwks", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_on_a_terminal_with_a_code() {
    let world = World::new("oidc-device");
    let corp = world.provider(&public());
    let all = providers(&[world.settings("corp", &corp, "device: true")]);
    let provider = all.get("corp").expect("it is there");
    let device = provider.begin_device().await.expect("it begins");
    assert!(device.address().starts_with(&corp.issuer()) && device.code().len() >= 8);
    let typed = device.whole_address().expect("it has one").to_owned();
    assert_eq!(corp.browse(&typed, "ada"), "done");
    let ada = provider.finish_device(device).await.expect("Ada signs in");
    assert_eq!((&ada.name[..], &ada.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
    let device = provider.begin_device().await.expect("it begins");
    corp.browse(device.whole_address().expect("it has one"), "-");
    let error = why(provider.finish_device(device).await);
    assert!(error.contains("access_denied"), "{error}");
    // Nobody has typed it yet when it is first asked for.
    let device = provider.begin_device().await.expect("it begins");
    let typed = device.whole_address().expect("it has one").to_owned();
    let asked = corp.asked("POST /token");
    let browse = async {
        while corp.asked("POST /token") == asked {
            tokio::task::yield_now().await;
        }
        tokio::task::block_in_place(|| corp.browse(&typed, "bob"))
    };
    let (bob, _) = tokio::join!(provider.finish_device(device), browse);
    assert_eq!(bob.expect("Bob signs in").subject, "bob");
    corp.was_asked("POST /token", asked + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_at_the_provider_is_signed_out_here() {
    let world = World::new("oidc-out");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let back_channel = format!("http://{}/out", listener.local_addr().expect("it is bound"));
    let corp = world.provider(&OidcClient { back_channel: Some(back_channel), ..public() });
    let all = providers(&[world.settings("corp", &corp, "")]);
    let (tokens, heard) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let token = loop {
                if let Some(token) = logout_token(&text) {
                    break token.to_owned();
                }
                let mut bytes = vec![0; 65536];
                let count = stream.read(&mut bytes).await.expect("the provider speaks");
                assert!(count > 0, "no logout token: {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            };
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .expect("it listens");
            tokens.send(token).expect("the test is there");
        }
    });
    let provider = all.get("corp").expect("it is there");
    let Begun { url, pending } = provider.begin().await.expect("it begins");
    let ada = provider.finish(pending, back(&corp.browse(&url, "ada"), RETURN)).await.expect("Ada");
    assert!(ada.sid.is_some());
    let out = provider.sign_out_url(&ada, SIGNED_OUT).await.expect("it is known").expect("it has one");
    assert_eq!(corp.browse(&out, "ada"), SIGNED_OUT);
    let token = heard.recv_timeout(Duration::from_secs(10)).expect("the provider says so");
    let gone = provider.logged_out(&token).await.expect("it counts");
    assert!(gone.ends(&ada) && gone.sid == ada.sid, "{gone:?}");
    let other = Subject { sid: Some("another".to_owned()), ..ada.clone() };
    assert!(!gone.ends(&other));
    assert!(why(provider.logged_out(&token).await).contains("used before"));
    assert!(
        why(provider.logged_out(ada.id_token.as_ref().expect("it gave one").reveal()).await)
            .contains("does not say that")
    );
}

#[tokio::test]
async fn a_provider_that_is_gone_or_another_stops_only_those_who_sign_in_there() {
    let world = World::new("oidc-down");
    let mut other =
        world.provider(&OidcClient { redirect: "https://desk.example/signin/oidc/other/return", ..public() });
    let corp = world.provider(&public());
    let all = providers(&[world.settings("other", &other, ""), world.settings("corp", &corp, "")]);
    other.kill();
    let error = why(all.get("other").expect("it is there").begin().await.map(|_| ()));
    assert!(error.contains("other") && error.contains("cannot be reached"), "{error}");
    sign_in(&all, &corp, "ada").await.expect("Ada");
    let ca = world.certificates.path("other.crt").into();
    let stranger = OidcProvider { ca: Some(ca), ..world.settings("corp", &corp, "") };
    let error = why(sign_in(&providers(&[stranger]), &corp, "ada").await);
    assert!(error.contains("certificate is refused") && error.contains("`ca:`"), "{error}");
}

#[tokio::test]
async fn people_sign_in_with_keycloak() {
    let world = World::new("oidc-keycloak");
    let there = Keycloak::start(&world.lab, &world.certificates, "https://desk.example/signin/oidc/corp/return");
    let secret = world.secret(keycloak::SECRET);
    let extra = format!("client_secret_file: '{secret}', device: true, max_age: 1h");
    let all = providers(&[world.settings_of("corp", &there.issuer(), "email", &extra)]);
    let provider = all.get("corp").expect("it is there");
    for (who, counts) in [("ada", true), ("eve", false)] {
        let Begun { url, pending } = provider.begin().await.expect("it begins");
        let outcome = provider.finish(pending, back(&there.browse(&url, who), RETURN)).await;
        if counts {
            let ada = outcome.expect("Ada signs in");
            assert_eq!((&ada.name[..], &ada.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
            assert!(ada.sid.is_some() && ada.auth_time.is_some());
        } else {
            assert!(why(outcome).contains("not verified"));
        }
    }
    let device = provider.begin_device().await.expect("it begins");
    there.browse(device.whole_address().expect("it has one"), "ada");
    assert_eq!(provider.finish_device(device).await.expect("Ada signs in").name, "ada@corp.example");
}

/// The token of a request, when the whole of it is there.
fn logout_token(text: &str) -> Option<&str> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    body.strip_prefix("logout_token=").filter(|_| length.parse() == Ok(body.len()))
}

#[test]
fn somebody_far_away_signs_in_on_a_terminal_and_decides_there() {
    let world = World::new("login");
    let (lab, corp) = (&world.lab, world.provider(&public()));
    let pg = Postgres::start(lab);
    let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ group: dba }], timeout: 60s");
    lab.policies(&rules.resource(pg.port()), &rules.policies());
    let desk = lab.with_console();
    let ca = world.certificates.path("ca.crt");
    let provider = format!(
        "{{name: corp, issuer: '{}', client_id: {CLIENT_ID}, scopes: [email, groups], ca: '{ca}', groups: {{DBA: dba}}, device: true}}",
        corp.issuer()
    );
    lab.set("people", &format!("{{oidc: [{provider}]}}"));
    lab.start();
    let home = lab.path("home").display().to_string();
    let holdpoint = lab.tool("holdpoint");
    let console = |words: &[&str]| {
        let mut command = lab.command(&[&[holdpoint.as_str()], words].concat());
        command.env("XDG_CONFIG_HOME", &home);
        Running::start(&mut command)
    };
    let soon = Duration::from_secs(30);
    console(&["approvals", "list", "--console"]).finish(soon).failed().says(&["holdpoint login"]);
    console(&["login", &desk.origin, "--provider", "other"])
        .finish(soon)
        .failed()
        .says(&["there is no provider other"]);
    let login = console(&["login", &desk.origin, "--provider", "corp"]);
    let said = login.wait_for_stdout("Waiting", soon);
    let whole = said.lines().find_map(|line| line.strip_prefix("or open ")).expect("an address with the code in it");
    assert_eq!(corp.browse(whole, "ada"), "done");
    login.finish(soon).ok().says(&["signed in at", "ada@corp.example"]);
    let kept = lab.path("home/holdpoint/session.json");
    assert_eq!(fs::metadata(&kept).expect("it is kept").permissions().mode() & 0o777, 0o600);

    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.held();
    console(&["approvals", "list", "--console"]).finish(soon).ok().says(&["DELETE FROM target"]);
    let approve = ["approvals", "approve", &request.id, "--console", "--reason", "seen from home"];
    console(&approve).finish(soon).ok();
    psql.finish(soon).ok();
    let record = lab.record();
    let decided = record.of("decided", "seen from home");
    assert_eq!((decided.len(), decided[0].text("by")), (1, "ada@corp.example".to_owned()));
    assert!(!record.of("administered", "on a terminal").is_empty());

    // Others must not be able to read it, and after signing out it is worth nothing.
    let secret = fs::read(&kept).expect("it is kept");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).expect("it is ours");
    console(&["approvals", "list", "--console"]).finish(soon).failed().says(&["can be read by others"]);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).expect("it is ours");
    console(&["logout"]).finish(soon).ok().says(&["signed out"]);
    assert!(!kept.exists());
    fs::write(&kept, secret).expect("the directory is there");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).expect("it is ours");
    console(&["approvals", "list", "--console"]).finish(soon).failed().says(&["holdpoint login"]);
    lab.verify().ok();
    lab.stop().ok();
}
