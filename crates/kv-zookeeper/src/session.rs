//! Sessions that own nodes: what they created goes with them.

use crate::{
    client::{Linked, Options, before, closed},
    error::lock,
};
use kv_core::{
    Deadline, Error, ErrorKind, Result, TtlRange,
    backend::{Alive, Clock},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use zookeeper_client::SessionState;

/// No TTL is shorter, although a server may allow it: what is kept alive needs time for more than one renewal on a busy
/// machine.
const SHORTEST: Duration = Duration::from_secs(2);

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

/// One session.
pub(crate) struct Ephemeral {
    id: String,
    linked: Mutex<Option<Arc<Linked>>>,
    /// The directories that its nodes lie in, which are to be cleared when it is over.
    directories: Mutex<BTreeSet<String>>,
}

impl Ephemeral {
    /// One that goes this long after its last sign of life; a detached one also when it is dropped, else it ends then.
    pub(crate) async fn open(options: &Options, timeout: Duration, detached: bool, deadline: Deadline) -> Result<Self> {
        let session = options.session(timeout, detached, before(deadline)).await?;
        let granted = session.session_timeout();
        // The server counts in milliseconds.
        if granted + Duration::from_millis(1) < timeout {
            let why = format!("the server granted a session of {granted:?} where {timeout:?} were asked, and allowed at open");
            return Err(Error::new(ErrorKind::Other, why));
        }
        let id = session.session_id().to_string();
        Ok(Self { id, linked: Mutex::new(Some(Arc::new(Linked { session, generation: 0 }))), directories: Mutex::default() })
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

    fn linked(&self) -> Option<Arc<Linked>> {
        let linked = lock(&self.linked).clone()?;
        (!linked.session.state().is_terminated()).then_some(linked)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.linked().is_some()
    }

    /// Its connection, as soon as one stands; the client makes it anew by itself.
    pub(crate) async fn link(&self, deadline: Deadline) -> Result<Arc<Linked>> {
        let linked = self.linked().ok_or_else(ended)?;
        let mut states = linked.session.state_watcher();
        let mut state = linked.session.state();
        loop {
            match state {
                SessionState::SyncConnected => return Ok(linked),
                state if state.is_terminated() => return Err(ended()),
                _ => {}
            }
            let Some(next) = deadline.limit(states.changed()).await else {
                let why = format!("no connection for the session {} within {:?}", self.id, deadline.within());
                return Err(Error::new(ErrorKind::Unavailable, why));
            };
            state = next;
        }
    }

    /// Ready when it is over, by the server's word or because nothing was heard of the server for too long.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let states = self.linked().map(|linked| (linked.session.state_watcher(), linked.session.state()));
        async move {
            let Some((mut states, mut state)) = states else { return };
            while !state.is_terminated() {
                state = states.changed().await;
            }
        }
    }

    /// Ends it, and what it owns; whether it was alive.
    pub(crate) async fn end(&self, deadline: Deadline) -> Result<bool> {
        let was_alive = self.is_alive();
        let over = self.over();
        drop(lock(&self.linked).take());
        match deadline.limit(over).await {
            Some(()) => Ok(was_alive),
            None => {
                let why = format!("the session {} could not be ended in time; it ends by its TTL", self.id);
                Err(Error::new(ErrorKind::Timeout, why))
            }
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::LeaseLost, "its session has ended")
}

/// Keeps a session alive as long as the answer lives. The client's own pings do so too; what counts is that the leader
/// answers.
pub(crate) fn keep(session: &Arc<Ephemeral>, root: &str, clock: &Clock, ttl: Duration, granted: kv_core::backend::Instant) -> Alive {
    let (kept, root): (_, Arc<str>) = (Arc::downgrade(session), root.into());
    let alive = Alive::keep(clock, ttl, granted, move || {
        let (session, root) = (kept.upgrade(), root.clone());
        async move {
            let Some(session) = session else { return Err(closed()) };
            let linked = session.link(Deadline::after(ttl)).await?;
            linked.session.sync(&root).await.map_err(|e| match session.is_alive() {
                true => crate::error::failed(e).1.with_kind(ErrorKind::Unavailable),
                false => ended(),
            })
        }
    });
    let (over, end) = (session.over(), alive.ending());
    tokio::spawn(async move {
        over.await;
        end("the server ended its session");
    });
    alive
}
