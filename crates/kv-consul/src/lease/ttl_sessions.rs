//! Keeps the sessions of puts with a TTL: puts of one TTL that follow each other closely share
//! one.

use crate::client::{Client, Purpose, api};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Clock, Instant, Mutex, Undo},
    driver::Deadline,
};
use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::{Handle, Id},
    sync::OnceCell,
    task::AbortHandle,
};

#[cfg(test)]
mod tests;

/// Divides the TTL: a session outlives it by this part, and for so long after it was asked for it
/// is given to further puts.
const AHEAD: u32 = 10;
/// Limits for how many keys it is known by which session they live.
const MOST_KEYS: usize = 1 << 16;

/// Returns the TTL of the session for puts with this TTL.
pub(crate) fn session_ttl(ttl: Duration) -> Duration {
    ttl + ttl / AHEAD
}

/// Returns the greatest TTL whose session has at most this TTL.
pub(crate) fn greatest(session: Duration) -> Duration {
    Duration::from_secs((session * AHEAD / (AHEAD + 1)).as_secs())
}

/// A session under which keys were put.
pub(crate) struct TtlSession {
    pub(crate) id: Arc<str>,
    pub(crate) ttl: Duration,
    at: Instant,
    /// Counts the keys that may live by the session.
    keys: AtomicUsize,
    end: Mutex<Undo>,
    retires: Mutex<Option<AbortHandle>>,
}

impl TtlSession {
    fn is_past(&self, time: Duration) -> bool {
        // This is always the machine's clock, since the server's clock goes on too.
        Clock::system().now().since(self.at) > time
    }

    /// Notes a put under this session that is about to be sent.
    pub(super) fn used(&self) {
        self.keys.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a write under this session took no effect.
    pub(crate) fn unused(&self) {
        self.keys.fetch_sub(1, Ordering::AcqRel);
    }

    /// Renews the session after a write that took long, so that the key lives its whole TTL from
    /// now on.
    ///
    /// # Errors
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the session has ended meanwhile, and the
    /// key with it.
    pub(crate) async fn begun(&self, client: &Client, deadline: Deadline) -> Result<()> {
        if !self.is_past(self.ttl / AHEAD) {
            return Ok(());
        }
        // It cannot wait behind other puts, nor have renewals of locks wait.
        match api::renew_session(client, Purpose::Release, deadline, &self.id).await {
            Ok(false) => {
                let why = "the write took longer than its TTL, which has ended the key";
                Err(Error::new(ErrorKind::OutcomeUnknown, why))
            }
            // Without a renewal its keys live by the TTL, counted from the grant.
            Ok(true) | Err(_) => Ok(()),
        }
    }

    fn take_end(&self) -> Undo {
        mem::replace(&mut *self.end.lock(), Undo::nothing())
    }
}

/// Ends in the background a session that no key lives by; others end by their time.
impl Drop for TtlSession {
    fn drop(&mut self) {
        let retires = self.retires.lock().take();
        if let Some(retires) = retires {
            retires.abort();
        }
        if self.keys.load(Ordering::Acquire) > 0 {
            self.take_end().forget();
        }
    }
}

/// The place of a session that puts of one TTL share.
pub(super) type Slot = Arc<OnceCell<Arc<TtlSession>>>;

/// The sessions of one store for its puts.
#[derive(Default)]
pub(crate) struct TtlSessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Holds the sessions that further puts of a runtime may have: another one may stand still
    /// while it asks for a session.
    current: HashMap<(Id, Duration), Slot>,
    /// Holds the session that each key lives by, as far as this store wrote the key, and the index
    /// of that write.
    keys: HashMap<Arc<str>, (Arc<TtlSession>, u64)>,
    /// Sets at how many keys the table drops those whose session is over.
    look_at: usize,
}

impl Table {
    /// Forgets what was written at this index or before: it is there no more.
    fn left(&mut self, name: &str, at: u64) -> Option<Arc<TtlSession>> {
        self.keys.get(name).filter(|(_, written)| *written <= at)?;
        let (session, _) = self.keys.remove(name)?;
        session.unused();
        Some(session)
    }
}

