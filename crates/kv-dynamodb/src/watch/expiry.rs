//! The ends of what is watched, which the stream does not tell.

use crate::client::clock::Millis;
use kv_core::{
    Key,
    backend::{ExpiryQueue, Mutex},
};
use tokio::sync::Notify;

/// The most expired subjects that are looked at together.
const MAX: usize = 100;

/// A thing that somebody watches, and that can expire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// A key.
    Key(Key),
    /// The holder of the lock of this name.
    Holder(Key),
}

/// The expiries of what somebody watches, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    queue: Mutex<ExpiryQueue<Subject, Millis>>,
    first_is_another: Notify,
}

impl Expiries {
    /// Sets the expiry that a record tells, which is newer than what was known.
    pub(crate) fn set(&self, subject: Subject, at: Option<Millis>) {
        self.change(|queue| match at {
            Some(at) => queue.set(subject, at),
            None => queue.remove(&subject),
        });
    }

    /// Sets the expiry that a list tells, which may be older than what a record told. The earlier
    /// one counts: the table is looked at again then.
    pub(crate) fn set_earlier(&self, subject: Subject, at: Millis) {
        self.change(|queue| queue.set_earlier(subject, at));
    }

    fn change(&self, change: impl FnOnce(&mut ExpiryQueue<Subject, Millis>) -> bool) {
        let is_another = change(&mut self.queue.lock());
        if is_another {
            self.first_is_another.notify_one();
        }
    }

    pub(crate) fn first(&self) -> Option<Millis> {
        self.queue.lock().first().map(|(at, _)| at)
    }

    /// Waits until another may be the first. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.first_is_another.notified().await;
    }

    /// Takes the subjects that have expired.
    pub(crate) fn take(&self, is_over: impl Fn(Millis) -> bool) -> Vec<Subject> {
        self.queue.lock().take(MAX, is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_and_of_a_listing_the_earlier_end() {
        let (expiries, a) = (Expiries::default(), Subject::Key(Key::parse("a").unwrap()));
        expiries.set_earlier(a.clone(), 10);
        expiries.set_earlier(a.clone(), 20);
        assert_eq!(expiries.first(), Some(10));
        expiries.set(a.clone(), Some(30));
        assert_eq!(expiries.first(), Some(30));
        expiries.set_earlier(a.clone(), 25);
        assert_eq!(expiries.take(|at| at <= 24), []);
        assert_eq!(expiries.take(|at| at <= 25).first(), Some(&a));
        assert_eq!(expiries.first(), None);
        expiries.set(a.clone(), Some(1));
        expiries.set(a, None);
        assert_eq!(expiries.first(), None);
    }
}
