//! The queue of a lock: its contenders in the order in which they came, also found by their numbers.

use kv_core::Bytes;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::oneshot;

/// A contender that waits for a lock.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    pub(crate) ttl: u64,
    pub(crate) value: Bytes,
    /// Tells the token once the lock is granted.
    pub(crate) granted: oneshot::Sender<kv_core::Result<u64>>,
}

impl Waiter {
    fn waits(&self) -> bool {
        !self.granted.is_closed()
    }
}

/// The contenders for one lock. Each gives its place back when it waits no more; those that have not
/// done so yet are passed over.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiters: BTreeMap<u64, Waiter>,
    /// Holds the place of each contender, by its number.
    places: HashMap<u64, u64>,
    last: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.last += 1;
        self.places.insert(waiter.id, self.last);
        self.waiters.insert(self.last, waiter);
    }

    /// Takes out the first contender that still waits.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        loop {
            let (_, waiter) = self.waiters.pop_first()?;
            self.places.remove(&waiter.id);
            if waiter.waits() {
                return Some(waiter);
            }
        }
    }

    /// Takes out the contender of this number, wherever it stands.
    pub(crate) fn leave(&mut self, id: u64) -> Option<Waiter> {
        self.places.remove(&id).and_then(|place| self.waiters.remove(&place))
    }

    /// Tells whether a contender still waits. It drops those before the first one that does.
    pub(crate) fn is_waited_for(&mut self) -> bool {
        while let Some(first) = self.waiters.first_entry() {
            if first.get().waits() {
                return true;
            }
            self.places.remove(&first.remove().id);
        }
        false
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Tells whether the contender of this number is in the queue.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.places.contains_key(&id)
    }

    /// Counts the contenders that still wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.values().filter(|waiter| waiter.waits()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, Waiter};
    use kv_core::Bytes;
    use tokio::sync::oneshot;

    #[test]
    fn they_leave_from_anywhere_and_the_first_that_waits_comes_next() {
        let mut queue = Queue::default();
        let mut turns: Vec<_> = (1..=6)
            .map(|id| {
                let (granted, turn) = oneshot::channel();
                queue.push(Waiter { id, ttl: 1, value: Bytes::new(), granted });
                Some(turn)
            })
            .collect();
        assert_eq!(queue.leave(3).map(|waiter| waiter.id), Some(3));
        assert!(queue.has(2) && !queue.has(3));
        assert!(queue.leave(3).is_none() && queue.leave(9).is_none());
        (turns[0], turns[4]) = (None, None);
        assert!(queue.is_waited_for());
        assert_eq!((queue.waiting(), queue.waiters.len(), queue.places.len()), (3, 4, 4));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|waiter| waiter.id).collect();
        assert_eq!(order, [2, 4, 6]);
        assert!(queue.is_empty() && queue.places.is_empty() && !queue.is_waited_for());
    }
}
