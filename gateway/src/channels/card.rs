//! What an approver needs in five seconds, as plain words: each channel puts them into its own markup.
//!
//! # Security
//! Everything from bots has gone through `visible` here, and nothing here is any channel's markup: to escape is each
//! channel's own. Bound parameters are never shown, so no value that is masked, or asked about by a `reveal`, leaves.

use std::time::Duration;

use super::event::{Case, What, asked_in_words};
use crate::{
    config::Show,
    operation::Impact,
    record::entry::{Asked, Timestamp},
    visible::{cautions, visible, visible_lines},
};

/// A request in words.
#[derive(Debug, Clone)]
pub(super) struct Card {
    /// How it stands, in one line.
    pub(super) headline: String,
    /// Who wants what, in one line.
    pub(super) summary: String,
    /// How that is to be taken.
    pub(super) tone: Tone,
    /// Names with their values.
    pub(super) facts: Vec<(&'static str, String)>,
    /// The bot's own words; `None` where the channel does not show them.
    pub(super) statement: Option<Statement>,
    /// What to know before trusting one's eyes.
    pub(super) cautions: Vec<String>,
    /// Where all of it is, where the console has an address.
    pub(super) link: Option<String>,
    /// The command that shows all of it.
    pub(super) command: String,
}

/// How a card is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Somebody has to do something.
    Waiting,
    /// It was let through.
    Good,
    /// It was refused.
    Bad,
    /// Nobody need do anything.
    Over,
}

/// A bot's statement, made visible, cut where it is long.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// What is shown of it.
    pub(super) text: String,
    /// How long it is as sent, in bytes.
    pub(super) bytes: usize,
    /// Whether this is all of it.
    pub(super) whole: bool,
}

/// What every card of a channel shares.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// How much of an operation is shown.
    pub(super) show: Show,
    /// The most characters of a statement.
    pub(super) longest: usize,
    /// The console's address.
    pub(super) console: Option<String>,
    /// The node's name.
    pub(super) node: String,
}

impl Card {
    /// The request as it stands in `case`, after `what`.
    pub(super) fn of(case: &Case, what: What, look: &Look) -> Self {
        let requested = &case.requested;
        let asked = &requested.asked;
        let short = requested.request.short();
        let workload = line(&requested.workload);
        let summary = format!("{workload} wants {} on {}", effects(asked), line(&requested.resource));
        let mut facts = vec![("who", who(case, &workload)), ("where", place(case, look))];
        facts.push(("what", format!("{} ({})", effects(asked), line(&asked.kind))));
        if !asked.objects.is_empty() {
            facts.push(("touches", several(asked.objects.iter().map(|object| line(&object.to_string())))));
        }
        if let Some(impact) = &case.impact {
            // What ran already are statements as well.
            let ran = if look.show == Show::Kind { Vec::new() } else { impact.ran.clone() };
            let lines = Impact { ran, ..impact.clone() }.lines();
            if !lines.is_empty() {
                facts.push(("would touch", several(lines.iter().map(|one| line(one)))));
            }
        }
        if !asked.unknown.is_empty() {
            facts.push(("unclear", several(asked.unknown.iter().map(|why| line(why)))));
        }
        facts.push(("rule", line(&asked.rule)));
        facts.push(("why", line(&asked.why)));
        facts.push(("may decide", several(asked_in_words(&requested.approval).iter().map(|who| line(who)))));
        facts.extend(case.words.iter().map(|word| {
            let did = if word.approve { "approved by" } else { "denied by" };
            let reason = word.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", line(reason)));
            (did, line(&word.by) + &cut(&reason, LONGEST_LINE))
        }));
        if let Some((by, reason)) = &case.broke {
            facts.push(("released alone by", format!("{}: {}", line(by), line(reason))));
        }
        facts.extend(
            case.said
                .iter()
                .rev()
                .take(MOST_ITEMS)
                .rev()
                .map(|(who, text)| ("said", format!("{}: {}", line(who), line(text)))),
        );
        if let Some(granted) = &case.granted {
            facts.push((
                "grant",
                format!("{}: {} more uses until {}", granted.grant.short(), granted.uses, time(granted.expires)),
            ));
        }
        if case.closed.is_none() {
            let left = case.left(Timestamp::now());
            facts.push(("time left", format!("{}, until {}", rounded(left), time(case.deadline()))));
        }
        Self {
            headline: headline(case, what, &short),
            summary,
            tone: tone(what),
            facts,
            statement: (look.show == Show::Statement).then(|| Statement::of(&asked.text, look.longest)),
            cautions: cautions(&asked.text).iter().map(|caution| line(caution)).collect(),
            link: look.console.as_ref().map(|url| format!("{url}/requests/{}", requested.request)),
            command: format!("holdpoint approvals show {short}"),
        }
    }

    /// What stands below a statement: how much of it there is, and where the rest can be read.
    pub(super) fn rest(&self) -> Option<String> {
        let statement = self.statement.as_ref().filter(|statement| !statement.whole)?;
        let place = self.link.as_ref().unwrap_or(&self.command);
        Some(format!("cut here: {} bytes in all; read all of it: {place}", statement.bytes))
    }
}

impl Statement {
    fn of(text: &[u8], longest: usize) -> Self {
        // Nothing of what is beyond the cut need be looked at.
        let start = &text[..text.len().min(longest.saturating_mul(4))];
        let shown = visible_lines(start);
        let cut: String = shown.chars().take(longest).collect();
        let whole = cut.len() == shown.len() && start.len() == text.len();
        Self { text: cut, bytes: text.len(), whole }
    }
}

