//! What people do with a message's buttons: verified, mapped to a person, and handed to the desk.
//!
//! # Security
//! *Invariant:* a decision is made only for a request that Slack has signed within five minutes and that was not seen
//! before, by a full and active member of the app's own workspace, whose address Slack has confirmed and somebody here
//! has; on a request whose effects the channel may decide, with the digest that its message showed. Whether they may
//! decide at all is the desk's to say.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Slack, Ticket, blocks, signature::Seen};
use crate::{
    channels::{Failed, event::Case},
    net::http::{HeaderMap, StatusCode},
    record::{Recorder, entry::Timestamp},
    visible::visible_start,
};

/// Decides for people whom a channel knows by their address.
pub trait Decide: Send + Sync {
    /// Decides on the request called `request`, whose digest was shown as `digest`, for the person with this address.
    /// Answers in words what came of it.
    ///
    /// # Errors
    /// In words: nobody here has the address, or they may not, or not now.
    fn decide(
        &self,
        email: &str,
        request: &str,
        approve: bool,
        reason: Option<String>,
        digest: &str,
    ) -> Result<String, String>;
}

/// What is answered over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What Slack shows or does; nothing where it only wants to know that it was heard.
    pub body: Option<Value>,
}

impl Reply {
    const HEARD: Reply = Reply { status: StatusCode::OK, body: None };

    fn refused(why: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, body: Some(json!({ "error": why })) }
    }

    fn odd(why: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: Some(json!({ "error": why })) }
    }
}

/// Answers what Slack sends.
pub struct Interactions {
    channels: Vec<Arc<Slack>>,
    recorder: Recorder,
    seen: Seen,
}

/// Somebody's click, or a form that they sent.
#[derive(Debug, Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    #[serde(default)]
    trigger_id: String,
    #[serde(default)]
    actions: Vec<Action>,
    view: Option<View>,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct View {
    callback_id: String,
    private_metadata: String,
    state: Value,
}

impl Interactions {
    pub(in crate::channels) fn new(channels: Vec<Arc<Slack>>, recorder: Recorder) -> Self {
        Self { channels, recorder, seen: Seen::default() }
    }

    /// Answers one request of Slack's. What takes longer than Slack waits goes on after the answer.
    pub async fn answer(self: Arc<Self>, headers: &HeaderMap, body: &[u8], decide: Arc<dyn Decide>) -> Reply {
        let now = Timestamp::now().0 / 1_000_000_000;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (timestamp, signature) = (header("x-slack-request-timestamp"), header("x-slack-signature"));
        let signed =
            |slack: &&Arc<Slack>| slack.secret.as_ref().is_some_and(|secret| secret.signed(timestamp, body, signature));
        let signers: Vec<_> = self.channels.iter().filter(signed).cloned().collect();
        if signers.is_empty() {
            return Reply::refused("this is not signed as Slack signs; check `signing_secret_file:` of the channel");
        }
        if !Seen::is_fresh(timestamp, now) {
            return Reply::refused("this was signed more than five minutes ago, or ahead; check this machine's clock");
        }
        if !self.seen.first(signature, now) {
            return Reply::refused("this has been sent before");
        }
        let Some(payload) = payload(body) else { return Reply::odd("this is not what this version expects of Slack") };
        match payload.kind.as_str() {
            "block_actions" => self.clicked(&signers, payload, decide),
            "view_submission" => self.sent(&signers, payload, decide).await,
            // Closed forms and the like.
            _ => Reply::HEARD,
        }
    }

