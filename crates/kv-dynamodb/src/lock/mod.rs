//! Acquires and renews locks: each has a record, whose owner holds the lock until the record's
//! end.
//!
//! The record stays after a release, because it holds the token; the service deletes it a day
//! later, unless the lock is taken again. A token is the service's time in milliseconds, at the
//! latest that it may be, and above the last token. So none is given out twice, also where the
//! record was deleted or is that of an older copy of the table.
//!
//! A damaged record is neither free nor held: a call that meets it gets `Corrupt`, and leaves it
//! as it is.

mod attempt;
pub(crate) mod ended;
pub(crate) mod listed;
mod release;
pub(crate) mod tokens;
pub(crate) mod value;
pub(crate) mod waits;

use crate::{
    client::{
        Lane,
        change::Changed,
        clock::Millis,
        item::{CHANGES, ENDS, Found, OWNER, RENEWAL, TOKEN, TTL, VALUE, bytes, last_token, number, text},
        terms::Terms,
    },
    core::Core,
    error::{Failure, closed, corrupt, outpaced},
    lease::{keep::prolong, state::Renewal},
    list::read::{fresh_time, read_item},
    lock::attempt::Attempt,
};
use kv_core::{
    Error, ErrorKind, Fence, Holder, Key, Result,
    backend::{Alive, Instant, retry::RetrySafety},
    driver::{Acquired, Deadline, LockOptions, ReadOptions},
};
use std::sync::Arc;

/// The result of one request for the lock.
enum Took {
    /// The lock was taken, with this token, by a request that was sent at this moment.
    Done(u64, Instant),
    /// The lock was not taken; this record is there.
    Hindered(Option<Found>),
}

/// The result of asking for the lock.
enum Asked {
    Got(Acquired),
    /// Another contender holds it until then.
    Held(Option<Millis>),
}

/// A caller that asks for the lock. When it leaves without the lock, it sees to it that no request
/// of its own gets the lock for nobody.
struct Asking {
    attempt: Arc<Attempt>,
    has_got: bool,
}

impl Asking {
    /// Leaves with the lock, whose release sees to that.
    fn got(mut self, lock: Acquired) -> Option<Acquired> {
        self.has_got = true;
        Some(lock)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.has_got && self.attempt.is_in_doubt() {
            let attempt = self.attempt.clone();
            drop(self.attempt.core.tasks.undo_repeatable(move || attempt.clone().settle()));
        }
    }
}

/// Does [`Store::lock`](kv_core::driver::Store::lock).
pub(crate) async fn lock(core: &Arc<Core>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let attempt = Arc::new(Attempt::new(core, name, options.ttl, options));
    let asking = Asking { attempt: attempt.clone(), has_got: false };
    if !options.wait {
        return match attempt.ask().await? {
            Asked::Got(lock) => Ok(asking.got(lock)),
            Asked::Held(_) => Ok(None),
        };
    }
    // Contenders of one store and runtime stand in line here; only the first of them asks the
    // service.
    let (turn, wait) = core.waits.turn(name).await?;
    loop {
        match attempt.clone().ask().await? {
            Asked::Got(lock) => {
                drop(turn);
                return Ok(asking.got(lock));
            }
            Asked::Held(ends) => wait.free(ends).await,
        }
    }
}

/// Does [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let found = read_item(core, &core.names.locks, name.as_str(), &[], options).await?;
    Ok(core.holding(name.as_str(), found)?.and_then(Found::holder))
}

