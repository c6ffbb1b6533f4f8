//! Locks: contenders in the order of their creation.

use crate::{
    client::{Client, Does},
    names::Range,
    session::Use,
    store::{Inner, does, reading, revision},
    txn::{found, is_missing},
    watch::{Backoff, Change, Feed, News},
};
use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
};
use kv_core::{
    backend::{Alive, Undo, stream},
    *,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::task::AbortHandle;

pub(crate) use crate::session::Sessions;

/// One attempt to hold one lock.
struct Attempt {
    inner: Arc<Inner>,
    session: Use,
    id: u64,
    contender: Vec<u8>,
    line: Range,
    each_request: Duration,
}

/// Where an attempt stands in line.
enum Place {
    First,
    Behind(KeyValue),
    /// Its contender is gone.
    Lost,
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    loop {
        let session = inner.session(ttl, options.each_request).await?;
        let id = crate::lease::unique();
        let attempt = Arc::new(Attempt {
            inner: inner.clone(),
            id,
            contender: inner.names.contender(name, id),
            line: inner.names.contenders(name),
            each_request: options.each_request,
            session,
        });
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let give_up = attempt.clone().give_up();
        let entered = match attempt.enter(options).await {
            Ok(entered) => entered,
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                give_up.forget();
                inner.sessions.forget(&attempt.session);
                continue;
            }
            Err(e) => {
                if e.kind() != ErrorKind::OutcomeUnknown {
                    give_up.forget();
                }
                return Err(e);
            }
        };
        let Some((token, place)) = entered else {
            give_up.forget();
            return Ok(None);
        };
        let leave = attempt.clone().leave(None);
        give_up.forget();
        if !attempt.wait(token, place).await? {
            continue;
        }
        let alive = attempt.session.alive().another();
        let guarded = tokio::spawn(attempt.clone().watch_own(token, alive.clone())).abort_handle();
        let release = attempt.clone().leave(Some(guarded));
        leave.forget();
        let token = u64::try_from(token).unwrap_or_default();
        let fence = Fence::new(name.clone(), token, attempt.contender.clone());
        return Ok(Some(Acquired { fence, alive, release }));
    }
}

