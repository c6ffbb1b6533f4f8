//! The sessions of puts with a TTL: puts of one TTL that follow each other closely share one.

use crate::{
    client::{a_moment_before, api},
    lease,
    store::Inner,
};
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{Clock, Instant, Mutex, Undo},
};
use std::{
    collections::HashMap,
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::OnceCell, task::AbortHandle};

/// A session outlives the TTL by this part of it, and for so long after it was asked for it is given to further puts.
const AHEAD: u32 = 10;
/// Of how many keys it is known by which session they live.
const MOST_KEYS: usize = 1 << 16;

/// How long the session of puts with this TTL lives.
pub(crate) fn session_ttl(ttl: Duration) -> Duration {
    ttl + ttl / AHEAD
}

/// The greatest TTL whose session lives at most this long.
pub(crate) fn greatest(session: Duration) -> Duration {
    Duration::from_secs((session * AHEAD / (AHEAD + 1)).as_secs())
}

/// A session under which keys were put.
pub(crate) struct Life {
    pub(crate) session: Arc<str>,
    pub(crate) ttl: Duration,
    at: Instant,
    /// How many keys may live by it.
    keys: AtomicUsize,
    end: Mutex<Undo>,
    retires: Mutex<Option<AbortHandle>>,
}

impl Life {
    fn is_past(&self, time: Duration) -> bool {
        // Always the machine's clock: the server's goes on too.
        Clock::system().now().since(self.at) > time
    }

    /// After a write that took no effect.
    pub(crate) fn unused(&self) {
        self.keys.fetch_sub(1, Ordering::AcqRel);
    }

    /// After a write that was done: the key lives its whole TTL from now on.
    ///
    /// # Errors
    /// When the session has ended meanwhile, and the key with it.
    pub(crate) async fn begun(&self, inner: &Inner, deadline: Deadline) -> Result<()> {
        if !self.is_past(self.ttl / AHEAD) {
            return Ok(());
        }
        match api::renew_session(&inner.client, deadline, &self.session).await {
            Ok(false) => {
                let why = "the write took longer than its TTL, which has ended the key";
                Err(Error::new(ErrorKind::OutcomeUnknown, why))
            }
            // Its keys live by the TTL, counted from the grant.
            Ok(true) | Err(_) => Ok(()),
        }
    }

    fn take_end(&self) -> Undo {
        mem::replace(&mut *self.end.lock(), Undo::nothing())
    }
}

/// A session that no key lives by is ended in the background; others end by their time.
impl Drop for Life {
    fn drop(&mut self) {
        if let Some(retires) = self.retires.lock().take() {
            retires.abort();
        }
        if self.keys.load(Ordering::Acquire) > 0 {
            self.take_end().forget();
        }
    }
}

/// The sessions of one store for its puts.
#[derive(Default)]
pub(crate) struct Lives(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Those that further puts may have.
    current: HashMap<Duration, Arc<OnceCell<Arc<Life>>>>,
    /// Which of our keys live by which, as far as this store wrote them, and the index of that write.
    keys: HashMap<String, (Arc<Life>, u64)>,
    /// How many of them call for a look at which are over.
    look_at: usize,
}

impl Table {
    /// What was written at this index or before is no more.
    fn left(&mut self, name: &str, at: u64) -> Option<Arc<Life>> {
        self.keys.get(name).filter(|(_, written)| *written <= at)?;
        let (life, _) = self.keys.remove(name)?;
        life.unused();
        Some(life)
    }
}

impl Lives {
    /// A session for a put with this TTL that is about to be sent.
    pub(crate) async fn get(&self, inner: &Inner, ttl: Duration, deadline: Deadline) -> Result<Arc<Life>> {
        let cell = {
            let mut table = self.0.lock();
            let cell = table.current.entry(ttl).or_default();
            // Half of the time is left for the put itself; one that takes longer renews the session.
            if cell.get().is_some_and(|life| life.is_past(ttl / AHEAD / 2)) {
                *cell = Arc::default();
            }
            cell.clone()
        };
        // Another put's session is waited for no longer than one of our own.
        let deadline = a_moment_before(deadline);
        let life = deadline.limit(cell.get_or_try_init(|| self.create(inner, ttl, deadline))).await;
        let life = life.unwrap_or_else(|| {
            let why = format!(
                "nothing was sent within {:?}: the put waited for the session that another one asked for",
                deadline.within()
            );
            Err(Error::new(ErrorKind::Timeout, why))
        })?;
        // Counted while it is held by us, so that nobody ends it.
        life.keys.fetch_add(1, Ordering::AcqRel);
        Ok(life.clone())
    }

