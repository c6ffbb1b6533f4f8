//! Locks: contenders in the order of their creation.

mod contender;
mod delete_watcher;
mod enter;
pub(crate) mod sessions;

use crate::{
    client::Purpose,
    names::{Names, Range},
    store::{Inner, revision},
    write::found,
};
use contender::Contender;
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp};
use kv_core::{
    Acquired, Bytes, Deadline, Error, ErrorKind, Fence, Key, LockOptions, Result,
    backend::{
        Backoff, Clock, Tasks,
        queue::{self, Entered, Left, Position, Queue, Sent},
        retry::Answered,
        unique,
    },
};
use sessions::{Own, Use};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// How many names of a queue are looked at at once to see whether there is a contender among them.
pub(crate) const JUNK: i64 = 128;

/// The queue of one lock, for one call.
pub(crate) struct LockQueue {
    pub(crate) inner: Arc<Inner>,
    name: Key,
    pub(crate) range: Range,
    ttl: Duration,
    pub(crate) value: Bytes,
    pub(crate) wait: bool,
    each_request: Duration,
}

/// The one before a contender.
#[derive(Debug)]
pub(crate) struct Before {
    name: Vec<u8>,
    /// A revision at which it was there.
    at: i64,
}

impl Before {
    pub(crate) fn new(found: &KeyValue, at: i64) -> Self {
        Self { name: found.key().to_vec(), at }
    }
}

/// [`Store::lock`](kv_core::Store::lock).
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let queue = LockQueue {
        inner: inner.clone(),
        name: name.clone(),
        range: inner.names.contenders(name),
        ttl: range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?,
        value: options.value.clone(),
        wait: options.wait,
        each_request: options.each_request,
    };
    queue::lock(&Arc::new(queue), options.wait).await
}

/// The server's number of a token.
fn create_revision(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(-1)
}

impl Queue for LockQueue {
    type Session = Own;
    type Contender = Contender;
    type Predecessor = Before;

    fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn kept_after_end(&self, ttl: Duration) -> Duration {
        ttl + self.inner.capabilities.lateness(ttl)
    }

    async fn session(&self) -> Result<Use> {
        self.inner.session(self.ttl, self.each_request).await
    }

    fn forget(&self, used: &Use) {
        self.inner.sessions.forget(used);
    }

    fn contender(&self, session: &Own) -> Result<Contender> {
        let names = &self.inner.names;
        let name = names.contender(&self.name, unique());
        Ok(Contender::new(session, name, names.floor(session.lease)))
    }

    async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<Before>> {
        Ok(match self.enter_queue(contender, sent).await? {
            // Waiting, or holding, it would keep what the session is to end with.
            Entered::Queued { token, .. } if contender.let_go.is_on() => {
                Entered::Queued { token, position: Some(Position::Lost) }
            }
            entered => entered,
        })
    }

    async fn position(&self, contender: &Contender, token: u64) -> Result<Position<Before>> {
        match contender.let_go.is_on() {
            true => Ok(Position::Lost),
            false => Ok(self.look(contender, create_revision(token)).await?.0),
        }
    }

    async fn predecessor_gone(&self, contender: &Contender, before: &Before) -> Result<bool> {
        tokio::select! {
            biased;
            () = contender.let_go.begun() => Ok(true),
            is_gone = contender.gone(before.name.clone(), before.at + 1) => Ok(is_gone),
        }
    }

    async fn own_gone(&self, contender: &Contender, token: u64) -> Cow<'static, str> {
        let token = create_revision(token);
        let (mut backoff, mut at) = (Backoff::default(), token);
        while !contender.gone(contender.name.clone(), at + 1).await {
            backoff.pause().await;
            match self.look(contender, token).await {
                Ok((Position::Lost, _)) => break,
                Ok((_, now)) => at = now,
                Err(_) => {}
            }
        }
        "its key was deleted or overwritten on the server, by an administrator or with its lease".into()
    }

    async fn leave(&self, contender: &Contender) -> Result<Left> {
        let request = |service: etcd_client::Client| {
            let name = contender.name.clone();
            async move { service.kv_client().delete(name, None).await }
        };
        let asked = self.inner.client.ask(Purpose::Repeatable, self.deadline(), request).await;
        contender
            .left(asked.and_then(|Answered { answer, is_repeat }| Ok(left(answer?.deleted() > 0, is_repeat))))
    }

    async fn cancel(&self, contender: &Contender) -> Result<Left> {
        match self.refuse_late(contender).await {
            Err(e) if e.kind() == ErrorKind::NoSpace => {
                // What it holds is given back at once; what may come is refused while the server
                // is full.
                self.leave(contender).await?;
                let why = "it is out of the queue of the lock, and what keeps an earlier request \
                           from putting it there again needs space";
                Err(Error::new(ErrorKind::NoSpace, why).with_cause(e))
            }
            left => contender.left(left),
        }
    }

    fn fence(&self, contender: &Contender, token: u64) -> Fence {
        Fence::new(self.name.clone(), token, contender.name.clone())
    }
}

pub(crate) fn left(was_there: bool, is_repeat: bool) -> Left {
    match was_there {
        true => Left::Gone,
        false if is_repeat => Left::Maybe,
        false => Left::NotThere,
    }
}

impl LockQueue {
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    pub(crate) fn all(&self) -> GetOptions {
        GetOptions::new().with_range(self.range.end.clone()).with_keys_only()
    }

    pub(crate) fn is_contender(&self, kv: &KeyValue) -> bool {
        Names::is_contender(&self.range, kv.key(), kv.lease())
    }

    /// Who is before a contender, and the revision at which it was so.
    async fn look(&self, own: &Contender, token: i64) -> Result<(Position<Before>, i64)> {
        let (mut below, mut many) = (token, 1);
        loop {
            let before = self
                .all()
                .with_max_create_revision(below - 1)
                .with_sort(SortTarget::Create, SortOrder::Descend)
                .with_limit(many);
            let ops = [own.look(), TxnOp::get(self.range.start.clone(), Some(before))];
            let answer = self.inner.txn(Purpose::Read, self.deadline(), Txn::new().and_then(ops)).await?;
            let at = revision(answer.header())?;
            let mut found = found(&answer).into_iter();
            let (own, before) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
            if !own.iter().any(|own| own.create_revision() == token && self.is_contender(own)) {
                return Ok((Position::Lost, at));
            }
            if let Some(before) = before.iter().find(|before| self.is_contender(before)) {
                return Ok((Position::Behind(Before::new(before, at)), at));
            }
            // What another tool wrote there waits for nothing.
            match before.last().map(KeyValue::create_revision) {
                Some(last) if last > 1 => (below, many) = (last, JUNK),
                _ => return Ok((Position::First, at)),
            }
        }
    }
}
