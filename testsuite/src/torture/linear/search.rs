//! The search for an order of effects.

use super::{Call, Id, State, Verdict};
use std::collections::{HashMap, HashSet};

/// The number of steps after which the search gives up.
const STEPS: usize = 3_000_000;

/// One event: a call's beginning, or its answer. The events are a linked list, from which the
/// calls that have a place in the order are lifted.
struct Event {
    call: usize,
    is_answer: bool,
    before: usize,
    after: usize,
}

struct Step {
    call: usize,
    state: State,
    used: Vec<usize>,
    /// The number of the way that is tried next.
    next: usize,
}

/// Writes of unknown outcome, each to one register, that nobody can tell apart: those that empty the
/// same register, and those that fill it with values of which no call speaks. A write that happened
/// unseen need not have happened, and one that was seen may have happened just before it was: so
/// they have no place of their own in the order. A write of several registers has one: it may be
/// seen in one register after it was overwritten in another.
#[derive(Debug)]
struct Alike {
    writes: Vec<(usize, Option<Id>)>,
    /// The moments at which they began, the earliest first.
    began: Vec<u64>,
}

pub(super) struct Search<'a> {
    calls: &'a [Call],
    /// The first is the list's head, the last its end.
    events: Vec<Event>,
    begins: Vec<usize>,
    answers: Vec<Option<usize>>,
    alike: Vec<Alike>,
    /// The number of writes of each [`Alike`] that have happened.
    used: Vec<usize>,
    /// The state of the registers after the steps.
    state: State,
    steps: Vec<Step>,
    /// One bit for each call that has its place in the order.
    ordered: Vec<u64>,
    /// The states in which the search was already, each with the numbers of alike writes that had
    /// happened.
    seen: HashMap<(Vec<u64>, State), Vec<Vec<usize>>>,
    /// The number of calls with an answer that have no place yet.
    unanswered: usize,
    /// The values that some call says were there, or were not; all others count as one.
    spoken: HashSet<Id>,
}

impl<'a> Search<'a> {
    pub(super) fn new(calls: &'a [Call], registers: usize) -> Self {
        let spoken = calls.iter().flat_map(|c| &c.when).filter_map(|(_, is)| is.id()).collect();
        let alike = alike(calls, &spoken);
        let head = Event { call: 0, is_answer: false, before: 0, after: 1 };
        let mut search = Self {
            calls,
            events: vec![head],
            begins: vec![0; calls.len()],
            answers: vec![None; calls.len()],
            used: vec![0; alike.len()],
            alike,
            state: vec![None; registers],
            steps: Vec::new(),
            ordered: vec![0; calls.len().div_ceil(64)],
            seen: HashMap::new(),
            unanswered: calls.iter().filter(|c| c.ended.is_some()).count(),
            spoken,
        };
        let own = |call: &usize| !is_alike(&calls[*call], &search.spoken);
        let begins = (0..calls.len()).filter(own).map(|call| (calls[call].began, false, call));
        let answers = calls.iter().enumerate().filter_map(|(call, c)| Some((c.ended?, true, call)));
        let mut order: Vec<_> = begins.chain(answers).collect();
        // A call that begins at the microsecond of an answer may have been before it.
        order.sort_unstable();
        for (_, is_answer, call) in order {
            let at = search.events.len();
            search.events.push(Event { call, is_answer, before: at - 1, after: at + 1 });
            match is_answer {
                true => search.answers[call] = Some(at),
                false => search.begins[call] = at,
            }
        }
        let end = search.events.len();
        search.events.push(Event { call: 0, is_answer: false, before: end - 1, after: end });
        search
    }

    fn unlink(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = after;
        self.events[after].before = before;
    }

    fn link(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = at;
        self.events[after].before = at;
    }

    /// Gives the call its place, if it can have one, in the first of the ways from this number on
    /// that leads to a new state; returns the event to go on with.
    fn place(&mut self, call: usize, from: usize) -> usize {
        self.ordered[call / 64] |= 1 << (call % 64);
        for way in from..self.ways(call) {
            let Some((new, used)) = self.after(call, way) else { continue };
            if !self.is_new(&new, &used) {
                continue;
            }
            let state = std::mem::replace(&mut self.state, new);
            let used = std::mem::replace(&mut self.used, used);
            self.steps.push(Step { call, state, used, next: way + 1 });
            self.unlink(self.begins[call]);
            if let Some(answer) = self.answers[call] {
                self.unlink(answer);
                self.unanswered -= 1;
            }
            return self.events[0].after;
        }
        self.ordered[call / 64] &= !(1 << (call % 64));
        self.events[self.begins[call]].after
    }