impl TtlSessions {
    /// Changes the table. What is taken out of it is a part of the answer, and is dropped when the
    /// mutex is free again: the drop of a session begins the work that ends it.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.lock())
    }

    /// Returns the slot of the session that a put with this TTL may have: of one that is there or
    /// under way, or of a new one.
    pub(super) fn slot(&self, ttl: Duration) -> Slot {
        self.slot_of((Handle::current().id(), ttl))
    }

    fn slot_of(&self, place: (Id, Duration)) -> Slot {
        let (slot, _past) = self.change(|table| {
            // Nobody else removes what a runtime that ended has left.
            let is_left = |slot: &Slot| match slot.get() {
                Some(session) => session.is_past(session.ttl / AHEAD),
                None => Arc::strong_count(slot) == 1,
            };
            let left = table.current.extract_if(|_, slot| is_left(slot));
            let mut past: Vec<_> = left.map(|(_, slot)| slot).collect();
            let slot = table.current.entry(place).or_default();
            // Half of the time is left for the put itself; a put that takes longer renews the
            // session.
            let is_past = slot.get().is_some_and(|session| session.is_past(session.ttl / AHEAD / 2));
            past.extend(is_past.then(|| mem::take(slot)));
            (slot.clone(), past)
        });
        slot
    }

    /// Takes in a session that was asked for at this moment, and gives it to puts until its time
    /// for that is over.
    pub(super) fn begin(&self, id: Arc<str>, end: Undo, ttl: Duration, at: Instant) -> Arc<TtlSession> {
        let session = Arc::new(TtlSession {
            id,
            ttl,
            at,
            keys: AtomicUsize::new(0),
            end: Mutex::new(end),
            retires: Mutex::default(),
        });
        let (table, retired) = (Arc::downgrade(&self.0), Arc::downgrade(&session));
        let place = (Handle::current().id(), ttl);
        let retires = tokio::spawn(async move {
            Clock::system().sleep_until(at + ttl / AHEAD).await;
            // The slot is dropped outside the lock, and with it the session if no key lives by it.
            let _unused = table.upgrade().and_then(|table| {
                let mut table = table.lock();
                let there = table.current.get(&place)?.get();
                let is_it = there.is_some_and(|session| retired.ptr_eq(&Arc::downgrade(session)));
                if is_it { table.current.remove(&place) } else { None }
            });
        });
        *session.retires.lock() = Some(retires.abort_handle());
        session
    }

    /// Gives the session to no further puts: the server ended it.
    pub(crate) fn is_over(&self, session: &TtlSession) {
        let is_it = |slot: &Slot| slot.get().is_some_and(|there| there.id == session.id);
        let _over: Vec<_> = self.change(|table| table.current.extract_if(|_, slot| is_it(slot)).collect());
    }

    /// Notes that the key was written at this index: it lives by this session, or for ever.
    /// Answers may come in another order than the writes happened.
    pub(crate) fn wrote(&self, name: &str, at: u64, session: Option<&Arc<TtlSession>>) {
        let _before = self.change(|table| {
            let mut before: Vec<_> = table.left(name, at).into_iter().collect();
            let Some(session) = session else { return before };
            if table.keys.contains_key(name) {
                // A newer write is there; or the server's index went back, and this write is what
                // is there. A session that may have a key ends by its time.
                return before;
            }
            if table.keys.len() >= table.look_at {
                let over = |session: &TtlSession| session.is_past(session.ttl * 5);
                let over = table.keys.extract_if(|_, (session, _)| over(session));
                before.extend(over.map(|(_, (session, _))| session));
                table.look_at = (table.keys.len() * 2).max(1024);
            }
            // Of further keys nobody knows when they are replaced: their sessions end by their
            // time.
            if table.keys.len() < MOST_KEYS {
                table.keys.insert(name.into(), (session.clone(), at));
            }
            before
        });
    }

    /// Returns what a deletion of this key that is about to be sent will have deleted, as far as is
    /// known now.
    pub(crate) fn before(&self, name: &str) -> Option<(Arc<str>, u64)> {
        let table = self.0.lock();
        table.keys.get_key_value(name).map(|(key, (_, at))| (key.clone(), *at))
    }

    /// Notes that the deletion was done.
    pub(crate) fn deleted(&self, before: Vec<(Arc<str>, u64)>) {
        let _sessions: Vec<_> =
            self.change(|table| before.iter().filter_map(|(name, at)| table.left(name, *at)).collect());
    }

    /// Gives up all sessions. Those by which no key lives end in the background, once the puts that
    /// are under way have them no more; the others end by their time.
    pub(crate) fn end(&self) {
        let _past = self.change(mem::take);
    }
}
