//! `holdpoint replay`: a recorded session as it happened, at the pace at which it happened.

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use super::{
    Output,
    sessions::{Timed, decided, facts},
    store::{Store, clock, session, span},
};
use crate::{
    operation::{ProtocolName, SessionId},
    policy::{Decide, Who},
    protocol::Renderer,
    record::{
        Recorded, Records,
        entry::{Asked, Body, Operated, Requested, Timestamp},
    },
    visible::{ascii_json, cautions, visible, visible_lines, visible_start},
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: Store,
    /// The session, in short or whole
    session: String,
    /// How many times faster than it happened
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// No pause is longer than this
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_pause: Option<Duration>,
    /// Without pauses
    #[arg(long)]
    no_wait: bool,
    /// Go on with what happens next, until the session ends; no pauses
    #[arg(long)]
    follow: bool,
    /// Show handshake and protocol control as well
    #[arg(long)]
    all: bool,
    /// How it is printed; `json` is one entry a line
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

fn speed(typed: &str) -> Result<f64, String> {
    match typed.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("expected a number above 0, such as 2 or 0.5".to_owned()),
    }
}

/// How a follower looks for news.
const LOOK: Duration = Duration::from_millis(100);

/// Runs it; `renderers` gives each protocol's reader of responses.
///
/// # Errors
/// The record cannot be read, or the session is not in it.
pub fn run(args: Args, renderers: &dyn Fn(&ProtocolName) -> Option<Box<dyn Renderer>>) -> anyhow::Result<ExitCode> {
    let records = args.store.open()?;
    let id = session(&records, &args.session)?;
    let mut out = io::stdout().lock();
    let mut player = Player { records: &records, renderers, renderer: None, first: None, last: None, args: &args };
    let mut next = 0;
    loop {
        for recorded in records.session(id, next) {
            let recorded = recorded?;
            next = recorded.position + 1;
            player.play(&recorded, &mut out)?;
            out.flush()?;
            if args.follow && matches!(recorded.entry.body, Body::Disconnected { .. }) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if !args.follow || is_over(&records, id)? {
            return Ok(ExitCode::SUCCESS);
        }
        #[expect(clippy::disallowed_methods, reason = "another process writes; it tells nobody")]
        thread::sleep(LOOK);
        records.refresh()?;
    }
}

fn is_over(records: &Records, id: SessionId) -> anyhow::Result<bool> {
    Ok(records.summary(id)?.is_some_and(|summary| summary.ended.is_some()))
}

struct Player<'a> {
    records: &'a Records,
    renderers: &'a dyn Fn(&ProtocolName) -> Option<Box<dyn Renderer>>,
    renderer: Option<Box<dyn Renderer>>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    args: &'a Args,
}

