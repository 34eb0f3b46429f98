//! People sign in with a real provider of SAML (Keycloak), at a real gateway's console, and decide there.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use tests::{Answer, Certificates, Desk, Keycloak, Lab, Postgres, Rules, SamlClient};

const SOON: Duration = Duration::from_secs(10);

/// A shop whose deletes are held, a console, and a Keycloak where the gateway is registered three times.
struct World {
    pg: Postgres,
    lab: Lab,
    desk: Desk,
    there: Keycloak,
}

/// What a browser is made to post.
struct Posted {
    path: String,
    form: String,
}

impl Posted {
    /// The answer that is in it.
    fn answer(&self) -> String {
        let said = self.part("SAMLResponse").replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        String::from_utf8(STANDARD.decode(said).expect("base64")).expect("text")
    }

    fn part(&self, name: &str) -> String {
        let part = self.form.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")));
        part.unwrap_or_else(|| panic!("no {name}: {}", self.form)).to_owned()
    }

    /// The same with another answer in it.
    fn with(&self, answer: &str) -> String {
        let said = STANDARD.encode(answer).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("SAMLResponse={said}&RelayState={}", self.part("RelayState"))
    }
}

impl World {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        let pg = Postgres::start(&lab);
        let rules = Rules::allowing().hold_for("deletes", "delete", "from: [{ group: dba }], timeout: 1m");
        lab.policies(&rules.resource(pg.port()), &rules.policies());
        let desk = lab.with_console();
        let own = own_key(&lab);
        let acs = format!("{}/signin/saml/corp/acs", desk.origin);
        let client = |entity_id: &str, signs_answer, certificate| SamlClient {
            entity_id: entity_id.to_owned(),
            acs: acs.clone(),
            signs_answer,
            certificate,
        };
        let clients = [
            client(&format!("{}/signin/saml/corp/metadata", desk.origin), false, None),
            client("urn:sealed", false, Some(own.clone())),
            client("urn:sealed-and-signed-around", true, Some(own)),
        ];
        let certificates = Certificates::make(&lab);
        let there = Keycloak::start_with(&lab, &certificates, "https://desk.example/none", &clients);
        fs::write(lab.path("idp.xml"), there.saml_metadata()).expect("the lab's directory is ours");
        Self { pg, lab, desk, there }
    }

    /// Starts the gateway with these settings of the provider besides.
    fn start(&self, more: &str) {
        let metadata = self.lab.path("idp.xml").display().to_string();
        let provider = format!("{{name: corp, metadata: '{metadata}', groups: {{DBA: dba}}, {more}}}");
        self.lab.set("people", &format!("{{saml: [{provider}], roles: {{viewer: [dba]}}}}"));
        self.lab.start();
    }

    /// The settings of the gateway's own key.
    fn keyed(&self, entity_id: &str) -> String {
        let path = |name: &str| self.lab.path(name).display().to_string();
        format!(
            "own_entity_id: '{entity_id}', certificate: '{}', key: '{}', sign_requests: true, require: {{encrypted: true}}",
            path("own.crt"),
            path("own.key")
        )
    }

    fn fresh(&self) -> Desk {
        Desk { cookie: None, csrf: None, ..self.desk.clone() }
    }

    /// Somebody goes to the provider and comes back; gives their browser, and what it is about to post.
    fn away(&self, who: &str) -> (Desk, Posted) {
        let mut desk = self.fresh();
        let begun = desk.ask("GET", "/signin/saml/corp", None).is(303);
        let cookie = begun.header("set-cookie").expect("a cookie");
        assert!(cookie.starts_with("__Host-") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        desk.cookie = cookie.split(';').next().map(str::to_owned);
        let brought = self.there.browse(begun.header("location").expect("an address"), who);
        let (url, form) = brought.split_once('\n').unwrap_or_else(|| panic!("no form: {brought}"));
        let path = url.strip_prefix(&self.desk.origin).unwrap_or_else(|| panic!("{url} is not the console's"));
        assert_eq!(path, "/signin/saml/corp/acs");
        (desk, Posted { path: path.to_owned(), form: form.to_owned() })
    }

    /// The provider's page makes a browser post this: no cookie of the console's comes along.
    fn post(&self, path: &str, form: &str) -> Answer {
        self.fresh().post_from(&self.provider(), path, form)
    }

    fn provider(&self) -> String {
        let issuer = self.there.issuer();
        issuer[..issuer.find("/realms").expect("it has one")].to_owned()
    }

    /// Somebody signs in.
    fn sign_in(&self, who: &str) -> (Desk, Posted) {
        let (mut desk, posted) = self.away(who);
        let sent_on = self.post(&posted.path, &posted.form).is(303);
        assert_eq!(sent_on.header("set-cookie"), None, "the post of another site's page begins no session");
        let to = sent_on.header("location").expect("an address").to_owned();
        assert_eq!(to, "/signin/saml/corp/finish");
        let done = desk.ask("GET", &to, None).is(303);
        desk.remember(&done);
        (desk, posted)
    }
}

/// The gateway's own RSA key and certificate in the lab's directory; gives the certificate in DER.
fn own_key(lab: &Lab) -> Vec<u8> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("random numbers");
    let params = CertificateParams::new(Vec::<String>::new()).expect("no names are right");
    let certificate = params.self_signed(&key).expect("it can be signed");
    for (name, text) in [("own.crt", certificate.pem()), ("own.key", key.serialize_pem())] {
        fs::write(lab.path(name), text).expect("the lab's directory is ours");
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
    certificate.der().to_vec()
}

