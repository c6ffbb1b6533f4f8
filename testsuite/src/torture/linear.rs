//! Whether a history of calls can be explained by one order of their effects.
//!
//! The search is that of Wing and Gong (1993) with Lowe's memory of what was seen (2017): calls are put into an order in
//! which each took effect between its beginning and its answer, and every answer is what the calls before it explain. A
//! call whose outcome is unknown may have taken effect at any time after its beginning, or never.

use std::collections::{BTreeSet, HashSet};

/// A value that was written; each write writes another one.
pub type Id = u32;

/// What was true of a register when a call took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    /// It held this value.
    At(Id),
    /// It held something else than this value, or nothing.
    NotAt(Id),
    /// It held something.
    There,
    /// It held nothing.
    Missing,
}

impl Is {
    /// Whether it is true of a register that holds this.
    #[must_use]
    pub fn of(self, held: Option<Id>) -> bool {
        match self {
            Self::At(id) => held == Some(id),
            Self::NotAt(id) => held != Some(id),
            Self::There => held.is_some(),
            Self::Missing => held.is_none(),
        }
    }
}

/// What a call says of a group of registers: all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who made it.
    pub client: String,
    /// What it was, and was answered.
    pub label: String,
    /// When it began, in microseconds of the run.
    pub began: u64,
    /// When it was answered; `None` when its outcome is unknown: then it did its writes at any time after its beginning, if
    /// what is true `when` it happens was true then, or never.
    pub ended: Option<u64>,
    /// What was true then: the register, and what of it.
    pub when: Vec<(usize, Is)>,
    /// What it wrote: the register, and the value, or `None` where it emptied it.
    pub writes: Vec<(usize, Option<Id>)>,
    /// Puts all registers back to what they were together at some moment before, as the restoring of a copy does.
    pub reverts: bool,
}

impl Call {
    fn happens(&self, state: &[Option<Id>]) -> Option<State> {
        self.when.iter().all(|(register, is)| is.of(state[*register])).then(|| {
            let mut after = state.to_vec();
            self.writes.iter().for_each(|(register, id)| after[*register] = *id);
            after
        })
    }
}

type State = Vec<Option<Id>>;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none: the call at this index is the last whose answer can be reached, and none explains it.
    Violated {
        /// The index of the call.
        call: usize,
    },
    /// The search was given up.
    Undecided,
}

/// How many steps the search takes before it gives up.
const STEPS: usize = 3_000_000;

/// One event: a call's beginning, or its answer. They are a list from which calls that have an order are lifted.
struct Event {
    call: usize,
    is_answer: bool,
    before: usize,
    after: usize,
}

struct Step {
    call: usize,
    state: State,
    /// Which of the states that there were is next, for a call that reverts.
    next: usize,
}