impl Player<'_> {
    fn play(&mut self, recorded: &Recorded, out: &mut impl Write) -> anyhow::Result<()> {
        self.pause(recorded.entry.at);
        if let Body::Connected(connected) = &recorded.entry.body {
            self.renderer = (self.renderers)(&ProtocolName::from(connected.protocol.clone()));
        }
        if self.args.output == Output::Json {
            let mut timed = Timed::of(recorded);
            if let Body::Response { wire, .. } = &recorded.entry.body {
                timed.rendered = Some(self.rendered(wire));
            }
            writeln!(out, "{}", ascii_json(&timed, false)?)?;
            return Ok(());
        }
        let mut lines = self.lines(recorded)?.into_iter();
        let first = *self.first.get_or_insert(recorded.entry.at);
        let since = Duration::from_nanos(recorded.entry.at.0.saturating_sub(first.0)).as_secs_f64();
        if let Some(line) = lines.next() {
            writeln!(out, "{:>11}  {line}", format!("+{since:.3}"))?;
        }
        for line in lines {
            writeln!(out, "{:>11}  {line}", "")?;
        }
        Ok(())
    }

    fn pause(&mut self, at: Timestamp) {
        let since = self.last.map_or(0, |last| at.0.saturating_sub(last.0));
        self.last = Some(at);
        if self.args.no_wait || self.args.follow {
            return;
        }
        let pause = Duration::from_nanos(since).as_secs_f64() / self.args.speed;
        let pause = Duration::try_from_secs_f64(pause).unwrap_or(Duration::MAX);
        #[expect(clippy::disallowed_methods, reason = "playing back in time is to wait")]
        thread::sleep(pause.min(self.args.max_pause.unwrap_or(Duration::MAX)));
    }

    fn lines(&mut self, recorded: &Recorded) -> anyhow::Result<Vec<String>> {
        let entry = &recorded.entry;
        Ok(match &entry.body {
            Body::Connected(connected) => {
                let mut lines = vec![format!("connected at {}", clock(entry.at))];
                lines.extend(facts(connected).into_iter().map(|(name, fact)| format!("{name:<12}{fact}")));
                lines
            }
            Body::Operation(operated) => operation(operated),
            Body::Requested(requested) => hold(requested),
            Body::Decided { by, uid, person, approve, reason, proof, counts, .. } => {
                let word = if *approve { "approved" } else { "denied" };
                let why = reason.as_deref().map_or_else(String::new, |why| format!(": {}", visible(why.as_bytes())));
                let who = match (uid, person) {
                    (Some(uid), _) => format!(" (uid {uid})"),
                    (None, Some(person)) => format!(" ({})", visible(person.as_bytes())),
                    (None, None) => String::new(),
                };
                let signed = if proof.is_some() { ", signed with a passkey" } else { "" };
                let counts = counts.as_deref();
                let lent = counts.and_then(|counts| counts.lent.as_ref());
                let lent = lent.map_or_else(String::new, |lent| format!(" for {}", visible(lent.by.as_bytes())));
                let ticket = counts.and_then(|counts| counts.ticket.as_ref());
                let ticket = ticket.map_or_else(String::new, |name| format!(", ticket {}", visible(name.as_bytes())));
                vec![format!("-- {word} by {}{who}{lent}{signed}{ticket}{why}", visible(by.as_bytes()))]
            }
            Body::Closed { request, outcome } => {
                let how = self.records.request(*request)?.map(|history| decided(&history));
                let how = how.unwrap_or_else(|| outcome.as_str().to_owned());
                vec![format!("-- request {} ended: {how}", request.short())]
            }
            Body::Response { wire, masked, .. } => {
                let mut lines = self.rendered(wire);
                lines.iter_mut().for_each(|line| line.insert_str(0, "< "));
                match masked {
                    0 => {}
                    1 => lines.push("-- 1 value masked".to_owned()),
                    masked => lines.push(format!("-- {masked} values masked")),
                }
                lines
            }
            Body::Continued { wire, .. } => vec![format!("> {}", visible_start(wire, 200))],
            Body::Control { what, wire } if self.args.all => {
                vec![format!("-- control {}: {}", visible(what.as_bytes()), visible_start(wire, 200))]
            }
            Body::Granted(granted) => vec![format!(
                "-- grant {} by {}: {} more like it, for {}",
                granted.grant.short(),
                visible(granted.by.join(", ").as_bytes()),
                granted.uses,
                humantime::format_duration(Duration::from_secs(granted.expires.since(entry.at).as_secs())),
            )],
            Body::GrantUsed { grant, left, .. } => {
                vec![format!("-- grant {} releases the next operation; {left} uses left", grant.short())]
            }
            Body::Previewed { impact, .. } => {
                impact.lines().iter().map(|line| format!("-- it would: {}", visible(line.as_bytes()))).collect()
            }
            Body::Administered { by, what, .. } => {
                vec![format!("-- {}: {}", visible(by.as_bytes()), visible(what.as_bytes()))]
            }
            Body::Enrolled(enrolled) => vec![format!("-- a passkey of {}", visible(enrolled.name.as_bytes()))],
            Body::Asked { .. }
            | Body::Said { .. }
            | Body::BrokeGlass(_)
            | Body::Reviewed { .. }
            | Body::Delegated(_)
            | Body::DelegationEnded { .. } => workflow(&entry.body),
            Body::Incident { what } => vec![format!("!! {}", visible(what.as_bytes()))],
            Body::Disconnected { reason } => {
                let lasted = self.first.map_or_else(String::new, |first| format!(" after {}", span(first, entry.at)));
                vec![format!("-- disconnected{lasted}: {}", visible(reason.as_bytes()))]
            }
            Body::Control { .. }
            | Body::Started { .. }
            | Body::Stopped
            | Body::PolicyLoaded { .. }
            | Body::GrantEnded { .. } => Vec::new(),
        })
    }

    /// A response in its protocol's words; without a reader for it, its bytes made visible.
    fn rendered(&mut self, wire: &[u8]) -> Vec<String> {
        match &mut self.renderer {
            Some(renderer) => renderer.response(wire),
            None => wire.chunks(96).map(visible).collect(),
        }
    }
}

