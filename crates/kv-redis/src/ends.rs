//! When keys end that have an end.

use kv_core::{Key, backend::Instant};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// The ends of the keys of one watch.
#[derive(Default)]
pub(crate) struct Ends {
    at: HashMap<Key, Instant>,
    /// With those that have another end by now.
    order: BinaryHeap<Reverse<(Instant, Key)>>,
}

impl Ends {
    pub(crate) fn set(&mut self, key: &Key, at: Option<Instant>) {
        match at {
            None => drop(self.at.remove(key)),
            Some(at) => {
                self.at.insert(key.clone(), at);
                self.order.push(Reverse((at, key.clone())));
                // What is written again and again leaves an end each time.
                if self.order.len() > 2 * self.at.len() + 64 {
                    self.order = self.at.iter().map(|(key, at)| Reverse((*at, key.clone()))).collect();
                }
            }
        }
    }

    fn is_current(&self, at: Instant, key: &Key) -> bool {
        self.at.get(key) == Some(&at)
    }

    /// The next end.
    pub(crate) fn first(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.order.peek() {
            if self.is_current(*at, key) {
                return Some(*at);
            }
            self.order.pop();
        }
        None
    }

    /// Some of the keys that should have ended by now.
    pub(crate) fn due(&mut self, now: Instant, most: usize) -> Vec<Key> {
        let mut due = Vec::new();
        while due.len() < most && self.first().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, key))) = self.order.pop() {
                self.at.remove(&key);
                due.push(key);
            }
        }
        due
    }
}
