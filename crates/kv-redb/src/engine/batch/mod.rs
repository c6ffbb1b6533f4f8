//! The work within one transaction of the writer.

mod held;

use super::{
    event::Event,
    format::{CHANGES, COUNTER, DATA, EXPIRY, Inline, LARGE, LEASED, LEASES, LOCKS, META, Row, SEEN, inline},
    state::{Replaced, State},
    time::{SLACK, Time, millis},
};
use crate::names;
use kv_core::{Bytes, Error, ErrorKind, Result, Version, driver::Expect};
use redb::{ReadableTable, Table, WriteTransaction};
use std::time::Duration;
use tokio::sync::oneshot;

/// The result of a job: the outer error ends the whole batch, the inner one is the answer to this
/// job's caller.
pub(crate) type Done<T> = std::result::Result<Result<T>, redb::Error>;
type Redb<T> = std::result::Result<T, redb::Error>;
/// A contender's channel, and the token that it is to be told.
pub(crate) type Owed = (oneshot::Sender<Result<u64>>, u64);

/// The most that one batch clears away of each: locks, keys of leases, expired keys. So no caller
/// waits until a million of them are cleared away; nobody sees those that are left.
const SWEPT: usize = 1_000;

/// The life of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lives {
    Always,
    For(Duration),
    Under(u64),
}

/// The result of an acquisition.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The lock is held, with this token.
    Granted(u64),
    Busy,
    InLine(oneshot::Receiver<Result<u64>>),
}

/// A transaction with its tables, and what is to be told and undone of it.
pub(crate) struct Batch<'t> {
    data: Table<'t, &'static str, Row<'static>>,
    expiry: Table<'t, (u64, &'static str), ()>,
    leased: Table<'t, (u64, &'static str), ()>,
    leases: Table<'t, u64, u64>,
    locks: Table<'t, &'static str, (u64, u64, Inline<'static>)>,
    changes: Table<'t, &'static str, u64>,
    large: Table<'t, u64, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
    state: &'t mut State,
    trace: &'t mut Trace,
    /// False when nobody watched anything as this batch began.
    is_watched: bool,
    now: u64,
    /// Counts how many more keys of leases this batch may clear away.
    room: usize,
}

/// The results of a batch outside of its transaction.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Tells whether there is something to commit.
    changed: bool,
    /// The counter of the commit, once there is one to make.
    pub(crate) stamp: Option<u64>,
    /// Counts puts and deletes of keys.
    pub(crate) writes: u64,
    pub(crate) events: Vec<Event>,
    /// Tells whether keys were deleted without events, since nobody watched.
    pub(crate) untold: bool,
    pub(crate) replaced: Vec<Replaced>,
    pub(crate) owed: Vec<Owed>,
}

/// The fields of a row, without its value.
#[derive(Clone, Copy)]
struct Old {
    version: u64,
    expiry: u64,
    lease: u64,
    is_large: bool,
}

impl Old {
    fn of((version, expiry, lease, value): Row<'_>) -> Self {
        Self { version, expiry, lease, is_large: value.is_none() }
    }

    /// Tells whether reads see nothing of the row any more.
    fn is_over(self, state: &State, now: u64) -> bool {
        let leaseless = || self.lease != 0 && !state.living().lives(self.lease, now);
        (self.expiry != 0 && self.expiry <= now) || leaseless()
    }
}

impl<'t> Batch<'t> {
    pub(crate) fn open(
        write: &'t WriteTransaction,
        state: &'t mut State,
        trace: &'t mut Trace,
        is_watched: bool,
        time: &Time,
    ) -> Redb<Self> {
        Ok(Self {
            data: write.open_table(DATA)?,
            expiry: write.open_table(EXPIRY)?,
            leased: write.open_table(LEASED)?,
            leases: write.open_table(LEASES)?,
            locks: write.open_table(LOCKS)?,
            changes: write.open_table(CHANGES)?,
            large: write.open_table(LARGE)?,
            meta: write.open_table(META)?,
            state,
            trace,
            is_watched,
            now: time.now(),
            room: SWEPT,
        })
    }

    /// Ends the locks, leases and keys that are over, and clears away what is left of them.
    pub(crate) fn sweep(&mut self) -> Redb<()> {
        for _ in 0..SWEPT {
            let ended = self.state.living().ended_lock(self.now);
            let Some(name) = ended else { break };
            self.hand_on(&name)?;
        }
        self.sweep_leases()?;
        if self.state.first_expiry.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        for _ in 0..SWEPT {
            let Some((at, name)) = self.first_expiry()? else { break };
            if at > self.now {
                break;
            }
            if !self.remove(&name)? {
                // This is an index without its key: nothing of ours writes that, and it must not
                // stop the sweep.
                self.expiry.remove((at, &*name))?;
                self.trace.changed = true;
            }
        }
        Ok(())
    }

    fn first_expiry(&self) -> Redb<Option<(u64, String)>> {
        Ok(self.expiry.first()?.map(|(row, _)| (row.value().0, row.value().1.to_owned())))
    }

    /// Writes the counter and the time into the same commit, if there is one to make.
    pub(crate) fn finish(mut self) -> Redb<()> {
        if self.trace.changed {
            self.state.first_expiry = self.first_expiry()?.map(|(at, _)| at);
            let stamp = self.state.next();
            self.trace.stamp = Some(stamp);
            self.meta.insert(COUNTER, stamp)?;
            self.meta.insert(SEEN, self.now)?;
        }
        Ok(())
    }
}

