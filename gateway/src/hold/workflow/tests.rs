//! The machine, explored: every order of events in small worlds to a stated depth, and long random ones, each followed
//! by a referee that knows the rules in another way.

use proptest::prelude::*;

use super::*;
use crate::policy::{Approver, Need};

/// A moment in these worlds.
const TICK: Duration = Duration::from_secs(60);

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Approve(usize),
    Deny(usize),
    Say(usize),
    Break(usize),
    Tick,
    Withdraw,
    Stop,
}

/// Who there is, and what is asked of them.
struct World {
    approval: Approval,
    people: Vec<Decider>,
    acts: Vec<Act>,
}

fn who(word: &str) -> Who {
    match word.split_once(' ') {
        Some(("group", name)) => Who::Group(name.to_owned()),
        Some(("user", name)) => Who::User(name.to_owned()),
        _ => panic!("`{word}` is nobody"),
    }
}

fn step(need: Need, from: &[(&str, u32)]) -> Step {
    let from = from.iter().map(|(name, after)| Approver { who: who(name), after: TICK * *after });
    Step { from: from.collect(), need }
}

fn person(uid: u32, name: &str, groups: &[&str]) -> Decider {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Decider { person: Person::machine(uid, name.to_owned(), groups), on_call: Vec::new(), loans: Vec::new() }
}

/// Ann's databases, then Bob's and Cy's security, who have a veto; Dee is the bot's owner, Eli its own user.
fn ordered() -> World {
    let steps = vec![
        step(Need::Number(1), &[("group dba", 0), ("group night", 1)]),
        step(Need::Number(1), &[("group security", 0)]),
    ];
    let approval = Approval {
        steps,
        veto: vec![who("group security")],
        break_glass: Some("incident".to_owned()),
        ..Approval::simple(Vec::new(), 1, TICK * 3)
    };
    let people = vec![
        person(1, "ann", &["dba"]),
        person(2, "bob", &["dba", "security"]),
        person(3, "cy", &["security", "night", "incident"]),
        person(4, "dee", &["dba", "security", "incident"]),
    ];
    use Act::*;
    let acts = vec![
        Approve(0),
        Approve(1),
        Approve(2),
        Approve(3),
        Deny(0),
        Deny(2),
        Deny(3),
        Say(0),
        Break(2),
        Tick,
        Withdraw,
        Stop,
    ];
    World { approval, people, acts }
}

/// One for each place, where Cy could take either and Bob was lent Ann's, which is one vote; then one of anybody left.
fn together() -> World {
    let steps = vec![
        step(Need::All, &[("group dba", 0), ("user ann", 0), ("group security", 1)]),
        step(Need::Number(1), &[("group dba", 0)]),
    ];
    let approval = Approval { steps, ..Approval::simple(Vec::new(), 1, TICK * 4) };
    let ann = person(1, "ann", &["dba"]);
    let loan = Loan { delegation: DelegationId::now(), lender: ann.person.clone(), on_call: Vec::new() };
    let bob = Decider { loans: vec![loan], ..person(2, "bob", &[]) };
    let people =
        vec![ann, bob, person(3, "cy", &["dba", "security"]), person(5, "fay", &["dba"]), person(6, "gus", &["dba"])];
    use Act::*;
    let acts = vec![Approve(0), Approve(1), Approve(2), Approve(3), Approve(4), Deny(1), Tick, Withdraw];
    World { approval, people, acts }
}

impl World {
    fn start(&self) -> (Workflow, Referee<'_>) {
        let parties = Parties { uid: 7, barred: vec!["dee".to_owned()], owners: vec!["dee".to_owned()] };
        let opened = Workflow::open(Arc::new(self.approval.clone()), "R".to_owned(), parties);
        let (opened, _) = opened.on(&Event::Time, Duration::ZERO).expect("it is open");
        let referee =
            Referee { world: self, at: Duration::ZERO, since: Duration::ZERO, step: 0, here: vec![], all: vec![] };
        (opened, referee)
    }

