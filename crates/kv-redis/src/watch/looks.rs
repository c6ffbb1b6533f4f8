//! The looks at keys that should have ended: the watches of a store wait for the end of a key at the
//! same moment, and one look tells all of them.

use kv_core::{
    Key,
    backend::{Instant, Mutex},
};
use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

/// The time within which the end that a look finds is told to all watches, and after which a watch
/// looks again.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);

/// The keys that a watch has asked for a short while ago.
#[derive(Default)]
pub(crate) struct Looks(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    keys: HashSet<Key>,
    order: VecDeque<(Instant, Key)>,
}

impl Looks {
    /// Returns whether the key is to be asked for now, and notes that it is; `false` where another
    /// watch did so a short while ago.
    pub(crate) fn begin(&self, key: &Key, now: Instant) -> bool {
        let mut recent = self.0.lock();
        while recent.order.front().is_some_and(|(at, _)| *at + AGAIN <= now) {
            if let Some((_, key)) = recent.order.pop_front() {
                recent.keys.remove(&key);
            }
        }
        let is_first = recent.keys.insert(key.clone());
        if is_first {
            recent.order.push_back((now, key.clone()));
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::backend::Clock;

    #[test]
    fn a_key_is_asked_for_once_within_a_while() {
        let (looks, begin) = (Looks::default(), Clock::manual().now());
        let [a, b] = ["a", "b"].map(|key| Key::parse(key).unwrap());
        assert!(looks.begin(&a, begin) && looks.begin(&b, begin));
        assert!(!looks.begin(&a, begin + AGAIN / 2));
        assert!(looks.begin(&a, begin + AGAIN));
        assert!(!looks.begin(&a, begin + AGAIN));
        let recent = looks.0.lock();
        assert_eq!((recent.keys.len(), recent.order.len()), (1, 1), "what is over is forgotten");
    }
}
