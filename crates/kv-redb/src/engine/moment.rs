//! The moment of a read: leases and locks are judged as they were then.

use super::{past::At, state::Shared, time::Time};

/// The moment at which a read begins. While a moment exists, the ends of leases and locks that its
/// read may ask about are remembered.
#[derive(Debug)]
pub(crate) struct Moment {
    living: Shared,
    at: At,
}

impl Moment {
    pub(crate) fn new(living: &Shared, time: &Time) -> Self {
        let at = {
            let past = &mut living.lock().past;
            At { commits: past.begin_read(), now: time.now() }
        };
        Self { living: living.clone(), at }
    }

    pub(crate) fn now(&self) -> u64 {
        self.at.now
    }

    /// Returns how many commits were done at this moment.
    pub(crate) fn commits(&self) -> u64 {
        self.at.commits
    }

    /// Tells whether no commit was done since this moment.
    pub(crate) fn is_last(&self) -> bool {
        self.living.lock().past.commits() == self.at.commits
    }

    pub(crate) fn is_over(&self, lease: u64) -> bool {
        self.living.lock().is_over(lease, self.at)
    }

    pub(crate) fn has_lost(&self, name: &str, token: u64) -> bool {
        self.living.lock().has_lost(name, token, self.at)
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        self.living.lock().past.end_read(self.at.commits);
    }
}
