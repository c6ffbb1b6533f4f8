//! Sessions that own nodes: what they created goes with them.

use crate::{
    client::{before, closed},
    connect::{Attempts, Options},
    error::{failed, lock},
    link::{Link, Linked, Why, stands},
};
use kv_core::{
    Deadline, Error, ErrorKind, Result, TtlRange,
    backend::{Alive, Clock, Home, Instant},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::AbortHandle};
use zookeeper_client::{Error as ClientError, SessionInfo};

/// No TTL is shorter, although a server may allow it: what is kept alive needs time for more than one renewal on a busy
/// machine.
const SHORTEST: Duration = Duration::from_secs(2);

/// How long the end of a session is tried; what is not ended by then ends by its time-out.
pub(crate) const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// How many directories a session remembers; those of more keys stay, empty, until their next key goes.
const MOST_DIRECTORIES: usize = 4096;

/// The time-outs that the server grants sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) least: Duration,
    pub(crate) greatest: Duration,
}

impl Limits {
    /// How long the session behind a TTL outlives its last sign of life.
    ///
    /// Longer than the TTL: a member of an ensemble tells the leader of signs of life only twice a tick, so that some are lost
    /// with it; sessions are shared by what is put within a tenth of the TTL; and idle ones are pinged a few times in it.
    pub(crate) fn timeout(self, ttl: Duration) -> Duration {
        (ttl + ttl / 8 + self.least / 3).max(self.least)
    }

    /// How long a session is shared by keys with one TTL.
    pub(crate) fn shared(ttl: Duration) -> Duration {
        ttl / 10
    }

    /// The TTLs that such sessions can keep.
    pub(crate) fn range(self) -> TtlRange {
        let greatest = self.greatest.saturating_sub(self.least / 3) / 9 * 8;
        let greatest = Duration::from_millis(u64::try_from(greatest.as_millis()).unwrap_or(u64::MAX));
        let mut range = TtlRange::new(self.least.max(SHORTEST).min(greatest), greatest);
        // A new leader, and a single server that was restarted, gives each session its whole time-out anew. Servers look
        // for ended sessions once a tick, which is half of the least time-out, unless told otherwise.
        range.late_share = 1.5;
        range.late_by = self.least * 2 + Duration::from_millis(500);
        range
    }
}

/// One session, connected again whenever its connection breaks, as long as its runtime runs.
pub(crate) struct Ephemeral {
    id: String,
    info: SessionInfo,
    options: Arc<Options>,
    timeout: Duration,
    link: watch::Sender<Link>,
    keeper: AbortHandle,
    home: Home,
    /// Its owner counts on it no more.
    lost: AtomicBool,
    /// Whether its end, once it was begun, has come to the server. Kept while one ends it: who ends it meanwhile waits for
    /// that, for an end that is only on its way is none.
    ended: tokio::sync::Mutex<Option<bool>>,
    /// The directories that its nodes lie in, which are to be cleared when it is over.
    directories: Mutex<BTreeSet<String>>,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Ephemeral {
    /// One that goes this long after its last sign of life; a detached one also when it is dropped, else it ends then.
    pub(crate) async fn open(
        options: &Arc<Options>,
        timeout: Duration,
        detached: bool,
        deadline: Deadline,
    ) -> Result<Self> {
        let linked = options.session(timeout, detached, before(deadline)).await?;
        if !lasts(&linked, timeout) {
            let granted = linked.session.session_timeout();
            let why = format!(
                "the server grants sessions of {granted:?} at most since its settings were changed, and this TTL takes \
                 {timeout:?}; open the store anew to learn what it allows now"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let (info, id) = (linked.session.session().clone(), linked.session.session_id().to_string());
        let linked = Arc::new(linked);
        let link = watch::Sender::new(Link::Up(linked.clone()));
        let keeper =
            tokio::spawn(hold(options.clone(), link.clone(), linked, timeout, detached)).abort_handle();
        Ok(Self {
            id,
            info,
            options: options.clone(),
            timeout,
            link,
            keeper,
            home: Home::here(),
            lost: AtomicBool::new(false),
            ended: tokio::sync::Mutex::default(),
            directories: Mutex::default(),
        })
    }

    /// What it owns lies in this directory.
    pub(crate) fn lies_in(&self, directory: &str) {
        let mut directories = lock(&self.directories);
        if directories.len() < MOST_DIRECTORIES {
            directories.insert(directory.to_owned());
        }
    }

    pub(crate) fn directories(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.directories))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its owner may still count on it.
    pub(crate) fn is_alive(&self) -> bool {
        let over = self.lost.load(Ordering::Relaxed) || matches!(*self.link.borrow(), Link::Closed);
        !over && !self.home.is_gone()
    }

    /// Its connection, as soon as one stands.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Linked>> {
        if !self.is_alive() {
            return Err(ended());
        }
        let unreachable = |why: Option<&str>| {
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            let text =
                format!("no connection for the session {} within {:?}{why}", self.id, deadline.within());
            Error::new(ErrorKind::Unavailable, text)
        };
        stands(&self.link, deadline, unreachable).await?.ok_or_else(ended)
    }

    /// Ready when the server has ended it.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.link.subscribe();
        async move {
            // Dropped, it is over as well.
            let _ = changes.wait_for(|link| matches!(link, Link::Closed)).await;
        }
    }

