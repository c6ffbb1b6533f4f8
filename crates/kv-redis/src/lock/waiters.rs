//! The contenders of one session that wait in queues, as this side knows them.

use kv_core::backend::Mutex;
use std::collections::{HashMap, HashSet};
use tokio::sync::oneshot;

/// The end of a wait in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueuePosition {
    First,
    /// The contender is gone.
    Lost,
}

/// One contender that is about to enter a queue, or waits there.
struct Waiter {
    tell: oneshot::Sender<QueuePosition>,
    /// Set once the server said that the contender is in the queue.
    is_in_line: bool,
}

/// The waiting contenders, by their names.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<String, Waiter>>);

impl Waiters {
    /// Adds a contender that is about to enter a queue, and returns the receiver of how its wait
    /// ends.
    pub(crate) fn add(&self, contender: &str) -> oneshot::Receiver<QueuePosition> {
        let (tell, told) = oneshot::channel();
        self.0.lock().insert(contender.to_owned(), Waiter { tell, is_in_line: false });
        told
    }

    /// Notes that the server has the contender in the queue.
    pub(crate) fn entered(&self, contender: &str) {
        if let Some(waiter) = self.0.lock().get_mut(contender) {
            waiter.is_in_line = true;
        }
    }

    /// Tells a contender how its wait ends.
    pub(crate) fn tell(&self, contender: &str, place: QueuePosition) {
        // Who is woken may be dropped by that, and removes itself then.
        let waiter = self.0.lock().remove(contender);
        if let Some(waiter) = waiter {
            // The waiting future may have been dropped.
            let _ = waiter.tell.send(place);
        }
    }

    /// Removes a contender that waits no more.
    pub(crate) fn remove(&self, contender: &str) {
        self.0.lock().remove(contender);
    }

    /// Returns the contenders that the server has in queues.
    pub(crate) fn in_line(&self) -> HashSet<String> {
        self.0.lock().iter().filter(|(_, w)| w.is_in_line).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}
