//! Locks: contenders in the order of their creation.

use crate::{
    api::{self, Done, Op, Pair},
    client::Does,
    lease::unique,
    names::contender,
    poll::{Backoff, gone},
    session::Use,
    store::{Inner, does},
};
use kv_core::{
    backend::{Alive, Undo},
    *,
};
use std::{sync::Arc, time::Duration};
use tokio::task::AbortHandle;

/// One attempt to hold one lock.
struct Attempt {
    inner: Arc<Inner>,
    session: Use,
    id: String,
    contender: Key,
    /// The server's name of the contender.
    name: String,
    line: String,
    each_request: Duration,
}

/// Where an attempt stands in line.
enum Place {
    First,
    Behind(Key),
    /// Its contender is gone.
    Lost,
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    let line = inner.names.line(name);
    loop {
        // Who does not wait gets in line only when nobody is seen there: no transaction can depend on that.
        if !options.wait {
            let deadline = Deadline::after(options.each_request);
            if !api::tree(&inner.client, Does::Read, deadline, &line).await?.is_empty() {
                return Ok(None);
            }
        }
        let session = inner.session(ttl, options.each_request).await?;
        let id = format!("{:016x}", unique());
        let contender = contender(name, &id)?;
        let attempt = Arc::new(Attempt {
            inner: inner.clone(),
            id,
            name: inner.names.name(contender.as_str()),
            contender,
            line: line.clone(),
            each_request: options.each_request,
            session,
        });
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let give_up = attempt.clone().give_up();
        let (token, place) = match attempt.enter(options).await {
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
        let leave = attempt.clone().leave(None);
        give_up.forget();
        if !options.wait && !matches!(place, Place::First) {
            leave.run().await?;
            return Ok(None);
        }
        if !attempt.wait(token, place).await? {
            continue;
        }
        let alive = attempt.session.alive().another();
        let guarded = tokio::spawn(attempt.clone().watch_own(alive.clone())).abort_handle();
        let release = attempt.clone().leave(Some(guarded));
        leave.forget();
        let proof = format!("{} {}", attempt.session.session(), attempt.name);
        let fence = Fence::new(name.clone(), token, proof);
        return Ok(Some(Acquired { fence, alive, release }));
    }
}

impl Attempt {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Gets in line, or holds the lock at once; the token, and the place.
    async fn enter(&self, options: &LockOptions) -> Result<(u64, Place)> {
        let ops = [
            Op::check_missing(&self.inner.names.given_up(&self.id)),
            Op::write(&self.name, &options.value, Some(self.session.session())),
            Op::get_tree(&self.line),
        ];
        // A repeat finds the contender that the first one made.
        match self.inner.txn(Does::Repeatable, self.deadline(), &ops).await? {
            Done::Committed(done) => {
                let line = done.get(1..).unwrap_or_default();
                // A line without its own last one is one that the token may not read.
                let own =
                    line.iter().find(|pair| pair.name == self.name).ok_or_else(|| api::hidden(&self.line))?;
                Ok((own.created, self.place(own.created, line)))
            }
            Done::Refused(_) => Ok((0, Place::Lost)),
        }
    }

    fn place(&self, token: u64, line: &[Pair]) -> Place {
        if !line.iter().any(|pair| pair.name == self.name && pair.created == token) {
            return Place::Lost;
        }
        let before = line.iter().filter(|pair| pair.created < token).max_by_key(|pair| pair.created);
        match before.map(|pair| self.inner.names.parse(&pair.name)) {
            None => Place::First,
            Some(Some(before)) => Place::Behind(before),
            // Another tool's: it stands in nobody's way.
            Some(None) => Place::First,
        }
    }

    async fn look(&self, token: u64) -> Result<Place> {
        let line = api::tree(&self.inner.client, Does::Read, self.deadline(), &self.line).await?;
        Ok(self.place(token, &line))
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, token: u64, mut place: Place) -> Result<bool> {
        let mut backoff = Backoff::default();
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
                        gone = gone(&self.inner, &before) => if gone { backoff.reset() } else { backoff.pause().await },
                    }
                }
            }
            place = loop {
                match self.look(token).await {
                    Ok(place) => break place,
                    // The line is kept by the session, whatever the link does meanwhile.
                    Err(e) if e.is_transient() && self.session.alive().is_held() => backoff.pause().await,
                    Err(e) if e.is_transient() => break Place::Lost,
                    Err(e) => return Err(e),
                }
            };
        }
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, alive: Alive) {
        let mut backoff = Backoff::default();
        while !gone(&self.inner, &self.contender).await {
            backoff.pause().await;
        }
        alive.end("its key was deleted on the server, by an administrator or with its session");
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
        let ops = [Op::get(&self.name), Op::delete(&self.name)];
        let done = self.inner.txn(Does::Repeatable, self.deadline(), &ops).await?;
        Ok(matches!(done, Done::Committed(_)))
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

    /// Takes back a request to enter whose answer did not come: deletes the contender, and leaves a mark so that the request
    /// does nothing should it still arrive. The mark goes with the session.
    fn give_up(self: Arc<Self>) -> Undo {
        Undo::new(async move {
            let mark = self.inner.names.given_up(&self.id);
            let ops = [Op::delete(&self.name), Op::write(&mark, b"", Some(self.session.session()))];
            let mut backoff = Backoff::default();
            loop {
                match self.inner.txn(Does::Repeatable, self.deadline(), &ops).await {
                    Ok(done) => return Ok(matches!(done, Done::Committed(_))),
                    // With the session everything of ours is gone, and nothing can come.
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

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = api::tree(&inner.client, does(options), options.deadline, &inner.names.line(name)).await?;
    let first = line.iter().min_by_key(|pair| pair.created);
    first.map(|first| Ok(Holder::new(first.created, first.value()?))).transpose()
}
