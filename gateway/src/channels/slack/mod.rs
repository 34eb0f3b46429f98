//! Slack: one message for each request, changed in place while things happen to it, with buttons where people may decide.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    Failed,
    card::{Card, Look},
    event::{Case, Event, What},
    post::{self, Post},
    secret::Secret,
};
use crate::{
    config::{self, MayDo},
    net::http::{Answer, HeaderValue},
    operation::{Effects, RequestId},
    visible::visible_start,
};

mod blocks;
mod interaction;
mod signature;

pub use interaction::{Decide, Interactions, Reply};

/// A channel of Slack's.
pub(super) struct Slack {
    /// What the settings call it.
    pub(super) name: String,
    post: Post,
    channel: String,
    authorization: HeaderValue,
    /// Who may be believed to be Slack; `None` where nobody decides here.
    secret: Option<signature::SigningSecret>,
    /// What may be decided here; `None`: nothing.
    decides: Option<Effects>,
    look: Look,
    /// The workspace that the app belongs to.
    team: OnceCell<String>,
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    channel: String,
    ts: String,
}

/// What people approve with a button, and where they saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    /// The channel's name in the settings.
    c: String,
    /// The request.
    r: RequestId,
    /// The digest of what the message shows.
    d: String,
    /// Yes or no.
    a: bool,
}

impl Slack {
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(name: &str, settings: &config::Slack, look: Look) -> Result<Self, String> {
        let config::Slack { channel, token_file, signing_secret_file, may, decide_effects, api, ca } = settings;
        let is_id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id(channel) {
            return Err(format!("`channel: {channel}` is no id of Slack's; expected one such as C0123456789"));
        }
        let signing = |file: &Path| Secret::read(file).map(|secret| signature::SigningSecret::new(&secret));
        let secret = signing_secret_file.as_deref().map(signing).transpose()?;
        let decides = match (may, &secret, decide_effects) {
            (MayDo::Notify, _, Some(_)) => return Err("has `decide_effects:` and not `may: decide`".to_owned()),
            (MayDo::Notify, _, None) => None,
            (MayDo::Decide, None, _) => return Err("needs `signing_secret_file:`, or anybody could decide".to_owned()),
            (MayDo::Decide, Some(_), None) => Some(crate::operation::Effect::ALL.into_iter().collect()),
            (MayDo::Decide, Some(_), Some(effects)) => Some(effects.iter().copied().collect()),
        };
        let token = Secret::read(token_file)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", &*token))
            .map_err(|_| format!("{} has bytes that no token has", token_file.display()))?;
        authorization.set_sensitive(true);
        Ok(Self {
            name: name.to_owned(),
            post: Post::new("api", api, ca.clone())?.with(token),
            channel: channel.clone(),
            authorization,
            secret,
            decides,
            look,
            team: OnceCell::new(),
        })
    }

    /// Tells an event, in the message at `place` where there is one.
    pub(super) async fn tell(&self, event: &Event, place: Option<Place>) -> Result<Option<Place>, Failed> {
        let case = &event.now;
        let card = Card::of(case, case.stands(), &self.look);
        let mut message = blocks::message(&card, self.buttons(case));
        message["channel"] = json!(place.as_ref().map_or(&self.channel, |place| &place.channel));
        message["metadata"] = json!({
            "event_type": "holdpoint_request",
            "event_payload": { "id": event.id, "request": event.request().to_string() },
        });
        if let Some(place) = place {
            message["ts"] = json!(place.ts);
            let _: Done = self.call("chat.update", &message).await?;
            if matches!(event.what, What::Asked | What::BrokenGlass) {
                // A message that changes calls nobody.
                let text = blocks::escaped(&Card::of(case, event.what, &self.look).headline);
                let answer = json!({
                    "channel": place.channel, "thread_ts": place.ts, "reply_broadcast": true, "text": text,
                });
                let _: Done = self.call("chat.postMessage", &answer).await?;
            }
            return Ok(Some(place));
        }
        message["unfurl_links"] = json!(false);
        message["unfurl_media"] = json!(false);
        self.call("chat.postMessage", &message).await.map(Some)
    }

    /// Sends a message that says nothing.
    pub(super) async fn test(&self) -> Result<String, Failed> {
        let text = format!("A test of this channel by node {}: nothing waits for you.", self.look.node);
        let message = json!({ "channel": self.channel, "text": blocks::escaped(&text) });
        let place: Place = self.call("chat.postMessage", &message).await?;
        Ok(format!("Slack has it as message {} of {}", visible_start(place.ts.as_bytes(), 40), self.channel))
    }

    /// What the buttons of a message say; `None` where nothing is decided here, or no more.
    fn buttons(&self, case: &Case) -> Option<[Ticket; 2]> {
        let open = matches!(case.stands(), What::Opened | What::Counted);
        (open && self.may_decide(case)).then(|| [true, false].map(|approve| self.ticket(case, approve)))
    }

    /// Where a rule wants a passkey or a ticket a button cannot give it: the link leads to the console.
    fn may_decide(&self, case: &Case) -> bool {
        let approval = &case.requested.approval;
        let asks_more = approval.passkey || approval.ticket.is_some();
        !asks_more && self.decides.is_some_and(|effects| case.requested.asked.effects.within(effects))
    }

    fn ticket(&self, case: &Case, approve: bool) -> Ticket {
        Ticket { c: self.name.clone(), r: case.requested.request, d: case.digest().to_string(), a: approve }
    }

    /// The workspace that the app belongs to.
    async fn team(&self) -> Result<&String, Failed> {
        #[derive(Deserialize)]
        struct Us {
            team_id: String,
        }
        let ask = || async { Ok(self.call::<Us>("auth.test", &json!({})).await?.team_id) };
        self.team.get_or_try_init(ask).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, body: &Value) -> Result<T, Failed> {
        let headers = [("authorization", self.authorization.clone())];
        self.read(&self.post.json(method, &headers, body.to_string().into_bytes()).await?)
    }

    async fn get<T: DeserializeOwned>(&self, method: &str) -> Result<T, Failed> {
        let headers = [("authorization", self.authorization.clone())];
        self.read(&self.post.get(method, &headers).await?)
    }

    /// Slack says no in an answer of success.
    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failed> {
        #[derive(Deserialize)]
        struct Said {
            ok: bool,
            #[serde(default)]
            error: String,
        }
        self.post.taken(answer)?;
        let odd = |_| Failed::Later { why: "its answer is not what this version expects".to_owned(), after: None };
        let said: Said = serde_json::from_slice(&answer.body).map_err(odd)?;
        if said.ok {
            return serde_json::from_slice(&answer.body).map_err(odd);
        }
        let again =
            ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"];
        let why = format!("Slack says: {}", visible_start(said.error.as_bytes(), 100));
        Err(match again.contains(&said.error.as_str()) {
            true => Failed::Later { why, after: post::retry_after(answer) },
            false => Failed::Refused { why },
        })
    }
}

/// An answer of which nothing is wanted but that it is one.
#[derive(Deserialize)]
struct Done {}

/// Of a statement, characters: Slack takes three thousand in a section, escapes included.
pub(super) const LONGEST: usize = 1_200;