    /// Ends it, and what it owns; whether it was alive. One whose owner still counts on it is connected again for this, if
    /// it has to be, and so is one whose keeper went with its runtime.
    pub(crate) async fn end(&self, deadline: Deadline) -> Result<bool> {
        // The server may have ended it while it was not connected, which one hears when it is again.
        let is_linked = self.link(deadline).await.is_ok();
        let was_alive = self.is_alive();
        self.keeper.abort();
        let in_time = match deadline.limit(self.ended.lock()).await {
            Some(mut ended) => {
                let done = match self.link.send_replace(Link::Closed) {
                    Link::Closed if *ended != Some(false) => true,
                    Link::Closed => self.end_anew(deadline).await,
                    link => {
                        *ended = Some(false);
                        self.end_by(link, is_linked, deadline).await
                    }
                };
                *ended = Some(done);
                done
            }
            None => false,
        };
        if in_time {
            return Ok(was_alive);
        }
        let why = format!("the session {} could not be ended in time; it ends by its TTL", self.id);
        Err(Error::new(ErrorKind::Timeout, why))
    }

    async fn end_by(&self, link: Link, is_linked: bool, deadline: Deadline) -> bool {
        match link {
            Link::Up(linked) if linked.stands() => linked.end(deadline).await,
            // It broke, which its keeper has not seen yet, or has not lived to see.
            _ if is_linked || self.home.is_gone() => self.end_anew(deadline).await,
            _ => false,
        }
    }

    async fn end_anew(&self, deadline: Deadline) -> bool {
        let mut attempts = Attempts::default();
        while !deadline.has_passed() {
            let again = self.options.again(self.timeout, Some(self.info.clone()), false, &attempts);
            match deadline.limit(again).await {
                Some(Ok(linked)) => return Arc::new(linked).end(deadline).await,
                Some(Err(ClientError::SessionExpired)) => return true,
                _ => attempts.pause(deadline).await,
            }
        }
        false
    }
}

/// Keeps a session connected until the server says that it is over.
async fn hold(
    options: Arc<Options>,
    link: watch::Sender<Link>,
    mut linked: Arc<Linked>,
    timeout: Duration,
    detached: bool,
) {
    loop {
        linked.broken().await;
        link.send_replace(Link::Down(None));
        linked.cut();
        let session = linked.session.session().clone();
        drop(linked);
        let mut attempts = Attempts::default();
        linked = loop {
            match options.again(timeout, Some(session.clone()), detached, &attempts).await {
                Ok(linked) if lasts(&linked, timeout) => break Arc::new(linked),
                // The server may end it before its time now, so nobody counts on it any more. What it owns goes by itself,
                // behind everybody's hearing of that.
                Ok(linked) => {
                    link.send_replace(Link::Closed);
                    linked.cut();
                    return;
                }
                Err(ClientError::SessionExpired) => {
                    link.send_replace(Link::Closed);
                    return;
                }
                Err(e) => {
                    let (_, error) = options.why(e).await;
                    link.send_replace(Link::Down(Some(Why {
                        refused: None,
                        text: error.to_string().into(),
                    })));
                }
            }
            attempts.pause(Deadline::NEVER).await;
        };
        link.send_replace(Link::Up(linked.clone()));
    }
}

/// Whether the server granted as much as was asked for; each member grants by its own settings, also when a session is taken
/// up again.
fn lasts(linked: &Linked, timeout: Duration) -> bool {
    // The server counts in milliseconds.
    linked.session.session_timeout() + Duration::from_millis(1) >= timeout
}

fn ended() -> Error {
    Error::new(ErrorKind::LeaseLost, "its session has ended")
}

/// Keeps a session alive as long as the answer lives. The client's own pings do so too; what counts is that the quorum
/// answers, and a session whose owner knows it to be lost is ended, be it alive on the server or not.
pub(crate) fn keep(session: &Arc<Ephemeral>, clock: &Clock, ttl: Duration, granted: Instant) -> Alive {
    let kept = Arc::downgrade(session);
    let alive = Alive::keep(clock, ttl, granted, move || {
        let session = kept.upgrade();
        async move {
            let Some(session) = session else { return Err(closed()) };
            let linked = session.link(Deadline::after(ttl)).await?;
            linked.barrier().await.await.map_err(|e| match e {
                ClientError::SessionExpired => ended(),
                e => failed(e).1.with_kind(ErrorKind::Unavailable),
            })
        }
    });
    let (over, end, lost) = (session.over(), alive.ending(), alive.lost());
    let session = Arc::downgrade(session);
    tokio::spawn(async move {
        tokio::select! {
            () = over => end("the server ended its session"),
            _ = lost => {}
        }
        if let Some(session) = session.upgrade() {
            session.lost.store(true, Ordering::Relaxed);
            // What cannot be told in time is not connected again, and ends by its time-out.
            let _ = session.end(Deadline::after(ENDED_WITHIN)).await;
        }
    });
    alive
}
