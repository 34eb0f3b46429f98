//! The rules in force: those of the policies, and for a moment those of a trial.
//!
//! A trial governs one port of the loopback addresses, so that `holdpoint doctor --probe` can see what reaches a
//! listener of its own there. It ends by itself, and never takes a rule away.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    intercept::{Action, InterceptError, Interceptor, Network, Rule},
    namespaces::Namespaces,
};

/// Puts rules in force, in the kernel programs and in every guarded network namespace.
pub struct Rulebook {
    interceptor: Arc<Interceptor>,
    namespaces: Arc<Namespaces>,
    pages: Mutex<Pages>,
}

struct Pages {
    policies: Vec<Rule>,
    trials: Vec<(u16, Instant)>,
}

/// How long a trial may last.
pub const TRIAL: Duration = Duration::from_secs(30);

/// Trials at a time.
const TRIALS: usize = 8;

impl Rulebook {
    /// With the policies' rules, which are in force already.
    pub fn new(interceptor: Arc<Interceptor>, namespaces: Arc<Namespaces>, policies: Vec<Rule>) -> Self {
        Self { interceptor, namespaces, pages: Mutex::new(Pages { policies, trials: Vec::new() }) }
    }

    /// The policies' rules are these from now on.
    ///
    /// # Errors
    /// As [`Interceptor::replace_rules`]; the old ones stay in force.
    pub fn replace(&self, policies: Vec<Rule>) -> Result<(), InterceptError> {
        let mut pages = self.lock();
        // Names are resolved again and again, and mostly to the same: a table is not built for that.
        if pages.policies == policies {
            return Ok(());
        }
        let before = std::mem::replace(&mut pages.policies, policies);
        let done = self.put_in_force(&pages);
        if done.is_err() {
            // So that the next time it is tried again.
            pages.policies = before;
        }
        done
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
        Ok(self.put_in_force(&pages)?)
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
        if pages.trials.len() == before { Ok(()) } else { self.put_in_force(&pages) }
    }

    fn put_in_force(&self, pages: &Pages) -> Result<(), InterceptError> {
        let rules = all(pages);
        self.interceptor.replace_rules(&rules)?;
        self.namespaces.replace_rules(rules);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // Both lists are whole at every point where a holder could panic.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(pages: &Pages) -> Vec<Rule> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let trial =
        |port: u16| loopback.map(|addr| Rule { to: Network::from(addr), port: Some(port), action: Action::Intercept });
    pages.policies.iter().copied().chain(pages.trials.iter().flat_map(|(port, _)| trial(*port))).collect()
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
        let pages = Pages { policies: vec![policy], trials: vec![(4711, Instant::now())] };
        let shown: Vec<_> = all(&pages).iter().map(|rule| (rule.to.to_string(), rule.port, rule.action)).collect();
        let intercept = |to: &str| (to.to_owned(), Some(4711), Action::Intercept);
        let refused = ("10.0.3.7/32".to_owned(), Some(5432), Action::Refuse);
        assert_eq!(shown, [refused, intercept("127.0.0.1/32"), intercept("::1/128")]);
    }
}
