//! The rules that the set of instances must keep.

use crate::torture::{
    field::{Field, micros},
    workload::{Bar, Violation},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The time within which all is renewed when a trouble is over, in microseconds.
const RENEWS: u64 = 3_000_000;

/// The life of one instance, in microseconds of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) registered: u64,
    pub(super) died: Option<u64>,
}

/// The set that a reader saw.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// From when to when each instance was in the set; the last may go on.
    there: BTreeMap<usize, Vec<(u64, Option<u64>)>>,
    /// From when to when the set was empty, behind the first that was there.
    empty: Vec<(u64, Option<u64>)>,
    pub(super) changes: u64,
}

impl Presence {
    /// Notes what the set has from this moment on.
    pub(super) fn note(&mut self, at: u64, set: BTreeSet<usize>) {
        self.changes += 1;
        for (number, times) in &mut self.there {
            if let Some((_, to @ None)) = times.last_mut()
                && !set.contains(number)
            {
                *to = Some(at);
            }
        }
        for number in &set {
            let times = self.there.entry(*number).or_default();
            if times.last().is_none_or(|(_, to)| to.is_some()) {
                times.push((at, None));
            }
        }
        match self.empty.last_mut() {
            Some((_, to @ None)) if !set.is_empty() => *to = Some(at),
            Some((_, None)) => {}
            _ if set.is_empty() && !self.there.is_empty() => self.empty.push((at, None)),
            _ => {}
        }
    }
}

/// The promises on which a judgement hangs, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Promises {
    /// The time within which the set is that of the living.
    pub(super) within: u64,
    pub(super) ttl: u64,
    /// The troubles of servers and of the machine, in order.
    pub(super) troubles: Vec<(u64, u64)>,
    /// The end of the run.
    pub(super) end: u64,
}

impl Promises {
    pub(super) fn new(field: &Field, ttl: Duration, within: Duration) -> Self {
        let (within, ttl) = (micros(within), micros(ttl));
        Self { within, ttl, troubles: field.troubles(), end: field.now() }
    }

    /// Returns the moment at which what happened at this one is seen, whatever troubles there are.
    fn by(&self, at: u64) -> u64 {
        self.troubles.iter().fold(at.saturating_add(self.within), |by, &(from, to)| {
            if from < by && to > at { by.max(to.saturating_add(self.within)) } else { by }
        })
    }

    /// Tells whether servers were away for so long before this moment that what is kept alive may
    /// have ended.
    fn may_have_ended(&self, at: u64) -> bool {
        let mut together: Option<(u64, u64)> = None;
        self.troubles.iter().filter(|(from, _)| *from <= at).any(|&(from, to)| {
            let begun = together
                .filter(|(_, until)| from < until.saturating_add(RENEWS))
                .map_or(from, |(from, _)| from);
            together = Some((begun, to));
            let is_near = at < to.saturating_add(self.ttl);
            is_near && to.min(at) - begun >= self.ttl / 2
        })
    }
}

/// Returns a violation of what this reader was to see.
pub(super) fn violation(reader: &str, what: impl Into<String>, at: u64) -> Violation {
    Violation { what: format!("{reader}: {}", what.into()), at, calls: Vec::new() }
}

/// Checks that the dead are gone in time, that the living are there, and that the set is never
/// empty.
pub(super) fn set(reader: &str, lives: &[Life], saw: &Presence, promises: &Promises) -> Vec<Violation> {
    let mut wrong = never_empty(reader, saw, promises);
    for (number, life) in lives.iter().enumerate() {
        let times = saw.there.get(&number).map_or(&[][..], Vec::as_slice);
        let mut say = |what: &str, from: u64, to: u64| {
            let label = format!("instance {number} {what}");
            let mut wrong_one = violation(reader, &label, to);
            wrong_one.calls.push(Bar { client: reader.into(), label, began: from, ended: Some(to) });
            wrong.push(wrong_one);
        };
        if let Some(died) = life.died {
            let last = times.last().map_or(0, |(_, to)| to.unwrap_or(promises.end));
            if last > promises.by(died) {
                say("is in the set, and died long before", died, last);
            }
        }
        let mut since = life.registered;
        let until = life.died.unwrap_or(promises.end);
        for &(from, to) in times.iter().chain([&(until, None)]) {
            if from.min(until) > promises.by(since) {
                say("lives, and is not in the set", since, from.min(until));
            }
            since = since.max(to.unwrap_or(u64::MAX));
        }
    }
    wrong
}

