//! What an attempt to hold a lock gives back, at its end or when it is given up.

use crate::{
    client::Does,
    lease,
    lock::Attempt,
    session::Floor,
    txn::{deleted, found, is_missing},
};
use etcd_client::{Txn, TxnOp};
use kv_core::{
    backend::{AbortOnDrop, Backoff, Undo},
    *,
};
use std::sync::{Arc, atomic::Ordering};
use tokio::task::AbortHandle;

impl Attempt {
    /// Leaves the line: `true` when we were still in it.
    pub(crate) fn leave(self: Arc<Self>, guarded: Option<AbortHandle>) -> Undo {
        let (guarded, tasks) = (guarded.map(AbortOnDrop::new), self.inner.tasks.clone());
        tasks.undo(async move {
            drop(guarded);
            match self.delete().await {
                Ok((false, true)) => Err(lease::gone("the lock's key")),
                Ok((was_there, _)) => Ok(was_there),
                Err(e) => {
                    tokio::spawn(async move { self.delete_while_alive().await });
                    Err(e)
                }
            }
        })
    }

    /// Deletes the contender; where a copy of the request that made it may still arrive, that one will do nothing. Whether
    /// it was there, and whether a lost answer may have said so before.
    async fn delete(&self) -> Result<(bool, bool)> {
        if self.has_copies.load(Ordering::Relaxed) {
            match self.refuse_late().await {
                Err(e) if e.kind() == ErrorKind::NoSpace => {}
                answer => return answer,
            }
        }
        let delete = self.inner.client.ask(Does::Repeatable, self.deadline(), |service| {
            let contender = self.contender.clone();
            async move { service.kv_client().delete(contender, None).await }
        });
        let (answer, maybe_done) = delete.await;
        Ok((answer?.deleted() > 0, maybe_done))
    }

    /// Deletes the contender, and has the request that makes it do nothing should it still arrive.
    async fn refuse_late(&self) -> Result<(bool, bool)> {
        let (mut was_there, mut maybe) = (false, false);
        loop {
            let when = if self.floor().is_made() { self.is_above() } else { is_missing(self.floor_name()) };
            let delete = || TxnOp::delete(self.contender.clone(), None);
            let txn = Txn::new()
                .when([when])
                .and_then([delete(), self.raise(self.number)])
                .or_else([delete(), TxnOp::get(self.floor_name(), None)]);
            let ask = self.inner.client.ask(Does::Repeatable, self.deadline(), |service| {
                let txn = txn.clone();
                async move { service.kv_client().txn(txn).await }
            });
            let (answer, maybe_done) = ask.await;
            let answer = answer?;
            (was_there, maybe) = (was_there || deleted(&answer) > Some(0), maybe || maybe_done);
            let floor = found(&answer).into_iter().flatten().next();
            self.floor().is(answer.succeeded() || floor.is_some());
            let is_refused = floor.is_some_and(|floor| floor.value() >= Floor::spelt(self.number).as_bytes());
            if answer.succeeded() || is_refused {
                return Ok((was_there, maybe));
            }
        }
    }

    /// Others keep the session alive, and with it what we could not delete: until it is, or the session has ended.
    async fn delete_while_alive(&self) {
        let mut backoff = Backoff::default();
        while self.session.alive().is_held() {
            backoff.pause().await;
            match self.delete().await {
                Err(e) if e.kind() != ErrorKind::Closed => {}
                _ => return,
            }
        }
        self.inner.sessions.forget(&self.session);
    }

    /// Takes back a request to enter whose answer did not come.
    pub(crate) fn give_up(self: Arc<Self>) -> Undo {
        let tasks = self.inner.tasks.clone();
        tasks.undo(async move {
            if !self.was_sent.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.has_copies.store(true, Ordering::Relaxed);
            let mut backoff = Backoff::default();
            loop {
                match self.refuse_late().await {
                    Ok((was_there, _)) => return Ok(was_there),
                    // With the lease everything of ours is gone, and nothing can come.
                    Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(false),
                    Err(e) if e.kind() == ErrorKind::Closed || !self.session.alive().is_held() => {
                        self.inner.sessions.forget(&self.session);
                        return Err(e);
                    }
                    Err(e) => {
                        if e.kind() == ErrorKind::NoSpace {
                            // What it holds is given back at once; what may come is refused while the server is full.
                            let _ = self.delete().await;
                        }
                        backoff.pause().await;
                    }
                }
            }
        })
    }
}
