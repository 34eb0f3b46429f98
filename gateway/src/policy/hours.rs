//! When people are asked: days and hours of a time zone, read from `hours:`.

use serde::{Deserialize, Serialize};

use super::{
    Who,
    fields::{self, Fields, Notes},
    yaml::{Node, Tree, brief},
};

/// Working hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Which days, Monday first.
    pub days: [bool; 7],
    /// From this minute of the day on.
    pub from: u16,
    /// Up to this minute of the day, which is outside.
    pub to: u16,
    /// The time zone, by its name in the IANA database.
    pub zone: String,
    /// What happens outside of them.
    pub otherwise: Otherwise,
}

/// What happens to what would be held outside of hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// It is refused.
    Refuse,
    /// Whoever is on call in this rotation is asked, alone.
    OnCall(String),
}

impl Otherwise {
    pub(super) fn who(&self) -> Option<Who> {
        match self {
            Otherwise::Refuse => None,
            Otherwise::OnCall(name) => Some(Who::OnCall(name.clone())),
        }
    }
}

impl Hours {
    /// Whether this moment lies in them. A zone that is not known has no hours.
    pub fn contain(&self, at: jiff::Timestamp) -> bool {
        let Ok(here) = at.in_tz(&self.zone) else { return false };
        let minute = i32::from(here.hour()) * 60 + i32::from(here.minute());
        let day = usize::try_from(here.weekday().to_monday_zero_offset()).unwrap_or_default();
        self.days.get(day) == Some(&true) && (i32::from(self.from)..i32::from(self.to)).contains(&minute)
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days: Vec<_> = DAYS.iter().zip(self.days).filter(|(_, is)| *is).map(|((name, _), _)| *name).collect();
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{} {}–{} {}", days.join(", "), clock(self.from), clock(self.to), self.zone)
    }
}

const DAYS: [(&str, usize); 7] = [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];

/// Reads `hours:`.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Hours> {
    let fields = Fields::read(node, "hours", &["days", "from", "to", "zone", "otherwise"], notes)?;
    let days =
        fields.need("days", "days such as `mon-fri` or `[mon, wed]`", notes).and_then(|node| read_days(node, notes));
    let from = fields.need("from", "a time such as `from: \"08:00\"`", notes);
    let to = fields.need("to", "a time such as `to: \"18:00\"`", notes);
    let times = from.zip(to).and_then(|(from, to)| {
        let (start, end) = (read_time(from, "from", notes), read_time(to, "to", notes));
        let (start, end) = (start?, end?);
        if start >= end {
            notes.note(to.at, "`to` must be later than `from` on the same day; write two policies for a night");
            return None;
        }
        Some((start, end))
    });
    let zone =
        fields.need("zone", "a time zone such as `zone: Europe/Berlin`", notes).and_then(|node| read_zone(node, notes));
    let otherwise = fields
        .need("otherwise", "`otherwise: refuse` or `otherwise: { on_call: NAME }`", notes)
        .and_then(|node| read_otherwise(node, notes));
    let (from, to) = times?;
    Some(Hours { days: days?, from, to, zone: zone?, otherwise: otherwise? })
}

fn read_days(node: &Node, notes: &mut Notes) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for node in fields::some(node, "days", notes) {
        let text = fields::text(node, "days", notes)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let day = |name: &str| DAYS.iter().find(|(known, _)| *known == name.trim()).map(|(_, day)| *day);
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            let known = "expected `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`, or two of them such as `mon-fri`";
            notes.note(node.at, format!("`{}` are no days; {known}", brief(text)));
            return None;
        };
        // `fri-mon` goes over the week's end.
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|next| days[(first + next) % 7] = true);
    }
    days.contains(&true).then_some(days)
}

fn read_time(node: &Node, what: &str, notes: &mut Notes) -> Option<u16> {
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        let all = hour * 60 + minute;
        (hour <= 24 && minute < 60 && all <= 24 * 60).then_some(all)
    };
    let found = match &node.tree {
        Tree::Text(text) => minutes(text),
        _ => None,
    };
    if found.is_none() {
        notes.note(
            node.at,
            format!("expected a time from \"00:00\" to \"24:00\" for `{what}`, in quotes, found {}", node.noun()),
        );
    }
    found
}

fn read_zone(node: &Node, notes: &mut Notes) -> Option<String> {
    let name = fields::name(node, "zone", notes)?;
    if jiff::tz::TimeZone::get(name).is_err() {
        let shown = brief(name);
        notes.note(node.at, format!("`{shown}` is no time zone; expected a name such as `Europe/Berlin` or `UTC`"));
        return None;
    }
    Some(name.to_owned())
}

fn read_otherwise(node: &Node, notes: &mut Notes) -> Option<Otherwise> {
    match &node.tree {
        Tree::Map(_) => {
            let fields = Fields::read(node, "otherwise", &["on_call"], notes)?;
            let name = fields.need("on_call", "`on_call: NAME`, a rotation of the settings", notes)?;
            Some(Otherwise::OnCall(fields::name(name, "on_call", notes)?.to_owned()))
        }
        _ => fields::word(node, "otherwise", &[("refuse", ())], notes).map(|()| Otherwise::Refuse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_zone_whatever_its_clock_does() {
        let days = [true, true, true, true, true, false, false];
        let hours =
            Hours { days, from: 8 * 60, to: 18 * 60, zone: "Europe/Berlin".into(), otherwise: Otherwise::Refuse };
        for (at, inside) in [
            ("2026-11-23T06:59:59Z", false),
            ("2026-11-23T07:00:00Z", true),
            ("2026-11-23T16:59:59Z", true),
            ("2026-11-23T17:00:00Z", false),
            // Saturday.
            ("2026-11-21T12:00:00Z", false),
            // In summer eight o'clock is an hour earlier.
            ("2026-07-01T06:00:00Z", true),
            ("2026-07-01T05:59:59Z", false),
            ("2026-07-01T16:00:00Z", false),
            // Friday there, Saturday further east.
            ("2026-03-27T16:30:00Z", true),
        ] {
            assert_eq!(hours.contain(at.parse().expect("a moment")), inside, "{at}");
        }
        let nowhere = Hours { zone: "Europe/Nowhere".into(), ..hours };
        assert!(!nowhere.contain("2026-11-23T12:00:00Z".parse().expect("a moment")));
    }
}
