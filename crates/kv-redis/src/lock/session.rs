//! Sessions of locks: one for each runtime and TTL, made with the first lock, renewed for all locks
//! of that TTL together, and kept as long as a lock needs it and a little longer.

use crate::{
    core::{Core, renewal},
    lock::{
        known::Known,
        next_look::NextLook,
        requests::{end, leave, step},
        waiters::{QueuePosition, Waiters},
    },
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Alive, ByRuntime, Instant, LetGo, Mutex, Undo, unique},
    driver::Deadline,
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, task::AbortHandle};

/// The sessions of one store. A runtime renews its own, since another one may end or stand still.
#[derive(Default)]
pub(crate) struct Sessions(ByRuntime<Arc<Place>>);

/// The sessions of one runtime, by their TTL.
struct Place {
    runtime: Handle,
    open: Mutex<HashMap<Duration, Arc<Session>>>,
}

type Ending = Box<dyn Fn(&str) + Send + Sync>;

/// The life that the locks of one TTL share.
pub(crate) struct Session {
    pub(crate) core: Arc<Core>,
    place: Weak<Place>,
    /// The runtime that renews the session.
    runtime: Handle,
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    each_request: Duration,
    known: Mutex<Known>,
    /// Set once the server has the session.
    alive: OnceLock<Alive>,
    /// Ends the session on the server; set once a request that makes it may have been sent.
    revoke: Mutex<Option<Undo>>,
    pub(crate) waiting: Waiters,
    /// Tells those who wait that they are to take another session.
    pub(crate) let_go: LetGo,
    held: Mutex<HashMap<String, Ending>>,
    users: Mutex<Users>,
    pub(crate) next_look: Arc<NextLook>,
    /// The task that listens for the waiting contenders of this session.
    pub(crate) listening: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// Ends a session that nobody uses.
    end: Option<AbortHandle>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let tasks = [self.users.lock().end.take(), self.listening.lock().take()];
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
    }
}

/// One use of a session, which stays open as long as there is one.
pub(crate) struct Use {
    pub(crate) session: Arc<Session>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let session = &self.session;
        let mut users = session.users.lock();
        users.count -= 1;
        if users.count > 0 {
            return;
        }
        // A session that nobody uses is ended before it would have to be renewed: until then it
        // costs nothing, and a lock that comes soon needs no new one. The runtime that renews the
        // session ends it: whoever drops this may be in one that ends at once, or in none.
        let (weak, clock, wait) = (Arc::downgrade(session), session.core.clock.clone(), session.ttl / 4);
        let end = session.runtime.spawn(async move {
            clock.sleep(wait).await;
            let Some(session) = weak.upgrade() else { return };
            if let Some(place) = session.place.upgrade() {
                let mut open = place.open.lock();
                let is_unused = {
                    let mut users = session.users.lock();
                    users.end = None;
                    users.count == 0
                };
                if is_unused {
                    forget(&mut open, &session);
                }
            }
        });
        if let Some(before) = users.end.replace(end.abort_handle()) {
            before.abort();
        }
    }
}

/// Removes a session. Its drop ends it on the server.
fn forget(open: &mut HashMap<Duration, Arc<Session>>, session: &Arc<Session>) {
    if open.get(&session.ttl).is_some_and(|there| Arc::ptr_eq(there, session)) {
        open.remove(&session.ttl);
    }
}

impl Place {
    fn take(&self) -> HashMap<Duration, Arc<Session>> {
        std::mem::take(&mut *self.open.lock())
    }
}

impl Sessions {
    /// Returns the session that this runtime has of this TTL. On the server it is made with the
    /// first lock.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the sessions have ended.
    pub(crate) fn use_one(&self, core: &Arc<Core>, ttl: Duration, each_request: Duration) -> Result<Use> {
        for gone in self.0.gone() {
            // Nobody renews these sessions any more: whoever still has one has lost it. What each
            // of them has on the server ends in the background.
            gone.take().values().for_each(|session| drop(session.take_revoke()));
        }
        let place = self.0.here(|| Arc::new(Place { runtime: Handle::current(), open: Mutex::default() }))?;
        // The session that is over is dropped when the mutex is free again: the drop begins the
        // work that ends it.
        let (session, _over) = {
            let mut open = place.open.lock();
            let is_over = open.get(&ttl).is_some_and(|session| session.is_over());
            let over = if is_over { open.remove(&ttl) } else { None };
            let new = || Arc::new(Session::new(core, &place, ttl, each_request));
            let session = open.entry(ttl).or_insert_with(new).clone();
            session.users.lock().count += 1;
            (session, over)
        };
        Ok(Use { session })
    }

