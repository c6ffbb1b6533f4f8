//! Sessions that locks share.

use super::{Alive, ByRuntime, Clock, Undo, lock};
use crate::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::OnceCell,
    task::{AbortHandle, JoinSet},
};

/// A session that the server has just granted.
#[derive(Debug)]
pub struct Session<S> {
    /// The value by which the backend knows the session.
    pub session: S,
    /// The life of the session, which the backend renews.
    pub alive: Alive,
    /// Ends the session on the server.
    pub end: Undo,
}

/// The sessions of one store that its locks hang on, one for each runtime and TTL: a runtime renews
/// its own, since another one may end or stand still. A session is granted when a lock first needs
/// it, and ended a quarter of its TTL after the last lock is gone, so that a program that locks
/// again soon needs no new one. The sessions of a runtime that has ended are ended by the next who
/// gets one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::backend::{Alive, Clock, Session, Sessions, Undo};
/// use std::time::Duration;
///
/// let (sessions, clock) = (Sessions::new(Clock::system()), Clock::system());
/// let ttl = Duration::from_secs(10);
/// let grant = || async {
///     // Here the server is asked for one, and below for its renewals and its end.
///     let alive = Alive::keep(&clock, ttl, clock.now(), || async { Ok(()) });
///     Ok(Session { session: 7, alive, end: Undo::nothing() })
/// };
/// let one = sessions.get(ttl, &grant).await?;
/// let other = sessions.get(ttl, || async { unreachable!("it is there") }).await?;
/// assert_eq!((*one.session(), *other.session()), (7, 7));
/// sessions.end().await?;
/// # Ok(()) }
/// ```
pub struct Sessions<S> {
    places: ByRuntime<Arc<Place<S>>>,
    clock: Clock,
}

/// The sessions of one runtime, by their TTL.
struct Place<S> {
    runtime: Handle,
    open: Mutex<HashMap<Duration, Arc<Slot<S>>>>,
}

impl<S> Place<S> {
    fn here() -> Arc<Self> {
        Arc::new(Self { runtime: Handle::current(), open: Mutex::default() })
    }

    /// Removes this slot, unless another one has taken its place.
    fn remove(&self, slot: &Arc<Slot<S>>) {
        let mut open = lock(&self.open);
        if open.get(&slot.ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
            open.remove(&slot.ttl);
        }
    }

    fn remove_if_unused(&self, slot: &Arc<Slot<S>>) {
        let mut open = lock(&self.open);
        let is_unused = {
            let mut users = lock(&slot.users);
            users.end = None;
            users.count == 0
        };
        if is_unused && open.get(&slot.ttl).is_some_and(|there| Arc::ptr_eq(there, slot)) {
            open.remove(&slot.ttl);
        }
    }

    fn take(&self) -> HashMap<Duration, Arc<Slot<S>>> {
        std::mem::take(&mut *lock(&self.open))
    }
}

/// A session, or the place of one that is being granted.
struct Slot<S> {
    ttl: Duration,
    clock: Clock,
    /// The runtime that renews the session.
    runtime: Handle,
    granted: OnceCell<Granted<S>>,
    users: Mutex<Users>,
}

struct Granted<S> {
    session: S,
    alive: Alive,
    end: Mutex<Undo>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// The task that ends a session that nobody uses.
    end: Option<AbortHandle>,
}

impl<S> Slot<S> {
    /// Returns what ends the session, unless it was taken before, or there is no session yet.
    fn take_end(&self) -> Option<Undo> {
        let granted = self.granted.get()?;
        Some(std::mem::replace(&mut *lock(&granted.end), Undo::nothing()))
    }
}

impl<S> Drop for Slot<S> {
    fn drop(&mut self) {
        if let Some(end) = lock(&self.users).end.take() {
            end.abort();
        }
    }
}

/// A user of a slot, from the moment at which the slot is looked up.
struct User<S: Send + Sync + 'static> {
    slot: Arc<Slot<S>>,
    place: Weak<Place<S>>,
}

impl<S: Send + Sync + 'static> Drop for User<S> {
    fn drop(&mut self) {
        let slot = &self.slot;
        let mut users = lock(&slot.users);
        users.count -= 1;
        if users.count > 0 {
            return;
        }
        let (weak, place, ttl, clock) =
            (Arc::downgrade(slot), self.place.clone(), slot.ttl, slot.clock.clone());
        // The runtime that renews the session ends it: whoever drops this may be in one that ends
        // at once, or in none.
        let end = slot.runtime.spawn(async move {
            clock.sleep(ttl / 4).await;
            if let (Some(slot), Some(place)) = (weak.upgrade(), place.upgrade()) {
                // The drop of the slot, behind this, ends the session in the background.
                place.remove_if_unused(&slot);
            }
        });
        if let Some(before) = users.end.replace(end.abort_handle()) {
            before.abort();
        }
    }
}

/// The right to hang something on a session, which is open as long as there is one.
pub struct Use<S: Send + Sync + 'static> {
    user: User<S>,
    session: S,
    alive: Alive,
}

