//! The rules in force: those of the policies, what is learnt from answers for names, and for a moment those of a trial.
//!
//! Whatever changes them changes them here, one after the other.
//!
//! A trial governs one port of the loopback addresses, so that `holdpoint doctor --probe` can see what reaches a
//! listener of its own there. It ends by itself, and never takes a rule away.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    intercept::{Action, InterceptError, Interceptor, Network, Rule},
    net::NamespaceId,
    resources::{Destinations, Resolved},
};

/// Puts rules in force, in the kernel programs and in every guarded network namespace.
pub struct Rulebook {
    interceptor: Arc<Interceptor>,
    destinations: Arc<Destinations>,
    follower: OnceLock<Box<Follower>>,
    pages: Mutex<Pages>,
}

/// Is given the rules whenever they change, and the namespace in which they are wanted at once.
pub type Follower = dyn Fn(Vec<Rule>, Option<NamespaceId>) + Send + Sync;

struct Pages {
    policies: Vec<Rule>,
    learnt: Vec<Rule>,
    trials: Vec<(u16, Instant)>,
}

/// How long a trial may last.
pub const TRIAL: Duration = Duration::from_secs(30);

/// Trials at a time.
const TRIALS: usize = 8;

impl Rulebook {
    /// Puts what was resolved in force, and what earlier gateways have learnt.
    ///
    /// # Errors
    /// As [`Interceptor::replace_rules`].
    pub fn new(
        interceptor: Arc<Interceptor>,
        destinations: Arc<Destinations>,
        resolved: &Resolved,
    ) -> Result<Self, InterceptError> {
        destinations.put_in_force(resolved);
        let pages = Pages { policies: resolved.rules.clone(), learnt: destinations.learnt_rules(), trials: Vec::new() };
        let book = Self { interceptor, destinations, follower: OnceLock::new(), pages: Mutex::new(pages) };
        {
            let mut pages = book.lock();
            match book.put_in_force(&pages, None) {
                // What bots were told must not keep a gateway from starting.
                Err(error) if !pages.learnt.is_empty() => {
                    tracing::error!(%error, "without the addresses that bots were told earlier");
                    pages.learnt = Vec::new();
                    book.put_in_force(&pages, None)?;
                }
                done => done?,
            }
            book.destinations.confirm(&pages.learnt);
        }
        Ok(book)
    }

    /// The rules now.
    pub fn rules(&self) -> Vec<Rule> {
        all(&self.lock())
    }

    /// From now on `follower` is told, at once for the first time. The first one stays.
    pub fn follow(&self, follower: Box<Follower>) {
        let pages = self.lock();
        follower(all(&pages), None);
        _ = self.follower.set(follower);
    }

    /// What the policies say, and where their hosts are, is this from now on.
    ///
    /// # Errors
    /// As [`Interceptor::replace_rules`]; the old rules stay in force.
    pub fn replace(&self, resolved: &Resolved) -> Result<(), InterceptError> {
        let mut pages = self.lock();
        // Names first: an address that the kernel brings must be known here.
        self.destinations.put_in_force(resolved);
        let learnt = self.destinations.learnt_rules();
        // Names are resolved again and again, and mostly to the same: a table is not built for that.
        if pages.policies == resolved.rules && pages.learnt == learnt {
            return Ok(());
        }
        let next = Pages { policies: resolved.rules.clone(), learnt, trials: pages.trials.clone() };
        self.put_in_force(&next, None)?;
        self.destinations.confirm(&next.learnt);
        *pages = next;
        Ok(())
    }

    /// Puts in force what a bot in `namespace` is about to hear. It may block.
    ///
    /// # Errors
    /// As [`Interceptor::replace_rules`]: the bot must not hear it.
    pub fn learn(&self, namespace: NamespaceId) -> Result<(), InterceptError> {
        let mut pages = self.lock();
        let learnt = self.destinations.learnt_rules();
        // Somebody else may have put it in force meanwhile, but perhaps not in this namespace.
        let next = Pages { policies: pages.policies.clone(), learnt, trials: pages.trials.clone() };
        if next.learnt == pages.learnt {
            self.tell(&next, Some(namespace));
        } else {
            self.put_in_force(&next, Some(namespace))?;
        }
        self.destinations.confirm(&next.learnt);
        *pages = next;
        Ok(())
    }

    /// Governs `port` of 127.0.0.1 and `::1` for [`TRIAL`].
    ///
    /// # Errors
    /// Too many trials are under way, or the kernel refuses.
    pub fn begin_trial(&self, port: u16) -> Result<(), TrialError> {
        let mut pages = self.lock();
        if pages.trials.len() >= TRIALS {
            return Err(TrialError::Busy);
        }
        pages.trials.push((port, Instant::now() + TRIAL));
        Ok(self.put_in_force(&pages, None)?)
    }

    /// Ends the trial of `port`, before its time.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_trial(&self, port: u16) -> Result<(), InterceptError> {
        self.keep_trials(|(of, _)| *of != port)
    }

    /// Ends the trials whose time is over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_old_trials(&self) -> Result<(), InterceptError> {
        let now = Instant::now();
        self.keep_trials(|(_, until)| *until > now)
    }

    fn keep_trials(&self, wanted: impl FnMut(&(u16, Instant)) -> bool) -> Result<(), InterceptError> {
        let mut pages = self.lock();
        let before = pages.trials.len();
        pages.trials.retain(wanted);
        if pages.trials.len() == before { Ok(()) } else { self.put_in_force(&pages, None) }
    }

    fn put_in_force(&self, pages: &Pages, urgent: Option<NamespaceId>) -> Result<(), InterceptError> {
        self.interceptor.replace_rules(&all(pages))?;
        self.tell(pages, urgent);
        Ok(())
    }

    fn tell(&self, pages: &Pages, urgent: Option<NamespaceId>) {
        if let Some(follower) = self.follower.get() {
            follower(all(pages), urgent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // The lists are whole at every point where a holder could panic.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(pages: &Pages) -> Vec<Rule> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let trial =
        |port: u16| loopback.map(|addr| Rule { to: Network::from(addr), port: Some(port), action: Action::Intercept });
    let stated = pages.policies.iter().chain(&pages.learnt).copied();
    stated.chain(pages.trials.iter().flat_map(|(port, _)| trial(*port))).collect()
}

/// Why there is no trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Somebody probes already, many times over.
    #[error("{TRIALS} trials are under way: wait until one of them has ended, at most {} seconds", TRIAL.as_secs())]
    Busy,
    /// The kernel's own.
    #[error(transparent)]
    Kernel(#[from] InterceptError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_adds_both_loopbacks_and_takes_nothing_away() {
        let policy = Rule { to: "10.0.3.7".parse().expect("an address"), port: Some(5432), action: Action::Refuse };
        let pages = Pages { policies: vec![policy], learnt: Vec::new(), trials: vec![(4711, Instant::now())] };
        let shown: Vec<_> = all(&pages).iter().map(|rule| (rule.to.to_string(), rule.port, rule.action)).collect();
        let intercept = |to: &str| (to.to_owned(), Some(4711), Action::Intercept);
        let refused = ("10.0.3.7/32".to_owned(), Some(5432), Action::Refuse);
        assert_eq!(shown, [refused, intercept("127.0.0.1/32"), intercept("::1/128")]);
    }
}