fn headline(case: &Case, what: What, short: &str) -> String {
    let by = |approve: bool| {
        let names: Vec<_> =
            case.words.iter().filter(|word| word.approve == approve).map(|word| line(&word.by)).collect();
        if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
    };
    let quorum = case.requested.approval.people();
    match what {
        What::Opened | What::Previewed if quorum > 1 => format!("Approval needed ({quorum} people): {short}"),
        What::Opened | What::Previewed => format!("Approval needed: {short}"),
        What::Asked => format!("Now asked: {}: {short}", several(case.asked.iter().map(|who| line(who)))),
        What::Said => format!("Somebody said something about {short}"),
        What::BrokenGlass => {
            let by = case.broke.as_ref().map_or_else(String::new, |(by, _)| format!(" by {}", line(by)));
            format!("Released{by} alone, in an emergency: {short}")
        }
        What::Counted => format!("{} of {quorum} approved{}: {short}", case.approved_by().count(), by(true)),
        What::Approved => format!("Approved{}: {short}", by(true)),
        What::Denied => format!("Denied{}: {short}", by(false)),
        What::Expired => format!("Refused, nobody approved it in time: {short}"),
        What::Withdrawn => format!("Withdrawn by the client: {short}"),
        What::Restarted => format!("Refused, the gateway stopped while it was held: {short}"),
        What::Granted => format!("Approved{} as a grant: {short}", by(true)),
        What::GrantEnded => {
            let how = case.grant_ended.as_ref().map_or_else(String::new, |how| format!(", {}", line(how)));
            format!("The grant has ended{how}: {short}")
        }
    }
}

const fn tone(what: What) -> Tone {
    match what {
        What::Opened | What::Previewed | What::Asked | What::Said | What::Counted => Tone::Waiting,
        What::Approved | What::Granted => Tone::Good,
        What::Denied | What::Expired | What::BrokenGlass => Tone::Bad,
        What::Withdrawn | What::Restarted | What::GrantEnded => Tone::Over,
    }
}

fn who(case: &Case, workload: &str) -> String {
    let Some(connected) = &case.connected else { return workload.to_owned() };
    let process = &connected.process;
    let user = process.user.as_deref().map_or_else(|| process.uid.to_string(), line);
    let program = process.executable.as_ref().map(|path| line(&path.to_string_lossy()));
    let program = program.map_or_else(String::new, |program| format!(" running {program}"));
    format!("{workload}, as user {user}{program}")
}

fn place(case: &Case, look: &Look) -> String {
    let to =
        case.connected.as_ref().map_or_else(String::new, |connected| format!(" at {}", line(&connected.destination)));
    format!("{}{to}, from node {}", line(&case.requested.resource), line(&look.node))
}

fn effects(asked: &Asked) -> String {
    if asked.effects.is_empty() { "nothing known".to_owned() } else { asked.effects.to_string() }
}

/// Made visible, on one line that is not too long.
fn line(text: &str) -> String {
    cut(&visible(text.as_bytes()), LONGEST_LINE)
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The first few, and how many more there are.
fn several(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(MOST_ITEMS);
    let mut shown: Vec<_> = items.take(MOST_ITEMS).collect();
    shown.extend((more > 0).then(|| format!("and {more} more")));
    shown.join("; ")
}

/// A moment, for people of any place.
pub(super) fn time(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Minutes, or seconds where there is less than one.
fn rounded(left: Duration) -> String {
    let seconds = left.as_secs();
    let whole = if seconds < 60 { seconds } else { seconds - seconds % 60 };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// More than anybody reads of a name, characters.
const LONGEST_LINE: usize = 300;

/// More than anybody reads of a list.
const MOST_ITEMS: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::channels::event::tests::opened;

    pub(in crate::channels) fn look(show: Show) -> Look {
        Look { show, longest: 100, console: Some("https://console.example".to_owned()), node: "n1".to_owned() }
    }

    #[test]
    fn a_card_says_who_what_where_why_and_how_long_and_never_a_parameter() {
        let case = opened(b"DELETE FROM orders WHERE id = $1").now;
        let card = Card::of(&case, What::Opened, &look(Show::Statement));
        let all = format!("{card:?}");
        for wanted in [
            "(2 people)",
            "delete on shop",
            "group dba",
            "deletes",
            "second",
            "14m",
            "UTC",
            "/requests/",
            "public.or<ders>",
        ] {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
        assert!(!all.contains("parameter-canary"), "{all}");
        assert!(!all.contains('\r') && card.summary.contains("\\r\\nBcc"), "{}", card.summary);
    }

    #[test]
    fn a_long_statement_is_cut_with_its_length_and_a_link_and_a_secret_one_is_not_shown() {
        let text = format!("SELECT '{}statement-canary'", "é\u{202e}".repeat(500));
        let case = opened(text.as_bytes()).now;
        let card = Card::of(&case, What::Opened, &look(Show::Statement));
        let statement = card.statement.clone().expect("it is shown");
        assert_eq!(statement.text.chars().count(), 100);
        assert!(statement.text.contains("\\u{202e}") && !statement.text.contains('\u{202e}'), "{}", statement.text);
        let rest = card.rest().expect("there is more");
        assert!(
            rest.contains(&format!("{} bytes", text.len())) && rest.contains("https://console.example/requests/"),
            "{rest}"
        );
        assert!(!card.cautions.is_empty());
        let kind = Card::of(&case, What::Opened, &look(Show::Kind));
        assert!(kind.statement.is_none() && kind.rest().is_none() && !format!("{kind:?}").contains("SELECT"));
        let short = Card::of(&opened(b"SELECT 1\n, 2").now, What::Opened, &look(Show::Statement));
        assert_eq!(
            short.statement.map(|statement| (statement.text, statement.whole)),
            Some(("SELECT 1\n, 2".to_owned(), true))
        );
    }
}
