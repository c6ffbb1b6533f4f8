//! Takes locks, by kv-core's queue: contenders hold a lock in the order of their nodes.

pub(crate) mod before;
mod contender;
mod enter;
pub(crate) mod holder;
mod leave;
pub(crate) mod listed;
pub(crate) mod order;
mod sessions;

use crate::{client::session::Ephemeral, core::Core};
use before::Before;
use contender::Contender;
use futures::future::BoxFuture;
use kv_core::{
    Fence, Key, Result,
    backend::{
        Clock, Tasks, Use,
        queue::{self, Entered, Left, Line, Position, Queue, Sent},
    },
    driver::{Acquired, LockOptions},
};
use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// Takes a lock, or a place in its queue: [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let (core, line, options) = (core.clone(), core.lines.line(name), options.clone());
    let (wait, queue) = (options.wait, LockQueue { core, name: name.clone(), line, options });
    queue::lock(&Arc::new(queue), wait).await
}

/// The queue of one lock, as one call sees it.
struct LockQueue {
    core: Arc<Core>,
    name: Key,
    line: Arc<Line<Before>>,
    options: LockOptions,
}

impl Queue for LockQueue {
    type Session = Arc<Ephemeral>;
    type Contender = Contender;
    type Predecessor = Before;

    fn tasks(&self) -> &Tasks {
        &self.core.tasks
    }

    fn clock(&self) -> &Clock {
        &self.core.clock
    }

    fn kept_after_end(&self, ttl: Duration) -> Duration {
        ttl + self.core.capabilities.lateness(ttl)
    }

    fn line(&self) -> Option<&Arc<Line<Before>>> {
        Some(&self.line)
    }

    async fn displaced(&self, contender: &Contender) {
        contender.session.let_go.begun().await;
    }

    async fn session(&self) -> Result<Use<Arc<Ephemeral>>> {
        sessions::session(&self.core, self.options.ttl, self.options.each_request).await
    }

    fn forget(&self, used: &Use<Arc<Ephemeral>>) {
        self.core.sessions.forget(used);
    }

    fn contender(&self, session: &Arc<Ephemeral>) -> Result<Contender> {
        let line = self.options.wait.then(|| self.line.clone());
        Ok(Contender::new(&self.core, session, &self.name, line, self.options.ttl, self.options.each_request))
    }

    /// Asks for a holder: the request to enter cannot look whether there is one.
    async fn is_taken(&self) -> Result<bool> {
        holder::is_held(&self.core, &self.name, self.options.each_request).await
    }

    async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        contender.enter(&self.options.value, sent).await
    }

    async fn position(&self, contender: &Contender, token: u64) -> Result<Position<Before>> {
        contender.position(token).await
    }

    async fn predecessor_gone(&self, contender: &Contender, predecessor: &Before) -> Result<bool> {
        contender.predecessor_gone(predecessor).await
    }

    fn own_gone(&self, contender: &Contender, _: u64) -> impl Future<Output = Cow<'static, str>> + Send {
        OwnGone { _counted_on: contender.counted_on(), gone: Box::pin(contender.own_gone()) }
    }

    async fn leave(&self, contender: &Contender) -> Result<Left> {
        let left = contender.leave().await;
        contender.has_left(&left);
        left
    }

    /// Leaves the queue. Every request to enter is answered before the listing of the queue is, so
    /// that a contender that is not found has not entered.
    async fn cancel(&self, contender: &Contender) -> Result<Left> {
        self.leave(contender).await
    }

    fn fence(&self, contender: &Contender, token: u64) -> Fence {
        Fence::new(self.name.clone(), token, contender.path().to_owned())
    }
}

/// Ready when the node of a holder is gone. A session that no member keeps any more is not ended
/// before this is dropped, which is after the holder was told.
struct OwnGone<'a> {
    gone: BoxFuture<'a, Cow<'static, str>>,
    _counted_on: Option<watch::Receiver<()>>,
}

impl Future for OwnGone<'_> {
    type Output = Cow<'static, str>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.gone.as_mut().poll(cx)
    }
}
