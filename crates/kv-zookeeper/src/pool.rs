//! The sessions that locks hang on: one per TTL, as long as a lock needs it and a little longer.

use crate::{
    error::lock,
    session::{Ephemeral, keep},
    store::Inner,
};
use kv_core::{
    Deadline, Result,
    backend::{Alive, Clock},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::OnceCell, task::AbortHandle};

/// The sessions of one store, by their TTL.
#[derive(Default)]
pub(crate) struct Sessions(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open(HashMap<Duration, Arc<Slot>>);

/// A session, or the place of one that is being opened.
struct Slot {
    ttl: Duration,
    clock: Clock,
    session: OnceCell<(Arc<Ephemeral>, Alive)>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// Ends a session that nobody uses.
    end: Option<AbortHandle>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(end) = lock(&self.users).end.take() {
            end.abort();
        }
    }
}

/// The right to hang something on a session; it is open as long as there is one.
pub(crate) struct Use {
    slot: Arc<Slot>,
    session: Arc<Ephemeral>,
    alive: Alive,
    sessions: Weak<Mutex<Open>>,
}

impl Use {
    pub(crate) fn session(&self) -> &Ephemeral {
        &self.session
    }

    pub(crate) fn alive(&self) -> &Alive {
        &self.alive
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        left(&self.slot, self.sessions.clone());
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

/// One user less. A session that nobody uses ends when it would have to be renewed: who locks again soon needs no new one.
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
        let ends = open.into_values().map(|slot| async move {
            if let Some((session, _)) = slot.session.get() {
                // What cannot be ended in time ends by its TTL.
                let _ = session.end(Deadline::after(Duration::from_secs(1))).await;
            }
        });
        futures::future::join_all(ends).await;
    }
}

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        loop {
            let slot = {
                let mut open = lock(&self.sessions.0);
                let slot = open.0.entry(ttl).or_insert_with(|| {
                    let (clock, session, users) = (self.clock.clone(), OnceCell::new(), Mutex::default());
                    Arc::new(Slot { ttl, clock, session, users })
                });
                lock(&slot.users).count += 1;
                slot.clone()
            };
            let sessions = Arc::downgrade(&self.sessions.0);
            let mut counted = Counted(Some((slot.clone(), sessions.clone())));
            let open = || async {
                let (granted, deadline) = (self.clock.now(), Deadline::after(each_request));
                let timeout = self.limits.timeout(ttl);
                let session =
                    Arc::new(Ephemeral::open(&self.client.options, timeout, false, deadline).await?);
                let alive = keep(&session, self.names.root(), &self.clock, ttl, granted);
                Ok::<_, kv_core::Error>((session, alive))
            };
            let (session, alive) = slot.session.get_or_try_init(open).await?.clone();
            counted.0 = None;
            let used = Use { slot, session, alive, sessions };
            if used.alive.is_held() && used.session.is_alive() {
                return Ok(used);
            }
            self.sessions.forget(&used);
        }
    }
}
