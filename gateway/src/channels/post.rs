//! JSON sent to a service, and what its answer means for trying again.

use std::{path::PathBuf, time::Duration};

use zeroize::Zeroizing;

use super::{Failed, secret::Secret};
use crate::{
    net::http::{Answer, Client, HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    visible::visible_start,
};

/// A service that takes JSON.
pub(super) struct Post {
    client: Client,
    /// What of its words must be in no error: the rest of the address, and a token.
    hidden: Vec<Secret>,
}

impl Post {
    /// For the service at `address`, which the settings call `key`.
    ///
    /// # Errors
    /// The address cannot be one; it is not repeated, since some are secrets.
    pub(super) fn new(key: &str, address: &str, ca: Option<PathBuf>) -> Result<Self, String> {
        let client = Client::new(address, ca, None).map_err(|why| format!("what stands in `{key}:` {why}"))?;
        let hidden = Some(client.path()).filter(|path| path.len() > 1).map(Secret::new);
        Ok(Self { hidden: hidden.into_iter().collect(), client })
    }

    /// The same, which has this token as well.
    pub(super) fn with(mut self, token: Secret) -> Self {
        self.hidden.push(token);
        self
    }

    /// Posts to the address, with `below` behind it.
    pub(super) async fn json(
        &self,
        below: &str,
        headers: &[(&'static str, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Answer, Failed> {
        let mut all = HeaderMap::new();
        all.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
        self.ask(&Method::POST, below, headers, all, body).await
    }

    /// Gets what is at the address, with `below` behind it.
    pub(super) async fn get(&self, below: &str, headers: &[(&'static str, HeaderValue)]) -> Result<Answer, Failed> {
        self.ask(&Method::GET, below, headers, HeaderMap::new(), Vec::new()).await
    }

    async fn ask(
        &self,
        method: &Method,
        below: &str,
        headers: &[(&'static str, HeaderValue)],
        mut all: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Failed> {
        all.insert("user-agent", HeaderValue::from_static(concat!("holdpoint/", env!("CARGO_PKG_VERSION"))));
        all.extend(headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())));
        let path = match below {
            "" => self.client.path().to_owned(),
            below => format!("{}/{below}", self.client.path().trim_end_matches('/')),
        };
        let asked = self.client.send(method, &path, all, Zeroizing::new(body), LONGEST_ANSWER);
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(Failed::Later { why, after: None }),
            Err(_) => Err(Failed::Later {
                why: format!("no answer within {}", humantime::format_duration(LIMIT)),
                after: None,
            }),
        }
    }

    /// Whether it was taken: any status of success.
    ///
    /// # Errors
    /// It was not; whether for good, the status says.
    pub(super) fn taken(&self, answer: &Answer) -> Result<String, Failed> {
        let status = answer.status;
        if status.is_success() {
            return Ok(format!("it answers {status}"));
        }
        let whole = String::from_utf8_lossy(&answer.body);
        let tells = !whole.is_empty() && !self.hidden.iter().any(|hidden| whole.contains(&**hidden));
        let said = if tells { format!(", and says: {}", visible_start(&answer.body, WORDS)) } else { String::new() };
        if status.is_redirection() {
            let why =
                format!("it answers {status}, and redirections are not followed; name the address that answers itself");
            return Err(Failed::Refused { why });
        }
        let why = format!("it answers {status}{said}");
        let again =
            matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        if status.is_client_error() && !again {
            return Err(Failed::Refused { why });
        }
        Err(Failed::Later { why, after: retry_after(answer) })
    }
}

/// When the receiver wants to be asked again, in seconds (RFC 9110, section 10.2.3). Dates are not understood.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// How long a service may take over one message.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 256 * 1024;

/// The longest that a service's words are repeated, in characters.
const WORDS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn post() -> Post {
        Post::new("url", "https://hooks.example/canary", None).expect("an address").with(Secret::new("xoxb-canary"))
    }

    fn answer(status: u16, retry: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.extend(retry.map(|retry| (HeaderName::from_static("retry-after"), HeaderValue::from_static(retry))));
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            body: Zeroizing::new(b"no\x1b[31m".to_vec()),
        }
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        for status in [200, 202, 204] {
            assert!(post().taken(&answer(status, None)).is_ok());
        }
        for status in [408, 425, 429, 500, 502, 503] {
            let failed = post().taken(&answer(status, Some("7"))).expect_err("not taken");
            assert!(matches!(failed, Failed::Later { after: Some(after), .. } if after.as_secs() == 7), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410] {
            let Failed::Refused { why } = post().taken(&answer(status, None)).expect_err("not taken") else {
                panic!("{status} is for good")
            };
            assert!(!why.contains('\x1b'), "{why:?}");
        }
        assert_eq!(retry_after(&answer(429, Some("Wed, 21 Oct 2015 07:28:00 GMT"))), None);
    }

    #[test]
    fn what_is_secret_is_not_repeated_where_a_service_says_it() {
        for body in ["Cannot POST /canary", "token xoxb-canary"] {
            let answer = Answer { body: Zeroizing::new(body.as_bytes().to_vec()), ..answer(500, None) };
            let why = post().taken(&answer).expect_err("not taken").why().to_owned();
            assert!(why.contains("500") && !why.contains("canary"), "{why}");
        }
        assert!(post().taken(&answer(500, None)).expect_err("not taken").why().contains("says: no"));
    }
}