impl Attempt {
    /// Asks for the lock. The request goes on when the caller stops waiting, and a lock that it
    /// gets is given back: the service could still do a request that is cut off.
    async fn ask(self: Arc<Self>) -> Result<Asked> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let attempt = self.clone();
        self.core.tasks.spawn(async move {
            match answer.send(attempt.clone().enter().await) {
                // The caller goes on with it.
                Ok(()) => {}
                // A lock that no caller takes is released: here, or by its drop.
                Err(Ok(Asked::Got(lock))) => drop(lock.release.run().await?),
                Err(_) => drop(attempt.settle().await?),
            }
            Ok(())
        });
        match answered.await {
            Ok(asked) => asked,
            Err(_) => Err(closed()),
        }
    }

    /// Asks until it is known who has the lock.
    async fn enter(self: Arc<Self>) -> Result<Asked> {
        fresh_time(&self.core, self.deadline()).await?;
        let (client, deadline) = (&self.core.client, self.deadline());
        loop {
            let take = || self.take();
            let answered = client.answer(RetrySafety::Repeatable, Lane::Calls, deadline, take).await;
            let is_unknown = |e: &Error| e.kind() == ErrorKind::OutcomeUnknown;
            if answered.as_ref().map_or_else(is_unknown, |answered| answered.is_repeat) {
                self.doubts();
            }
            let found = match answered?.answer {
                Took::Done(token, since) => {
                    self.seen(token);
                    return Ok(Asked::Got(self.clone().held(token, since)));
                }
                Took::Hindered(found) => found,
            };
            let found = found.ok_or_else(|| corrupt("the service answered nothing of a lock's record"))?;
            self.core.shared.tokens.seen(found.token.unwrap_or_default(), client.time.latest());
            self.seen(found.token.unwrap_or_default());
            let ours = found.token.filter(|_| self.is_ours(&found));
            if let Some((token, since)) = ours.and_then(|token| Some((token, self.asked_at(token)?))) {
                // An earlier request, whose answer was lost, has got the lock.
                return Ok(Asked::Got(self.clone().held(token, since)));
            }
            if self.core.holding(self.name.as_str(), Some(found.clone()))?.is_some() {
                return Ok(Asked::Held(found.ends));
            }
            // The lock is free by now, or its token was above the one of this request.
            if deadline.has_passed() {
                return Err(outpaced("took the lock", deadline));
            }
        }
    }

    /// Takes the lock, if it is free.
    async fn take(&self) -> Result<Took, Failure> {
        let (client, time) = (&self.core.client, &self.core.client.time);
        let (since, now, ends) = (time.local().now(), time.earliest(), time.end_of(self.ttl));
        let token = self.core.shared.tokens.next(time.latest());
        self.asks(token, since);
        let mut terms = Terms::default();
        let condition =
            format!("{} AND {}", terms.is_free(now, last_token(time.latest())), terms.has_token_below(token));
        let set = [
            (OWNER, text(&self.owner)),
            (ENDS, number(ends)),
            (TTL, number(self.core.deleted_at(ends))),
            (VALUE, bytes(self.value.clone())),
            (CHANGES, number(0)),
            (RENEWAL, number(0)),
            (TOKEN, number(token)),
        ];
        let set = set.map(|(name, value)| format!("{} = {}", terms.name(name), terms.value(value)));
        let (record, update) =
            ((&*self.core.names.locks, self.name.as_str()), format!("SET {}", set.join(", ")));
        Ok(match client.change(record, &update, &condition, &terms).await? {
            Changed::Done => Took::Done(token, since),
            Changed::Hindered(found) => Took::Hindered(found),
        })
    }

    /// Returns the lock, which is kept alive, and is given back once.
    fn held(self: Arc<Self>, token: u64, since: Instant) -> Acquired {
        self.lives_since(since);
        let alive = Alive::keep(self.core.client.time.local(), self.ttl, since, {
            let attempt = self.clone();
            move || attempt.clone().renew()
        });
        let release = self.core.tasks.undo_repeatable({
            let attempt = self.clone();
            move || attempt.clone().release()
        });
        let fence = Fence::new(self.name.clone(), token, self.owner.clone().into_bytes());
        Acquired { fence, alive, release }
    }

    async fn renew(self: Arc<Self>) -> Result<()> {
        let (core, name, locks) = (&self.core, self.name.as_str(), &self.core.names.locks);
        let began = core.client.time.local().now();
        let number = self.next_renewal();
        let to = Renewal { ends: core.client.time.end_of(self.ttl), number };
        let ours = |terms: &mut Terms| terms.is_owned(&self.owner);
        // It is given up after a quarter of the TTL.
        let deadline = Deadline::after(self.ttl / 5);
        match prolong(core, Lane::KeepAlive, locks, name, to, ours, deadline).await? {
            Changed::Done => {}
            // An earlier attempt, whose answer was lost, has renewed it.
            Changed::Hindered(Some(found)) if self.is_ours(&found) && found.is_renewed(number) => {}
            Changed::Hindered(found) => {
                self.is_anybodys(found.as_ref())?;
                let why = "its record was taken by another, or deleted on the service";
                return Err(Error::new(ErrorKind::LockLost, why));
            }
        }
        self.lives_since(began);
        Ok(())
    }
}
