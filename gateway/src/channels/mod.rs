//! How people hear of what waits: Slack, Microsoft Teams, e-mail and signed webhooks.
//!
//! The outbox is the record: each channel has a cursor in it and a task of its own here, so an outage of one loses nothing
//! and delays no other. A message is told at least once, in the record's order, under a name by which a repetition can be
//! told. What happened is typed once ([`event`]), put into words once ([`card`]), and into markup by each channel.
//!
//! # Security
//! A channel forwards nothing and knows no bot's connection. What it may let people decide goes through the narrow
//! [`Decide`], which is the desk's; a dead channel keeps nobody from deciding elsewhere.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    config,
    record::{
        Delivered, Outbox, RecordError, Recorded, Recorder,
        entry::{Body, Entry, Timestamp},
    },
};

mod card;
mod event;
mod filter;
mod mail;
mod post;
mod secret;
mod slack;
mod teams;
mod webhook;

use card::Look;
use event::{Event, What};
use filter::Filter;
pub use slack::{Decide, Interactions, Reply};

/// Channels whose settings are right, and that do not run yet.
pub struct Prepared(Vec<(String, Filter, Sink)>);

/// Channels that run. A cheap handle.
#[derive(Clone)]
pub struct Channels {
    running: Arc<Vec<Arc<Running>>>,
    interactions: Arc<Interactions>,
}

/// The operator's settings are wrong.
#[derive(Debug, thiserror::Error)]
#[error("channel `{name}` {why}")]
pub struct ChannelError {
    /// Which channel's.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Why a message was not taken.
#[derive(Debug)]
enum Failed {
    /// It may be, later; at the earliest after the time that the receiver names.
    Later { why: String, after: Option<Duration> },
    /// It will not be.
    Refused { why: String },
}

impl Failed {
    fn why(&self) -> &str {
        match self {
            Failed::Later { why, .. } | Failed::Refused { why } => why,
        }
    }
}

impl From<RecordError> for Failed {
    fn from(error: RecordError) -> Self {
        Failed::Later { why: format!("the record: {error}"), after: None }
    }
}

/// Where a channel leads.
enum Sink {
    Slack(Arc<slack::Slack>),
    Teams(teams::Teams),
    Email(mail::Mail),
    Webhook(webhook::Webhook),
}

/// A channel with its place in the record.
struct Running {
    name: String,
    filter: Filter,
    sink: Sink,
    outbox: Outbox,
    state: Mutex<State>,
}

/// How it goes.
#[derive(Debug, Default)]
struct State {
    /// When a message was last taken.
    delivered: Option<Timestamp>,
    /// Since when and why none is; how often it was tried.
    failing: Option<Failing>,
    failures: u64,
    passed_over: u64,
}

/// A channel that does not take its next message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// What went wrong last.
    pub why: String,
}

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// When a message was last taken, since the gateway started.
    pub delivered: Option<Timestamp>,
    /// How many entries it has yet to tell, counted up to [`MOST_COUNTED`].
    pub backlog: usize,
    /// Why it tells nothing now.
    pub failing: Option<Failing>,
    /// How often a message was not taken, since the gateway started.
    pub failures: u64,
    /// How many messages were refused for good, since the gateway started.
    pub passed_over: u64,
}

/// What is kept of a request's message.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    /// Slack's.
    place: Option<slack::Place>,
    /// Whether it became a grant, of whose end people will hear.
    granted: bool,
}

/// Reads what the settings name, and checks all of it.
///
/// # Errors
/// The first channel that is wrong, with what to do about it.
pub fn prepare(channels: &[config::Channel], node: &str, console: Option<&str>) -> Result<Prepared, ChannelError> {
    let mut prepared: Vec<(String, Filter, Sink)> = Vec::new();
    for channel in channels {
        let wrong = |why: String| ChannelError { name: channel.name.clone(), why };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if channel.name.is_empty() || channel.name.len() > 64 || !channel.name.bytes().all(fits) {
            return Err(wrong("needs another name: letters, digits, `.`, `_` and `-`, at most 64 of them".to_owned()));
        }
        if prepared.iter().any(|(name, ..)| *name == channel.name) {
            return Err(wrong("is there twice; give each a name of its own".to_owned()));
        }
        let mut filter = Filter::read(&channel.about, channel.events.as_deref()).map_err(wrong)?;
        let sink = Sink::new(channel, node, console).map_err(wrong)?;
        if sink.says_it_once() && channel.events.is_none() {
            // It would be a second message about each request.
            filter = filter.without(What::Previewed);
        }
        prepared.push((channel.name.clone(), filter, sink));
    }
    Ok(Prepared(prepared))
}

