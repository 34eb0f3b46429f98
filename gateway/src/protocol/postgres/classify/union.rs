//! Several meanings as one: never less than any of them, in time that grows with their size and not with its square.

use std::collections::HashSet;

use serde_json::Value;

use crate::operation::{Effect, Meaning};

/// All of `meanings` at once.
pub fn union<'m>(meanings: impl IntoIterator<Item = &'m Meaning>) -> Meaning {
    let mut meanings = meanings.into_iter();
    let mut all = meanings.next().cloned().unwrap_or_default();
    gather(&mut all, meanings, &[]);
    all
}

/// Adds `others` to `meaning`, but for the fields named in `apart`.
pub(in super::super) fn gather<'m>(meaning: &mut Meaning, others: impl Iterator<Item = &'m Meaning>, apart: &[&str]) {
    let mut objects: HashSet<_> = meaning.objects.iter().cloned().collect();
    let mut reasons: HashSet<_> = meaning.unknown.iter().cloned().collect();
    let mut values: HashSet<_> = (meaning.fields.iter())
        .flat_map(|(name, value)| value.as_array().into_iter().flatten().map(move |value| (*name, value.clone())))
        .collect();
    let mut is_whole = true;
    for other in others {
        meaning.effects = meaning.effects.union(other.effects);
        for object in other.objects.iter().filter(|object| objects.insert((*object).clone())) {
            is_whole &= push(&mut meaning.objects, object);
        }
        for reason in other.unknown.iter().filter(|reason| reasons.insert((*reason).clone())) {
            is_whole &= push(&mut meaning.unknown, reason);
        }
        for (name, value) in other.fields.iter().filter(|(name, _)| !apart.contains(name)) {
            match (meaning.fields.get_mut(name), value) {
                (Some(Value::Array(ours)), Value::Array(theirs)) => {
                    for value in theirs.iter().filter(|value| values.insert((*name, (*value).clone()))) {
                        is_whole &= push(ours, value);
                    }
                }
                (Some(Value::Bool(ours)), Value::Bool(theirs)) => *ours |= theirs,
                (Some(_), _) => {}
                (None, value) => {
                    values.extend(value.as_array().into_iter().flatten().map(|value| (*name, value.clone())));
                    meaning.fields.insert(name, value.clone());
                }
            }
        }
    }
    meaning.objects.sort();
    if !is_whole {
        meaning.effects.insert(Effect::Unknown);
        let reason = "touches more than this gateway keeps apart";
        if !meaning.unknown.iter().any(|known| known == reason) {
            meaning.unknown.push(reason.to_owned());
        }
    }
}

/// Whether there was room.
fn push<T: Clone>(list: &mut Vec<T>, item: &T) -> bool {
    let is_room = list.len() < MOST;
    if is_room {
        list.push(item.clone());
    }
    is_room
}

/// How many things of each kind a union keeps apart.
const MOST: usize = 4096;
