//! The linearizability check, which tells whether one order of effects explains a history of
//! calls.
//!
//! The search is that of Wing and Gong (1993) with Lowe's memory of the states that were seen
//! (2017): calls are put into an order in which each took effect between its beginning and its
//! answer, and every answer is what the calls before it explain. A call whose outcome is unknown
//! may have taken effect at any time after its beginning, or never.

mod search;
#[cfg(test)]
mod tests;

use search::Search;
use std::collections::{BTreeSet, HashSet};

/// A value that was written; no two writes write the same one.
pub type Id = u32;

/// The state of a register when a call took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    /// The register held this value.
    At(Id),
    /// The register held something else than this value, or nothing.
    NotAt(Id),
    /// The register held something.
    There,
    /// The register held nothing.
    Missing,
}

impl Is {
    fn id(self) -> Option<Id> {
        match self {
            Self::At(id) | Self::NotAt(id) => Some(id),
            Self::There | Self::Missing => None,
        }
    }

    /// Tells whether this is true of a register that holds `held`.
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

/// A call, and what it says of a group of registers: all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The client that made it.
    pub client: String,
    /// The call and its answer, in words.
    pub label: String,
    /// The moment at which it began, in microseconds of the run.
    pub began: u64,
    /// The moment at which it was answered; `None` when its outcome is unknown: then it did its
    /// writes at any time after its beginning, if `when` was true at that time, or never.
    pub ended: Option<u64>,
    /// The registers whose state it tells, and that state when it took effect.
    pub when: Vec<(usize, Is)>,
    /// The registers that it wrote, each with its value, or `None` where it emptied the register.
    pub writes: Vec<(usize, Option<Id>)>,
    /// Tells whether it puts all registers back to what they were together at some moment before,
    /// as the restoring of a copy does.
    pub reverts: bool,
}

impl Call {
    /// Returns what the registers hold after the call, if it can happen; all values that no call
    /// speaks of count as one.
    fn happens(&self, state: &[Option<Id>], spoken: &HashSet<Id>) -> Option<State> {
        self.when.iter().all(|(register, is)| is.of(state[*register])).then(|| {
            let mut after = state.to_vec();
            let known = |id: &Id| if spoken.contains(id) { *id } else { Id::MAX };
            self.writes.iter().for_each(|(register, id)| after[*register] = id.as_ref().map(known));
            after
        })
    }
}

type State = Vec<Option<Id>>;

/// The result of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is no such order: the call at this index is the last whose answer the search reaches,
    /// and nothing explains that answer.
    Violated {
        /// The index of the call.
        call: usize,
    },
    /// The search was given up.
    Undecided,
}

/// Searches for an order that explains every answer. The registers are numbered from 0, and empty
/// at the beginning.
#[must_use]
pub fn check(calls: &[Call]) -> Verdict {
    let of_call = |c: &Call| {
        let registers = c.when.iter().map(|(r, _)| *r).chain(c.writes.iter().map(|(r, _)| *r));
        registers.max().map_or(0, |r| r + 1)
    };
    Search::new(calls, calls.iter().map(of_call).max().unwrap_or(0)).run()
}

/// Returns the part of a history that shows why it cannot be explained: the part ends with the
/// first answer that nothing explains, and leaves out calls that are not needed for that.
#[must_use]
pub fn shrunk(calls: &[Call]) -> Vec<Call> {
    let ends: BTreeSet<u64> = calls.iter().filter_map(|c| c.ended).collect();
    let ends: Vec<u64> = ends.into_iter().collect();
    let until = |end: u64| -> Vec<Call> {
        let began = calls.iter().filter(|c| c.began <= end);
        // A call that was not answered by then may have happened, or not.
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
        let says = |c: &Call, id: Id| {
            c.when.iter().any(|(_, is)| matches!(is, Is::At(it) | Is::NotAt(it) if *it == id))
        };
        let is_needed = call.reverts
            || call.writes.iter().any(|(register, id)| match id {
                Some(id) => {
                    let others = left.iter().enumerate().filter(|(n, _)| *n != at);
                    others.clone().any(|(_, c)| says(c, *id))
                        || others.clone().any(|(_, c)| {
                            c.when
                                .iter()
                                .any(|(r, is)| r == register && matches!(is, Is::There | Is::NotAt(_)))
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
