//! A queue of keys in the order of their expiries.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Keeps the expiry of each key, and gives the keys in the order of their expiries. `T` is a
/// moment by whatever clock counts: a [`backend::Instant`](super::Instant), or a server's
/// milliseconds.
///
/// Each call costs the logarithm of the number of keys; a key that is set again leaves nothing of
/// its former expiry behind. It has no timer: whoever sleeps until [`first`](Self::first) looks
/// again when a call says that another is first now.
///
/// ```
/// use kv_core::backend::ExpiryQueue;
///
/// let mut expiries = ExpiryQueue::default();
/// assert!(expiries.set("a", 20), "it is the first now");
/// assert!(!expiries.set("b", 30));
/// assert!(expiries.set("a", 40), "renewed: the first is another");
/// assert_eq!(expiries.first(), Some((30, &"b")));
/// assert_eq!(expiries.take(100, |at| at <= 35), ["b"]);
/// assert_eq!(expiries.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct ExpiryQueue<K, T> {
    at: HashMap<K, T>,
    order: BTreeSet<(T, K)>,
}

impl<K, T> Default for ExpiryQueue<K, T> {
    fn default() -> Self {
        Self { at: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord, T: Copy + Ord> ExpiryQueue<K, T> {
    /// Sets the expiry of a key, in place of the one it had, and returns whether the first expiry
    /// of all is another now.
    pub fn set(&mut self, key: K, at: T) -> bool {
        let first = self.first_at();
        let before = self.at.insert(key.clone(), at);
        if before != Some(at) {
            if let Some(before) = before {
                self.order.remove(&(before, key.clone()));
            }
            self.order.insert((at, key));
        }
        self.first_at() != first
    }

    /// Sets the expiry of a key unless an earlier one is known, and returns whether the first
    /// expiry of all is another now. It is for news that may be older than what is known: to look
    /// too early costs one look, to look too late is late.
    pub fn set_earlier(&mut self, key: K, at: T) -> bool {
        match self.at.get(&key) {
            Some(known) if *known <= at => false,
            _ => self.set(key, at),
        }
    }

    /// Removes a key that has no expiry any more, and returns whether the first expiry of all is
    /// another now.
    pub fn remove(&mut self, key: &K) -> bool {
        let first = self.first_at();
        if let Some((key, at)) = self.at.remove_entry(key) {
            self.order.remove(&(at, key));
        }
        self.first_at() != first
    }

    /// Takes the keys whose expiry has passed, the earliest first, `max` of them at most.
    pub fn take(&mut self, max: usize, has_passed: impl Fn(T) -> bool) -> Vec<K> {
        let mut passed = Vec::new();
        while passed.len() < max && self.first_at().is_some_and(&has_passed) {
            let Some((_, key)) = self.order.pop_first() else { break };
            self.at.remove(&key);
            passed.push(key);
        }
        passed
    }

    /// Returns the earliest expiry and its key.
    pub fn first(&self) -> Option<(T, &K)> {
        self.order.first().map(|(at, key)| (*at, key))
    }

    fn first_at(&self) -> Option<T> {
        self.first().map(|(at, _)| at)
    }

    /// Returns the expiry of a key.
    pub fn get(&self, key: &K) -> Option<T> {
        self.at.get(key).copied()
    }

    /// Returns how many keys have an expiry.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Returns whether no key has an expiry.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_again_leaves_nothing_behind() {
        let mut queue = ExpiryQueue::default();
        for at in 0..100 {
            queue.set("a", at);
        }
        assert_eq!((queue.len(), queue.order.len()), (1, 1));
        assert!(queue.remove(&"a") && !queue.remove(&"a"));
        assert!(queue.is_empty() && queue.order.is_empty() && queue.first().is_none());
    }

    #[test]
    fn of_older_news_the_earlier_expiry_counts() {
        let mut queue = ExpiryQueue::default();
        assert!(queue.set_earlier("a", 10) && !queue.set_earlier("a", 20));
        assert_eq!(queue.get(&"a"), Some(10));
        assert!(queue.set("a", 30), "news that are certain count");
        assert!(queue.set_earlier("a", 25));
        assert_eq!(queue.take(9, |at| at <= 24), [""; 0]);
        assert_eq!(queue.take(9, |at| at <= 25), ["a"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_earliest_come_first_and_no_more_than_were_asked_for() {
        let mut queue = ExpiryQueue::default();
        for (key, at) in [("c", 3), ("a", 1), ("b", 2), ("a2", 1)] {
            queue.set(key, at);
        }
        assert_eq!(queue.take(2, |_| true), ["a", "a2"]);
        assert_eq!(queue.first(), Some((2, &"b")));
        assert_eq!(queue.take(2, |_| true), ["b", "c"]);
    }
}