    fn clicked(self: Arc<Self>, signers: &[Arc<Slack>], payload: Payload, decide: Arc<dyn Decide>) -> Reply {
        let action = payload.actions.iter().find(|action| matches!(action.action_id.as_str(), "approve" | "deny"));
        let Some(action) = action else { return Reply::HEARD };
        let Some((slack, ticket)) = ticket(signers, &action.value) else { return Reply::odd("no button of ours") };
        // Slack waits three seconds, and Slack itself is asked meanwhile who this is.
        tokio::spawn(async move {
            let user = payload.user.id;
            let said = match self.case(&slack, &ticket) {
                Err(why) => Some(why),
                Ok(case) if !ticket.a || case.requested.approval.reason_required => {
                    slack.ask_why(&payload.trigger_id, &ticket, &case).await.err()
                }
                Ok(_) => Some(match slack.email(&user).await {
                    Ok(email) => {
                        decide.decide(&email, &ticket.r.to_string(), true, None, &ticket.d).unwrap_or_else(|why| why)
                    }
                    Err(why) => why,
                }),
            };
            if let Some(said) = said {
                slack.whisper(&user, &said).await;
            }
        });
        Reply::HEARD
    }

    async fn sent(&self, signers: &[Arc<Slack>], payload: Payload, decide: Arc<dyn Decide>) -> Reply {
        let Some(view) = payload.view.filter(|view| view.callback_id == "decide") else { return Reply::HEARD };
        let Some((slack, ticket)) = ticket(signers, &view.private_metadata) else {
            return Reply::odd("no form of ours");
        };
        let reason = view.state["values"]["reason"]["reason"]["value"].as_str().map(str::trim);
        let reason = reason.filter(|reason| !reason.is_empty()).map(str::to_owned);
        let decided = async {
            self.case(&slack, &ticket)?;
            let email = slack.email(&payload.user.id).await?;
            decide.decide(&email, &ticket.r.to_string(), ticket.a, reason, &ticket.d)
        };
        match tokio::time::timeout(PATIENCE, decided).await {
            Ok(Ok(_)) => Reply::HEARD,
            Ok(Err(why)) => Reply { status: StatusCode::OK, body: Some(in_form(&why)) },
            Err(_) => Reply {
                status: StatusCode::OK,
                body: Some(in_form("Slack did not say in time who you are; send it again")),
            },
        }
    }

    /// The request of a ticket, where it may be decided in this channel.
    fn case(&self, slack: &Slack, ticket: &Ticket) -> Result<Case, String> {
        let case =
            Case::read(&self.recorder, ticket.r).map_err(|error| format!("the record cannot be read: {error}"))?;
        let case = case.ok_or("there is no such request here")?;
        if case.closed.is_some() {
            return Err(format!("request {} has ended: {}", ticket.r.short(), case.stands().as_str()));
        }
        if !slack.may_decide(&case) {
            return Err(
                "this may not be decided in Slack; decide in the console, or with `holdpoint approvals`".to_owned()
            );
        }
        Ok(case)
    }
}

impl Slack {
    /// The confirmed address of a full member of the app's own workspace.
    async fn email(&self, user: &str) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Info {
            user: Member,
        }
        if user.is_empty() || !user.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("Slack does not say who you are".to_owned());
        }
        let failed = |failed: Failed| format!("Slack does not say who you are: {}", failed.why());
        let info: Info = self.get(&format!("users.info?user={user}")).await.map_err(failed)?;
        let team = self.team().await.map_err(failed)?;
        info.user.email(user, team)
    }

    async fn ask_why(&self, trigger: &str, ticket: &Ticket, case: &Case) -> Result<(), String> {
        let card = super::Card::of(case, case.stands(), &self.look);
        let required = case.requested.approval.reason_required && ticket.a;
        let view = blocks::modal(ticket, &card.summary, required);
        let asked: Result<super::Done, _> =
            self.call("views.open", &json!({ "trigger_id": trigger, "view": view })).await;
        asked.map(drop).map_err(|failed| format!("Slack opens no form: {}", failed.why()))
    }

    /// Says something to one person alone.
    async fn whisper(&self, user: &str, text: &str) {
        let text = blocks::escaped(&visible_start(text.as_bytes(), 1000));
        let body = json!({ "channel": self.channel, "user": user, "text": text });
        let said: Result<super::Done, _> = self.call("chat.postEphemeral", &body).await;
        if let Err(failed) = said {
            tracing::warn!(
                channel = self.name,
                why = failed.why(),
                "somebody who decided in Slack was not told what came of it"
            );
        }
    }
}