#[test]
fn people_sign_in_and_decide_and_nothing_else_than_the_providers_word_lets_anybody_in() {
    let world = World::new("saml");
    world.start("");
    let World { pg, lab, desk, .. } = &world;
    let page = world.fresh().ask("GET", "/signin", None).is(200).body;
    assert!(page.contains("href=\"/signin/saml/corp\"") && page.contains("Sign in with corp"), "{page}");
    let metadata = world.fresh().ask("GET", "/signin/saml/corp/metadata", None).is(200);
    assert!(metadata.body.contains(&format!("{}/signin/saml/corp/acs", desk.origin)), "{metadata:?}");

    // A decision by somebody whom the provider knows, on record.
    let (ada, posted) = world.sign_in("ada");
    let me = ada.ask("GET", "/api/v1/me", None).is(200).json();
    let id = format!("{}#ada@corp.example", world.there.issuer());
    assert_eq!((&me["name"], &me["id"]), (&json!("ada@corp.example"), &json!(id)));
    let psql = lab.bot("ci").start_psql(&pg.url(), "DELETE FROM target WHERE id = 1");
    let request = lab.previewed();
    let decision = format!("/api/v1/approvals/{}/decision", request.id);
    let (eve, _) = world.sign_in("eve");
    eve.ask("POST", &decision, Some(&json!({ "approve": true }))).is(403);
    ada.ask("POST", &decision, Some(&json!({ "approve": true, "reason": "seen", "digest": request.said["digest"] })))
        .is(200);
    psql.finish(SOON).ok();
    let record = lab.record();
    let decided = record.of("decided", "");
    assert_eq!((decided[0].text("by"), decided[0].text("person")), ("ada@corp.example".to_owned(), id));
    let done: Vec<_> = record.of("administered", "").iter().map(|event| event.text("what")).collect();
    assert!(done.iter().any(|done| done.contains("signs in with corp from")), "{done:?}");

    // The genuine answer again: to the question that it answered, and to another one.
    let again = world.post(&posted.path, &posted.form).is(401);
    assert!(again.body.contains("answers no sign-in"), "{again:?}");
    let (_, next) = world.away("ada");
    let replayed = world.post(&next.path, &next.with(&posted.answer())).is(401);
    assert!(replayed.body.contains("answers another sign-in"), "{replayed:?}");
    // The genuine answer, altered.
    let alter = |word: &str, change: &dyn Fn(&str) -> String| {
        let (_, posted) = world.away("ada");
        let answer = posted.answer();
        let altered = change(&answer);
        assert_ne!(altered, answer, "{word}");
        let refused = world.post(&posted.path, &posted.with(&altered)).is(401);
        assert!(refused.body.contains(word), "{word}: {}", refused.body);
    };
    alter("altered after it was signed", &|answer| answer.replace("ada@corp.example", "eve@corp.example"));
    alter("altered after it was signed", &|answer| answer.replace(">DBA<", ">root<"));
    alter("is signed; have the provider", &|answer| {
        let (from, to) = (answer.find("<dsig:Signature").or(answer.find("<ds:Signature")), answer.find("Signature><"));
        let (from, to) = (from.expect("it is signed"), to.expect("it is signed"));
        format!("{}{}", &answer[..from], &answer[to + "Signature>".len()..])
    });
    alter("there are 2", &|answer| {
        let (from, to) = (answer.find("<saml:Assertion").expect("one"), answer.find("</samlp:Response>").expect("one"));
        let evil = answer[from..to].replace("ID=\"", "ID=\"_evil").replace("ada@corp", "eve@corp");
        format!("{}{evil}{}", &answer[..from], &answer[from..])
    });
    alter("was meant for", &|answer| answer.replacen("/signin/saml/corp/acs\"", "/signin/saml/other/acs\"", 1));

    // An answer that another browser began signs nobody in here. (Another start, which has counted no attempts yet.)
    lab.stop().ok();
    lab.start();
    let (_, of_eve) = world.away("eve");
    let (victim, _) = world.away("ada");
    world.post(&of_eve.path, &of_eve.form).is(303);
    victim.ask("GET", "/signin/saml/corp/finish", None).is(401);
    world.fresh().ask("GET", "/signin/saml/corp/finish", None).is(401);
    // That one route is open to other sites' pages, and no other.
    let elsewhere = world.fresh().post_from(&world.provider(), "/signin/passkey/begin", "x=y").is(421);
    assert!(elsewhere.body.contains("another site"), "{elsewhere:?}");
    lab.verify().ok();
    lab.stop().ok();

    // Encrypted, and signed inside or around; the gateway signs its requests, as the provider wants there.
    for entity_id in ["urn:sealed", "urn:sealed-and-signed-around"] {
        world.start(&world.keyed(entity_id));
        let (ada, posted) = world.sign_in("ada");
        let answer = posted.answer();
        assert!(answer.contains("EncryptedAssertion") && !answer.contains("ada@"), "{answer}");
        let me = ada.ask("GET", "/api/v1/me", None).is(200).json();
        assert_eq!((&me["name"], &me["groups"]), (&json!("ada@corp.example"), &json!(["dba"])));
        lab.stop().ok();
    }
}
