//! Takes contenders out of their queues.

use crate::{
    core::Core,
    lock::{
        requests::{end, leave},
        session::Session,
    },
};
use kv_core::{
    ErrorKind, Key, Result,
    backend::{Backoff, retry::Answered},
    driver::Deadline,
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Mutex as Turn};

/// A contender that is to be taken out of its queue. It does not keep its session alive.
pub(crate) struct Contender {
    core: Arc<Core>,
    session: Weak<Session>,
    id: String,
    ttl: Duration,
    name: Key,
    contender: String,
    each_request: Duration,
    /// Allows one attempt at a time, and holds whether the contender is out: another attempt would
    /// mark one that is gone already.
    turn: Turn<bool>,
}

impl Contender {
    /// Describes the contender of this session in the queue of this lock.
    pub(crate) fn new(
        core: &Arc<Core>,
        session: &Arc<Session>,
        name: &Key,
        contender: &str,
        each_request: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            core: core.clone(),
            session: Arc::downgrade(session),
            id: session.id.clone(),
            ttl: session.ttl,
            name: name.clone(),
            contender: contender.to_owned(),
            each_request,
            turn: Turn::default(),
        })
    }

    /// Takes the contender out, and returns whether it was in front.
    pub(crate) async fn take_out(&self) -> Result<Answered<bool>> {
        let deadline = Deadline::after(self.each_request);
        let left = leave(&self.core, &self.name, &self.id, &self.contender, deadline).await;
        match (&left, self.session.upgrade()) {
            (Ok(_), Some(session)) => session.has_left(&self.contender),
            (Err(e), Some(session)) if e.is_lasting() => session.let_go(),
            _ => {}
        }
        left
    }

    /// Goes on in the background to take the contender out, as long as the server may have it:
    /// other locks may keep the session alive.
    pub(crate) fn take_out_later(self: Arc<Self>) {
        let left = Arc::downgrade(&self);
        self.core.tasks.left(move || {
            let contender = left.upgrade()?;
            Some(async move { contender.take_out_again().await })
        });
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { self.until_out().await });
        }
    }

    /// Returns whether nothing on this side uses the session any more.
    fn is_alone(&self) -> bool {
        self.session.upgrade().is_none_or(|session| session.is_over())
    }

    async fn take_out_again(&self) -> Result<()> {
        let mut is_out = self.turn.lock().await;
        if *is_out {
            return Ok(());
        }
        // The end of a session takes out all its contenders, and may be under way already.
        match self.is_alone() {
            true => end(&self.core, &self.id, self.ttl, self.each_request).await.map(drop)?,
            false => self.take_out().await.map(drop)?,
        }
        *is_out = true;
        Ok(())
    }

    async fn until_out(&self) {
        let (clock, mut backoff, mut over) = (&self.core.clock, Backoff::default(), None);
        loop {
            backoff.pause().await;
            if self.is_alone() {
                // Nobody renews the session any more, and the server has it for its TTL at the
                // longest.
                let over = *over.get_or_insert_with(|| clock.now());
                if clock.now() >= over + self.ttl {
                    return;
                }
            }
            match self.take_out_again().await {
                Err(e) if e.kind() != ErrorKind::Closed => {}
                _ => return,
            }
        }
    }
}
