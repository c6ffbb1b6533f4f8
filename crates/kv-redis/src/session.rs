//! What locks hang on: one session per TTL, made with the first lock, renewed in one request for all of them, as long as a
//! lock needs it and a little longer.

use crate::{
    client::Does,
    feed::{News, Tale},
    part::{Core, unique},
    script::{self, Answer, next},
};
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{Alive, Instant, Undo},
};
use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::AbortHandle,
};

/// The sessions of one store, by their TTL.
#[derive(Default)]
pub(crate) struct Sessions(Arc<Mutex<Open>>);

type Open = HashMap<Duration, Arc<Session>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a wait in line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    /// The contender is gone.
    Lost,
}

type Ending = Box<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Session {
    core: Arc<Core>,
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    each_request: Duration,
    contenders: AtomicU64,
    /// Set once the server has it.
    alive: OnceLock<Alive>,
    revoke: Mutex<Undo>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Place>>>,
    held: Mutex<HashMap<String, Ending>>,
    users: Mutex<Users>,
    /// When one before us in a line dies, unless it is renewed.
    soonest: Mutex<Option<Instant>>,
    sooner: Arc<Notify>,
    ear: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// Ends a session that nobody uses.
    end: Option<AbortHandle>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in [lock(&self.users).end.take(), lock(&self.ear).take()].into_iter().flatten() {
            task.abort();
        }
    }
}

