//! The account of the resources that shards guard.

use crate::torture::workload::{Seen, Violation};
use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The work of all members, by their own word.
#[derive(Clone, Debug)]
pub(super) struct Account(Arc<Mutex<Works>>);

#[derive(Debug)]
struct Works {
    began: Instant,
    /// The member that works on a shard, and its token.
    now: BTreeMap<usize, (usize, u64)>,
    /// The greatest token under which a shard was worked on.
    newest: BTreeMap<usize, u64>,
    seen: Seen,
}

/// The work on one shard, which ends when this is dropped.
pub(super) struct Working {
    account: Account,
    shard: usize,
    token: u64,
}

pub(super) fn violation(what: String, at: u64) -> Violation {
    Violation { what, at, calls: Vec::new() }
}

impl Default for Account {
    fn default() -> Self {
        let (now, newest, seen) = (BTreeMap::new(), BTreeMap::new(), Seen::default());
        Self(Arc::new(Mutex::new(Works { began: Instant::now(), now, newest, seen })))
    }
}

impl Account {
    fn works(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self, what: String) {
        let at = u64::try_from(self.works().began.elapsed().as_micros()).unwrap_or_default();
        self.wrong(what, at);
    }

    /// Notes what must not be.
    pub(super) fn wrong(&self, what: String, at: u64) {
        self.works().seen.violations.push(violation(what, at));
    }

    /// Notes that a member begins to work on a shard.
    pub(super) fn begin(&self, shard: usize, member: usize, token: u64) -> Working {
        let works = &mut *self.works();
        works.seen.answered += 1;
        // Work that stands still with its process counts as ended, if it is not polled once more.
        works.now.insert(shard, (member, token));
        let newest = works.newest.insert(shard, token);
        if let Some(of) = newest.filter(|of| *of >= token) {
            let at = u64::try_from(works.began.elapsed().as_micros()).unwrap_or_default();
            let what = format!("{member} began shard {shard} under {token}, behind {of}");
            works.seen.violations.push(violation(what, at));
        }
        Working { account: self.clone(), shard, token }
    }

    /// Notes each poll of work, which must not come when another works on the shard.
    pub(super) fn polls(&self, shard: usize, member: usize, token: u64) {
        let newest = self.newest(shard);
        if newest > token {
            self.here(format!("{member} works on shard {shard} under {token}, and another under {newest}"));
        }
    }

    /// Returns the greatest token under which a shard was worked on.
    pub(super) fn newest(&self, shard: usize) -> u64 {
        self.works().newest.get(&shard).copied().unwrap_or_default()
    }

    /// Notes that a write was taken, which began when this was the greatest token.
    pub(super) fn wrote(&self, shard: usize, member: usize, token: u64, newest: u64) {
        self.works().seen.answered += 1;
        if newest > token {
            self.here(format!(
                "a write of {member} to shard {shard} under {token} was taken behind {newest}"
            ));
        }
    }

    /// Notes that a write failed, or has an unknown outcome.
    pub(super) fn failed(&self, is_unknown: bool) {
        let seen = &mut self.works().seen;
        if is_unknown { seen.unknown += 1 } else { seen.failed += 1 }
    }

    /// Returns the member that works on each shard.
    pub(super) fn owners(&self) -> BTreeMap<usize, usize> {
        self.works().now.iter().map(|(shard, (member, _))| (*shard, *member)).collect()
    }

    /// Tells whether these members work on all shards, each on its share.
    pub(super) fn is_shared(&self, shards: usize, members: &[usize]) -> bool {
        let owners = self.owners();
        let of = |member: &usize| owners.values().filter(|owner| *owner == member).count();
        let share = shards / members.len().max(1)..=shards.div_ceil(members.len().max(1));
        owners.len() == shards && members.iter().all(|member| share.contains(&of(member)))
    }

    /// Checks how many shards have another owner since a member died.
    pub(super) fn moved(&self, before: &BTreeMap<usize, usize>, died: usize, most: usize, at: u64) {
        let now = self.owners();
        let moved = before.iter().filter(|&(shard, owner)| now.get(shard) != Some(owner)).count();
        if moved > most {
            self.wrong(format!("{moved} shards moved when {died} died, more than {most}"), at);
        }
    }

    /// Returns what was seen.
    pub(super) fn seen(&self) -> Seen {
        mem::take(&mut self.works().seen)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let works = &mut *self.account.works();
        if works.now.get(&self.shard).is_some_and(|(_, token)| *token == self.token) {
            works.now.remove(&self.shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(account: &Account) -> Vec<String> {
        account.seen().violations.into_iter().map(|wrong| wrong.what).collect()
    }

    #[test]
    fn two_owners_are_seen() {
        let account = Account::default();
        drop(account.begin(0, 1, 5));
        let _owns = account.begin(0, 2, 6);
        account.polls(0, 2, 6);
        assert_eq!(wrong(&account), [""; 0], "one after the other");
        let _too = account.begin(0, 3, 7);
        assert_eq!(wrong(&account), [""; 0], "the one before stands still");
        account.polls(0, 2, 6);
        assert_eq!(wrong(&account), ["2 works on shard 0 under 6, and another under 7"]);
        drop(account.begin(1, 1, 9));
        drop(account.begin(1, 2, 9));
        assert_eq!(wrong(&account), ["2 began shard 1 under 9, behind 9"]);
    }

    #[test]
    fn a_late_write_is_seen() {
        let account = Account::default();
        let (_one, newest) = (account.begin(0, 1, 5), account.newest(0));
        account.wrote(0, 1, 5, newest);
        assert_eq!(wrong(&account), [""; 0]);
        account.wrote(0, 1, 5, 6);
        assert_eq!(wrong(&account), ["a write of 1 to shard 0 under 5 was taken behind 6"]);
    }

    #[test]
    fn what_moves_is_counted() {
        let account = Account::default();
        let first: Vec<_> = (0..4).map(|shard| account.begin(shard, shard % 2, 1)).collect();
        let before = account.owners();
        assert!(
            account.is_shared(4, &[0, 1]) && !account.is_shared(4, &[0, 2]) && !account.is_shared(5, &[0, 1])
        );
        drop(first);
        let _second: Vec<_> = (0..4).map(|shard| account.begin(shard, 0, 2)).collect();
        account.moved(&before, 1, 2, 0);
        assert_eq!(wrong(&account), [""; 0]);
        account.moved(&before, 1, 1, 0);
        assert_eq!(wrong(&account), ["2 shards moved when 1 died, more than 1"]);
    }
}
