//! What somebody did to the guard behind the gateway's back: found, put right where that is possible, counted, and
//! remembered for a while.
//!
//! Whoever asks for health once in ten seconds would never see damage that is mended within one. So the counts stay,
//! and health stays red for [`SHOWN`] after the last damage.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// What was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A program is attached no more.
    Link,
    /// Another program is behind a link.
    Program,
    /// A link or a map would not outlive the gateway.
    Pin,
    /// The rules in force are not the gateway's.
    Rules,
    /// A guarded cgroup was removed, or is another one of the same name.
    Guard,
    /// The deny of a network namespace is gone.
    Deny,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [Kind::Link, Kind::Program, Kind::Pin, Kind::Rules, Kind::Guard, Kind::Deny];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Link => "link",
            Kind::Program => "program",
            Kind::Pin => "pin",
            Kind::Rules => "rules",
            Kind::Guard => "guard",
            Kind::Deny => "deny",
        }
    }
}

/// One thing that was found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of thing.
    pub kind: Kind,
    /// Which, and how, in words.
    pub what: String,
    /// Whether it is as it should be again, or why not.
    pub repaired: Result<(), String>,
}

/// What was found so far. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Damages(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    repairs: BTreeMap<Kind, u64>,
    /// What could not be repaired, and when that was said last.
    said: BTreeMap<String, Instant>,
    last: Option<(Damage, Instant)>,
}

/// The last damage, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Last {
    /// What.
    pub what: String,
    /// How long ago it was found, in seconds.
    pub seconds_ago: f64,
    /// Why it could not be repaired; `None` when it was.
    pub unrepaired: Option<String>,
}

impl Damages {
    /// Takes note of `damage`, in the log too. What could not be repaired is found at every look, and said once in
    /// [`SAID`].
    pub fn note(&self, damage: Damage) {
        let mut seen = self.lock();
        match &damage.repaired {
            Ok(()) => {
                *seen.repairs.entry(damage.kind).or_default() += 1;
                tracing::error!(kind = damage.kind.as_str(), "damaged and repaired: {}", damage.what);
            }
            Err(why) => {
                seen.said.retain(|_, at| at.elapsed() < SAID);
                if !seen.said.contains_key(&damage.what) {
                    seen.said.insert(damage.what.clone(), Instant::now());
                    tracing::error!(kind = damage.kind.as_str(), why, "damaged and NOT repaired: {}", damage.what);
                }
            }
        }
        seen.last = Some((damage, Instant::now()));
    }

    /// How often each kind was repaired.
    pub fn repairs(&self) -> BTreeMap<&'static str, u64> {
        let seen = self.lock();
        Kind::ALL.into_iter().map(|kind| (kind.as_str(), seen.repairs.get(&kind).copied().unwrap_or(0))).collect()
    }

    /// The last damage, however long ago.
    pub fn last(&self) -> Option<Last> {
        self.lock().last.as_ref().map(|(damage, at)| Last {
            what: damage.what.clone(),
            seconds_ago: at.elapsed().as_secs_f64(),
            unrepaired: damage.repaired.clone().err(),
        })
    }

    /// The last damage, while it is recent enough to show.
    pub fn recent(&self) -> Option<Last> {
        self.last().filter(|last| last.seconds_ago < SHOWN.as_secs_f64())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // The counts are whole at every point where a holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long health stays red after damage that was repaired: longer than the usual period of a probe (ten seconds), so
/// that at least one sees it, and shorter than the three in a row after which an orchestrator acts.
pub const SHOWN: Duration = Duration::from_secs(12);

/// How often damage that stays is said in the log.
const SAID: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_counted_and_the_last_damage_is_shown() {
        let damages = Damages::default();
        assert_eq!((damages.recent(), damages.repairs()["link"]), (None, 0));
        let one = |repaired| Damage { kind: Kind::Link, what: "connect4".into(), repaired };
        damages.note(one(Ok(())));
        damages.note(one(Ok(())));
        assert_eq!(damages.repairs()["link"], 2);
        assert_eq!(damages.recent().expect("just now").unrepaired, None);
        damages.note(one(Err("no".into())));
        assert_eq!(damages.repairs()["link"], 2, "what is not repaired is no repair");
        assert_eq!(damages.recent().expect("just now").unrepaired.as_deref(), Some("no"));
    }
}
