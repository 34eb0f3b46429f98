//! `on_call:` in the settings: whose turn it is, and when.

use std::time::Duration;

use jiff::{Timestamp, Unit, Zoned};
use serde::Deserialize;

/// People who take turns.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rota {
    people: Vec<String>,
    turn: Turn,
    /// When the first one's first turn began.
    starts: Zoned,
    overrides: Vec<Override>,
}

/// How long a turn is.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// So many days of the calendar: it changes at the same time of day, whatever clocks do meanwhile.
    Days(u32),
    /// So long.
    Time(Duration),
}

/// Somebody in another's place.
#[derive(Debug, Clone)]
struct Override {
    who: String,
    from: Zoned,
    to: Zoned,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    people: Vec<String>,
    every: String,
    starts: String,
    #[serde(default)]
    overrides: Vec<WrittenOverride>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOverride {
    who: String,
    from: String,
    to: String,
}

impl Rota {
    /// Whose turn it is; nobody's before the first turn. Of several overrides the last one written holds.
    pub fn on_call(&self, at: Timestamp) -> Option<&str> {
        let stand_in = self.overrides.iter().rfind(|one| one.from.timestamp() <= at && at < one.to.timestamp());
        if let Some(one) = stand_in {
            return Some(&one.who);
        }
        let turns = match self.turn {
            _ if at < self.starts.timestamp() => return None,
            Turn::Days(days) => {
                let here = at.to_zoned(self.starts.time_zone().clone());
                let passed = self.starts.until((Unit::Day, &here)).ok()?.get_days();
                u64::try_from(passed).ok()? / u64::from(days)
            }
            Turn::Time(time) => {
                let passed = at.duration_since(self.starts.timestamp());
                u64::try_from(passed.as_nanos() / i128::try_from(time.as_nanos()).ok()?).ok()?
            }
        };
        let place = usize::try_from(turns % self.people.len() as u64).ok()?;
        self.people.get(place).map(String::as_str)
    }

    /// Everybody in it.
    pub fn people(&self) -> impl Iterator<Item = &str> {
        self.people.iter().chain(self.overrides.iter().map(|one| &one.who)).map(String::as_str)
    }
}

impl TryFrom<Written> for Rota {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { people, every, starts, overrides } = written;
        if people.is_empty() || people.iter().any(|name| name.trim().is_empty()) {
            return Err("`people` must name at least one person, such as `people: [ann, bob]`".to_owned());
        }
        let time = humantime::parse_duration(&every).ok().filter(|time| *time >= Duration::from_secs(60));
        let time = time.ok_or_else(|| format!("`{every}` is no turn; write it as `7d` or `12h`, at least a minute"))?;
        const DAY: u64 = 24 * 60 * 60;
        let days = u32::try_from(time.as_secs() / DAY).map_err(|_| format!("`{every}` is too long a turn"))?;
        let turn = if time.as_secs() % DAY == 0 { Turn::Days(days) } else { Turn::Time(time) };
        let overrides = overrides.into_iter().map(|one| {
            let (from, to) = (moment(&one.from)?, moment(&one.to)?);
            if from >= to {
                return Err(format!("the override of {} ends before it begins", one.who));
            }
            Ok(Override { who: one.who, from, to })
        });
        Ok(Self { people, turn, starts: moment(&starts)?, overrides: overrides.collect::<Result<_, _>>()? })
    }
}

