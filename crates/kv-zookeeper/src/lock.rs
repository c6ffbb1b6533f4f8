//! Locks: contenders in the order of their sequence, each waiting for the one before.

use crate::{
    client::{Does, Via, unique},
    connect::Attempts,
    contender::Gone,
    error::{Problem, Said},
    line::Entered,
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

/// One attempt to hold one lock.
pub(crate) struct Attempt {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Use,
    /// Begins the contender's name, and nobody else's.
    pub(crate) id: String,
    pub(crate) line: String,
    pub(crate) ttl: Duration,
    each_request: Duration,
    /// That its node goes is its own doing.
    pub(crate) is_given_back: AtomicBool,
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
            ttl,
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