impl Attempt {
    fn client(&self) -> &Arc<Client> {
        &self.inner.client
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    fn the_line(&self) -> GetOptions {
        GetOptions::new().with_range(self.line.end.clone()).with_keys_only()
    }

    /// Gets in line, or holds the lock at once; `None` when it must not wait and is not first.
    async fn enter(&self, options: &LockOptions) -> Result<Option<(i64, Place)>> {
        let mut when = vec![is_missing(self.inner.names.given_up(self.id))];
        if !options.wait {
            when.push(is_missing_all(&self.line));
        }
        let put = PutOptions::new().with_lease(self.session.session().lease);
        let last_two = self.the_line().with_sort(SortTarget::Create, SortOrder::Descend).with_limit(2);
        let then = [
            TxnOp::put(self.contender.clone(), options.value.clone(), Some(put)),
            TxnOp::get(self.line.start.clone(), Some(last_two)),
        ];
        let own = TxnOp::get(self.contender.clone(), Some(GetOptions::new().with_keys_only()));
        let txn = Txn::new().when(when).and_then(then).or_else([own]);
        // A repeat finds the contender that the first one made.
        let answer = self.inner.txn(Does::Repeatable, self.deadline(), txn).await?;
        let mut last = found(&answer).into_iter().flatten();
        let own = last.next().filter(|kv| kv.key() == self.contender);
        if !answer.succeeded() {
            return Ok(own.map(|own| (own.create_revision(), Place::First)));
        }
        revision(answer.header())?;
        Ok(Some(match own {
            Some(own) => (own.create_revision(), last.next().map_or(Place::First, Place::Behind)),
            None => self.look_for_own().await?,
        }))
    }

    async fn look_for_own(&self) -> Result<(i64, Place)> {
        let own = self.inner.range(
            Does::Read,
            self.deadline(),
            &self.contender,
            GetOptions::new().with_keys_only(),
        );
        match own.await?.kvs().first() {
            Some(own) => Ok((own.create_revision(), self.look(own.create_revision()).await?.0)),
            None => Ok((0, Place::Lost)),
        }
    }

    /// Who is before us, and the revision at which it was so.
    async fn look(&self, token: i64) -> Result<(Place, i64)> {
        let before = self
            .the_line()
            .with_max_create_revision(token - 1)
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(1);
        let ops = [
            TxnOp::get(self.contender.clone(), Some(GetOptions::new().with_keys_only())),
            TxnOp::get(self.line.start.clone(), Some(before)),
        ];
        let answer = self.inner.txn(Does::Read, self.deadline(), Txn::new().and_then(ops)).await?;
        let mut found = found(&answer).into_iter();
        let own = found.next().unwrap_or_default();
        let place = match found.next().and_then(|mut before| before.pop()) {
            _ if !own.iter().any(|own| own.create_revision() == token) => Place::Lost,
            Some(before) => Place::Behind(before),
            None => Place::First,
        };
        Ok((place, revision(answer.header())?))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, token: i64, mut place: Place) -> Result<bool> {
        let (mut backoff, mut at) = (Backoff::default(), token);
        let lost = self.session.alive().lost();
        tokio::pin!(lost);
        loop {
            match place {
                Place::First => return Ok(true),
                Place::Lost => return Ok(false),
                Place::Behind(before) => {
                    tokio::select! {
                        biased;
                        _ = &mut lost => {
                            self.inner.sessions.forget(&self.session);
                            return Ok(false);
                        }
                        gone = self.session.session().vigil.gone(before.key().to_vec(), at + 1) => if gone { backoff.reset() } else { backoff.pause().await },
                    }
                }
            }
            place = loop {
                match self.look(token).await {
                    Ok((place, now)) => {
                        at = now;
                        break place;
                    }
                    // The line is kept by the session, whatever the link does meanwhile.
                    Err(e) if e.is_transient() && self.session.alive().is_held() => backoff.pause().await,
                    Err(e) if e.is_transient() => break Place::Lost,
                    Err(e) => return Err(e),
                }
            };
        }
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, token: i64, alive: Alive) {
        let (mut backoff, mut at) = (Backoff::default(), token);
        loop {
            if self.session.session().vigil.gone(self.contender.clone(), at + 1).await {
                break;
            }
            backoff.pause().await;
            match self.look(token).await {
                Ok((Place::Lost, _)) => break,
                Ok((_, now)) => at = now,
                Err(_) => {}
            }
        }
        alive.end("its key was deleted on the server, by an administrator or with its lease");
    }

    /// Leaves the line: `true` when we were still in it.
    fn leave(self: Arc<Self>, guarded: Option<AbortHandle>) -> Undo {
        let guarded = guarded.map(AbortOnDrop);
        Undo::new(async move {
            drop(guarded);
            let answer = self.delete().await;
            if answer.is_err() {
                tokio::spawn(async move { self.delete_while_alive().await });
            }
            answer
        })
    }

    async fn delete(&self) -> Result<bool> {
        let delete = self.client().call(Does::Repeatable, self.deadline(), |service| {
            let contender = self.contender.clone();
            async move { service.kv_client().delete(contender, None).await }
        });
        Ok(delete.await?.deleted() > 0)
    }

    /// Others keep the session alive, and with it what we could not delete: until it is, or the session has ended.
    async fn delete_while_alive(&self) {
        let mut backoff = Backoff::default();
        while self.session.alive().is_held() {
            backoff.pause().await;
            if self.delete().await.is_ok() {
                return;
            }
        }
        self.inner.sessions.forget(&self.session);
    }

    /// Takes back a request to enter whose answer did not come: deletes the contender if it is there, else marks it so that
    /// the request does nothing should it still arrive. The mark goes with the session.
    fn give_up(self: Arc<Self>) -> Undo {
        Undo::new(async move {
            let is_there = Compare::create_revision(self.contender.clone(), CompareOp::Greater, 0);
            let mark = PutOptions::new().with_lease(self.session.session().lease);
            let txn = Txn::new()
                .when([is_there])
                .and_then([TxnOp::delete(self.contender.clone(), None)])
                .or_else([TxnOp::put(self.inner.names.given_up(self.id), "", Some(mark))]);
            let mut backoff = Backoff::default();
            loop {
                match self.inner.txn(Does::Repeatable, self.deadline(), txn.clone()).await {
                    Ok(answer) => return Ok(answer.succeeded()),
                    // With the lease everything of ours is gone, and nothing can come.
                    Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(false),
                    Err(e) if !self.session.alive().is_held() => {
                        self.inner.sessions.forget(&self.session);
                        return Err(e);
                    }
                    Err(_) => backoff.pause().await,
                }
            }
        })
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn is_missing_all(range: &Range) -> Compare {
    is_missing(range.start.clone()).with_range(range.end.clone())
}

async fn line(
    inner: &Inner,
    does: Does,
    deadline: Deadline,
    range: &Range,
    options: GetOptions,
) -> Result<GetResponse> {
    let options = options.with_range(range.end.clone()).with_sort(SortTarget::Create, SortOrder::Ascend);
    inner.range(does, deadline, &range.start, options).await
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let range = inner.names.contenders(name);
    let first = line(inner, does(options), options.deadline, &range, reading(options).with_limit(1))
        .await?
        .take_kvs();
    Ok(first.into_iter().next().map(|first| {
        let token = u64::try_from(first.create_revision()).unwrap_or_default();
        Holder::new(token, first.into_key_value().1)
    }))
}

/// Whom a watch has told to hold the lock.
struct Told {
    name: Key,
    holder: Option<i64>,
}

impl Told {
    /// The event owed when these are in line.
    fn now(&mut self, line: &BTreeMap<i64, KeyValue>) -> Option<WatchEvent> {
        let at = |token: i64| Version::new(u64::try_from(token).unwrap_or_default(), 0);
        let first = line.first_key_value();
        let before = std::mem::replace(&mut self.holder, first.map(|(token, _)| *token));
        match first {
            Some((token, _)) if before == Some(*token) => None,
            Some((token, kv)) => {
                Some(WatchEvent::Put(Entry::new(self.name.clone(), kv.value().to_vec(), at(*token))))
            }
            None => before.map(|token| WatchEvent::Delete { key: self.name.clone(), version: at(token) }),
        }
    }
}

/// [`Store::watch`] of a [`Target::Holder`].
pub(crate) fn watch_holder(inner: Arc<Inner>, name: &Key, options: &WatchOptions) -> WatchStream {
    let (range, each_request) = (inner.names.contenders(name), options.each_request);
    let mut told = Told { name: name.clone(), holder: None };
    stream(|out| async move {
        let mut backoff = Backoff::default();
        loop {
            let began = async {
                let mut there =
                    line(&inner, Does::Read, Deadline::after(each_request), &range, GetOptions::new())
                        .await?;
                let at = revision(there.header())?;
                let mut waiting: BTreeMap<_, _> =
                    there.take_kvs().into_iter().map(|kv| (kv.create_revision(), kv)).collect();
                if let Some(event) = told.now(&waiting) {
                    out.send(event).await;
                }
                let mut feed = Feed::open(&inner, &range, at + 1, each_request).await?;
                out.send(WatchEvent::Synced).await;
                backoff.reset();
                while let News::Changes(changes) = feed.next().await {
                    for (change, kv) in changes {
                        match change {
                            Change::Put => drop(waiting.insert(kv.create_revision(), kv)),
                            Change::Delete => waiting.retain(|_, waits| waits.key() != kv.key()),
                        }
                        if let Some(event) = told.now(&waiting) {
                            out.send(event).await;
                        }
                    }
                }
                Ok::<_, Error>(())
            };
            match began.await {
                Err(e) if !e.is_transient() => return Err(e),
                _ => backoff.pause().await,
            }
        }
    })
}
