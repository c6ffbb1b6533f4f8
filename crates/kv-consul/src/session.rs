//! The sessions that locks hang on: one per TTL, as long as a lock needs it and a little longer.

use crate::{lease, store::Inner};
use kv_core::{
    Deadline, Result,
    backend::{Alive, Clock, Undo},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::OnceCell, task::AbortHandle};

/// The sessions of one store, by their TTL.
#[derive(Default)]
pub(crate) struct Sessions(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open(HashMap<Duration, Arc<Slot>>);

/// A session, or the place of one that is being granted.
struct Slot {
    ttl: Duration,
    clock: Clock,
    session: OnceCell<Session>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// Ends a session that nobody uses.
    end: Option<AbortHandle>,
}

struct Session {
    id: Arc<str>,
    alive: Alive,
    end: Mutex<Undo>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(end) = lock(&self.users).end.take() {
            end.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to hang something on a session; it is open as long as there is one.
pub(crate) struct Use {
    slot: Arc<Slot>,
    id: Arc<str>,
    alive: Alive,
    sessions: Weak<Mutex<Open>>,
}

impl Use {
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn alive(&self) -> &Alive {
        &self.alive
    }
}

/// Counts a user from the moment on in which the slot is looked up.
struct Counted(Option<(Arc<Slot>, Weak<Mutex<Open>>)>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((slot, sessions)) = self.0.take() {
            left(&slot, sessions);
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        left(&self.slot, self.sessions.clone());
    }
}

/// One user less. A session that nobody uses ends when it would have to be renewed: it costs nothing until then, and who
/// locks again soon needs no new one.
fn left(slot: &Arc<Slot>, sessions: Weak<Mutex<Open>>) {
    let mut users = lock(&slot.users);
    users.count -= 1;
    if users.count > 0 {
        return;
    }
    let (weak, ttl, clock) = (Arc::downgrade(slot), slot.ttl, slot.clock.clone());
    let Ok(runtime) = Handle::try_current() else { return };
    let end = runtime.spawn(async move {
        clock.sleep(ttl / 4).await;
        if let (Some(slot), Some(sessions)) = (weak.upgrade(), sessions.upgrade()) {
            end_if_unused(&slot, &sessions);
        }
    });
    if let Some(before) = users.end.replace(end.abort_handle()) {
        before.abort();
    }
}

fn end_if_unused(slot: &Arc<Slot>, sessions: &Mutex<Open>) {
    let mut open = lock(sessions);
    let is_unused = {
        let mut users = lock(&slot.users);
        users.end = None;
        users.count == 0
    };
    if is_unused && open.0.get(&slot.ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
        // Ended in the background by its drop.
        open.0.remove(&slot.ttl);
    }
}

impl Sessions {
    /// No new locks on this session: it is over, or nobody knows what hangs on it.
    pub(crate) fn forget(&self, used: &Use) {
        let mut open = lock(&self.0);
        if open.0.get(&used.slot.ttl).is_some_and(|there| Arc::ptr_eq(there, &used.slot)) {
            open.0.remove(&used.slot.ttl);
        }
    }

    /// Ends all sessions.
    pub(crate) async fn end(&self) {
        let open = std::mem::take(&mut lock(&self.0).0);
        for slot in open.into_values() {
            if let Some(session) = slot.session.get() {
                let end = std::mem::replace(&mut *lock(&session.end), Undo::nothing());
                // What cannot be ended in time ends by its TTL.
                let _ = end.run().await;
            }
        }
    }
}

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        loop {
            let slot = {
                let mut open = lock(&self.sessions.0);
                let slot = open.0.entry(ttl).or_insert_with(|| {
                    Arc::new(Slot {
                        ttl,
                        clock: self.clock.clone(),
                        session: OnceCell::new(),
                        users: Mutex::default(),
                    })
                });
                lock(&slot.users).count += 1;
                slot.clone()
            };
            let sessions = Arc::downgrade(&self.sessions.0);
            let mut counted = Counted(Some((slot.clone(), sessions.clone())));
            let create = || async {
                let deadline = Deadline::after(each_request);
                let session = lease::create(self, "lock", ttl, deadline, each_request).await?;
                let alive = lease::keep(self, &session, ttl, each_request);
                Ok(Session { id: session.id, alive, end: Mutex::new(session.end) })
            };
            let session = slot.session.get_or_try_init(create).await?;
            counted.0 = None;
            let (id, alive) = (session.id.clone(), session.alive.clone());
            let used = Use { slot, id, alive, sessions };
            if used.alive.is_held() {
                return Ok(used);
            }
            self.sessions.forget(&used);
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} open)", lock(&self.0).0.len())
    }
}
