//! Locks: contenders in the order of their sequence, each waiting for the one before.

use crate::{
    client::{Does, Via, unique},
    connect::Attempts,
    error::{Problem, Said},
    line::Entered,
    link::{self, Linked},
    pool::Use,
    store::Inner,
};
use kv_core::{
    backend::{AbortOnDrop, Undo},
    *,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::AbortHandle;
use zookeeper_client::{Error as ClientError, EventType, OneshotWatcher, Stat};

/// One attempt to hold one lock.
pub(crate) struct Attempt {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Use,
    /// Begins the contender's name, and nobody else's.
    pub(crate) id: String,
    pub(crate) line: String,
    each_request: Duration,
    /// That its node goes is its own doing.
    is_given_back: AtomicBool,
}

/// What became of the one before in line.
enum Gone {
    /// It may have left.
    Perhaps,
    /// It never was anybody's.
    Nobody,
}

/// What became of an attempt.
enum Got {
    Lock(Acquired),
    /// Another has it, or is before us.
    Taken,
    /// Our place is lost.
    Lost,
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    loop {
        let session = inner.session(ttl, options.each_request).await?;
        let attempt = Arc::new(Attempt {
            inner: inner.clone(),
            session,
            id: format!("{:016x}{:016x}", unique(), unique()),
            line: inner.names.line(name),
            each_request: options.each_request,
            is_given_back: AtomicBool::new(false),
        });
        match attempt.clone().get(name, options).await {
            Ok(Got::Lock(acquired)) => return Ok(Some(acquired)),
            Ok(Got::Taken) => return Ok(None),
            Ok(Got::Lost) => {}
            // The next one has another session.
            Err(e) if e.kind() == ErrorKind::LeaseLost => inner.sessions.forget(&attempt.session),
            Err(e) => return Err(e),
        }
    }
}

impl Attempt {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    pub(crate) fn via(&self) -> Via<'_> {
        Via::Own(self.session.session())
    }

    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) when its session has ended.
    async fn get(self: Arc<Self>, name: &Key, options: &LockOptions) -> Result<Got> {
        if !options.wait && self.is_taken().await? {
            return Ok(Got::Taken);
        }
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let leave = self.clone().leave(None, None);
        let entered = match self.enter(options).await {
            Ok(entered) => entered,
            Err(e) => {
                // Else the error says that it is not in line.
                if e.kind() != ErrorKind::OutcomeUnknown {
                    leave.forget();
                }
                return Err(e);
            }
        };
        let Entered { contender, token, is_first } = entered;
        let path = format!("{}/{contender}", self.line);
        leave.forget();
        let leave = self.clone().leave(Some(path.clone()), None);
        if !options.wait && !is_first {
            if self.is_behind(&contender).await? {
                leave.run().await?;
                return Ok(Got::Taken);
            }
        } else if !is_first && !self.wait(&contender).await? {
            return Ok(Got::Lost);
        }
        if !self.session.alive().is_held() {
            self.inner.sessions.forget(&self.session);
            return Ok(Got::Lost);
        }
        let alive = self.session.alive().another();
        let guarded = tokio::spawn(self.clone().watch_own(path.clone(), alive.ending())).abort_handle();
        let release = self.clone().leave(Some(path.clone()), Some(guarded));
        leave.forget();
        let fence = Fence::new(name.clone(), token, path);
        Ok(Got::Lock(Acquired { fence, alive, release }))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, contender: &str) -> Result<bool> {
        let (mut attempts, mut nobodies) = (Attempts::default(), HashSet::new());
        let lost = self.session.alive().lost();
        tokio::pin!(lost);
        loop {
            let line = self.seen().await.map(|mut line| {
                line.retain(|name| !nobodies.contains(name));
                line
            });
            let before = match line {
                Ok(line) => match line.iter().position(|name| name == contender) {
                    Some(0) => return Ok(true),
                    Some(at) => line[at - 1].clone(),
                    None => return Ok(false),
                },
                // The line is kept by the session, whatever the link does meanwhile.
                Err(e) if rides(&e) && self.session.alive().is_held() => {
                    attempts.pause(Deadline::NEVER).await;
                    continue;
                }
                Err(e) if rides(&e) => return Ok(false),
                Err(e) => return Err(e),
            };
            let path = format!("{}/{before}", self.line);
            tokio::select! {
                biased;
                _ = &mut lost => {
                    self.inner.sessions.forget(&self.session);
                    return Ok(false);
                }
                gone = self.gone(&path) => match gone {
                    Ok(Gone::Nobody) => drop(nobodies.insert(before)),
                    Ok(Gone::Perhaps) => attempts.reset(),
                    Err(e) if rides(&e) => attempts.pause(Deadline::NEVER).await,
                    Err(e) => return Err(e),
                },
            }
        }
    }

    async fn is_taken(&self) -> Result<bool> {
        let line = self.line().await?;
        self.is_anybody(&line).await
    }

    /// Whether somebody is before this contender, or it is gone.
    async fn is_behind(&self, contender: &str) -> Result<bool> {
        let line = self.seen().await?;
        match line.iter().position(|name| name == contender) {
            Some(place) => self.is_anybody(&line[..place]).await,
            None => Ok(true),
        }
    }

    /// Whether one of these is a session's, as each contender is; a node that belongs to none came by a copy of the tree, and
    /// stands in line for nobody.
    async fn is_anybody(&self, line: &[String]) -> Result<bool> {
        for name in line {
            let stat = self.stat(&format!("{}/{name}", self.line)).await?;
            if stat.is_some_and(|stat| stat.ephemeral_owner != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until a node changes, or one has to look.
    async fn gone(&self, path: &str) -> Result<Gone> {
        let watched = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                Ok::<_, Problem>(watch(&linked, path).await?)
            })
            .await?;
        match watched {
            Ok(Some((stat, ..))) if stat.ephemeral_owner == 0 => return Ok(Gone::Nobody),
            Ok(Some((_, watcher, gone))) => drop(gone.unless(watcher.changed()).await),
            _ => {}
        }
        Ok(Gone::Perhaps)
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, path: String, end: impl Fn(&str) + Send + Sync) {
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
                    let event = gone.unless(watcher.changed()).await;
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
                Err(e) if e.kind() == ErrorKind::LeaseLost => return end("the server ended its session"),
                Err(_) => attempts.pause(Deadline::NEVER).await,
            }
        }
    }

    /// Leaves the line: `true` when we were still in it. Without a path it is looked for.
    fn leave(self: Arc<Self>, path: Option<String>, guarded: Option<AbortHandle>) -> Undo {
        let guarded = guarded.map(AbortOnDrop::new);
        let tasks = self.inner.tasks.clone();
        tasks.undo(async move {
            self.is_given_back.store(true, Ordering::Relaxed);
            if !self.session.alive().is_held() {
                // Its session is past its time, and so is what it owns.
                self.inner.sessions.forget(&self.session);
                return Ok(false);
            }
            let answer = self.delete(path.as_deref()).await;
            // Its watch went with its node.
            drop(guarded);
            if answer.is_err() {
                // Others keep the session alive, and with it what could not be deleted.
                tokio::spawn(async move {
                    let mut attempts = Attempts::default();
                    while self.session.alive().is_held() {
                        attempts.pause(Deadline::NEVER).await;
                        if self.delete(path.as_deref()).await.is_ok() {
                            return;
                        }
                    }
                    self.inner.sessions.forget(&self.session);
                });
            }
            answer
        })
    }

    async fn delete(&self, path: Option<&str>) -> Result<bool> {
        let found = match path {
            Some(path) => path.to_owned(),
            // All that was sent is answered before the line is.
            None => match self.find().await {
                Ok(Some(own)) => format!("{}/{}", self.line, own.contender),
                Ok(None) => return Ok(false),
                Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(false),
                Err(e) => return Err(e),
            },
        };
        let path = &found;
        let deleted = self.via().call(Does::Repeatable, self.deadline(), |linked| async move {
            let deleted = linked.session.delete(path, None);
            Ok::<_, Problem>(deleted.await?)
        });
        match deleted.await {
            Ok(Ok(())) => Ok(true),
            // Nobody else deletes it; what an attempt before deleted was there.
            Ok(Err(answer)) => Ok(answer.repeated && answer.said == Said::NoNode),
            Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Whether a wait for a lock goes on. What the session says of its own end is for the caller.
fn rides(error: &Error) -> bool {
    !error.is_lasting() && error.kind() != ErrorKind::LeaseLost
}

/// Watches a node, if it is there.
async fn watch(
    linked: &Linked,
    path: &str,
) -> Result<Option<(Stat, OneshotWatcher, link::Gone)>, ClientError> {
    let (stat, watcher) = linked.session.check_and_watch_stat(path).await?;
    Ok(stat.map(|stat| (stat, watcher, linked.gone())))
}