struct Search<'a> {
    calls: &'a [Call],
    /// The first is the list's head, the last its end.
    events: Vec<Event>,
    begins: Vec<usize>,
    answers: Vec<Option<usize>>,
    /// What the registers hold after the steps.
    state: State,
    steps: Vec<Step>,
    /// One bit for each call that has its place in the order.
    ordered: Vec<u64>,
    /// Where the search was already.
    seen: HashSet<(Vec<u64>, State)>,
    /// Calls with an answer that have no place yet.
    unanswered: usize,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call], registers: usize) -> Self {
        let begins = calls.iter().enumerate().map(|(call, c)| (c.began, false, call));
        let answers = calls.iter().enumerate().filter_map(|(call, c)| Some((c.ended?, true, call)));
        let mut order: Vec<_> = begins.chain(answers).collect();
        // What begins at the microsecond of an answer may have been before it.
        order.sort_unstable();
        let head = Event { call: 0, is_answer: false, before: 0, after: 1 };
        let mut search = Self {
            calls,
            events: vec![head],
            begins: vec![0; calls.len()],
            answers: vec![None; calls.len()],
            state: vec![None; registers],
            steps: Vec::new(),
            ordered: vec![0; calls.len().div_ceil(64)],
            seen: HashSet::new(),
            unanswered: calls.iter().filter(|c| c.ended.is_some()).count(),
        };
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

    /// Gives the call its place, if it can have it, by the first of the ways from this number on that leads to somewhere
    /// new; where to go on.
    fn place(&mut self, call: usize, from: usize) -> usize {
        self.ordered[call / 64] |= 1 << (call % 64);
        for way in from.. {
            let Some(new) = self.after(call, way) else { break };
            if !self.seen.insert((self.ordered.clone(), new.clone())) {
                continue;
            }
            let state = std::mem::replace(&mut self.state, new);
            self.steps.push(Step { call, state, next: way + 1 });
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

    /// Takes the last place back, and gives it in another way or to another call; where to go on.
    fn take_back(&mut self) -> Option<usize> {
        let Step { call, state, next } = self.steps.pop()?;
        if let Some(answer) = self.answers[call] {
            self.link(answer);
            self.unanswered += 1;
        }
        self.link(self.begins[call]);
        self.state = state;
        Some(self.place(call, next))
    }

    fn run(mut self) -> Verdict {
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
            // An answer that nothing before explains.
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

    /// What the registers hold after the call, in one of the ways that there are.
    fn after(&self, call: usize, way: usize) -> Option<State> {
        let this = &self.calls[call];
        if !this.reverts {
            return if way == 0 { this.happens(&self.state) } else { None };
        }
        match way {
            0 => Some(self.state.clone()),
            n => self.steps.iter().rev().nth(n - 1).map(|step| step.state.clone()),
        }
    }
}

/// Whether there is an order that explains every answer. The registers are numbered from 0, and empty at the beginning.
#[must_use]
pub fn check(calls: &[Call]) -> Verdict {
    let of_call = |c: &Call| {
        let registers = c.when.iter().map(|(r, _)| *r).chain(c.writes.iter().map(|(r, _)| *r));
        registers.max().map_or(0, |r| r + 1)
    };
    Search::new(calls, calls.iter().map(of_call).max().unwrap_or(0)).run()
}

/// A part of a history that cannot be explained, and still cannot: it ends with the first answer that nothing explains, and
/// without calls that change nothing.
#[must_use]
pub fn shrunk(calls: &[Call]) -> Vec<Call> {
    let ends: BTreeSet<u64> = calls.iter().filter_map(|c| c.ended).collect();
    let ends: Vec<u64> = ends.into_iter().collect();
    let until = |end: u64| -> Vec<Call> {
        let began = calls.iter().filter(|c| c.began <= end);
        // What was not answered by then may have happened, or not.
        let cut = |c: &Call| Call { ended: c.ended.filter(|ended| *ended <= end), ..c.clone() };
        // A read that was not answered says nothing.
        began.map(cut).filter(|c| c.ended.is_some() || !c.writes.is_empty() || c.reverts).collect()
    };
    let is_violated = |calls: &[Call]| matches!(check(calls), Verdict::Violated { .. });
    let first = ends.partition_point(|end| !is_violated(&until(*end)));
    let mut left = ends.get(first).map_or_else(|| calls.to_vec(), |end| until(*end));
    let mut at = left.len();
    while at > 0 {
        at -= 1;
        let call = &left[at];
        let says = |c: &Call, id: Id| c.when.iter().any(|(_, is)| matches!(is, Is::At(it) | Is::NotAt(it) if *it == id));
        let is_needed = call.reverts
            || call.writes.iter().any(|(register, id)| match id {
                Some(id) => {
                    let others = left.iter().enumerate().filter(|(n, _)| *n != at);
                    others.clone().any(|(_, c)| says(c, *id))
                        || others.clone().any(|(_, c)| {
                            c.when.iter().any(|(r, is)| r == register && matches!(is, Is::There | Is::NotAt(_)))
                        })
                }
                None => true,
            });
        if is_needed {
            continue;
        }
        let gone = left.remove(at);
        if !is_violated(&left) {
            left.insert(at, gone);
        }
    }
    left
}
