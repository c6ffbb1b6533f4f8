//! The history of a server, by which a watch tells whether the server goes on with what it told
//! before.

use crate::client::answer::revision;
use etcd_client::ResponseHeader;
use kv_core::Result;

/// Counts the revisions, back from the latest that was told, whose values are compared with every
/// reading.
const WINDOW: i64 = 1024;

/// The history of the server as far as a watch has seen it. A server that was wiped, or restored
/// from an older copy of its data, does not say so; but what it tells then mostly cannot be true
/// of the history that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    cluster: u64,
    /// Holds the term of the leader: terms never go back.
    term: u64,
    /// Holds the revision up to which all writes were told.
    told: i64,
    /// Holds the revision of the latest write that was told.
    latest: i64,
}

impl History {
    /// Reads the history from an answer of the leader.
    pub(crate) fn of(header: Option<&ResponseHeader>) -> Result<Self> {
        let (told, header) = (revision(header)?, header.map(|h| (h.cluster_id(), h.raft_term())));
        let (cluster, term) = header.unwrap_or_default();
        Ok(Self { cluster, term, told, latest: 0 })
    }

    /// Returns the revision of this reading.
    pub(crate) fn revision(&self) -> i64 {
        self.told
    }

    /// Tells whether a reading may be a later one of the same history.
    pub(crate) fn may_go_on(&self, now: &Self) -> bool {
        let is_first = *self == Self { latest: self.latest, ..Self::default() };
        is_first || self.cluster == now.cluster && self.term <= now.term && self.told <= now.told
    }

    /// Notes that everything in this reading was told.
    pub(crate) fn read(&mut self, now: Self) {
        *self = Self { latest: self.latest, ..now };
    }

    /// Notes that a write of this revision was told, and so was everything before it.
    pub(crate) fn told(&mut self, revision: i64) {
        // The same revision may have written more.
        self.told = self.told.max(revision - 1);
        self.noted(revision);
    }

    /// Notes that a reading told a write of this revision.
    pub(crate) fn noted(&mut self, revision: i64) {
        self.latest = self.latest.max(revision);
    }

    /// Tells whether a write of this revision must have been told.
    pub(crate) fn has(&self, revision: i64) -> bool {
        revision <= self.told
    }

    /// Tells whether a write is so new that its value is compared at once: a copy that is restored
    /// is rarely an old one.
    pub(crate) fn is_recent(&self, revision: i64) -> bool {
        revision > self.latest - WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_back_is_another_history() {
        let seen = History { cluster: 1, term: 5, told: 70, latest: 60 };
        let now = |cluster, term, told| History { cluster, term, told, latest: 0 };
        for goes_on in [now(1, 5, 70), now(1, 6, 70), now(1, 5, 71)] {
            assert!(seen.may_go_on(&goes_on), "{goes_on:?}");
            assert!(History::default().may_go_on(&goes_on));
        }
        for another in [now(2, 5, 70), now(1, 4, 80), now(1, 6, 69)] {
            assert!(!seen.may_go_on(&another), "{another:?}");
        }
    }

    #[test]
    fn what_was_told_is_known_by_its_revision() {
        let mut seen = History::default();
        seen.read(History { cluster: 1, term: 2, told: 10, latest: 0 });
        seen.noted(8);
        assert!(seen.has(10) && !seen.has(11));
        seen.told(5000);
        assert!(seen.has(4999) && !seen.has(5000), "a revision may write several keys");
        assert!(seen.is_recent(5000 - WINDOW + 1) && !seen.is_recent(5000 - WINDOW));
        seen.read(History { cluster: 1, term: 3, told: 6000, latest: 0 });
        assert!(seen.has(6000) && !seen.is_recent(5000 - WINDOW));
    }
}
