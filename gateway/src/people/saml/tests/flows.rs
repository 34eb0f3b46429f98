//! From the gateway's page to a provider and back, with a browser between them.

use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;

/// A gateway with the provider `corp`.
struct Gateway {
    world: World,
    all: Providers,
}

impl Gateway {
    fn new(change: impl FnOnce(&World) -> SamlProvider) -> Self {
        let world = World::new();
        let all = Providers::from_config(&[change(&world)], "https://desk.example").expect("the settings are right");
        Self { world, all }
    }

    fn corp(&self) -> &Provider {
        self.all.get("corp").expect("it is there")
    }

    fn begin(&self) -> (Begun, Asked) {
        let begun = self.all.begin(self.corp()).expect("it begins");
        let asked = Asked::read(&begun.url);
        (begun, asked)
    }
}

/// What a provider is asked.
struct Asked {
    text: String,
    relay: String,
}

impl Asked {
    fn read(url: &str) -> Self {
        let query = url.split_once('?').expect("it has a query").1;
        let [request, relay] = form::read(query.as_bytes(), ["SAMLRequest", "RelayState"]).expect("a form");
        let packed = STANDARD.decode(request.expect("a request")).expect("base64");
        let (head, text) = packed.split_at(5);
        let length = u16::try_from(text.len()).expect("short");
        assert_eq!(head, [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat());
        Self { text: String::from_utf8(text.to_vec()).expect("text"), relay: relay.expect("it has one") }
    }

    fn attribute(&self, name: &str) -> String {
        let document = xml::read(&self.text, usize::MAX).expect("XML");
        xml::attribute(document.root_element(), name).unwrap_or_default()
    }

    /// The honest assertion in answer to this, now.
    fn answered(&self) -> String {
        let mut text = answer(&assertion()).replace("\"_r\"", &format!("\"{}\"", self.attribute("ID")));
        for offset in [0, 300, 3600] {
            text = text.replace(&at(NOW + offset), &at(now() + offset));
        }
        for offset in [5, 10] {
            text = text.replace(&at(NOW - offset), &at(now() - offset));
        }
        Signer::honest(&keys().0).sign(&text, "_p")
    }

    /// The form that the provider's page posts.
    fn form(&self, text: &str) -> String {
        format!("SAMLResponse={}&RelayState={}", form::encoded(&STANDARD.encode(text)), form::encoded(&self.relay))
    }
}

fn why<T>(outcome: Result<T, SamlError>) -> String {
    outcome.map(|_| ()).expect_err("it is refused").to_string()
}

#[tokio::test(start_paused = true)]
async fn somebody_signs_in_once_and_in_the_browser_that_began() {
    let gateway = Gateway::new(|world| world.settings(""));
    let (begun, asked) = gateway.begin();
    assert!(begun.url.starts_with("https://id.example/sso?SAMLRequest="));
    assert_eq!(
        (asked.attribute("AssertionConsumerServiceURL"), asked.attribute("Version")),
        (ACS.to_owned(), "2.0".to_owned())
    );
    assert!(
        asked.text.contains(&format!("<saml:Issuer>{AUDIENCE}</saml:Issuer>")) && !asked.text.contains("ForceAuthn")
    );
    let form = asked.form(&asked.answered());
    gateway.all.answer(gateway.corp(), form.as_bytes()).expect("it counts");
    // Another browser, or one without the cookie, gets nothing, and takes nothing away.
    for other in ["", "guessed", &asked.relay] {
        assert!(gateway.all.finish(gateway.corp(), other).is_none());
    }
    let ada = gateway.all.finish(gateway.corp(), begun.cookie.reveal()).expect("Ada signs in");
    assert_eq!((&ada.name[..], &ada.groups[..]), ("ada@corp.example", &["dba".to_owned()][..]));
    assert_eq!(
        (ada.id().to_string(), ada.sid.as_deref()),
        ("https://id.example#ada@corp.example".to_owned(), Some("s"))
    );
    assert!(ada.ends.is_some_and(|ends| ends > SystemTime::now()) && ada.id_token.is_none());
    assert!(gateway.all.finish(gateway.corp(), begun.cookie.reveal()).is_none(), "once");
    // The same answer again, and the same assertion to another question.
    assert!(why(gateway.all.answer(gateway.corp(), form.as_bytes())).contains("answers no sign-in"));
    let (_, next) = gateway.begin();
    let replayed = next.form(&asked.answered());
    assert!(why(gateway.all.answer(gateway.corp(), replayed.as_bytes())).contains("another sign-in"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_no_longer_than_a_page_takes_to_load() {
    let gateway = Gateway::new(|world| world.settings(""));
    let (begun, asked) = gateway.begin();
    gateway.all.answer(gateway.corp(), asked.form(&asked.answered()).as_bytes()).expect("it counts");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(gateway.all.finish(gateway.corp(), begun.cookie.reveal()).is_none());
    let (_, asked) = gateway.begin();
    tokio::time::advance(PATIENCE).await;
    assert!(why(gateway.all.answer(gateway.corp(), asked.form(&asked.answered()).as_bytes())).contains("ten minutes"));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_asked_for_does_not_count() {
    let gateway = Gateway::new(|world| world.settings(""));
    let corp = gateway.corp();
    let (_, asked) = gateway.begin();
    let form = asked.form(&asked.answered());
    let answer = |form: &str| why(gateway.all.answer(corp, form.as_bytes()));
    // Nothing of these uses the sign-in up: none says which it is.
    let without_relay = form.split("&RelayState").next().expect("a part").to_owned();
    assert!(answer(&without_relay).contains("answers no sign-in"));
    assert!(answer(&format!("{without_relay}&RelayState=guessed")).contains("answers no sign-in"));
    assert!(answer(&format!("{form}&SAMLResponse=x")).contains("twice"));
    assert!(answer(&format!("{form}&RelayState=x")).contains("twice"));
    assert!(answer("RelayState=x").contains("no `SAMLResponse`"));
    gateway.all.answer(corp, form.as_bytes()).expect("it counts");
    for (said, word) in [("!", "base64"), ("//8=", "UTF-8"), ("PGE+", "cannot be read")] {
        let (_, asked) = gateway.begin();
        let form = format!("SAMLResponse={}&RelayState={}", form::encoded(said), asked.relay);
        assert!(answer(&form).contains(word), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_at_the_provider_that_was_asked() {
    let world = World::new();
    world.write("other.xml", &metadata("https://other.example", "https://other.example/sso", &keys().0.public()));
    let other: SamlProvider =
        serde_saphyr::from_str(&format!("{{name: other, metadata: '{}'}}", world.path("other.xml").display()))
            .expect("right");
    let all = Providers::from_config(&[world.settings(""), other], "https://desk.example").expect("they are two");
    let (corp, other) = (all.get("corp").expect("it is there"), all.get("other").expect("it is there"));
    let begun = all.begin(corp).expect("it begins");
    let asked = Asked::read(&begun.url);
    assert!(why(all.answer(other, asked.form(&asked.answered()).as_bytes())).contains("another provider"));
    // Asked there, answered by this one with the same key.
    let begun = all.begin(other).expect("it begins");
    let asked = Asked::read(&begun.url);
    let mixed = asked.answered();
    assert!(why(all.answer(other, asked.form(&mixed).as_bytes())).contains("mix up"));
    // Who came back to one is not signed in at the other's page.
    let begun = all.begin(corp).expect("it begins");
    let asked = Asked::read(&begun.url);
    all.answer(corp, asked.form(&asked.answered()).as_bytes()).expect("it counts");
    assert!(all.finish(other, begun.cookie.reveal()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_says_what_the_settings_want_and_is_signed() {
    let gateway = Gateway::new(|world| {
        world.keyed("sign_requests: true, force_authn: true, name_id: persistent, claims: {name: x}, require: {context: ['urn:gold&more']}")
    });
    let (begun, asked) = gateway.begin();
    for part in [
        "ForceAuthn=\"true\"",
        "Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\"",
        "<saml:AuthnContextClassRef>urn:gold&amp;more</saml:AuthnContextClassRef>",
    ] {
        assert!(asked.text.contains(part), "{part}: {}", asked.text);
    }
    let query = begun.url.split_once('?').expect("it has a query").1;
    let (signed, signature) = query.split_once("&Signature=").expect("it is signed");
    let [signature] = form::read(format!("s={signature}").as_bytes(), ["s"]).expect("a form");
    let signature = STANDARD.decode(signature.expect("it is there")).expect("base64");
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, keys().1.public());
    assert!(key.verify(signed.as_bytes(), &signature).is_ok());
    let metadata = gateway.corp().metadata();
    let document = xml::read(&metadata, usize::MAX).expect("XML");
    assert_eq!(document.root_element().attribute("entityID"), Some(AUDIENCE));
    assert!(metadata.contains(&STANDARD.encode(certificate(&keys().1.public()))) && metadata.contains(ACS));
    assert!(metadata.contains("AuthnRequestsSigned=\"true\"") && !metadata.contains("use=\"encryption\""));
    drop(gateway.world);
    assert!(why(gateway.all.begin(gateway.all.get("corp").expect("it is there"))).contains("idp.xml"));
}
