//! When what is watched ends: the stream tells nothing of it.

use crate::clock::Millis;
use kv_core::Key;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How many ends are looked at together.
const MOST: usize = 100;

/// A key, or the holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Data(Key),
    Lock(Key),
}

/// The ends of what somebody watches, by all that is known.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    known: Mutex<Known>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Known {
    ends: HashMap<Place, Millis>,
    order: BTreeSet<(Millis, Place)>,
}

impl Ends {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By a record, which is newer than what was known.
    pub(crate) fn set(&self, place: Place, at: Option<Millis>) {
        let mut known = self.known();
        let before = match at {
            Some(at) => known.ends.insert(place.clone(), at),
            None => known.ends.remove(&place),
        };
        if let Some(before) = before {
            known.order.remove(&(before, place.clone()));
        }
        if let Some(at) = at {
            known.order.insert((at, place));
            self.earlier.notify_one();
        }
    }

    /// By a listing, which may be older than what a record told: the earlier one counts, and then one looks again.
    pub(crate) fn at_the_latest(&self, place: Place, at: Millis) {
        let known = self.known().ends.get(&place).copied();
        if known.is_none_or(|known| at < known) {
            self.set(place, Some(at));
        }
    }

    pub(crate) fn first(&self) -> Option<Millis> {
        self.known().order.first().map(|(at, _)| *at)
    }

    /// Ready when another may be the first now. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.earlier.notified().await;
    }

    /// Takes those that have passed.
    pub(crate) fn take(&self, is_over: impl Fn(Millis) -> bool) -> Vec<Place> {
        let mut known = self.known();
        let mut passed = Vec::new();
        while passed.len() < MOST && known.order.first().is_some_and(|(at, _)| is_over(*at)) {
            let Some((_, place)) = known.order.pop_first() else { break };
            known.ends.remove(&place);
            passed.push(place);
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_and_of_a_listing_the_earlier_end() {
        let (ends, a) = (Ends::default(), Place::Data(Key::parse("a").unwrap()));
        ends.at_the_latest(a.clone(), 10);
        ends.at_the_latest(a.clone(), 20);
        assert_eq!(ends.first(), Some(10));
        ends.set(a.clone(), Some(30));
        assert_eq!(ends.first(), Some(30));
        ends.at_the_latest(a.clone(), 25);
        assert_eq!(ends.take(|at| at <= 24), []);
        assert_eq!(ends.take(|at| at <= 25).first(), Some(&a));
        assert_eq!(ends.first(), None);
        ends.set(a.clone(), Some(1));
        ends.set(a, None);
        assert_eq!(ends.first(), None);
    }
}
