//! Locks: contenders in the order of their sequence, each waiting for the one before.

use crate::{
    connect::Attempts,
    contender::{Contender, Gone},
    line::Entered,
    pool::Use,
    store::Inner,
};
use kv_core::{Acquired, Deadline, Error, ErrorKind, Fence, Key, LockOptions, Result};
use std::{collections::HashSet, sync::Arc};

/// One attempt to hold one lock.
pub(crate) struct Attempt {
    pub(crate) contender: Arc<Contender>,
    /// Keeps the session open that owns the contender.
    pub(crate) session: Use,
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
        let contender = Arc::new(Contender::new(inner, name, session.session(), ttl, options.each_request));
        let attempt = Arc::new(Attempt { contender, session });
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
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) when its session has ended.
    async fn get(self: Arc<Self>, name: &Key, options: &LockOptions) -> Result<Got> {
        if !options.wait && self.contender.is_taken().await? {
            return Ok(Got::Taken);
        }
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let leave = self.clone().leave(None, None);
        let entered = match self.contender.enter(options).await {
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
        let path = format!("{}/{contender}", self.contender.line);
        leave.forget();
        let leave = self.clone().leave(Some(path.clone()), None);
        if !options.wait && !is_first {
            if self.contender.is_behind(&contender).await? {
                leave.run().await?;
                return Ok(Got::Taken);
            }
        } else if !is_first && !self.wait(&contender).await? {
            return Ok(Got::Lost);
        }
        // Before one looks whether it is alive, so that nobody ends it in between.
        let counted_on = self.session.session().counted_on();
        if !self.session.alive().is_held() {
            self.forget();
            return Ok(Got::Lost);
        }
        let alive = self.session.alive().another();
        let watching = self.contender.clone().watch_own(path.clone(), alive.ending(), counted_on);
        let guarded = tokio::spawn(watching).abort_handle();
        let release = self.clone().leave(Some(path.clone()), Some(guarded));
        leave.forget();
        let fence = Fence::new(name.clone(), token, path);
        Ok(Got::Lock(Acquired { fence, alive, release }))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, contender: &str) -> Result<bool> {
        let (mut attempts, mut nobodies) = (Attempts::default(), HashSet::new());
        let (lost, let_go) = (self.session.alive().lost(), self.session.session().was_let_go());
        tokio::pin!(lost, let_go);
        loop {
            let line = self.contender.seen().await.map(|mut line| {
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
            let path = format!("{}/{before}", self.contender.line);
            tokio::select! {
                biased;
                _ = &mut lost => {
                    self.forget();
                    return Ok(false);
                }
                // Waiting, it would keep what it waits for.
                () = &mut let_go => return Ok(false),
                gone = self.contender.gone(&path) => match gone {
                    Ok(Gone::Nobody) => drop(nobodies.insert(before)),
                    Ok(Gone::Perhaps) => attempts.reset(),
                    Err(e) if rides(&e) => attempts.pause(Deadline::NEVER).await,
                    Err(e) => return Err(e),
                },
            }
        }
    }

    /// No new users of its session.
    pub(crate) fn forget(&self) {
        self.contender.inner.sessions.forget(&self.session);
    }
}

impl Contender {
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
}

/// Whether a wait for a lock goes on. What the session says of its own end is for the caller.
fn rides(error: &Error) -> bool {
    !error.is_lasting() && error.kind() != ErrorKind::LeaseLost
}