impl Prepared {
    /// Takes each channel's place in the record. New ones begin with what comes next.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn open(self, recorder: &Recorder) -> Result<Channels, RecordError> {
        let names: Vec<_> = self.0.iter().map(|(name, ..)| name.as_str()).collect();
        recorder.forget_channels_but(&names)?;
        let open = |(name, filter, sink): (String, Filter, Sink)| {
            let outbox = recorder.outbox(&name)?;
            Ok(Arc::new(Running { name, filter, sink, outbox, state: Mutex::default() }))
        };
        let running: Vec<_> = self.0.into_iter().map(open).collect::<Result<_, RecordError>>()?;
        let slack = running.iter().filter_map(|channel| match &channel.sink {
            Sink::Slack(slack) => Some(slack.clone()),
            _ => None,
        });
        let interactions = Arc::new(Interactions::new(slack.collect(), recorder.clone()));
        Ok(Channels { running: Arc::new(running), interactions })
    }
}

impl Channels {
    /// Tells, on a thread of its own, until the process ends: no load of bots' delays people, and none of theirs bots.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn start(&self) -> std::io::Result<()> {
        if self.running.is_empty() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let running = self.running.clone();
        let tell = move || {
            runtime.block_on(async {
                let tasks: Vec<_> = running.iter().cloned().map(|channel| tokio::spawn(channel.run())).collect();
                for task in tasks {
                    if let Err(error) = task.await {
                        tracing::error!(%error, "a channel ended unexpectedly");
                    }
                }
            });
        };
        std::thread::Builder::new().name("channels".into()).spawn(tell).map(drop)
    }

    /// How each does.
    pub fn standing(&self) -> Vec<Standing> {
        self.running.iter().map(|channel| channel.standing()).collect()
    }

    /// Sends a message that says nothing through the channel called `name`; `None` where there is none.
    ///
    /// # Errors
    /// It was not taken: why, in words.
    pub async fn test(&self, name: &str) -> Option<Result<String, String>> {
        let channel = self.running.iter().find(|channel| channel.name == name)?;
        let id = format!("test-{}", uuid::Uuid::now_v7().simple());
        let sent = match &channel.sink {
            Sink::Slack(slack) => slack.test().await,
            Sink::Teams(teams) => teams.test().await,
            Sink::Email(mail) => mail.test(&id).await,
            Sink::Webhook(webhook) => webhook.test(&id).await,
        };
        Some(sent.map_err(|failed| failed.why().to_owned()))
    }

    /// Answers what Slack sends when somebody uses a button.
    pub fn slack(&self) -> Arc<Interactions> {
        self.interactions.clone()
    }
}

impl Sink {
    fn new(channel: &config::Channel, node: &str, console: Option<&str>) -> Result<Self, String> {
        let look = |longest| Look {
            show: channel.show,
            longest,
            console: console.map(|url| url.trim_end_matches('/').to_owned()),
            node: node.to_owned(),
        };
        match (&channel.slack, &channel.teams, &channel.email, &channel.webhook) {
            (Some(slack), None, None, None) => {
                slack::Slack::new(&channel.name, slack, look(slack::LONGEST)).map(|slack| Self::Slack(Arc::new(slack)))
            }
            (None, Some(teams), None, None) => teams::Teams::new(teams, look(teams::LONGEST)).map(Self::Teams),
            (None, None, Some(email), None) => mail::Mail::new(email, look(mail::LONGEST)).map(Self::Email),
            (None, None, None, Some(webhook)) => webhook::Webhook::new(webhook, look(0)).map(Self::Webhook),
            _ => Err("must lead to exactly one of `slack:`, `teams:`, `email:` and `webhook:`".to_owned()),
        }
    }

