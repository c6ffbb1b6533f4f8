//! Locks: a record each, whose owner holds it until its end.
//!
//! The record stays after a release, because it holds the token; a day later, unless it is taken
//! again, the service deletes it. A token is the service's time in milliseconds, at the latest that
//! it may be, and above the one before: so none is given out twice, also where the record was
//! deleted or is that of an older copy of the table.
//!
//! A record that makes no sense is neither free nor held: whoever meets it gets `Corrupt`, and it is
//! left as it is.

mod release;
pub(crate) mod tokens;
pub(crate) mod waits;

use crate::{
    client::{
        Lane,
        clock::Millis,
        corrupt, damaged,
        item::{ENDS, Found, OWNER, RENEWAL, TOKEN, TTL, VALUE, bytes, last_token, number, text},
        terms::Terms,
    },
    error::Failure,
    lease::keep::{Prolonged, Renewal, prolong},
    store::Inner,
    write::put::gone,
};
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, types::ReturnValuesOnConditionCheckFailure};
use kv_core::{
    Acquired, Bytes, Deadline, Error, ErrorKind, Fence, Holder, Key, LockOptions, Result,
    backend::{Alive, Instant, Mutex, retry::RetrySafety, unique},
};
use std::{
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Who holds a lock, by its record, which has not ended.
pub(crate) fn holder(found: Found) -> Option<Holder> {
    found.owner?;
    Some(Holder::new(found.token?, found.value.unwrap_or_default()))
}

/// One attempt to hold one lock.
struct Attempt {
    inner: Arc<Inner>,
    name: Key,
    owner: String,
    ttl: Duration,
    value: Bytes,
    each_request: Duration,
    /// The tokens of the requests for it that may still take effect, and when they were sent.
    asked: Mutex<Vec<(u64, Instant)>>,
    /// Until then, by our own clock, nobody else can have it.
    held_until: Mutex<Instant>,
    /// How many renewals were begun.
    renewals: AtomicU64,
}

/// What came of one request for the lock.
enum Took {
    /// With this token, by a request that was sent then.
    Done(u64, Instant),
    /// This is there.
    Hindered(Option<Found>),
}

/// What came of asking for the lock.
enum Asked {
    Got(Acquired),
    /// Another holds it until then.
    Held(Option<Millis>),
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    let attempt = Arc::new(Attempt {
        inner: inner.clone(),
        name: name.clone(),
        owner: format!("{:016x}{:016x}", unique(), unique()),
        ttl,
        value: options.value.clone(),
        each_request: options.each_request,
        asked: Mutex::default(),
        held_until: Mutex::new(inner.client.time.local().now()),
        renewals: AtomicU64::new(0),
    });
    if !options.wait {
        return match attempt.clone().ask().await? {
            Asked::Got(lock) => Ok(Some(lock)),
            Asked::Held(_) => Ok(None),
        };
    }
    // Those of one store stand in line here; only the first of them asks the service.
    let (turn, wait) = inner.waits.turn(name).await;
    loop {
        match attempt.clone().ask().await? {
            Asked::Got(lock) => {
                drop(turn);
                return Ok(Some(lock));
            }
            Asked::Held(ends) => wait.free(ends).await,
        }
    }
}

impl Attempt {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Asks for the lock. The request goes on when the caller stops waiting, and what it got is given
    /// back: a request that is cut off could still be done by the service.
    async fn ask(self: Arc<Self>) -> Result<Asked> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let attempt = self.clone();
        self.inner.tasks.spawn(async move {
            let asked = attempt.clone().enter().await;
            let unknown = matches!(&asked, Err(e) if e.kind() == ErrorKind::OutcomeUnknown);
            // A lock that nobody takes is released: here, or by its drop.
            if let Err(Ok(Asked::Got(lock))) = answer.send(asked) {
                lock.release.run().await?;
            }
            if unknown {
                attempt.release().await?;
            }
            Ok(())
        });
        match answered.await {
            Ok(asked) => asked,
            Err(_) => Err(Error::new(ErrorKind::Closed, "the store was closed")),
        }
    }

    async fn enter(self: Arc<Self>) -> Result<Asked> {
        self.inner.fresh_time(self.deadline()).await?;
        let (client, deadline) = (&self.inner.client, self.deadline());
        loop {
            let found = match client.call(RetrySafety::Repeatable, deadline, || self.take()).await? {
                Took::Done(token, since) => return Ok(Asked::Got(self.clone().held(token, since))),
                Took::Hindered(found) => found,
            };
            let found = found.ok_or_else(|| corrupt("the service answered nothing of a lock's record"))?;
            self.inner.shared.tokens.seen(found.token.unwrap_or_default(), client.time.latest());
            let ours = found.token.filter(|_| self.is_ours(&found));
            if let Some((token, since)) = ours.and_then(|token| Some((token, self.asked_at(token)?))) {
                // An earlier request, whose answer was lost, has got it.
                return Ok(Asked::Got(self.clone().held(token, since)));
            }
            if self.inner.holding(self.name.as_str(), Some(found.clone()))?.is_some() {
                return Ok(Asked::Held(found.ends));
            }
            // It is free by now, or its token was above ours.
            if deadline.has_passed() {
                return Err(gone(deadline));
            }
        }
    }

    /// Takes it, if it is free.
    async fn take(&self) -> Result<Took, Failure> {
        let (client, time) = (&self.inner.client, &self.inner.client.time);
        let (since, now, ends) = (time.local().now(), time.earliest(), time.end_of(self.ttl));
        let token = self.inner.shared.tokens.next(time.latest());
        self.asks(token, since);
        let mut terms = Terms::default();
        let condition =
            format!("{} AND {}", terms.is_free(now, last_token(time.latest())), terms.has_token_below(token));
        let set = [
            (OWNER, text(&self.owner)),
            (ENDS, number(ends)),
            (TTL, number(self.inner.deleted_at(ends))),
            (VALUE, bytes(self.value.clone())),
            (RENEWAL, number(0)),
            (TOKEN, number(token)),
        ];
        let set = set.map(|(name, value)| format!("{} = {}", terms.name(name), terms.value(value)));
        let update = client
            .tables
            .update_item()
            .table_name(&client.table)
            .set_key(Some(Inner::key(&self.inner.names.locks, self.name.as_str())))
            .update_expression(format!("SET {}", set.join(", ")))
            .condition_expression(condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Took::Done(token, since)),
            Err(e) => match e.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Took::Hindered(failed.item().map(Found::of)))
                }
                _ => Err(Failure::from(e)),
            },
        }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.asked.lock()
    }

    /// A request with this token is sent then. What earlier ones got has ended after a while.
    fn asks(&self, token: u64, now: Instant) {
        let mut asked = self.asked();
        asked.retain(|(_, since)| now.since(*since) < self.life());
        asked.push((token, now));
    }

    fn asked_at(&self, token: u64) -> Option<Instant> {
        self.asked().iter().find(|(of, _)| *of == token).map(|(_, since)| *since)
    }

    /// How long it is held after it was granted or renewed, by the rule of [`Alive`].
    fn life(&self) -> Duration {
        self.ttl - self.ttl / 10
    }

    fn held(self: Arc<Self>, token: u64, since: Instant) -> Acquired {
        self.lives_since(since);
        let alive = Alive::keep(self.inner.client.time.local(), self.ttl, since, {
            let attempt = self.clone();
            move || attempt.clone().renew()
        });
        let release = self.inner.tasks.undo(self.clone().release());
        let fence = Fence::new(self.name.clone(), token, self.owner.clone().into_bytes());
        Acquired { fence, alive, release }
    }

    /// It was granted or renewed by a request that was sent then.
    fn lives_since(&self, since: Instant) {
        let mut until = self.held_until.lock();
        *until = (*until).max(since + self.life());
    }

    fn is_held_for_certain(&self) -> bool {
        let until = *self.held_until.lock();
        self.inner.client.time.local().now() < until
    }

    async fn renew(self: Arc<Self>) -> Result<()> {
        let (inner, name, locks) = (&self.inner, self.name.as_str(), &self.inner.names.locks);
        let began = inner.client.time.local().now();
        let number = self.renewals.fetch_add(1, Ordering::Relaxed) + 1;
        let to = Renewal { ends: inner.client.time.end_of(self.ttl), number };
        let ours = |terms: &mut Terms| terms.is_owned(&self.owner);
        match prolong(inner, Lane::KeepAlive, locks, name, to, ours, self.deadline()).await? {
            Prolonged::Done => {}
            // By an earlier attempt, whose answer was lost.
            Prolonged::Hindered(Some(found)) if self.is_ours(&found) && found.is_renewed(number) => {}
            Prolonged::Hindered(found) => {
                self.is_anybodys(found.as_ref())?;
                let why = "its record was taken by another, or deleted on the service";
                return Err(Error::new(ErrorKind::LockLost, why));
            }
        }
        self.lives_since(began);
        Ok(())
    }

    /// A record whose owner is damaged may be put right and be ours again: nobody else gets it
    /// meanwhile.
    fn is_anybodys(&self, found: Option<&Found>) -> Result<()> {
        match found.and_then(|found| found.damaged_lock(self.inner.client.time.latest())) {
            Some(OWNER) => Err(damaged("lock", self.name.as_str(), OWNER)),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, found: &Found) -> bool {
        found.owner.as_deref() == Some(&self.owner)
    }
}
