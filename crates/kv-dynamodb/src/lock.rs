//! Locks: a record each, whose owner holds it until its end.
//!
//! The record stays after a release, because it holds the token; a day later, unless it is taken again, the service
//! deletes it. A record that is made anew begins its tokens at the service's time in milliseconds, which is above all that
//! were given out before: no lock is taken once a millisecond for a day.

use crate::{
    client::{Backoff, Does, corrupt},
    clock::Millis,
    error::Failed,
    item::{ENDS, Found, OWNER, TOKEN, TTL, Terms, VALUE, bytes, number, text, unique},
    lease::prolong,
    store::Inner,
};
use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{
    backend::{Alive, Undo},
    *,
};
use std::{sync::Arc, time::Duration};

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

    /// Asks for the lock. The request goes on when the caller stops waiting, and what it got is given back: a request that
    /// is cut off could still be done by the service.
    async fn ask(self: Arc<Self>) -> Result<Asked> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let attempt = self.clone();
        self.inner.tasks.spawn(async move {
            let asked = attempt.clone().enter().await;
            let unknown = matches!(&asked, Err(e) if e.kind() == ErrorKind::OutcomeUnknown);
            // A lock that nobody takes is released: here, or by its drop. What cannot be given back ends by its TTL.
            if let Err(Ok(Asked::Got(lock))) = answer.send(asked) {
                let _ = lock.release.run().await;
            }
            if unknown {
                let _ = attempt.give_back(None).await;
            }
        });
        match answered.await {
            Ok(asked) => asked,
            Err(_) => Err(Error::new(ErrorKind::Closed, "the store was closed")),
        }
    }

    async fn enter(self: Arc<Self>) -> Result<Asked> {
        self.inner.fresh_time(self.deadline()).await?;
        let (client, time) = (&self.inner.client, &self.inner.client.time);
        let enter = || async {
            let (since, now, ends) = (time.local().now(), time.earliest(), time.end_of(self.ttl));
            let mut terms = Terms::default();
            let (owner, end) = (terms.name(OWNER), terms.name(ENDS));
            let (ttl, value, token) = (terms.name(TTL), terms.name(VALUE), terms.name(TOKEN));
            let condition = format!("attribute_not_exists({owner}) OR {end} <= {}", terms.value(number(now)));
            let set = [
                (owner, text(&self.owner)),
                (end, number(ends)),
                (ttl, number(self.inner.deleted_at(ends))),
                (value, bytes(self.value.clone())),
            ];
            let set: Vec<_> =
                set.into_iter().map(|(name, v)| format!("{name} = {}", terms.value(v))).collect();
            let (seed, one) = (terms.value(number(now)), terms.value(number(1)));
            let update = client
                .tables
                .update_item()
                .table_name(&client.table)
                .set_key(Some(Inner::key(&self.inner.names.locks, self.name.as_str())))
                .update_expression(format!(
                    "SET {}, {token} = if_not_exists({token}, {seed}) + {one}",
                    set.join(", ")
                ))
                .condition_expression(condition)
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::UpdatedNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match update.send().await {
                Ok(answer) => Ok((true, answer.attributes().map(Found::of), since)),
                Err(e) => match e.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                        Ok((false, failed.item().map(Found::of), since))
                    }
                    _ => Err(Failed::from(e)),
                },
            }
        };
        let began = time.local().now();
        let (done, found, since) = client.call(Does::Repeatable, self.deadline(), enter).await?;
        let found = found.ok_or_else(|| corrupt("the service answered nothing of a lock's record"))?;
        let token = || found.token.ok_or_else(|| corrupt("the record of a lock has no token"));
        if done {
            return Ok(Asked::Got(self.clone().held(token()?, since)));
        }
        if found.owner.as_deref() == Some(&self.owner) {
            // An earlier request, whose answer was lost; it was not sent before this.
            return Ok(Asked::Got(self.clone().held(token()?, began)));
        }
        Ok(Asked::Held(found.ends))
    }

    fn held(self: Arc<Self>, token: u64, since: backend::Instant) -> Acquired {
        let alive = Alive::keep(self.inner.client.time.local(), self.ttl, since, {
            let attempt = self.clone();
            move || attempt.clone().renew()
        });
        let release = Undo::new(self.clone().release(token));
        let fence = Fence::new(self.name.clone(), token, self.owner.clone().into_bytes());
        Acquired { fence, alive, release }
    }

    async fn renew(self: Arc<Self>) -> Result<()> {
        let ends = self.inner.client.time.end_of(self.ttl);
        let ours = |terms: &mut Terms| terms.is_owned(&self.owner);
        let (inner, locks) = (&self.inner, &self.inner.names.locks);
        if prolong(inner, locks, self.name.as_str(), ends, ours, self.deadline()).await? {
            return Ok(());
        }
        let why = "its record was taken by another, or deleted on the service";
        Err(Error::new(ErrorKind::LockLost, why))
    }

    /// Gives the lock back; whether it was still held.
    async fn release(self: Arc<Self>, token: u64) -> Result<bool> {
        let released = self.give_back(Some(token)).await;
        if let Err(e) = &released
            && e.kind() != ErrorKind::Closed
        {
            let attempt = self.clone();
            self.inner.tasks.spawn_later(async move { attempt.give_back_later().await });
        }
        released
    }

    /// Whether it was still held. The token tells a repeat that an earlier one, whose answer was lost, gave it back.
    async fn give_back(&self, token_of_ours: Option<u64>) -> Result<bool> {
        let client = &self.inner.client;
        let mut terms = Terms::default();
        let ours = terms.is_owned(&self.owner);
        let (owner, end, value) = (terms.name(OWNER), terms.name(ENDS), terms.name(VALUE));
        let (ttl, token) = (terms.name(TTL), terms.name(TOKEN));
        let deleted = terms.value(number(self.inner.deleted_at(client.time.latest())));
        let update = format!("SET {ttl} = {deleted} REMOVE {owner}, {end}, {value}");
        // An item without a token was never a lock's.
        let condition = format!("{ours} AND attribute_exists({token})");
        let give_back = || async {
            let update = client
                .tables
                .update_item()
                .table_name(&client.table)
                .set_key(Some(Inner::key(&self.inner.names.locks, self.name.as_str())))
                .update_expression(&update)
                .condition_expression(&condition)
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::UpdatedOld)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match update.send().await {
                Ok(answer) => Ok(self.inner.living(answer.attributes().map(Found::of)).is_some()),
                Err(e) => match e.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                        let found = failed.item().map(Found::of);
                        let last = found.filter(|found| found.owner.is_none()).and_then(|found| found.token);
                        Ok(last.is_some() && last == token_of_ours)
                    }
                    _ => Err(Failed::from(e)),
                },
            }
        };
        let was_held = client.call(Does::Repeatable, self.deadline(), give_back).await?;
        self.inner.waits.released(&self.name);
        Ok(was_held)
    }

    /// Until it is given back, or has ended by itself.
    async fn give_back_later(&self) {
        let (mut backoff, local) = (Backoff::default(), self.inner.client.time.local());
        let end = local.now() + self.ttl;
        while local.now() < end {
            backoff.pause().await;
            if self.give_back(None).await.is_ok() {
                return;
            }
        }
    }
}