/// Checks that the set is never empty, once somebody was there.
pub(super) fn never_empty(reader: &str, saw: &Presence, promises: &Promises) -> Vec<Violation> {
    let empty = saw.empty.iter().filter(|(from, _)| !promises.may_have_ended(*from));
    empty.map(|(from, _)| violation(reader, "the set is empty, and many live", *from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 20_000_000;

    /// Judges what was seen of two instances, of which the second died at 2 s; times are in
    /// milliseconds.
    fn wrong(seen: &[(u64, &[usize])], troubles: &[(u64, u64)]) -> Vec<String> {
        let lives = [Life { registered: 1000, died: None }, Life { registered: 1000, died: Some(2_000_000) }];
        let mut saw = Presence::default();
        for (at, set) in seen {
            saw.note(at * 1000, set.iter().copied().collect());
        }
        let troubles = troubles.iter().map(|(from, to)| (from * 1000, to * 1000)).collect();
        let promises = Promises { within: 5_000_000, ttl: 4_000_000, troubles, end: END };
        set("r", &lives, &saw, &promises).into_iter().map(|wrong| wrong.what).collect()
    }

    #[test]
    fn who_died_is_gone_in_time() {
        assert_eq!(wrong(&[(1, &[]), (2, &[0, 1]), (7000, &[0])], &[]), [""; 0]);
        let late = ["r: instance 1 is in the set, and died long before"];
        assert_eq!(wrong(&[(2, &[0, 1]), (7001, &[0])], &[]), late);
        assert_eq!(wrong(&[(2, &[0, 1])], &[]), late, "it never goes");
        assert_eq!(wrong(&[(2, &[0, 1]), (7001, &[0])], &[(3000, 4000)]), [""; 0], "the server was away");
        assert_eq!(wrong(&[(2, &[0, 1]), (9001, &[0])], &[(3000, 4000)]), late);
        assert_eq!(
            wrong(&[(2, &[0, 1]), (3000, &[0]), (9000, &[0, 1]), (9001, &[0])], &[]),
            late,
            "it comes again"
        );
    }

    #[test]
    fn who_lives_is_there() {
        let gone = ["r: instance 0 lives, and is not in the set"];
        assert_eq!(wrong(&[(2, &[0, 1]), (3000, &[1]), (6000, &[0])], &[]), [""; 0]);
        assert_eq!(wrong(&[(2, &[0, 1]), (2500, &[1]), (7000, &[1, 2]), (7501, &[0])], &[]).len(), 2);
        assert_eq!(wrong(&[(2, &[1]), (3000, &[2])], &[]), gone, "it never comes");
        assert_eq!(wrong(&[(2, &[0, 1]), (3000, &[2])], &[]), gone, "it does not come again");
    }

    #[test]
    fn the_set_is_never_empty() {
        let empty = ["r: the set is empty, and many live"];
        assert_eq!(wrong(&[(2, &[0, 1]), (3000, &[]), (3001, &[0])], &[]), empty);
        assert_eq!(wrong(&[(2, &[0, 1]), (3000, &[]), (3001, &[0])], &[(2000, 3000)]), empty, "briefly away");
        assert_eq!(wrong(&[(2, &[0, 1]), (3000, &[]), (3001, &[0])], &[(500, 2500)]), [""; 0], "long away");
    }
}