    /// Notes where the search would be, and tells whether it was not there yet with as many of the
    /// alike writes left, or more.
    fn is_new(&mut self, state: &State, used: &[usize]) -> bool {
        let there = self.seen.entry((self.ordered.clone(), state.clone())).or_default();
        let at_most = |one: &[usize], other: &[usize]| one.iter().zip(other).all(|(one, other)| one <= other);
        if there.iter().any(|before| at_most(before, used)) {
            return false;
        }
        there.retain(|before| !at_most(used, before));
        there.push(used.to_vec());
        true
    }

    /// Takes the last place back, and gives it in another way or to another call; returns the
    /// event to go on with.
    fn take_back(&mut self) -> Option<usize> {
        let Step { call, state, used, next } = self.steps.pop()?;
        if let Some(answer) = self.answers[call] {
            self.link(answer);
            self.unanswered += 1;
        }
        self.link(self.begins[call]);
        (self.state, self.used) = (state, used);
        Some(self.place(call, next))
    }

    pub(super) fn run(mut self) -> Verdict {
        let end = self.events.len() - 1;
        let (mut at, mut furthest) = (self.events[0].after, (0, 0));
        for _ in 0..STEPS {
            if self.unanswered == 0 {
                return Verdict::Linearizable;
            }
            let Event { call, is_answer, .. } = self.events[at];
            if !is_answer && at != end {
                at = self.place(call, 0);
                continue;
            }
            // Nothing before this answer explains it.
            if at != end {
                furthest = furthest.max((self.calls[call].ended.unwrap_or_default(), call));
            }
            match self.take_back() {
                Some(next) => at = next,
                None => return Verdict::Violated { call: furthest.1 },
            }
        }
        Verdict::Undecided
    }

    /// Returns the number of ways in which the call may happen: at once; just behind one alike
    /// write, or two of them; or, where it puts all registers back, to each of the states that
    /// there were.
    fn ways(&self, call: usize) -> usize {
        let alike = self.alike.len();
        if self.calls[call].reverts { self.steps.len() + 1 } else { 1 + alike + alike * alike }
    }

    /// Returns what the registers hold after the call, in one of the ways, and how many of the
    /// alike writes have happened then; `None` where it cannot happen so.
    fn after(&self, call: usize, way: usize) -> Option<(State, Vec<usize>)> {
        let (this, alike) = (&self.calls[call], self.alike.len());
        if this.reverts {
            let state = match way {
                0 => &self.state,
                n => &self.steps[self.steps.len() - n].state,
            };
            return Some((state.clone(), self.used.clone()));
        }
        let (mut state, mut used) = (self.state.clone(), self.used.clone());
        let before = match way {
            0 => [None, None],
            n if n <= alike => [Some(n - 1), None],
            n => [Some((n - 1 - alike) / alike), Some((n - 1 - alike) % alike)],
        };
        if way > 0 && this.happens(&state, &self.spoken).is_some() {
            // The call can happen without the alike writes.
            return None;
        }
        for one in before.into_iter().flatten() {
            let began = self.alike[one].began.get(used[one])?;
            if *began > self.first_answer() {
                return None;
            }
            used[one] += 1;
            self.alike[one].writes.iter().for_each(|(register, id)| state[*register] = *id);
        }
        Some((this.happens(&state, &self.spoken)?, used))
    }

    /// Returns the moment of the first answer of a call that has no place yet: the next call in
    /// the order happens before it.
    fn first_answer(&self) -> u64 {
        let mut at = self.events[0].after;
        while !self.events[at].is_answer {
            if self.events[at].after == at {
                return u64::MAX;
            }
            at = self.events[at].after;
        }
        self.calls[self.events[at].call].ended.unwrap_or(u64::MAX)
    }
}

/// Tells whether the call is one of the alike writes, which have no place of their own.
fn is_alike(call: &Call, spoken: &HashSet<Id>) -> bool {
    let is_spoken_of = call.writes.iter().any(|(_, id)| id.is_some_and(|id| spoken.contains(&id)));
    call.ended.is_none() && !call.reverts && call.when.is_empty() && call.writes.len() == 1 && !is_spoken_of
}

fn alike(calls: &[Call], spoken: &HashSet<Id>) -> Vec<Alike> {
    let mut alike: Vec<Alike> = Vec::new();
    for call in calls.iter().filter(|call| is_alike(call, spoken)) {
        let writes: Vec<_> = call.writes.iter().map(|(r, id)| (*r, id.map(|_| Id::MAX))).collect();
        match alike.iter_mut().find(|alike| alike.writes == writes) {
            Some(there) => there.began.push(call.began),
            None => alike.push(Alike { writes, began: vec![call.began] }),
        }
    }
    alike.iter_mut().for_each(|alike| alike.began.sort_unstable());
    alike
}
