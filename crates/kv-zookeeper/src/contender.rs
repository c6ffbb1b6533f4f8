//! What stands in a lock's line for an attempt; and watching it, and the one before it.

use crate::{
    client::{Does, Via, unique},
    connect::Attempts,
    error::Problem,
    link::{self, Linked},
    session::Ephemeral,
    store::Inner,
};
use kv_core::{Deadline, ErrorKind, Key, Result};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use zookeeper_client::{Error as ClientError, EventType, OneshotWatcher, Stat, WatchedEvent};

/// The node of one attempt. It does not keep the session open that owns the node.
pub(crate) struct Contender {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Arc<Ephemeral>,
    /// Begins its name, and nobody else's.
    pub(crate) id: String,
    pub(crate) line: String,
    pub(crate) ttl: Duration,
    each_request: Duration,
    /// That its node goes is its own doing.
    pub(crate) is_given_back: AtomicBool,
}

/// What became of the one before in line.
pub(crate) enum Gone {
    /// It may have left.
    Perhaps,
    /// It never was anybody's.
    Nobody,
}

impl Contender {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        name: &Key,
        session: &Arc<Ephemeral>,
        ttl: Duration,
        each_request: Duration,
    ) -> Self {
        Self {
            inner: inner.clone(),
            session: session.clone(),
            id: format!("{:016x}{:016x}", unique(), unique()),
            line: inner.names.line(name),
            ttl,
            each_request,
            is_given_back: AtomicBool::new(false),
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    pub(crate) fn via(&self) -> Via<'_> {
        Via::Own(&self.session)
    }

    /// Waits until a node changes, or one has to look.
    pub(crate) async fn gone(&self, path: &str) -> Result<Gone> {
        let watched = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                Ok::<_, Problem>(watch(&linked, path).await?)
            })
            .await?;
        match watched {
            Ok(Some((stat, ..))) if stat.ephemeral_owner == 0 => return Ok(Gone::Nobody),
            Ok(Some((_, watcher, gone))) => drop(self.changed(path, watcher, gone).await),
            _ => {}
        }
        Ok(Gone::Perhaps)
    }

    /// Ends the guard as soon as its contender is seen to be gone, and only then counts on the
    /// session no more.
    pub(crate) async fn watch_own(
        self: Arc<Self>,
        path: String,
        end: impl Fn(&str) + Send + Sync,
        _counted_on: watch::Receiver<()>,
    ) {
        let end = |why: &str| {
            if !self.is_given_back.load(Ordering::Relaxed) {
                end(why);
            }
        };
        let mut attempts = Attempts::default();
        loop {
            let watched = self
                .via()
                .call(Does::Read, self.deadline(), |linked| {
                    let path = &path;
                    async move {
                        let mut found = watch(&linked, path).await?;
                        if found.is_none() {
                            // A member that is behind has not heard of it yet.
                            linked.barrier().await.await?;
                            found = watch(&linked, path).await?;
                        }
                        Ok::<_, Problem>(found)
                    }
                })
                .await;
            match watched {
                Ok(Ok(Some((_, watcher, gone)))) => {
                    let event = self.changed(&path, watcher, gone).await;
                    if event.is_some_and(|event| event.event_type == EventType::NodeDeleted) {
                        return end(
                            "its node was deleted on the server, by an administrator or with its session",
                        );
                    }
                    attempts.pause(Deadline::NEVER).await;
                }
                Ok(_) => {
                    return end(
                        "its node was deleted on the server, by an administrator or with its session",
                    );
                }
                Err(e) if e.kind() == ErrorKind::LeaseLost => return end(e.message()),
                Err(_) => attempts.pause(Deadline::NEVER).await,
            }
        }
    }

    /// What the server tells of a watched node; `None` when one has to look again. Servers tell nobody of a node that he may
    /// not read when it goes, so now and then one looks whether it is there.
    async fn changed(&self, path: &str, watcher: OneshotWatcher, gone: link::Gone) -> Option<WatchedEvent> {
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
}

/// Watches a node, if it is there.
async fn watch(
    linked: &Linked,
    path: &str,
) -> Result<Option<(Stat, OneshotWatcher, link::Gone)>, ClientError> {
    let (stat, watcher) = linked.session.check_and_watch_stat(path).await?;
    Ok(stat.map(|stat| (stat, watcher, linked.gone())))
}
