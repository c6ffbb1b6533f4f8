//! Holds one contender of a lock's queue, and watches its node and the one before it.

use super::{
    before::Before,
    order::{ordered, token},
};
use crate::{
    client::{
        attempts::Attempts,
        connection::{Connection, Gone},
        session::Ephemeral,
        via::Via,
    },
    core::Core,
    error::{Answer, Problem},
};
use kv_core::{
    ErrorKind, Key, Result,
    backend::{
        Mutex,
        queue::{Left, Line, Position},
        retry::RetrySafety,
        unique,
    },
    driver::Deadline,
};
use std::{
    borrow::Cow,
    collections::HashSet,
    pin::pin,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use zookeeper_client::{Error as ClientError, EventType, OneshotWatcher, Stat, WatchedEvent};

const DELETED: &str = "its node was deleted on the server, by an administrator or with its session";

/// A contender. It does not keep open the session that owns its node.
pub(crate) struct Contender {
    pub(crate) core: Arc<Core>,
    pub(crate) session: Arc<Ephemeral>,
    /// The beginning of the name of its node, and of no other.
    pub(crate) id: String,
    /// The node of the queue.
    pub(crate) queue: String,
    /// Its node, as soon as the server has told it.
    pub(crate) node: OnceLock<String>,
    /// The nodes before it that belong to no session.
    nobodies: Mutex<HashSet<String>>,
    /// The line of its handle; `None` where it looks at the queue just once.
    line: Option<Arc<Line<Before>>>,
    ttl: Duration,
    each_request: Duration,
    /// Keeps the session from its end until the lock is given back, or its holder was told that it
    /// is lost.
    counted_on: Mutex<Option<watch::Receiver<()>>>,
    /// Set once a request failed that was to take it out.
    pub(crate) is_left: AtomicBool,
}

impl Contender {
    pub(crate) fn new(
        core: &Arc<Core>,
        session: &Arc<Ephemeral>,
        name: &Key,
        line: Option<Arc<Line<Before>>>,
        ttl: Duration,
        each_request: Duration,
    ) -> Self {
        Self {
            core: core.clone(),
            session: session.clone(),
            id: format!("{:016x}{:016x}", unique(), unique()),
            queue: core.names.queue(name),
            node: OnceLock::new(),
            nobodies: Mutex::default(),
            line,
            ttl,
            each_request,
            counted_on: Mutex::new(Some(session.counted_on())),
            is_left: AtomicBool::new(false),
        }
    }

    /// Returns the deadline of one request. Each request has its whole time.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    pub(crate) fn via(&self) -> Via<'_> {
        Via::Own(&self.session)
    }

    /// Takes the receiver that keeps a session that is given up from its end.
    pub(crate) fn counted_on(&self) -> Option<watch::Receiver<()>> {
        self.counted_on.lock().take()
    }

    /// Returns the path of its node; an empty one before the server has told it.
    pub(crate) fn path(&self) -> &str {
        self.node.get().map_or("", String::as_str)
    }

    /// Returns its node as others see it, once the server has told it.
    fn own(&self) -> Option<Before> {
        self.node.get()?.rsplit('/').next().map(Before::new)
    }

    /// Notes that it has left the queue.
    pub(crate) fn has_left(&self, left: &Result<Left>) {
        if let (Ok(_), Some(line), Some(own)) = (left, &self.line, self.own()) {
            line.gone(&own);
        }
    }

    /// Returns its position in the queue. Where a line of its handle knows a listing in which it
    /// was, it is that listing without the ones that are gone: whoever comes later, comes behind
    /// it. Else the queue is listed by its session.
    pub(crate) async fn position(&self, of: u64) -> Result<Position<Before>> {
        if self.session.let_go.is_on() {
            // If it waited, it would keep the session whose end it waits for.
            return Ok(Position::Lost);
        }
        match self.line.as_ref().zip(self.own()).and_then(|(line, own)| line.nearest(&own)) {
            None => self.place().await,
            Some(Position::First) => {
                let own = self.stat(self.path()).await?.filter(|own| token(own.czxid) == of);
                Ok(own.map_or(Position::Lost, |_| Position::First))
            }
            Some(known) => Ok(known),
        }
    }

    /// Finds its position in a listing of the queue. The listing may be that of a member that is
    /// behind: where it shows this contender, it shows all that came before it, and perhaps some
    /// that are gone; where it does not, the queue is listed once more behind a barrier.
    async fn place(&self) -> Result<Position<Before>> {
        let own = self.path().rsplit('/').next();
        let listed = self.via().call(RetrySafety::Read, self.deadline(), |connection| async move {
            let mut names = children(&connection, &self.queue).await?;
            if !names.iter().any(|name| Some(name.as_str()) == own) {
                connection.barrier().await.await?;
                names = children(&connection, &self.queue).await?;
            }
            Ok::<_, Problem>(ordered(&connection, &self.queue, names).await?)
        });
        let mut before = listed.await?.unwrap_or_default();
        let Some(at) = before.iter().position(|name| Some(name.as_str()) == own) else {
            return Ok(Position::Lost);
        };
        let is_nobody = |name: &String| self.nobodies.lock().contains(name);
        if let Some(line) = &self.line {
            let listed = before.iter().filter(|name| !is_nobody(name)).map(Before::new);
            let listed: Vec<_> = listed.collect();
            // Where the numbers do not give the order, each looks for itself each time.
            let is_in_order = listed.iter().all(Before::is_in_order);
            line.learn(if is_in_order { listed } else { Vec::new() });
        }
        before.truncate(at);
        while let Some(name) = before.pop() {
            if !is_nobody(&name) && (self.line.is_some() || self.is_anybody(&name).await?) {
                return Ok(Position::Behind(Before::new(name)));
            }
        }
        Ok(Position::First)
    }

    /// Returns whether a node belongs to a session, as that of each contender does. A node that
    /// belongs to none came by a copy of the tree, and stands for no contender.
    async fn is_anybody(&self, name: &str) -> Result<bool> {
        let stat = self.stat(&format!("{}/{name}", self.queue)).await?;
        Ok(stat.is_some_and(|stat| stat.ephemeral_owner != 0))
    }

    /// Waits until the queue has to be looked at again.
    pub(crate) async fn predecessor_gone(&self, before: &Before) -> Result<bool> {
        tokio::select! {
            biased;
            () = self.session.let_go.begun() => Ok(true),
            is_gone = self.until_changed(&before.name) => {
                if is_gone?
                    && let Some((line, own)) = self.line.as_ref().zip(self.own())
                {
                    line.passed(before, &own);
                }
                Ok(true)
            }
        }
    }

    /// Waits until a node has changed, and returns whether it certainly stands for no contender
    /// from then on.
    async fn until_changed(&self, name: &str) -> Result<bool> {
        let path = &format!("{}/{name}", self.queue);
        Ok(match self.watch(path).await? {
            Some((stat, ..)) if stat.ephemeral_owner == 0 => {
                self.nobodies.lock().insert(name.to_owned());
                true
            }
            Some((_, watcher, gone)) => {
                let changed = self.changed(path, watcher, gone).await;
                changed.is_some_and(|event| event.event_type == EventType::NodeDeleted)
            }
            None => true,
        })
    }

    /// Waits until its own node is seen to be gone, and returns the reason.
    pub(crate) async fn own_gone(&self) -> Cow<'static, str> {
        let (path, mut attempts) = (self.path(), Attempts::default());
        loop {
            match self.watch(path).await {
                Ok(Some((_, watcher, gone))) => {
                    match self.changed(path, watcher, gone).await.map(|event| event.event_type) {
                        Some(EventType::NodeDeleted) => return DELETED.into(),
                        // Its holder has changed the value.
                        Some(EventType::NodeDataChanged) => {
                            attempts.reset();
                            continue;
                        }
                        _ => {}
                    }
                }
                Ok(None) => return DELETED.into(),
                Err(e) if e.kind() == ErrorKind::LeaseLost => return e.message().to_owned().into(),
                Err(_) => {}
            }
            attempts.pause(Deadline::NEVER).await;
        }
    }

    /// Watches a node that was there, if it still is. It may be new to a member that is behind: a
    /// session that is resumed at another member tells it nothing of what it saw.
    async fn watch(&self, path: &str) -> Result<Option<Watched>> {
        let watched = self.via().call(RetrySafety::Read, self.deadline(), |connection| async move {
            let mut found = watch(&connection, path).await?;
            if found.is_none() {
                connection.barrier().await.await?;
                found = watch(&connection, path).await?;
            }
            Ok::<_, Problem>(found)
        });
        // Where nobody says whether the node exists, nobody may take it to be gone.
        watched.await?.map_err(Answer::unexpected)
    }

    /// Waits for the event of a watched node, or returns `None` when the queue has to be looked at
    /// again. Servers send no event of a deletion to a user that may not read the node; so, now
    /// and then, a request asks whether it exists.
    async fn changed(&self, path: &str, watcher: OneshotWatcher, gone: Gone) -> Option<WatchedEvent> {
        let mut told = pin!(gone.unless(watcher.changed()));
        loop {
            match timeout(self.ttl / 3, &mut told).await {
                Ok(told) => return told,
                Err(_) => {
                    let Ok(Some(_)) = self.stat(path).await else { return None };
                }
            }
        }
    }

    /// Reads the stat of a node, also of one that is new to a member that is behind.
    pub(crate) async fn stat(&self, path: &str) -> Result<Option<Stat>> {
        let found = self.via().call(RetrySafety::Read, self.deadline(), |connection| async move {
            let found = connection.session.check_stat(path).await?;
            if found.is_some() {
                return Ok::<_, Problem>(found);
            }
            let barrier = connection.barrier().await;
            let found = connection.session.check_stat(path);
            barrier.await?;
            Ok(found.await?)
        });
        Ok(found.await?.ok().flatten())
    }
}

/// Returns the names of the children of a queue; none where there is no queue.
async fn children(connection: &Connection, queue: &str) -> Result<Vec<String>, ClientError> {
    match connection.session.list_children(queue).await {
        Err(ClientError::NoNode) => Ok(Vec::new()),
        names => names,
    }
}

/// A watched node, and the connection of the watch.
type Watched = (Stat, OneshotWatcher, Gone);

async fn watch(connection: &Connection, path: &str) -> Result<Option<Watched>, ClientError> {
    let (stat, watcher) = connection.session.check_and_watch_stat(path).await?;
    Ok(stat.map(|stat| (stat, watcher, connection.gone())))
}
