//! An issuer that signs whatever a test says, and what it takes to sign in there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use oauth2::url::Url;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::{Begun, Provider, Providers, SettingsError, now};
use crate::config::OidcProvider;

mod attacks;
mod flows;
mod settings;

/// A key that signs.
#[derive(Clone)]
pub(super) struct Key {
    algorithm: Algorithm,
    private: EncodingKey,
    pub(super) public: Jwk,
}

impl Key {
    pub(super) fn make(algorithm: Algorithm, kid: &str) -> Self {
        let random = SystemRandom::new();
        let ec = |curve| {
            let key = EcdsaKeyPair::generate_pkcs8(curve, &random).expect("there are random numbers");
            EncodingKey::from_ec_der(key.as_ref())
        };
        let private = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => {
                let key = KeyPair::generate(KeySize::Rsa2048).and_then(|key| key.as_der()).expect("a key");
                // Behind the header of PKCS #8, which is as long for every key of this size.
                EncodingKey::from_rsa_der(&key.as_ref()[26..])
            }
            Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => {
                let key = Ed25519KeyPair::generate_pkcs8v1(&random).expect("there are random numbers");
                EncodingKey::from_ed_der(key.as_ref())
            }
            other => panic!("no key of the kind {other:?} is made here"),
        };
        let mut public = Jwk::from_encoding_key(&private, algorithm).expect("it has a public half");
        public.common.key_id = Some(kid.to_owned());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Self { algorithm, private, public }
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.public.common.key_id })
    }

    /// Signs as its own method does, whatever the header says.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm);
        format!("{message}.{}", signature.expect("it signs"))
    }
}

/// What is signed of a token.
pub(super) fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// What the issuer answers at a path.
#[derive(Clone)]
pub(super) enum Reply {
    Json(Value),
    Status(u16, Value),
    Redirect(String),
    /// So many bytes.
    Huge(usize),
    /// Nothing, ever.
    Silence,
}

/// An issuer on the loopback.
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) key: Key,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

#[derive(Default)]
struct State {
    replies: HashMap<String, Reply>,
    /// First lines and bodies.
    asked: Vec<(String, String)>,
    /// What was shown as `Authorization`.
    shown: Vec<String>,
}

impl Issuer {
    pub(super) async fn start() -> Self {
        Self::with(Key::make(Algorithm::ES256, "one")).await
    }

    pub(super) async fn with(key: Key) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let serving = tokio::spawn(serve(listener, state.clone())).abort_handle();
        let own = Self { url, key, state, serving };
        own.says(METADATA, own.metadata());
        own.says("/jwks", json!({ "keys": [own.key.public] }));
        own
    }

    pub(super) fn metadata(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "issuer": self.url,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "end_session_endpoint": at("/end"),
            "device_authorization_endpoint": at("/device"),
            "authorization_response_iss_parameter_supported": true,
            "code_challenge_methods_supported": ["S256"],
            "response_types_supported": ["code"],
        })
    }

    pub(super) fn says(&self, path: &str, what: Value) {
        self.replies(path, Reply::Json(what));
    }

    pub(super) fn replies(&self, path: &str, reply: Reply) {
        self.state().replies.insert(path.to_owned(), reply);
    }

    /// How often it was asked at a path.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.state().asked.iter().filter(|(first, _)| first.split(' ').nth(1) == Some(path)).count()
    }

    /// The last body that came to a path, as pairs.
    pub(super) fn posted(&self, path: &str) -> HashMap<String, String> {
        let state = self.state();
        let last = state.asked.iter().rfind(|(first, _)| first.split(' ').nth(1) == Some(path)).expect("it was asked");
        oauth2::url::form_urlencoded::parse(last.1.as_bytes()).into_owned().collect()
    }

    pub(super) fn shown(&self) -> Vec<String> {
        self.state().shown.clone()
    }

    pub(super) fn settings(&self, name: &str) -> OidcProvider {
        let text = format!("{{name: {name}, issuer: '{}', client_id: hp}}", self.url);
        serde_saphyr::from_str(&text).expect("it is right")
    }

    /// What it claims of Ada.
    pub(super) fn claims(&self) -> Value {
        json!({
            "iss": self.url, "sub": "1", "aud": "hp", "exp": now() + 300, "iat": now(),
            "email": "ada@corp.example", "email_verified": true, "sid": "s1",
        })
    }

    /// Answers the next code with an ID token of these claims.
    pub(super) fn issues(&self, claims: &Value) {
        let token = self.key.sign(&self.key.header(), claims);
        self.says("/token", json!({ "access_token": "access", "token_type": "Bearer", "id_token": token }));
    }

    /// What a browser that was sent to `begun` brings back, and the nonce.
    pub(super) fn back(&self, begun: &Begun) -> (String, String) {
        let (state, nonce) = (parameter(begun, "state"), parameter(begun, "nonce"));
        (format!("code=c&state={state}&iss={}", self.url), nonce)
    }

    /// Ada signs in.
    pub(super) async fn sign_in(&self, provider: &Provider, change: impl FnOnce(&mut Value)) -> Outcome {
        let begun = provider.begin().await?;
        let (query, nonce) = self.back(&begun);
        let mut claims = self.claims();
        claims["nonce"] = nonce.into();
        change(&mut claims);
        self.issues(&claims);
        provider.finish(begun.pending, &query).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

pub(super) type Outcome = Result<super::Subject, super::OidcError>;

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A parameter of the address to which a browser is sent.
pub(super) fn parameter(begun: &Begun, name: &str) -> String {
    let url = Url::parse(&begun.url).expect("it is an address");
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A provider of these settings.
pub(super) fn provider(settings: OidcProvider) -> Arc<Provider> {
    providers(vec![settings]).expect("the settings are right").0.remove(0)
}

pub(super) fn providers(settings: Vec<OidcProvider>) -> Result<Providers, SettingsError> {
    Providers::from_config(&settings, "https://desk.example")
}

/// Where a provider says what it offers.
pub(super) const METADATA: &str = "/.well-known/openid-configuration";

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, state.clone()));
    }
}

/// One question and its answer.
async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut read = Vec::new();
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = field(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let first = head.lines().next()?.to_owned();
    let path = first.split(' ').nth(1)?.to_owned();
    let reply = {
        let mut state = state.lock().expect("nothing panics while it holds this lock");
        state.asked.push((first, body));
        state.shown.extend(field(&head, "authorization"));
        state.replies.get(&path).cloned()
    };
    let (status, extra, body) = match reply {
        Some(Reply::Json(value)) => (200, String::new(), value.to_string()),
        Some(Reply::Status(status, value)) => (status, String::new(), value.to_string()),
        Some(Reply::Redirect(to)) => (302, format!("location: {to}\r\n"), String::new()),
        Some(Reply::Huge(size)) => (200, String::new(), format!("{{\"keys\":[], \"x\":\"{}\"}}", "x".repeat(size))),
        Some(Reply::Silence) => std::future::pending().await,
        None => (404, String::new(), String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n{extra}\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}