    /// Ends all sessions, and gives none from then on. A session that cannot be ended in time ends
    /// by its TTL.
    ///
    /// # Errors
    /// The error of the first session that could not be ended.
    pub(crate) async fn end(&self) -> Result<()> {
        let open = self.0.close().into_iter().flat_map(|place| place.take().into_values());
        let ends = open.map(|session| async move {
            match session.take_revoke() {
                Some(revoke) => revoke.run().await.map(drop),
                None => Ok(()),
            }
        });
        futures::future::join_all(ends).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

impl Session {
    fn new(core: &Arc<Core>, place: &Arc<Place>, ttl: Duration, each_request: Duration) -> Self {
        Self {
            core: core.clone(),
            place: Arc::downgrade(place),
            runtime: place.runtime.clone(),
            id: format!("{:016x}", unique()),
            ttl,
            each_request,
            known: Mutex::default(),
            alive: OnceLock::new(),
            revoke: Mutex::default(),
            waiting: Waiters::default(),
            let_go: LetGo::default(),
            held: Mutex::default(),
            users: Mutex::default(),
            next_look: Arc::default(),
            listening: Mutex::default(),
        }
    }

    /// Makes a name for another contender.
    pub(crate) fn contender(&self) -> String {
        self.known.lock().another(&self.id)
    }

    /// Notes that a contender has left, or never was in a queue.
    pub(crate) fn has_left(&self, contender: &str) {
        self.known.lock().has_left(contender);
    }

    pub(crate) fn alive(&self) -> Option<&Alive> {
        self.alive.get()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.alive.get().is_some_and(|alive| !alive.is_held())
    }

    /// Lets no new locks use the session, and has those who wait under it take another one: one of
    /// its contenders cannot be taken out of a queue. So the session ends once the locks that are
    /// held by it are given back, and the contender with it.
    pub(crate) fn let_go(self: &Arc<Self>) {
        self.forget();
        self.let_go.begin();
    }

    /// Lets no new locks use the session, which is over.
    pub(crate) fn forget(self: &Arc<Self>) {
        if let Some(place) = self.place.upgrade() {
            forget(&mut place.open.lock(), self);
        }
    }

    /// Takes what ends the session on the server, if it may be there.
    fn take_revoke(&self) -> Option<Undo> {
        self.revoke.lock().take()
    }

    /// Notes that the server may have the session, perhaps by a request that nobody waits for any
    /// more. From here on its end is sent to the server in any case.
    pub(crate) fn may_be_open(&self) {
        self.revoke.lock().get_or_insert_with(|| {
            let (core, id, ttl, each) = (self.core.clone(), self.id.clone(), self.ttl, self.each_request);
            self.core.tasks.undo(async move { end(&core, &id, ttl, each).await })
        });
    }

    /// Keeps the session alive from here on: the server has it, for the TTL from this moment or
    /// later.
    pub(crate) fn opened(self: &Arc<Self>, asked: Instant) -> &Alive {
        self.alive.get_or_init(|| {
            self.may_be_open();
            let session = Arc::downgrade(self);
            Alive::keep(&self.core.clock, self.ttl, asked, move || {
                let session = session.clone();
                async move {
                    match session.upgrade() {
                        Some(session) => session.renew().await,
                        None => Err(Error::new(ErrorKind::LockLost, "it was given back")),
                    }
                }
            })
        })
    }

    /// Renews the session once, and passes on what became of its contenders.
    pub(crate) async fn renew(self: &Arc<Self>) -> Result<()> {
        let began = self.core.clock.now();
        // Only contenders that were in a queue before this moment have to be found.
        let waited = self.waiting.in_line();
        let held: HashSet<String> = self.held.lock().keys().cloned().collect();
        let known = self.known.lock().clone();
        let (mut firsts, mut behind, mut soonest) = (HashMap::new(), HashMap::new(), None);
        let mut from = Some("0".to_owned());
        while let Some(cursor) = from {
            let (asked, deadline) = (self.core.clock.now(), renewal(self.ttl));
            let step = step(&self.core, &self.id, deadline, "keep", self.ttl, cursor).await?;
            let Some(step) = step else {
                let why = "the server ended the session: its TTL passed, or an administrator deleted it";
                return Err(Error::new(ErrorKind::LockLost, why));
            };
            let ends = step.soonest.map(|left| asked + Duration::from_millis(left + 1));
            soonest = soonest.into_iter().chain(ends).min();
            firsts.extend(step.firsts);
            behind.extend(step.behind);
            from = step.more;
        }
        self.next_look.looked(began, soonest);
        firsts.keys().for_each(|first| self.waiting.tell(first, QueuePosition::First));
        for gone in waited.iter().filter(|name| !firsts.contains_key(*name) && !behind.contains_key(*name)) {
            self.waiting.tell(gone, QueuePosition::Lost);
        }
        for gone in held.iter().filter(|name| !firsts.contains_key(*name)) {
            let end = self.held.lock().remove(gone);
            if let Some(end) = end {
                end("its place in the line is gone: an administrator changed it, or a failover lost it");
                // If it is found in a queue again, it is taken out.
                self.has_left(gone);
            }
        }
        for (late, name) in firsts.into_iter().chain(behind) {
            if known.was_gone(&late) {
                let (session, deadline) = (self.clone(), Deadline::after(self.each_request));
                self.core.tasks.spawn(async move {
                    let left = leave(&session.core, &name, &session.id, &late, deadline).await;
                    if left.as_ref().is_err_and(Error::is_lasting) {
                        session.let_go();
                    }
                    left
                });
            }
        }
        Ok(())
    }

    /// Has this guard end when its contender is found to be gone.
    pub(crate) fn holds(&self, contender: &str, alive: &Alive) {
        self.held.lock().insert(contender.to_owned(), Box::new(alive.ending()));
    }

    pub(crate) fn holds_no_more(&self, contender: &str) {
        self.held.lock().remove(contender);
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: usize = self.0.all().iter().map(|place| place.open.lock().len()).sum();
        write!(f, "Sessions({open} open)")
    }
}