fn moment(written: &str) -> Result<Zoned, String> {
    written.parse().map_err(|_| {
        format!("`{written}` is no moment with a time zone; write it as `2026-11-02T09:00[Europe/Berlin]`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rota(written: &str) -> Result<Rota, String> {
        serde_saphyr::from_str(written).map_err(|error| error.to_string())
    }

    fn turns(rota: &Rota, expected: &[(&str, Option<&str>)]) {
        for (at, who) in expected {
            let at: Zoned = at.parse().expect("a moment");
            assert_eq!(rota.on_call(at.timestamp()), *who, "{at}");
        }
    }

    #[test]
    fn a_turn_of_days_changes_at_the_same_time_of_day_when_the_clocks_do() {
        let weekly = "{people: [ann, bob, cy], every: 7d, starts: '2026-03-23T09:00[Europe/Berlin]'}";
        turns(
            &rota(weekly).expect("it is right"),
            &[
                ("2026-03-23T08:59:59[Europe/Berlin]", None),
                ("2026-03-23T09:00[Europe/Berlin]", Some("ann")),
                // Clocks went forward on the 29th: a week of 167 hours.
                ("2026-03-30T08:59:59[Europe/Berlin]", Some("ann")),
                ("2026-03-30T09:00[Europe/Berlin]", Some("bob")),
                ("2026-03-30T07:00[UTC]", Some("bob")),
                ("2026-04-06T09:00[Europe/Berlin]", Some("cy")),
                ("2026-04-13T09:00[Europe/Berlin]", Some("ann")),
                // And back on 25 October: 30 weeks and an hour after the start, and 31 weeks after it.
                ("2026-10-26T08:59:59[Europe/Berlin]", Some("ann")),
                ("2026-10-26T09:00[Europe/Berlin]", Some("bob")),
            ],
        );
        let daily = "{people: [ann, bob], every: 1d, starts: '2026-03-28T02:30[Europe/Berlin]'}";
        // The 29th has no 02:30.
        turns(
            &rota(daily).expect("it is right"),
            &[
                ("2026-03-29T01:59:59[Europe/Berlin]", Some("ann")),
                ("2026-03-29T03:30[Europe/Berlin]", Some("bob")),
                ("2026-03-30T02:29:59[Europe/Berlin]", Some("bob")),
                ("2026-03-30T02:30[Europe/Berlin]", Some("ann")),
            ],
        );
    }

    #[test]
    fn a_turn_of_hours_is_as_long_as_it_says() {
        let halves = "{people: [ann, bob], every: 12h, starts: '2026-10-24T20:00[Europe/Berlin]'}";
        turns(
            &rota(halves).expect("it is right"),
            &[
                ("2026-10-25T06:59:59[Europe/Berlin]", Some("ann")),
                // The night had thirteen hours by the clock.
                ("2026-10-25T07:00[Europe/Berlin]", Some("bob")),
                ("2026-10-25T19:00[Europe/Berlin]", Some("ann")),
            ],
        );
    }

    #[test]
    fn somebody_may_stand_in() {
        let written = "
people: [ann, bob]
every: 7d
starts: 2026-11-02T09:00[Europe/Berlin]
overrides:
  - { who: dee, from: '2026-11-03T09:00[Europe/Berlin]', to: '2026-11-05T09:00[Europe/Berlin]' }
  - { who: eli, from: '2026-11-04T09:00[Europe/Berlin]', to: '2026-11-04T10:00[Europe/Berlin]' }
";
        let rota = rota(written).expect("it is right");
        turns(
            &rota,
            &[
                ("2026-11-03T08:59[Europe/Berlin]", Some("ann")),
                ("2026-11-03T09:00[Europe/Berlin]", Some("dee")),
                ("2026-11-04T09:30[Europe/Berlin]", Some("eli")),
                ("2026-11-04T10:00[Europe/Berlin]", Some("dee")),
                ("2026-11-05T09:00[Europe/Berlin]", Some("ann")),
            ],
        );
        assert_eq!(rota.people().collect::<Vec<_>>(), ["ann", "bob", "dee", "eli"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (written, why) in [
            ("{people: [], every: 7d, starts: '2026-11-02T09:00[UTC]'}", "at least one person"),
            ("{people: [a], every: often, starts: '2026-11-02T09:00[UTC]'}", "`often` is no turn"),
            ("{people: [a], every: 1s, starts: '2026-11-02T09:00[UTC]'}", "at least a minute"),
            ("{people: [a], every: 7d, starts: '2026-11-02T09:00'}", "no moment with a time zone"),
            ("{people: [a], every: 7d, starts: '2026-11-02T09:00[Europe/Nowhere]'}", "no moment with a time zone"),
            ("{people: [a], evry: 7d}", "evry"),
            (
                "{people: [a], every: 7d, starts: '2026-11-02T09:00[UTC]', overrides: [{who: b, from: '2026-11-02T09:00[UTC]', to: '2026-11-02T09:00[UTC]'}]}",
                "ends before it begins",
            ),
        ] {
            let error = rota(written).expect_err("it is wrong");
            assert!(error.contains(why), "{written}: {error}");
        }
    }
}