/// Keys.
impl Batch<'_> {
    /// Returns the version of a key that is there, to be compared or replaced. A key that is over
    /// is cleared away. A version that was never given out is damage: it could be given out yet.
    pub(crate) fn version(&mut self, name: &str) -> Done<Option<Version>> {
        let found = self.data.get(name)?.map(|row| Old::of(row.value()));
        Ok(match found {
            Some(old) if old.is_over(self.state, self.now) => {
                self.remove(name)?;
                Ok(None)
            }
            Some(Old { version, .. }) if !self.state.was_given(version) => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{name:?} has the version {version}, which this file has never given out: it is damaged; nothing \
                     was written, and deleting the key is the way out"
                ),
            )),
            Some(Old { version, .. }) => Ok(Some(Version::new(version, 0))),
            None => Ok(None),
        })
    }

    /// Refuses a put under a lease that has ended.
    pub(crate) fn may_live(&self, lives: Lives) -> Result<()> {
        match lives {
            Lives::Under(lease) if !self.state.living().lives(lease, self.now) => Err(Error::new(
                ErrorKind::LeaseLost,
                format!("the lease {lease} has ended; ask for a new one"),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn put(&mut self, name: &str, value: Bytes, expect: Expect, lives: Lives) -> Done<Version> {
        let found = self.version(name)?;
        if let Err(e) = found.and_then(|found| expect.check(found)).and_then(|()| self.may_live(lives)) {
            return Ok(Err(e));
        }
        let (expiry, lease) = match lives {
            Lives::Always => (0, 0),
            Lives::For(ttl) => (self.now.saturating_add(millis(ttl + SLACK)).saturating_add(1), 0),
            Lives::Under(lease) => (0, lease),
        };
        let version = self.state.next();
        let old = self.data.insert(name, (version, expiry, lease, inline(&value)))?;
        let old = old.map(|row| Old::of(row.value()));
        if let Some(old) = old {
            self.forget(name, old)?;
        }
        self.keep_large(version, &value)?;
        if expiry != 0 {
            self.expiry.insert((expiry, name), ())?;
        }
        if lease != 0 {
            self.leased.insert((lease, name), ())?;
        }
        let version = Version::new(version, 0);
        self.tell(Event::Put { name: name.into(), value, version });
        Ok(Ok(version))
    }

    pub(crate) fn delete(&mut self, name: &str, expect: Expect) -> Done<bool> {
        let found = match self.version(name)? {
            // The key goes, whatever its version is.
            Err(_) if expect == Expect::Anything => return self.remove(name).map(Ok),
            found => found.and_then(|found| expect.check(found).map(|()| found)),
        };
        match found {
            Ok(found) => Ok(Ok(found.is_some() && self.remove(name)?)),
            Err(e) => Ok(Err(e)),
        }
    }

    /// Deletes the keys whose names begin with `start`, in one pass over their pages; returns how
    /// many of them lived. Where nobody watches anything, no events are made.
    pub(crate) fn delete_below(&mut self, start: &str, is_key: impl Fn(&str) -> bool) -> Redb<u64> {
        let (state, now, is_told) = (&*self.state, self.now, self.is_watched);
        let (mut gone, mut lived) = (0, 0);
        let (mut events, mut more) = (Vec::new(), Vec::new());
        let stays = |name: &str, row: Row<'_>| {
            if !is_key(name) {
                return true;
            }
            let old = Old::of(row);
            gone += 1;
            lived += u64::from(!old.is_over(state, now));
            if is_told {
                events.push(Event::Delete { name: name.into(), version: Version::new(old.version, 0) });
            }
            if old.expiry != 0 || old.lease != 0 || old.is_large {
                more.push((name.to_owned(), old));
            }
            false
        };
        match names::behind(start) {
            Some(end) => self.data.retain_in(start..&*end, stays)?,
            None => self.data.retain_in(start.., stays)?,
        }
        for (name, old) in more {
            self.forget(&name, old)?;
        }
        self.trace.changed |= gone > 0;
        self.trace.writes += gone;
        self.trace.untold |= gone > 0 && !is_told;
        self.trace.events.extend(events);
        Ok(lived)
    }

    fn remove(&mut self, name: &str) -> Redb<bool> {
        let old = self.data.remove(name)?.map(|row| Old::of(row.value()));
        let Some(old) = old else { return Ok(false) };
        self.forget(name, old)?;
        self.tell(Event::Delete { name: name.into(), version: Version::new(old.version, 0) });
        Ok(true)
    }

    /// Clears away what a row had in other tables.
    fn forget(&mut self, name: &str, old: Old) -> Redb<()> {
        if old.expiry != 0 {
            self.expiry.remove((old.expiry, name))?;
        }
        if old.lease != 0 {
            self.leased.remove((old.lease, name))?;
        }
        if old.is_large {
            self.large.remove(old.version)?;
        }
        Ok(())
    }

    /// Keeps a value that its row does not have, by its version or token, which is mostly the last
    /// number that was given out.
    fn keep_large(&mut self, number: u64, value: &[u8]) -> Redb<()> {
        if inline(value).is_none() {
            self.large.insert(number, value)?;
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) {
        self.trace.changed = true;
        self.trace.writes += 1;
        self.trace.events.push(event);
    }
}