/// What Slack knows of somebody.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Member {
    id: String,
    team_id: String,
    deleted: bool,
    is_bot: bool,
    is_restricted: bool,
    is_ultra_restricted: bool,
    is_stranger: bool,
    is_email_confirmed: bool,
    profile: Profile,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Profile {
    email: String,
}

impl Member {
    /// Their address, where they are who may decide by it.
    fn email(self, user: &str, team: &str) -> Result<String, String> {
        let no = |why: &str| Err(format!("you cannot decide in Slack: {why}; decide in the console instead"));
        if self.id != user {
            return no("Slack answers for somebody else");
        }
        if self.team_id != team || self.is_stranger {
            return no("you belong to another workspace than this app");
        }
        if self.deleted || self.is_bot || self.is_restricted || self.is_ultra_restricted {
            return no("you are no full member of this workspace");
        }
        if !self.is_email_confirmed || self.profile.email.is_empty() {
            return no(
                "Slack has not confirmed your e-mail address, or does not show it to this app (scope users:read.email)",
            );
        }
        Ok(self.profile.email)
    }
}

/// The channel and the ticket of a button or form, among those whose app signed.
fn ticket(signers: &[Arc<Slack>], value: &str) -> Option<(Arc<Slack>, Ticket)> {
    let ticket: Ticket = serde_json::from_str(value).ok()?;
    let slack = signers.iter().find(|slack| slack.name == ticket.c)?;
    Some((slack.clone(), ticket))
}

/// The one field of the form that Slack sends (`application/x-www-form-urlencoded`).
fn payload(body: &[u8]) -> Option<Payload> {
    let mut fields = body.split(|byte| *byte == b'&');
    let field = fields.find_map(|field| field.strip_prefix(b"payload="))?;
    serde_json::from_slice(&decoded(field)?).ok()
}

fn decoded(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (hex, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    Some(out)
}

/// A refusal, shown in the form.
fn in_form(why: &str) -> Value {
    json!({ "response_action": "errors", "errors": { "reason": visible_start(why.as_bytes(), 150) } })
}

/// Slack waits three seconds for an answer.
const PATIENCE: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: "U1".to_owned(),
            team_id: "T1".to_owned(),
            is_email_confirmed: true,
            profile: Profile { email: "ada@x.example".to_owned() },
            ..Member::default()
        }
    }

    #[test]
    fn only_a_full_member_with_a_confirmed_address_counts() {
        assert_eq!(member().email("U1", "T1"), Ok("ada@x.example".to_owned()));
        let others: [(&str, fn(&mut Member)); 9] = [
            ("somebody else", |member| member.id = "U2".to_owned()),
            ("another workspace", |member| member.team_id = "T2".to_owned()),
            ("another workspace", |member| member.is_stranger = true),
            ("no full member", |member| member.deleted = true),
            ("no full member", |member| member.is_bot = true),
            ("no full member", |member| member.is_restricted = true),
            ("no full member", |member| member.is_ultra_restricted = true),
            ("confirmed", |member| member.is_email_confirmed = false),
            ("users:read.email", |member| member.profile.email.clear()),
        ];
        for (word, change) in others {
            let mut other = member();
            change(&mut other);
            let why = other.email("U1", "T1").expect_err(word);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let json =
            r#"{"type":"block_actions","user":{"id":"U1"},"actions":[{"action_id":"approve","value":"a b+c%"}]}"#;
        let encoded: String =
            json.bytes().map(|byte| if byte == b' ' { "+".into() } else { format!("%{byte:02x}") }).collect();
        let read = payload(format!("x=y&payload={encoded}").as_bytes()).expect("a payload");
        assert_eq!((read.user.id.as_str(), read.actions[0].value.as_str()), ("U1", "a b+c%"));
        for wrong in ["", "payload", "payload=%7", "payload=%zz", "other=%7b%7d"] {
            assert!(payload(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
