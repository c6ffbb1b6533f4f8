//! Locks: a queue of contenders in the order of their creation.

use crate::{
    client::{
        Purpose,
        api::{self, Op, Pair},
    },
    contender::Contender,
    poll::gone,
    session::{Own, Use},
    store::Inner,
};
use kv_core::{
    Acquired, Bytes, Deadline, Fence, Holder, Key, LockOptions, ReadOptions, Result,
    backend::{
        Backoff, Clock, Tasks,
        queue::{self, Entered, Left, Position, Queue, Sent},
        retry::Answered,
    },
};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// The queue of one lock, as one call sees it.
struct LockQueue {
    inner: Arc<Inner>,
    lock: Key,
    /// What the names of its contenders begin with.
    prefix: String,
    ttl: Duration,
    value: Bytes,
    each_request: Duration,
}

/// [`Store::lock`](kv_core::Store::lock).
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    let queue = LockQueue {
        inner: inner.clone(),
        lock: name.clone(),
        prefix: inner.names.line(name),
        ttl,
        value: options.value.clone(),
        each_request: options.each_request,
    };
    queue::lock(&Arc::new(queue), options.wait).await
}

/// The key of a contender; `None` for what other tools put in its place, which stands in nobody's way. A contender has a session
/// from its first moment on: without one it was released by hand.
pub(crate) fn contends(inner: &Inner, pair: &Pair) -> Option<Key> {
    inner.names.parse(&pair.name).filter(|_| pair.is_held)
}

/// The contender that holds the lock of this queue.
pub(crate) fn first<'a>(inner: &Inner, queue: &'a [Pair]) -> Option<&'a Pair> {
    let contenders = queue.iter().filter(|pair| contends(inner, pair).is_some());
    contenders.min_by_key(|pair| pair.created)
}

impl LockQueue {
    async fn pairs(&self) -> Result<Vec<Pair>> {
        let deadline = Deadline::after(self.each_request);
        api::tree(&self.inner.client, Purpose::Read, deadline, &self.prefix).await
    }

    fn position_in(&self, pairs: &[Pair], contender: &Contender, token: u64) -> Position<Key> {
        if contender.let_go.is_on() {
            // Waiting, or holding, it would keep what the session is to end with.
            return Position::Lost;
        }
        let is_own = |pair: &Pair| pair.name == contender.name && pair.created == token && pair.is_held;
        if !pairs.iter().any(is_own) {
            return Position::Lost;
        }
        let before = pairs.iter().filter(|pair| pair.created < token);
        let nearest = before.filter_map(|pair| Some((pair.created, contends(&self.inner, pair)?)));
        let nearest = nearest.max_by_key(|(created, _)| *created);
        nearest.map_or(Position::First, |(_, before)| Position::Behind(before))
    }
}

impl Queue for LockQueue {
    type Session = Own;
    type Contender = Contender;
    type Predecessor = Key;

    fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The server ends a session at up to twice its TTL.
    fn kept_after_end(&self, ttl: Duration) -> Duration {
        2 * ttl
    }

    async fn session(&self) -> Result<Use> {
        self.inner.session(self.ttl, self.each_request).await
    }

    fn forget(&self, used: &Use) {
        self.inner.sessions.forget(used);
    }

    fn contender(&self, session: &Own) -> Result<Contender> {
        Contender::new(&self.inner, &self.lock, session, self.each_request)
    }

    /// No transaction can depend on that a queue is empty.
    async fn is_taken(&self) -> Result<bool> {
        Ok(first(&self.inner, &self.pairs().await?).is_some())
    }

    async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<Key>> {
        let Answered { answer, is_repeat } = contender.enter(&self.prefix, &self.value).await?;
        sent.answered(answer.is_some(), is_repeat);
        let Some(pairs) = answer else { return Ok(Entered::Lost) };
        // A queue without the contender is one that the token may not read.
        let own = pairs.iter().find(|pair| pair.name == contender.name);
        let token = own.ok_or_else(|| api::hidden(&self.prefix))?.created;
        Ok(Entered::Queued { token, position: Some(self.position_in(&pairs, contender, token)) })
    }

    async fn position(&self, contender: &Contender, token: u64) -> Result<Position<Key>> {
        Ok(self.position_in(&self.pairs().await?, contender, token))
    }

    async fn predecessor_gone(&self, contender: &Contender, predecessor: &Key) -> Result<bool> {
        tokio::select! {
            biased;
            () = contender.let_go.begun() => Ok(true),
            is_gone = gone(&self.inner, predecessor, self.each_request) => Ok(is_gone),
        }
    }

    async fn own_gone(&self, contender: &Contender, _: u64) -> Cow<'static, str> {
        let mut backoff = Backoff::default();
        while !gone(&self.inner, &contender.key, self.each_request).await {
            backoff.pause().await;
        }
        "its key was deleted or released on the server, by an administrator or with its session".into()
    }

    async fn leave(&self, contender: &Contender) -> Result<Left> {
        contender.take_out().await
    }

    async fn cancel(&self, contender: &Contender) -> Result<Left> {
        contender.take_out().await
    }

    fn fence(&self, contender: &Contender, token: u64) -> Fence {
        Fence::new(self.lock.clone(), token, contender.proof())
    }
}

/// [`Store::lock_holder`](kv_core::Store::lock_holder).
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let queue = inner.names.line(name);
    let pairs = api::tree(&inner.client, Purpose::of(options), options.deadline, &queue).await?;
    match first(inner, &pairs) {
        Some(first) => Ok(Some(Holder::new(first.created, first.value()?))),
        None => may_read(inner, Purpose::of(options), options.deadline, &queue).await.map(|()| None),
    }
}

/// A listing leaves out what the token may not read; one name that is checked is refused, and to get it in a transaction is not.
pub(crate) async fn may_read(inner: &Inner, purpose: Purpose, deadline: Deadline, queue: &str) -> Result<()> {
    inner.txn(purpose, deadline, &[Op::check_index(&format!("{queue}-"), 0)]).await.map(drop)
}
