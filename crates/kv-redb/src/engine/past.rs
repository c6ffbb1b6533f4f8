//! Leases and locks that ended while a read was under way: the read judges by its own moment, at
//! which they may have lived.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// The moment at which a read looks: behind this number of commits, at this time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) commits: u64,
    pub(crate) now: u64,
}

/// A lease, or a lock by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    Lease(u64),
    Lock(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Counts the commits whose changes are in memory too.
    commits: u64,
    /// Holds the commit by which each ended, and the time until which it would have lived.
    ended: HashMap<Ended, (u64, u64)>,
    /// Holds the same in the order of commits.
    order: VecDeque<(u64, Ended)>,
    /// Counts the reads that are under way, by the number of commits that were done when they
    /// began.
    reads: BTreeMap<u64, usize>,
}

impl Past {
    /// Notes that something ends with the next commit, and that it would have lived until `until`.
    pub(crate) fn note(&mut self, ended: Ended, until: u64) {
        let commit = self.commits + 1;
        self.ended.insert(ended, (commit, until));
        self.order.push_back((commit, ended));
    }

    /// Tells whether something that lives no more was over at this moment.
    pub(crate) fn was_over(&self, ended: Ended, at: At) -> bool {
        self.ended.get(&ended).is_none_or(|(commit, until)| *commit <= at.commits || *until <= at.now)
    }

    /// Counts the commit of what was noted.
    pub(crate) fn commit(&mut self) {
        self.commits += 1;
        self.forget();
    }

    /// Drops what was noted since the last commit, since its batch failed.
    pub(crate) fn undo(&mut self) {
        while let Some((_, ended)) = self.order.pop_back_if(|(commit, _)| *commit > self.commits) {
            self.ended.remove(&ended);
        }
    }

    /// Returns how many commits are done, and remembers what ends from then on, until
    /// [`end_read`](Self::end_read).
    pub(crate) fn begin_read(&mut self) -> u64 {
        *self.reads.entry(self.commits).or_default() += 1;
        self.commits
    }

    /// Returns how many commits are done.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    pub(crate) fn end_read(&mut self, commits: u64) {
        if let Some(reads) = self.reads.get_mut(&commits) {
            *reads -= 1;
            if *reads == 0 {
                self.reads.remove(&commits);
                self.forget();
            }
        }
    }

    /// Forgets what ended before all reads that are under way.
    fn forget(&mut self) {
        let first = self.reads.first_key_value().map_or(self.commits, |(commits, _)| *commits);
        while let Some((_, ended)) = self.order.pop_front_if(|(commit, _)| *commit <= first) {
            self.ended.remove(&ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ended;
    use crate::engine::{moment::Moment, state::Shared, time::Time};
    use kv_core::backend::Clock;

    #[test]
    fn what_ended_is_remembered_for_as_long_as_a_read_may_ask() {
        let (living, time) = (Shared::default(), Time::new(Clock::manual(), 0));
        let kept = || living.lock().past.ended.len();
        let ends = |lease| living.lock().past.note(Ended::Lease(lease), u64::MAX);
        ends(1);
        living.lock().past.commit();
        assert_eq!(kept(), 0);
        let (one, two) = (Moment::new(&living, &time), Moment::new(&living, &time));
        ends(2);
        // This end is of a batch that fails.
        ends(3);
        assert!(!one.is_over(2) && !one.is_over(3) && one.is_last());
        living.lock().past.undo();
        assert_eq!(kept(), 0);
        ends(2);
        living.lock().past.commit();
        let later = Moment::new(&living, &time);
        ends(4);
        living.lock().past.commit();
        assert!(one.is_over(1) && !one.is_over(2) && !one.is_over(4) && !one.is_last());
        assert!(later.is_over(2) && !later.is_over(4));
        drop(one);
        assert_eq!(kept(), 2);
        drop(two);
        assert_eq!(kept(), 1);
        drop(later);
        let past = &living.lock().past;
        assert!(past.ended.is_empty() && past.order.is_empty() && past.reads.is_empty(), "{past:?}");
    }
}
