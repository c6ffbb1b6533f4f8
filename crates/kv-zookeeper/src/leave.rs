//! What an attempt to hold a lock gives back, at its end or when it is given up.

use crate::{
    client::Does,
    connect::Attempts,
    contender::Contender,
    error::{Problem, Said},
    lock::Attempt,
    session::ENDED_WITHIN,
};
use kv_core::{
    Deadline, Error, ErrorKind, Result,
    backend::{AbortOnDrop, Undo},
};
use std::sync::{Arc, atomic::Ordering};
use tokio::task::AbortHandle;

impl Attempt {
    /// Leaves the line: `true` when we were still in it. Without a path it is looked for.
    pub(crate) fn leave(self: Arc<Self>, path: Option<String>, guarded: Option<AbortHandle>) -> Undo {
        let guarded = guarded.map(AbortOnDrop::new);
        let tasks = self.contender.inner.tasks.clone();
        tasks.undo(async move {
            self.contender.is_given_back.store(true, Ordering::Relaxed);
            if !self.session.alive().is_held() {
                // Its session is past its time, and so is what it owns.
                self.forget();
                return Ok(false);
            }
            let answer = self.contender.delete(path.as_deref()).await;
            // Its watch went with its node.
            drop(guarded);
            if let Err(e) = &answer {
                self.let_go(path, e);
            }
            answer
        })
    }

    /// Nobody is to use the session any more, for it keeps alive what could not be deleted. Others
    /// who hold by it may go on; it ends with the last of them, at once where there is none.
    fn let_go(self: Arc<Self>, path: Option<String>, why: &Error) {
        self.forget();
        let contender = self.contender.clone();
        contender.no_waiting_behind(why);
        let left = Arc::downgrade(&contender);
        contender.inner.tasks.left(move || {
            let contender = left.upgrade()?;
            Some(async move { contender.end_session().await })
        });
        tokio::spawn(async move { contender.delete_until_over(path).await });
    }
}

impl Contender {
    /// Those who wait on the same session keep it, and what may never be deleted stands before
    /// them.
    fn no_waiting_behind(&self, refused: &Error) {
        if refused.is_lasting() {
            self.session.let_go();
        }
    }

    /// Until it is deleted, or its session is over, with which it goes.
    async fn delete_until_over(&self, path: Option<String>) {
        let mut attempts = Attempts::default();
        while self.session.is_alive() {
            attempts.pause(Deadline::NEVER).await;
            match self.delete(path.as_deref()).await {
                // What is over deletes nothing.
                Ok(_) if self.session.is_alive() => return,
                Ok(_) => {}
                Err(e) => self.no_waiting_behind(&e),
            }
        }
        // So long the server may have it, which nobody keeps connected.
        let deadline = Deadline::after(self.inner.limits.timeout(self.ttl));
        while self.end_session().await.is_err() && !deadline.has_passed() {
            attempts.pause(deadline).await;
        }
    }

    /// What is over is ended on the server as well, if it is not yet.
    async fn end_session(&self) -> Result<()> {
        self.session.end(Deadline::after(ENDED_WITHIN)).await.map(drop)
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
