//! What an attempt to hold a lock gives back, at its end or when it is given up.

use crate::{contender::Contender, lease, lock::Attempt};
use kv_core::{
    backend::{AbortOnDrop, Backoff, Undo},
    *,
};
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};
use tokio::task::AbortHandle;

/// Ready when a session has ended.
type Ended = Pin<Box<dyn Future<Output = Error> + Send>>;

impl Attempt {
    /// Leaves the line: `true` when we were still in it.
    pub(crate) fn leave(self: Arc<Self>, guarded: Option<AbortHandle>) -> Undo {
        let (guarded, tasks) = (guarded.map(AbortOnDrop::new), self.inner.tasks.clone());
        tasks.undo(async move {
            drop(guarded);
            match self.contender.delete().await {
                Ok((false, true)) => Err(lease::gone("the lock's key")),
                Ok((was_there, _)) => Ok(was_there),
                Err(e) => {
                    let (clock, ttl) = (self.inner.clock.clone(), self.session.alive().ttl());
                    let (tasks, (contender, ended)) = (self.inner.tasks.clone(), self.let_go());
                    // Nobody renews it then; where its end was refused, the server has it for a TTL more.
                    let ended = Box::pin(async move {
                        let why = ended.await;
                        clock.sleep(ttl).await;
                        why
                    });
                    let left = Arc::downgrade(&contender);
                    tasks.left(move || {
                        let contender = left.upgrade()?;
                        Some(async move { contender.delete_again().await })
                    });
                    tokio::spawn(async move { contender.delete_until(ended).await });
                    Err(e)
                }
            }
        })
    }

    /// Takes back a request to enter whose answer did not come.
    pub(crate) fn give_up(self: Arc<Self>) -> Undo {
        let tasks = self.inner.tasks.clone();
        tasks.undo(async move {
            if !self.contender.was_sent.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.contender.has_copies.store(true, Ordering::Relaxed);
            match self.contender.take_back().await {
                Some(done) => done,
                None => {
                    let (contender, ended) = self.let_go();
                    contender.take_back_until(ended).await
                }
            }
        })
    }

    /// Nobody is to use the session any more, for it keeps alive what could not be deleted. Others who do already may go on:
    /// what is given back here tells when it has ended, and keeps it from nothing.
    fn let_go(self: Arc<Self>) -> (Arc<Contender>, Ended) {
        self.inner.sessions.forget(&self.session);
        (self.contender.clone(), Box::pin(self.session.alive().lost()))
    }
}

impl Contender {
    /// Until it is deleted, or the session has ended.
    async fn delete_until(&self, ended: Ended) {
        let delete = async {
            let mut backoff = Backoff::default();
            loop {
                backoff.pause().await;
                match self.delete().await {
                    Err(e) if !matches!(e.kind(), ErrorKind::Closed | ErrorKind::LeaseLost) => {}
                    _ => return,
                }
            }
        };
        tokio::select! { biased; _ = ended => {} () = delete => {} }
    }

    /// For one who closes the store: it goes with its lease, if that has ended.
    async fn delete_again(&self) -> Result<()> {
        match self.delete().await {
            Err(e) if e.kind() != ErrorKind::LeaseLost => Err(e),
            _ => Ok(()),
        }
    }

    /// Once; `None` when one has to try again.
    async fn take_back(&self) -> Option<Result<bool>> {
        match self.refuse_late().await {
            Ok((was_there, _)) => Some(Ok(was_there)),
            // With the lease everything of ours is gone, and nothing can come.
            Err(e) if e.kind() == ErrorKind::LeaseLost => Some(Ok(false)),
            Err(e) if e.kind() == ErrorKind::Closed => Some(Err(e)),
            Err(e) => {
                if e.kind() == ErrorKind::NoSpace {
                    // What it holds is given back at once; what may come is refused while the server is full.
                    let _ = self.delete().await;
                }
                None
            }
        }
    }

    /// Until it is done, or the session has ended.
    async fn take_back_until(&self, ended: Ended) -> Result<bool> {
        let take_back = async {
            let mut backoff = Backoff::default();
            loop {
                backoff.pause().await;
                if let Some(done) = self.take_back().await {
                    return done;
                }
            }
        };
        tokio::select! { biased; e = ended => Err(e), done = take_back => done }
    }
}
