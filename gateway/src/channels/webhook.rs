//! Signed webhooks, by the specification Standard Webhooks (standardwebhooks.com), version 1.
//!
//! # Security
//! Each secret signs name, time and body, so that a receiver can refuse what is forged, changed or old, and can exchange
//! secrets one by one. No redirection is followed.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Failed,
    card::Look,
    event::{Case, Event},
    post::Post,
    secret::Secret,
};
use crate::{
    config::{self, Show},
    net::http::HeaderValue,
    operation::Impact,
    record::entry::Timestamp,
    visible::visible_lines,
};

/// A server of somebody's own.
pub(super) struct Webhook {
    post: Post,
    keys: Vec<hmac::Key>,
    look: Look,
}

impl Webhook {
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(settings: &config::Webhook, look: Look) -> Result<Self, String> {
        let config::Webhook { url, url_file, secret_files, ca } = settings;
        let address = match (url, url_file) {
            (Some(url), None) => Zeroizing::new(url.clone()),
            (None, Some(file)) => Zeroizing::new(Secret::read(file)?.to_string()),
            _ => return Err("needs exactly one of `url:` and `url_file:`".to_owned()),
        };
        if secret_files.is_empty() {
            return Err(
                "needs a secret in `secret_files:`; make one with `echo whsec_$(openssl rand -base64 32)`".to_owned()
            );
        }
        let key = |file: &PathBuf| {
            let secret = Secret::read(file)?;
            key(&secret).ok_or_else(|| {
                format!(
                    "{} has no secret that starts with `whsec_` and goes on with 24 to 64 bytes in base64",
                    file.display()
                )
            })
        };
        Ok(Self {
            post: Post::new("url", &address, ca.clone())?,
            keys: secret_files.iter().map(key).collect::<Result<_, _>>()?,
            look,
        })
    }

    /// Tells an event.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), Failed> {
        let kind = format!("request.{}", event.what.as_str());
        let data = data(&event.then, &self.look);
        self.send(&event.id, &kind, event.at, &data).await.map(drop)
    }

    /// Sends a message that says nothing.
    pub(super) async fn test(&self, id: &str) -> Result<String, Failed> {
        let data = json!({ "node": self.look.node, "text": "A test of this channel: nothing waits for you." });
        self.send(id, "test", Timestamp::now(), &data).await
    }

    async fn send(&self, id: &str, kind: &str, at: Timestamp, data: &Value) -> Result<String, Failed> {
        let body = json!({ "type": kind, "timestamp": rfc3339(at), "data": data }).to_string();
        let now = (Timestamp::now().0 / 1_000_000_000).to_string();
        let headers = [
            ("webhook-id", HeaderValue::from_str(id)),
            ("webhook-timestamp", HeaderValue::from_str(&now)),
            ("webhook-signature", HeaderValue::from_str(&self.signatures(id, &now, body.as_bytes()))),
        ];
        let headers = headers.map(|(name, value)| (name, value.expect("these are ASCII")));
        let answer = self.post.json("", &headers, body.into_bytes()).await?;
        self.post.taken(&answer)
    }

    /// One signature for each secret, with a space between them.
    fn signatures(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let signed = self.keys.iter().map(|key| signature(key, id, timestamp, body));
        signed.collect::<Vec<_>>().join(" ")
    }
}

/// The key of a secret as it is written.
fn key(secret: &str) -> Option<hmac::Key> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?);
    (24..=64).contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn signature(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(key, &signed)))
}

/// A case for programs. Text from bots is made visible, for whoever prints it.
fn data(case: &Case, look: &Look) -> Value {
    let requested = &case.requested;
    let asked = &requested.asked;
    let visible = |text: &str| crate::visible::visible(text.as_bytes());
    let process = case.connected.as_ref().map(|connected| &connected.process);
    let shows = look.show == Show::Statement;
    let impact = case.impact.as_ref().map(|impact| {
        let ran = if shows { impact.ran.clone() } else { Vec::new() };
        let lines = Impact { ran, ..impact.clone() }.lines();
        lines.iter().map(|line| visible(line)).collect::<Vec<_>>()
    });
    let shown = &asked.text[..asked.text.len().min(LONGEST_STATEMENT)];
    let decisions = case.words.iter().map(|word| {
        json!({
            "by": visible(&word.by),
            "approve": word.approve,
            "at": rfc3339(word.at),
            "reason": word.reason.as_deref().map(visible),
        })
    });
    let grant = case.granted.as_ref().map(|granted| {
        json!({
            "grant": granted.grant,
            "uses": granted.uses,
            "expires": rfc3339(granted.expires),
            "ended": case.grant_ended.as_deref().map(visible),
        })
    });
    json!({
        "request": requested.request,
        "short": requested.request.short(),
        "node": look.node,
        "workload": visible(&requested.workload),
        "user": process.and_then(|process| process.user.as_deref()).map(visible),
        "executable": process.and_then(|process| process.executable.as_ref()).map(|path| visible(&path.to_string_lossy())),
        "resource": visible(&requested.resource),
        "destination": case.connected.as_ref().map(|connected| visible(&connected.destination)),
        "kind": visible(&asked.kind),
        "effects": asked.effects,
        "objects": asked.objects.iter().map(|object| visible(&object.to_string())).collect::<Vec<_>>(),
        "statement": shows.then(|| visible_lines(shown)),
        "statement_bytes": asked.text.len(),
        "statement_is_whole": shows && shown.len() == asked.text.len(),
        "impact": impact,
        "rule": visible(&asked.rule),
        "why": visible(&asked.why),
        "digest": case.digest().to_string(),
        "opened": rfc3339(case.opened),
        "deadline": rfc3339(case.deadline()),
        "quorum": requested.approval.people(),
        "decisions": decisions.collect::<Vec<_>>(),
        "asked": case.asked.iter().map(|who| visible(who)).collect::<Vec<_>>(),
        "said": case.said.iter().map(|(who, text)| json!({ "who": visible(who), "text": visible(text) })).collect::<Vec<_>>(),
        "broken_glass": case.broke.as_ref().map(|(by, why)| json!({ "by": visible(by), "reason": visible(why) })),
        "outcome": case.closed.map(|(_, outcome)| outcome.as_str()),
        "grant": grant,
        "link": look.console.as_ref().map(|url| format!("{url}/requests/{}", requested.request)),
    })
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

/// Of a statement, bytes: receivers bound what they take.
const LONGEST_STATEMENT: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{card::tests::look, event::tests::opened};

    /// The test of the specification's reference libraries.
    #[test]
    fn the_signature_is_that_of_the_reference_libraries() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_????"] {
            assert!(super::key(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_event_for_programs_has_no_parameter_and_a_statement_only_where_it_is_shown() {
        let case = opened(b"DELETE FROM t WHERE a = $1 -- \xe2\x80\xae").then;
        let shown = data(&case, &look(Show::Statement));
        assert_eq!(shown["statement"], "DELETE FROM t WHERE a = $1 -- \\u{202e}");
        assert_eq!((&shown["statement_is_whole"], &shown["quorum"]), (&json!(true), &json!(2)));
        assert_eq!(shown["effects"], json!(["delete"]));
        assert!(!shown.to_string().contains("parameter-canary"), "{shown}");
        let kind = data(&case, &look(Show::Kind)).to_string();
        assert!(!kind.contains("DELETE FROM"), "{kind}");
        let long = data(&opened(&[b'x'; 20_000]).then, &look(Show::Statement));
        assert_eq!((&long["statement_is_whole"], &long["statement_bytes"]), (&json!(false), &json!(20_000)));
    }
}