    async fn create(&self, inner: &Inner, ttl: Duration, deadline: Deadline) -> Result<Arc<Life>> {
        let at = Clock::system().now();
        let each = deadline.within().min(Deadline::DEFAULT);
        let session = lease::create(inner, "ttl", session_ttl(ttl), deadline, each).await?;
        let life = Arc::new(Life {
            session: session.id,
            ttl,
            at,
            keys: AtomicUsize::new(0),
            end: Mutex::new(session.end),
            retires: Mutex::default(),
        });
        let (table, retired) = (Arc::downgrade(&self.0), Arc::downgrade(&life));
        let retires = tokio::spawn(async move {
            Clock::system().sleep_until(at + ttl / AHEAD).await;
            // Dropped outside the lock, and with it the session if no key lives by it.
            let _unused = table.upgrade().and_then(|table| {
                let mut table = table.lock();
                let is_it =
                    table.current.get(&ttl)?.get().is_some_and(|life| retired.ptr_eq(&Arc::downgrade(life)));
                if is_it { table.current.remove(&ttl) } else { None }
            });
        });
        *life.retires.lock() = Some(retires.abort_handle());
        Ok(life)
    }

    /// No further puts under this session: the server ended it.
    pub(crate) fn is_over(&self, life: &Life) {
        let mut table = self.0.lock();
        let is_it =
            |cell: &Arc<OnceCell<Arc<Life>>>| cell.get().is_some_and(|there| there.session == life.session);
        if table.current.get(&life.ttl).is_some_and(is_it) {
            table.current.remove(&life.ttl);
        }
    }

    /// The key was written at this index: it lives by this session, or for ever. Answers may come in another order than writes
    /// happened.
    pub(crate) fn wrote(&self, name: &str, at: u64, life: Option<&Arc<Life>>) {
        let mut table = self.0.lock();
        let _before = table.left(name, at);
        let Some(life) = life else { return };
        if table.keys.contains_key(name) {
            // Something newer is there; or the server's index went back, and this is what is there. A session that may have a
            // key ends by its time.
            return;
        }
        if table.keys.len() >= table.look_at {
            let over = |life: &Life| life.is_past(life.ttl * 5);
            table.keys.retain(|_, (life, _)| !over(life));
            table.look_at = (table.keys.len() * 2).max(1024);
        }
        // Of the others nobody knows when they are replaced: their sessions end by their time.
        if table.keys.len() < MOST_KEYS {
            table.keys.insert(name.to_owned(), (life.clone(), at));
        }
    }

    /// What a deletion that is about to be sent will have deleted, as far as is known now: a key, or all that begin so.
    pub(crate) fn before(&self, name: &str, is_tree: bool) -> Vec<(String, u64)> {
        let table = self.0.lock();
        if !is_tree {
            return table.keys.get(name).map(|(_, at)| (name.to_owned(), *at)).into_iter().collect();
        }
        let below = table.keys.iter().filter(|(key, _)| key.starts_with(name));
        below.map(|(key, (_, at))| (key.clone(), *at)).collect()
    }

    /// The deletion was done.
    pub(crate) fn deleted(&self, before: Vec<(String, u64)>) {
        let mut table = self.0.lock();
        let _lives: Vec<_> = before.iter().filter_map(|(name, at)| table.left(name, *at)).collect();
    }

    /// Ends those by which no key lives.
    pub(crate) async fn end(&self) {
        let Table { current, keys, .. } = mem::take(&mut *self.0.lock());
        drop(keys);
        for life in current.values().filter_map(|cell| cell.get()) {
            if life.keys.load(Ordering::Acquire) == 0 {
                // What cannot be ended now ends by its time.
                let _ = life.take_end().run().await;
            }
        }
    }
}

impl fmt::Debug for Lives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lives({} open)", self.0.lock().current.len())
    }
}
