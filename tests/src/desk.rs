//! The console as a browser speaks to it, without a browser: HTTP with a cookie, and an authenticator in software.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use crate::{Lab, eventually};

/// Somebody at the console.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Where it listens.
    pub at: SocketAddr,
    /// What the console is called.
    pub origin: String,
    /// The session's cookie, once there is one.
    pub cookie: Option<String>,
    /// What a request that changes something says.
    pub csrf: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The head's lines, as sent.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A line of the head.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ &str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    /// Wants this status code.
    #[track_caller]
    pub fn is(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl Lab {
    /// Lets the gateway have a console; takes effect at the next start.
    pub fn with_console(&self) -> Desk {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("loopback");
        self.set("console", &format!("{{listen: \"{free}\"}}"));
        Desk { at: free, origin: format!("http://localhost:{}", free.port()), cookie: None, csrf: None }
    }

    /// Makes an account, as root on the command line; gives the link's path.
    #[track_caller]
    pub fn account(&self, name: &str, more: &[&str]) -> String {
        let made = self.holdpoint(&[&["people", "set", name, "-o", "json"], more].concat()).ok();
        let made: Value = serde_json::from_str(&made.stdout).expect("JSON");
        let url = made["url"].as_str().unwrap_or_else(|| panic!("no link: {made}"));
        url[url.find("/enrol/").expect("a link to enrol")..].to_owned()
    }
}

impl Desk {
    /// Asks.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut lines = vec![("accept", "application/json".to_owned()), ("origin", self.origin.clone())];
        lines.extend(self.cookie.iter().map(|cookie| ("cookie", cookie.clone())));
        lines.extend(self.csrf.iter().map(|csrf| ("x-csrf", csrf.clone())));
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.ask_as(&self.host(), method, path, &lines, body)
    }

    /// Asks under another name, with these lines and no others.
    #[track_caller]
    pub fn ask_as(&self, host: &str, method: &str, path: &str, lines: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(host, method, path, &[&[("content-type", "application/json")], lines].concat(), &body)
    }

    /// Posts a form, as another site's page makes a browser do: without cookies, from an origin of its own.
    #[track_caller]
    pub fn post_from(&self, origin: &str, path: &str, form: &str) -> Answer {
        let lines = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin)];
        self.send(&self.host(), "POST", path, &lines, form)
    }

    #[track_caller]
    fn send(&self, host: &str, method: &str, path: &str, lines: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in lines {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        let mut stream = TcpStream::connect(self.at).expect("the console listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it ends");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            dechunked(body)
        } else {
            body.to_owned()
        };
        Answer { code, head: head.to_owned(), body }
    }

    /// The console's host and port.
    pub fn host(&self) -> String {
        self.origin.split_once("://").map(|(_, host)| host.to_owned()).expect("an origin")
    }

    /// Enrols `key` by a link, and is signed in.
    #[track_caller]
    pub fn enrol(&mut self, link: &str, key: &Authenticator) {
        let asked = self.ask("POST", &format!("{link}/begin"), None).is(200).json();
        let credential = key.make(&asked, &self.origin);
        let done = self.ask("POST", &format!("{link}/finish"), Some(&json!({ "credential": credential }))).is(200);
        self.remember(&done);
    }

    /// Asks, as soon as it is not put off: a test tries more often than people do.
    #[track_caller]
    pub fn ask_in_turn(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        eventually("somebody may try again", Duration::from_secs(30), || {
            Some(self.ask(method, path, body)).filter(|answer| answer.code != 429)
        })
    }

    /// Signs in with `key`.
    #[track_caller]
    pub fn sign_in(&mut self, key: &Authenticator) {
        let asked = self.ask_in_turn("POST", "/signin/passkey/begin", None).is(200).json();
        let credential = key.sign(&asked, &self.origin);
        let body = json!({ "credential": credential });
        let done = self.ask_in_turn("POST", "/signin/passkey/finish", Some(&body)).is(200);
        self.remember(&done);
    }

    /// Takes the session that an answer begins.
    #[track_caller]
    pub fn remember(&mut self, answer: &Answer) {
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        self.cookie = Some(cookie.unwrap_or_else(|| panic!("no cookie in {answer:?}")).to_owned());
        let me = self.ask("GET", "/api/v1/me", None).is(200).json();
        self.csrf = Some(me["csrf"].as_str().unwrap_or_else(|| panic!("no token in {me}")).to_owned());
    }
}

/// An authenticator, as a phone or a security key is one.
#[derive(Debug)]
pub struct Authenticator {
    name: Vec<u8>,
    key: KeyPair,
}

impl Authenticator {
    /// One with a key that nobody knows yet.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("random numbers");
        Self { name: name.as_bytes().to_vec(), key }
    }

    /// What `navigator.credentials.create` gives for these options at this origin.
    #[track_caller]
    pub fn make(&self, options: &Value, origin: &str) -> Value {
        let options = &options["publicKey"];
        let mut data = authenticator_data(text(&options["rp"]["id"]), 0x45);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.name.len()).expect("short").to_be_bytes());
        data.extend(&self.name);
        let point = self.key.der_bytes();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
        object.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        object.extend(data);
        let client = client_data("webauthn.create", text(&options["challenge"]), origin);
        json!({ "id": base64(&self.name), "rawId": base64(&self.name), "type": "public-key", "response": {
            "attestationObject": base64(&object), "clientDataJSON": base64(client.as_bytes()),
        } })
    }

    /// What `navigator.credentials.get` gives for these options at this origin.
    #[track_caller]
    pub fn sign(&self, options: &Value, origin: &str) -> Value {
        let options = &options["publicKey"];
        self.sign_for(text(&options["rpId"]), text(&options["challenge"]), origin)
    }

    /// The same for a party and a challenge of the test's own.
    #[track_caller]
    pub fn sign_for(&self, party: &str, challenge: &str, origin: &str) -> Value {
        let data = authenticator_data(party, 0x05);
        let client = client_data("webauthn.get", challenge, origin);
        let mut signed = data.clone();
        signed.extend(sha256(client.as_bytes()));
        let signature = self.key.sign(&signed).expect("signed");
        json!({ "id": base64(&self.name), "rawId": base64(&self.name), "type": "public-key", "response": {
            "authenticatorData": base64(&data), "clientDataJSON": base64(client.as_bytes()),
            "signature": base64(&signature), "userHandle": null,
        } })
    }
}

fn authenticator_data(party: &str, flags: u8) -> Vec<u8> {
    let mut data = sha256(party.as_bytes()).to_vec();
    data.push(flags);
    data.extend([0, 0, 0, 1]);
    data
}

fn client_data(kind: &str, challenge: &str, origin: &str) -> String {
    json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    holdpoint::operation::Digest::of(bytes).0
}

/// base64url without padding. (RFC 4648, section 5.)
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |place| char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]))
    });
    letters.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// A body in chunks, put together. (RFC 9112, section 7.1.)
fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