fn operation(operated: &Operated) -> Vec<String> {
    let asked = &operated.asked;
    let mut lines = statement(asked);
    let rule = visible(asked.rule.as_bytes());
    let request = operated.request.map_or_else(String::new, |request| format!(", request {}", request.short()));
    let verdict = match (operated.forwarded, asked.decide) {
        (true, Decide::Allow) => format!("allowed by {rule}"),
        (true, Decide::HoldCommit) => format!("ran, its commit held by {rule}"),
        (true, _) => format!("released, held by {rule}{request}"),
        (false, _) => format!("REFUSED by {rule}{request}: {}", visible(operated.refusal.as_bytes())),
    };
    lines.push(format!("-- {verdict} [{}]", asked.effects));
    if let Some((decide, rule)) = &asked.observed {
        let word = match decide {
            Decide::Refuse => "refused it",
            Decide::HoldCommit => "held its commit",
            Decide::Hold | Decide::Allow => "held it",
        };
        lines.push(format!("-- {} (observe mode) would have {word}", visible(rule.as_bytes())));
    }
    lines
}

fn hold(requested: &Requested) -> Vec<String> {
    let mut lines = statement(&requested.asked);
    let Asked { rule, why, effects, .. } = &requested.asked;
    let (rule, why) = (visible(rule.as_bytes()), visible(why.as_bytes()));
    lines.push(format!("-- HELD by {rule}: {why} [{effects}]"));
    let wanted = visible(requested.approval.to_string().as_bytes());
    lines.push(format!("-- request {} wants {wanted}", requested.request.short()));
    lines
}

/// What happened to a request between its opening and its end, beside decisions.
fn workflow(body: &Body) -> Vec<String> {
    let shown = |text: &str| visible(text.as_bytes());
    let names = |who: &[Who]| shown(&who.iter().map(Who::to_string).collect::<Vec<_>>().join(", "));
    let line = match body {
        Body::Asked { step, who, on_call, .. } => {
            let now = if on_call.is_empty() { String::new() } else { format!(", now {}", shown(&on_call.join(", "))) };
            format!("-- asked in step {}: {}{now}", step + 1, names(who))
        }
        Body::Said { by, kind, text, .. } => format!("-- {} by {}: {}", kind.as_str(), shown(by), shown(text)),
        Body::BrokeGlass(broken) => {
            let (by, reason) = (shown(&broken.by), shown(&broken.reason));
            format!("!! {by} broke the glass, without {}: {reason}", names(&broken.skipped))
        }
        Body::Reviewed { by, text, .. } => format!("-- reviewed by {}: {}", shown(by), shown(text)),
        Body::Delegated(lent) => format!("-- {} lends what they may decide to {}", shown(&lent.from), shown(&lent.to)),
        Body::DelegationEnded { delegation, .. } => format!("-- delegation {} ended", delegation.short()),
        _ => return Vec::new(),
    };
    vec![line]
}

/// What was asked: its text with layout kept, its parameters, and what eyes alone would miss.
fn statement(asked: &Asked) -> Vec<String> {
    let text = if asked.text.is_empty() { visible(asked.kind.as_bytes()) } else { visible_lines(&asked.text) };
    let mut lines: Vec<String> = text.split('\n').map(|line| format!("> {}", line.replace('\t', "    "))).collect();
    for (number, parameter) in asked.parameters.iter().enumerate() {
        let value = parameter.value.as_deref().map_or_else(|| "NULL".to_owned(), |value| visible_start(value, 200));
        let binary = if parameter.binary { " (binary)" } else { "" };
        lines.push(format!(">   ${} = {value}{binary}", number + 1));
    }
    lines.extend(cautions(&asked.text).into_iter().map(|caution| format!("!! the statement {caution}")));
    lines
}

#[cfg(test)]
mod tests;