/// The right to hang something on a session; it is open as long as there is one.
pub(crate) struct Use {
    pub(crate) session: Arc<Session>,
    sessions: Weak<Mutex<Open>>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut users = lock(&self.session.users);
        users.count -= 1;
        if users.count > 0 {
            return;
        }
        // A session that nobody uses ends before it would have to be renewed: it costs nothing until then, and who locks
        // again soon needs no new one.
        let (weak, clock, wait) =
            (Arc::downgrade(&self.session), self.session.core.clock.clone(), self.session.ttl / 4);
        let sessions = self.sessions.clone();
        let Ok(runtime) = Handle::try_current() else { return };
        let end = runtime.spawn(async move {
            clock.sleep(wait).await;
            if let (Some(session), Some(sessions)) = (weak.upgrade(), sessions.upgrade()) {
                let mut open = lock(&sessions);
                let is_unused = {
                    let mut users = lock(&session.users);
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

/// Its drop ends it on the server.
fn forget(open: &mut Open, session: &Arc<Session>) {
    if open.get(&session.ttl).is_some_and(|there| Arc::ptr_eq(there, session)) {
        open.remove(&session.ttl);
    }
}

impl Sessions {
    /// The session of this TTL; on the server it is made with the first lock.
    pub(crate) fn use_one(&self, core: &Arc<Core>, ttl: Duration, each_request: Duration) -> Use {
        let mut open = lock(&self.0);
        if open.get(&ttl).is_some_and(|session| session.is_over()) {
            open.remove(&ttl);
        }
        let session =
            open.entry(ttl).or_insert_with(|| Arc::new(Session::new(core, ttl, each_request))).clone();
        lock(&session.users).count += 1;
        Use { session, sessions: Arc::downgrade(&self.0) }
    }

    /// No new locks on this session: it is over, or nobody knows what hangs on it.
    pub(crate) fn forget(&self, used: &Use) {
        forget(&mut lock(&self.0), &used.session);
    }

    /// Ends all sessions.
    pub(crate) async fn end(&self) {
        let open = std::mem::take(&mut *lock(&self.0));
        for session in open.into_values() {
            let revoke = std::mem::replace(&mut *lock(&session.revoke), Undo::nothing());
            // What cannot be ended in time ends by its TTL.
            let _ = revoke.run().await;
        }
    }
}

impl Session {
    fn new(core: &Arc<Core>, ttl: Duration, each_request: Duration) -> Self {
        Self {
            core: core.clone(),
            id: format!("{:016x}", unique()),
            ttl,
            each_request,
            contenders: AtomicU64::default(),
            alive: OnceLock::new(),
            revoke: Mutex::new(Undo::nothing()),
            waiting: Mutex::default(),
            held: Mutex::default(),
            users: Mutex::default(),
            soonest: Mutex::default(),
            sooner: Arc::default(),
            ear: Mutex::default(),
        }
    }

    /// A name for another contender.
    pub(crate) fn contender(&self) -> String {
        format!("{}:{:x}", self.id, self.contenders.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn alive(&self) -> Option<&Alive> {
        self.alive.get()
    }

    fn is_over(&self) -> bool {
        self.alive.get().is_some_and(|alive| !alive.is_held())
    }

    async fn order(
        core: &Core,
        id: &str,
        deadline: Deadline,
        order: &str,
        ttl: Duration,
    ) -> Result<Option<Answer>> {
        let arguments = [order.into(), ttl.as_millis().to_string().into()];
        let name = [core.names.session(id)];
        let answer = core.run(Does::Repeatable, deadline, &script::SESSION, name, arguments).await?;
        Ok(answer.some())
    }

    /// The server has it, asked for at this moment or later: it is kept alive from here on.
    pub(crate) fn opened(self: &Arc<Self>, asked: Instant) -> &Alive {
        self.alive.get_or_init(|| {
            let (core, id, ttl, each) = (self.core.clone(), self.id.clone(), self.ttl, self.each_request);
            *lock(&self.revoke) = Undo::new(async move {
                let ended = Self::order(&core, &id, Deadline::after(each), "end", ttl).await?;
                Ok(ended.is_some())
            });
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

    /// Keeps it, and hears what became of all that hangs on it.
    async fn renew(&self) -> Result<()> {
        let asked = self.core.clock.now();
        let answer =
            Self::order(&self.core, &self.id, Deadline::after(self.each_request), "keep", self.ttl).await?;
        let Some(answer) = answer else {
            let why = "the server ended the session: its TTL passed, or an administrator deleted it";
            return Err(Error::new(ErrorKind::LockLost, why));
        };
        let mut answer = answer.list()?;
        let soonest = u64::try_from(next(&mut answer)?.number()?).ok();
        *lock(&self.soonest) = soonest.map(|left| asked + Duration::from_millis(left + 1));
        self.sooner.notify_one();
        for first in next(&mut answer)?.list()? {
            self.is_at(&Answer(first).text()?, Place::First);
        }
        for gone in next(&mut answer)?.list()? {
            let gone = Answer(gone).text()?;
            self.is_at(&gone, Place::Lost);
            if let Some(end) = lock(&self.held).remove(&gone) {
                end("its place was deleted on the server, by an administrator");
            }
        }
        Ok(())
    }

    fn is_at(&self, contender: &str, place: Place) {
        if let Some(waiting) = lock(&self.waiting).remove(contender) {
            // Who waited may have gone.
            let _ = waiting.send(place);
        }
    }

    /// Waits in line from here on, also for what is told before the wait.
    pub(crate) fn waits(self: &Arc<Self>, contender: &str) -> Waiting {
        let (tell, told) = oneshot::channel();
        lock(&self.waiting).insert(contender.to_owned(), tell);
        Waiting { session: self.clone(), contender: contender.to_owned(), told }
    }

    /// Tells this one when its contender is found to be gone.
    pub(crate) fn holds(&self, contender: &str, alive: &Alive) {
        lock(&self.held).insert(contender.to_owned(), Box::new(alive.ending()));
    }

    pub(crate) fn holds_no_more(&self, contender: &str) {
        lock(&self.held).remove(contender);
    }

    /// Listens for what concerns those of ours that wait, from the first wait on.
    pub(crate) fn listen(self: &Arc<Self>) {
        let mut ear = lock(&self.ear);
        if ear.is_none() {
            let channel = self.core.names.on_session(&self.id);
            let hear = hear(Arc::downgrade(self), self.core.clone(), channel, self.sooner.clone());
            *ear = Some(tokio::spawn(hear).abort_handle());
        }
    }
}

/// Has those who wait look whenever something may have changed without a word. It does not keep the session: that is what
/// its users do.
async fn hear(session: Weak<Session>, core: Arc<Core>, channel: String, sooner: Arc<Notify>) {
    let mut news = core.feed.subscribe(channel);
    loop {
        let soonest = {
            let Some(session) = session.upgrade() else { return };
            let is_waiting = !lock(&session.waiting).is_empty();
            (*lock(&session.soonest)).filter(|_| is_waiting)
        };
        let due = async {
            match soonest {
                Some(at) => core.clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            news = news.next() => Some(news),
            () = due => None,
            () = sooner.notified() => continue,
        };
        let Some(session) = session.upgrade() else { return };
        match heard {
            Some(News::Tale(Tale::Front(contender))) => session.is_at(&contender, Place::First),
            Some(News::Tale(_)) => {}
            // Without it the renewals tell.
            Some(News::Refused(error)) => {
                tracing::warn!(%error, "waits for locks are not woken");
                return;
            }
            Some(News::Look) | None => {
                if !lock(&session.waiting).is_empty() && session.renew().await.is_err() {
                    *lock(&session.soonest) = Some(core.clock.now() + Duration::from_millis(100));
                }
            }
        }
    }
}

/// A wait in line; dropping it ends it here, not on the server.
pub(crate) struct Waiting {
    session: Arc<Session>,
    contender: String,
    told: oneshot::Receiver<Place>,
}

impl Waiting {
    pub(crate) async fn place(&mut self) -> Place {
        let lost = async {
            match self.session.alive() {
                Some(alive) => drop(alive.lost().await),
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            place = &mut self.told => place.unwrap_or(Place::Lost),
            () = lost => Place::Lost,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.session.waiting).remove(&self.contender);
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} open)", lock(&self.0).len())
    }
}