    /// Does one thing; the referee says whether what came of it is right.
    fn go<'w>(&'w self, before: &Workflow, mut referee: Referee<'w>, act: Act) -> (Workflow, Referee<'w>) {
        if act == Act::Tick {
            referee.at += TICK;
        }
        let at = referee.at;
        let (reason, ticket, signed) = (Some("why"), None, false);
        let event = match act {
            Act::Approve(by) => Event::Approve { by: &self.people[by], reason, ticket, signed, grant: None },
            Act::Deny(by) => Event::Deny { by: &self.people[by] },
            Act::Say(by) => Event::Say { by: &self.people[by], text: "hm" },
            Act::Break(by) => Event::BreakGlass { by: &self.people[by], reason, signed },
            Act::Tick => Event::Time,
            Act::Withdraw => Event::Withdraw,
            Act::Stop => Event::Stop,
        };
        match before.on(&event, at) {
            Err(error) => {
                let may_fail = !matches!(act, Act::Tick | Act::Withdraw | Act::Stop) || before.ended.is_some();
                assert!(may_fail, "{act:?}: {error}");
                referee.would_refuse(act);
                (before.clone(), referee)
            }
            Ok((then, transitions)) => {
                assert_eq!(before.ended, None, "nothing happens after the end");
                let ends: Vec<_> = transitions.iter().filter(|one| matches!(one, Transition::Ended(_))).collect();
                assert_eq!(ends.len(), usize::from(then.ended.is_some()), "the end is told, once");
                referee.sees(act, &then, &transitions);
                (then, referee)
            }
        }
    }
}

/// Follows along, from the rule and who people are alone.
#[derive(Clone)]
struct Referee<'w> {
    world: &'w World,
    at: Duration,
    since: Duration,
    step: usize,
    /// The places that those who approved in the open step could take when they did: they were asked for no others.
    here: Vec<Vec<usize>>,
    /// Everybody who has approved.
    all: Vec<usize>,
}

impl Referee<'_> {
    /// The places of the open step that somebody may take now, themselves or else by what they were lent.
    fn places(&self, by: usize) -> Vec<usize> {
        let decider = &self.world.people[by];
        let rights = std::iter::once(&decider.person).chain(decider.loans.iter().map(|loan| &loan.lender));
        let step = &self.world.approval.steps[self.step];
        let open = |person: &Person| -> Vec<usize> {
            let entries = step.from.iter().enumerate();
            let due = entries.filter(|(_, entry)| self.since + entry.after <= self.at && person.is(&entry.who));
            due.map(|(place, _)| place).collect()
        };
        rights.map(open).find(|places| !places.is_empty()).unwrap_or_default()
    }

    /// Whether each of these can have a place of their own: all ways to seat them are tried.
    fn seated(places: &[Vec<usize>]) -> bool {
        fn seat(rest: &[Vec<usize>], taken: &[usize]) -> bool {
            let Some((first, rest)) = rest.split_first() else { return true };
            first.iter().filter(|place| !taken.contains(place)).any(|place| seat(rest, &[taken, &[*place]].concat()))
        }
        seat(places, &[])
    }

    /// Whether an approval of this person should count now.
    fn counts(&self, by: usize) -> bool {
        let person = &self.world.people[by].person;
        let by_loan = |of: usize| {
            let lenders = self.world.people[of].loans.iter().map(|loan| loan.lender.name.clone());
            lenders.collect::<Vec<_>>()
        };
        // One vote each, and one between those who lend to each other.
        let voted = self.all.iter().any(|other| {
            let name = &self.world.people[*other].person.name;
            *other == by || by_loan(*other).contains(&person.name) || by_loan(by).contains(name)
        });
        if self.at >= self.world.approval.timeout || person.name == "dee" || voted || self.places(by).is_empty() {
            return false;
        }
        let seats = [self.here.clone(), vec![self.places(by)]].concat();
        self.world.approval.steps[self.step].need != Need::All || Self::seated(&seats)
    }

    fn would_refuse(&self, act: Act) {
        if let Act::Approve(by) = act
            && self.step < self.world.approval.steps.len()
        {
            // Whatever ended it otherwise is no approval's doing.
            assert!(!self.counts(by) || self.ended(), "{by} should count at {:?} in step {}", self.at, self.step);
        }
    }

    fn ended(&self) -> bool {
        self.step == usize::MAX
    }

    fn sees(&mut self, act: Act, then: &Workflow, transitions: &[Transition]) {
        let late = self.at >= self.world.approval.timeout;
        let expected = match act {
            Act::Approve(by) => {
                assert!(self.counts(by), "{by} counted at {:?} in step {}", self.at, self.step);
                self.here.push(self.places(by));
                self.all.push(by);
                let step = &self.world.approval.steps[self.step];
                if self.here.len() == step.people() {
                    (self.step, self.since, self.here) = (self.step + 1, self.at, Vec::new());
                }
                (self.step == self.world.approval.steps.len()).then_some(Outcome::Approved)
            }
            Act::Deny(by) => {
                assert!(!late && self.world.people[by].person.name != "dee");
                Some(Outcome::Denied)
            }
            Act::Break(by) => {
                let person = &self.world.people[by].person;
                assert!(!late && person.name != "dee" && person.groups.contains(&"incident".to_owned()));
                assert!(transitions.contains(&Transition::BrokeGlass("incident".to_owned())));
                Some(Outcome::Approved)
            }
            Act::Say(_) => None,
            Act::Tick => late.then_some(Outcome::Expired),
            Act::Withdraw => Some(Outcome::Withdrawn),
            Act::Stop => Some(Outcome::Restarted),
        };
        assert_eq!(then.ended, expected, "{act:?}");
        if then.ended.is_some() {
            self.step = usize::MAX;
        } else {
            assert_eq!(then.step, self.step, "{act:?}");
        }
    }
}