    /// Whether what it has said stays as it was said.
    const fn says_it_once(&self) -> bool {
        matches!(self, Self::Teams(_) | Self::Email(_))
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Teams(_) => "teams",
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Running {
    /// Tells what there is to tell, in order, for ever.
    async fn run(self: Arc<Self>) {
        let mut moves = loop {
            match self.outbox.recorder().desk_moves() {
                Ok(moves) => break moves,
                Err(_) => tokio::time::sleep(LONGEST_PAUSE).await,
            }
        };
        let mut tries = 0;
        loop {
            moves.mark_unchanged();
            let told = match self.outbox.next().await {
                Ok(None) => {
                    tries = 0;
                    self.state().failing = None;
                    let _ = tokio::time::timeout(LOOK, moves.changed()).await;
                    continue;
                }
                Ok(Some(recorded)) => match self.tell(&recorded).await {
                    Ok(delivered) => self.outbox.advance(recorded.position, delivered).map_err(Failed::from),
                    Err(Failed::Refused { why }) if tries + 1 >= TRIES => self.pass_over(&recorded, &why),
                    Err(failed) => Err(failed),
                },
                Err(error) => Err(error.into()),
            };
            match told {
                Ok(()) => {
                    tries = 0;
                    self.state().failing = None;
                }
                Err(failed) => {
                    tries += 1;
                    self.note(&failed, tries);
                    tokio::time::sleep(pause(tries, &failed)).await;
                }
            }
        }
    }

    /// Tells one entry, where there is something to tell.
    async fn tell(&self, recorded: &Recorded) -> Result<Delivered, Failed> {
        let id = self.outbox.message(recorded.position);
        let read = || Event::read(self.outbox.recorder(), recorded, id.clone());
        let Some(mut event) = read()? else { return Ok(Delivered::Same) };
        if !self.filter.chooses(&event.now) {
            return Ok(Delivered::Same);
        }
        let hears = self.filter.hears(event.what);
        if let Sink::Webhook(webhook) = &self.sink {
            // Programs want every event, also those that are over.
            if hears {
                webhook.tell(&event).await?;
                self.state().delivered = Some(Timestamp::now());
            }
            return Ok(Delivered::Same);
        }
        let age = Timestamp::now().since(event.at);
        if event.what == What::Opened && event.now.impact.is_none() && self.sink.says_it_once() && age < A_MOMENT {
            tokio::time::sleep(A_MOMENT - age).await;
            let Some(by_now) = read()? else { return Ok(Delivered::Same) };
            event = by_now;
        }
        let before = self.outbox.kept(event.request())?;
        let announced = before.is_some();
        // What another version kept is as good as nothing.
        let mut kept: Kept = before.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if self.is_worth_telling(&event, recorded.position, &kept, announced, hears) {
            match &self.sink {
                Sink::Slack(slack) => kept.place = slack.tell(&event, kept.place).await?,
                Sink::Teams(teams) => teams.tell(&event).await?,
                Sink::Email(mail) => mail.tell(&event).await?,
                Sink::Webhook(_) => {}
            }
            self.state().delivered = Some(Timestamp::now());
            kept.granted |= event.what == What::Granted;
        } else if !announced {
            return Ok(Delivered::Same);
        }
        let over = event.what == What::GrantEnded || event.what.is_an_end() && !kept.granted;
        if over {
            return Ok(Delivered::Forget(event.request()));
        }
        Ok(Delivered::Keep(event.request(), serde_json::to_vec(&kept).expect("it is plain data")))
    }

    fn is_worth_telling(&self, event: &Event, position: u64, kept: &Kept, announced: bool, hears: bool) -> bool {
        // A message in Slack shows how things stand, so it is never left behind, and needs only the newest of changes.
        let updates = kept.place.is_some();
        let superseded = updates
            && matches!(event.what, What::Previewed | What::Said | What::Counted)
            && event.now.newest > position;
        // Who heard of the grant, or of who released it alone, knows that it was approved.
        let told_alone = event.now.broke.is_some() && self.filter.hears(What::BrokenGlass);
        let known = event.what == What::Approved && (kept.granted || told_alone);
        (hears || updates) && !superseded && !known && !event.is_stale(announced, self.filter.hears(What::Opened))
    }

    /// What is refused for good is no reason to keep everything behind it waiting; the record says that it was.
    fn pass_over(&self, recorded: &Recorded, why: &str) -> Result<(), Failed> {
        let position = recorded.position;
        let what = format!(
            "channel {} refused the message about entry {position} for good, so people there were not told: {why}",
            self.name
        );
        tracing::error!(channel = self.name, position, why, "a message was refused for good and is passed over");
        let incident = Entry { at: Timestamp::now(), session: recorded.entry.session, body: Body::Incident { what } };
        let _ = self.outbox.recorder().append_written(incident)?;
        self.outbox.advance(position, Delivered::Same)?;
        self.state().passed_over += 1;
        Ok(())
    }

    fn note(&self, failed: &Failed, tries: u32) {
        let why = failed.why();
        if tries == 1 {
            tracing::warn!(channel = self.name, why, "a channel does not take a message; it is tried again");
        }
        let mut state = self.state();
        state.failures += 1;
        let since = state.failing.as_ref().map_or_else(Timestamp::now, |failing| failing.since);
        state.failing = Some(Failing { since, tries, why: why.to_owned() });
    }

    fn standing(&self) -> Standing {
        let backlog = self.outbox.backlog(MOST_COUNTED).unwrap_or(0);
        let state = self.state();
        Standing {
            name: self.name.clone(),
            kind: self.sink.kind(),
            delivered: state.delivered,
            backlog,
            failing: state.failing.clone(),
            failures: state.failures,
            passed_over: state.passed_over,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers: whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until the next try: twice as long each time, up to a bound, and not for all channels at once; never earlier
/// than the receiver wants it.
fn pause(tries: u32, failed: &Failed) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    let mut random = [0; 2];
    // Without random numbers everybody waits the longest.
    let part = getrandom::fill(&mut random).map_or(u16::MAX, |()| u16::from_ne_bytes(random));
    let jittered = full.mul_f64(0.5 + f64::from(part) / f64::from(u16::MAX) / 2.0);
    match failed {
        Failed::Later { after: Some(after), .. } => jittered.max((*after).min(LONGEST_WISH)),
        _ => jittered,
    }
}

/// Within it what an operation would touch is known, most of the time: one message then says all of it.
const A_MOMENT: Duration = Duration::from_millis(700);

/// Before a message is tried for the second time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(3 * 60);

/// The longest that a receiver can make a channel wait.
const LONGEST_WISH: Duration = Duration::from_secs(60 * 60);

/// How often what is refused for good is tried.
const TRIES: u32 = 3;

/// How often a channel looks by itself, should it have missed that something moved.
const LOOK: Duration = Duration::from_secs(30);

/// More than anybody wants to have counted.
pub const MOST_COUNTED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_obey_the_receiver() {
        let later = |after| Failed::Later { why: String::new(), after };
        for (tries, longest) in [(1, 1), (2, 2), (4, 8), (9, 180), (4_000_000, 180)] {
            let pause = pause(tries, &later(None));
            let longest = Duration::from_secs(longest);
            assert!(pause <= longest && pause >= longest / 2, "{tries}: {pause:?}");
        }
        assert_eq!(pause(1, &later(Some(Duration::from_secs(300)))).as_secs(), 300);
        assert_eq!(pause(1, &later(Some(Duration::from_secs(86_400)))), LONGEST_WISH);
    }

    fn refused(yaml: &str) -> String {
        let channels: Vec<config::Channel> = serde_json::from_str(yaml).expect("it can be read");
        prepare(&channels, "n", None).map(drop).expect_err(yaml).to_string()
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused_by_name() {
        for (json, word) in [
            (r#"[{"name":"a"}]"#, "exactly one of"),
            (r#"[{"name":"a b"}]"#, "another name"),
            (r#"[{"name":"a","events":["open"],"teams":{"url_file":"/none"}}]"#, "`open`"),
            (r#"[{"name":"a","for":{"rules":"["},"teams":{"url_file":"/none"}}]"#, "no glob"),
            (r#"[{"name":"a","teams":{"url_file":"/none"}}]"#, "/none cannot be read"),
            (r##"[{"name":"a","slack":{"channel":"#ops","token_file":"/none"}}]"##, "C0123456789"),
            (r#"[{"name":"a","slack":{"channel":"C1","token_file":"/none","may":"decide"}}]"#, "signing_secret_file"),
            (r#"[{"name":"a","slack":{"channel":"C1","token_file":"/n","decide_effects":["read"]}}]"#, "may: decide"),
            (r#"[{"name":"a","webhook":{"secret_files":["/n"]}}]"#, "exactly one of `url:`"),
            (r#"[{"name":"a","webhook":{"url":"https://x","secret_files":[]}}]"#, "whsec_"),
            (r#"[{"name":"a","email":{"server":"s","from":"a@b.example","to":[]}}]"#, "to:"),
            (
                r#"[{"name":"a","email":{"server":"s","from":"a@b.example","to":["c@d.example"],"user":"u"}}]"#,
                "password_file",
            ),
        ] {
            let error = refused(json);
            assert!(error.contains("channel `a") && error.contains(word), "{json}: {error}");
        }
    }
}