impl<S: Send + Sync + 'static> Use<S> {
    /// Returns the value by which the backend knows the session.
    pub fn session(&self) -> &S {
        &self.session
    }

    /// Returns the session's life.
    pub fn alive(&self) -> &Alive {
        &self.alive
    }
}

impl<S: Clone + Send + Sync + 'static> Sessions<S> {
    /// Makes an empty set, whose unused sessions end by this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { places: ByRuntime::new(), clock }
    }

    /// Returns a session of this TTL, as [`get`](Self::get) does, that `fits`. A session that does
    /// not fit gets no new users, and another one is granted in its place.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// That of [`get`](Self::get).
    pub async fn get_where<F>(
        &self,
        ttl: Duration,
        fits: impl Fn(&S) -> bool,
        grant: impl Fn() -> F,
    ) -> Result<Use<S>>
    where
        F: Future<Output = Result<Session<S>>>,
    {
        loop {
            let used = self.get(ttl, &grant).await?;
            if fits(used.session()) {
                return Ok(used);
            }
            self.forget(&used);
        }
    }

    /// Returns the session that this runtime has of this TTL: the one that there is, or the one
    /// that `grant` brings.
    ///
    /// # Errors
    /// Those of `grant`; [`Closed`](ErrorKind::Closed) outside of a runtime, and after
    /// [`end`](Self::end), also when `end` came while `grant` was under way: the session that
    /// `grant` brought is ended then.
    ///
    /// # Cancel safety
    /// It is cancel safe, as far as `grant` is.
    pub async fn get<F>(&self, ttl: Duration, grant: impl Fn() -> F) -> Result<Use<S>>
    where
        F: Future<Output = Result<Session<S>>>,
    {
        loop {
            let user = self.user(ttl)?;
            let grant = || async {
                let Session { session, alive, end } = grant().await?;
                Ok(Granted { session, alive, end: Mutex::new(end) })
            };
            let granted = user.slot.granted.get_or_try_init(grant).await?;
            let (session, alive) = (granted.session.clone(), granted.alive.clone());
            let used = Use { user, session, alive };
            if self.places.is_closed() {
                return Err(closed());
            }
            if used.alive.is_held() {
                return Ok(used);
            }
            self.forget(&used);
        }
    }

    /// Returns a user of the slot of this TTL, which may have no session yet.
    fn user(&self, ttl: Duration) -> Result<User<S>> {
        for gone in self.places.gone() {
            // Nobody renews these sessions any more: whoever still has one has lost it. What each
            // of them has on the server ends in the background.
            gone.take().values().for_each(|slot| drop(slot.take_end()));
        }
        let place = self.places.here(Place::here)?;
        let slot = {
            let mut open = lock(&place.open);
            let new = || {
                let (clock, runtime) = (self.clock.clone(), place.runtime.clone());
                let (granted, users) = (OnceCell::new(), Mutex::default());
                Arc::new(Slot { ttl, clock, runtime, granted, users })
            };
            let slot = open.entry(ttl).or_insert_with(new).clone();
            lock(&slot.users).count += 1;
            slot
        };
        Ok(User { slot, place: Arc::downgrade(&place) })
    }

    /// Gives this session to nobody new: it is over, or nobody knows what hangs on it.
    pub fn forget(&self, used: &Use<S>) {
        if let Some(place) = used.user.place.upgrade() {
            place.remove(&used.user.slot);
        }
    }

    /// Ends all sessions, side by side, and gives none from then on: every [`get`](Self::get)
    /// answers [`Closed`](ErrorKind::Closed), and one that is under way ends the session that it
    /// brought, in the background. A session that cannot be ended in time ends by its TTL.
    ///
    /// # Errors
    /// The first failure to end a session on which something still hangs: that could not be given
    /// back before, and was to go with its session.
    pub async fn end(&self) -> Result<()> {
        let mut ends = JoinSet::new();
        for place in self.places.close() {
            for slot in place.take().into_values() {
                ends.spawn(slot.end());
            }
        }
        let mut all = Ok(());
        while let Some(ended) = ends.join_next().await {
            let gone = |e| Err(Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e));
            all = all.and(ended.unwrap_or_else(gone));
        }
        all
    }
}

impl<S: Send + Sync + 'static> Slot<S> {
    async fn end(self: Arc<Self>) -> Result<()> {
        // A `get` that is under way ends its session itself. This must not wait for it: its
        // runtime may stand still.
        let Some(end) = self.take_end() else { return Ok(()) };
        let is_used = lock(&self.users).count > 0;
        let ended = end.run().await;
        if is_used { ended.map(drop) } else { Ok(()) }
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed, and its sessions have ended; open it anew")
}

impl<S> fmt::Debug for Sessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: usize = self.places.all().iter().map(|place| lock(&place.open).len()).sum();
        write!(f, "Sessions({open} open)")
    }
}

impl<S: fmt::Debug + Send + Sync + 'static> fmt::Debug for Use<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Use")
            .field("session", &self.session)
            .field("alive", &self.alive)
            .finish_non_exhaustive()
    }
}