/// Every order of acts up to this many; says how many states were seen and which ends.
fn explore(world: &World, depth: u32) -> (u64, std::collections::BTreeSet<&'static str>) {
    let mut ends = std::collections::BTreeSet::new();
    let mut seen = 0;
    let (opened, referee) = world.start();
    let mut stack = vec![(opened, referee, depth)];
    while let Some((state, referee, left)) = stack.pop() {
        seen += 1;
        ends.extend(state.ended.map(Outcome::as_str));
        if left == 0 {
            continue;
        }
        for act in &world.acts {
            // Asked whenever there is somebody: as the desk does before every deed.
            let state = match state.on(&Event::Time, referee.at) {
                Ok((asked, _)) if asked.ended.is_none() => asked,
                _ => state.clone(),
            };
            let (then, referee) = world.go(&state, referee.clone(), *act);
            if state.ended.is_none() {
                stack.push((then, referee, left - 1));
            }
        }
    }
    (seen, ends)
}

/// 12 acts in every order of six, and what follows the end of each.
#[test]
fn every_order_of_events_in_a_world_of_ordered_steps() {
    let (seen, ends) = explore(&ordered(), 6);
    assert!(seen > 100_000, "{seen}");
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["approved", "denied", "expired", "restarted", "withdrawn"]);
}

/// 8 acts in every order of seven: four approvals are needed, and one of the places only after a while.
#[test]
fn every_order_of_events_in_a_world_where_each_place_needs_somebody() {
    let (seen, ends) = explore(&together(), 7);
    assert!(seen > 100_000, "{seen}");
    assert!(ends.contains("approved") && ends.contains("expired"), "{ends:?}");
}

proptest! {
    #[test]
    fn long_histories_end_once(acts in proptest::collection::vec(0usize..1000, 0..60), together_world in any::<bool>()) {
        let world = if together_world { together() } else { ordered() };
        let (mut state, mut referee) = world.start();
        for act in acts {
            let act = world.acts[act % world.acts.len()];
            if let Ok((asked, _)) = state.on(&Event::Time, referee.at) && asked.ended.is_none() {
                state = asked;
            }
            let (then, seen) = world.go(&state, referee, act);
            (state, referee) = (then, seen);
        }
    }

    /// Whatever the times: nobody is asked early, or twice, and the machine says when it next wants to be woken.
    #[test]
    fn people_are_asked_at_their_time(times in proptest::collection::vec(0u64..400, 1..20)) {
        let world = ordered();
        let (mut state, _) = world.start();
        let mut times = times;
        times.sort_unstable();
        let mut night = false;
        for at in times.into_iter().map(Duration::from_secs) {
            let due = state.next_change() <= at;
            match state.on(&Event::Time, at) {
                Ok((then, transitions)) => {
                    prop_assert_eq!(!transitions.is_empty(), due, "{:?}", transitions);
                    state = then;
                }
                Err(_) => prop_assert!(state.ended.is_some()),
            }
            night |= (TICK..world.approval.timeout).contains(&at);
            prop_assert_eq!(state.ended.is_some(), at >= world.approval.timeout);
            prop_assert_eq!(state.asked.contains(&1), night);
        }
    }
}
