//! Gives a lock back, and tries so as long as the service may have it.

use crate::{
    client::{
        Lane, backoff,
        change::Changed,
        item::{Asked, ENDS, Found, OWNER, TOKEN, TTL, VALUE, last_token, number, primary_key},
        terms::Terms,
    },
    error::{Failure, unknown_whether},
    lock::attempt::Attempt,
};
use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{Error, ErrorKind, Result, backend::retry::RetrySafety};
use std::sync::Arc;

impl Attempt {
    /// Gives the lock back, in the background where it could not be done at once; returns whether
    /// it was still held.
    pub(super) async fn release(self: Arc<Self>) -> Result<bool> {
        let released = self.give_back().await;
        self.clone().go_on(&released);
        released
    }

    /// Sees to it that no request of this attempt that arrives late gets the lock, in the
    /// background as long as another holds it. Returns `false`: nobody has held it.
    pub(super) async fn settle(self: Arc<Self>) -> Result<bool> {
        if !self.is_in_doubt() {
            return Ok(false);
        }
        let refused = self.refuse().await;
        self.clone().go_on(&refused);
        refused.map(|()| false)
    }

    /// Goes on in the background with what could not be done at once, as long as the service may
    /// have the lock. Closing tries once more, and tells what fails then.
    fn go_on<T>(self: Arc<Self>, done: &Result<T>) {
        match done {
            Ok(_) if !self.is_in_doubt() => return,
            Err(e) if e.kind() == ErrorKind::Closed => return,
            _ => {}
        }
        let left = Arc::downgrade(&self);
        self.core.tasks.left(move || {
            let attempt = left.upgrade()?;
            Some(async move { attempt.once_more().await.map_err(|e| attempt.is_left(e)) })
        });
        tokio::spawn(async move { self.until_given_back().await });
    }

    /// Gives the lock back; returns whether it was still held.
    async fn give_back(&self) -> Result<bool> {
        let client = &self.core.client;
        let mut terms = Terms::default();
        let ours = terms.is_owned(&self.owner);
        let (owner, end, value) = (terms.name(OWNER), terms.name(ENDS), terms.name(VALUE));
        let (ttl, token) = (terms.name(TTL), terms.name(TOKEN));
        let deleted = terms.value(number(self.core.deleted_at(client.time.latest())));
        // With this token the record refuses every request of this attempt that arrives later.
        let last = terms.value(number(self.last_token()));
        let update = format!("SET {ttl} = {deleted}, {token} = {last} REMOVE {owner}, {end}, {value}");
        // An item without a token was never a lock's record.
        let condition = format!("{ours} AND attribute_exists({token})");
        let give_back = || async {
            let asked = Asked::now(&client.time);
            let update = client
                .tables()
                .update_item()
                .table_name(&client.table)
                .set_key(Some(primary_key(&self.core.names.locks, self.name.as_str())))
                .update_expression(&update)
                .condition_expression(&condition)
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::UpdatedOld)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match update.send().await {
                Ok(answer) => Ok(Ok(answer.attributes().map(|item| asked.found(item)))),
                Err(e) => match e.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                        let found = failed.item().map(|item| asked.found(item));
                        self.is_anybodys(found.as_ref()).map_err(Failure::refused)?;
                        Ok(Err(found))
                    }
                    _ => Err(Failure::from(e)),
                },
            }
        };
        let answered =
            client.answer(RetrySafety::Repeatable, Lane::KeepAlive, self.deadline(), give_back).await?;
        self.core.waits.released(&self.name);
        // Whoever breaks a lock, or gets it later, leaves another token.
        let is_as_left = |found: &Found| found.owner.is_none() && found.token == Some(self.last_token());
        let was_held = match &answered.answer {
            Ok(found) => {
                self.seen(self.last_token());
                if let Some(is_alive) = found.as_ref().and_then(|found| found.is_alive(&client.time)) {
                    return Ok(is_alive);
                }
                true
            }
            Err(_) if !answered.is_repeat => return Ok(false),
            // An earlier attempt, whose answer was lost, gave the lock back.
            Err(found) => found.as_ref().is_some_and(is_as_left),
        };
        if was_held && self.is_held_for_certain() {
            // It was given back before the lock's end for certain.
            return Ok(true);
        }
        Err(unknown_whether("whether the lock was held until then is not known"))
    }

    /// Has the record refuse every request for the lock that may still be on its way, unless
    /// another holds the lock: their tokens are no higher than the one that the record has then.
    async fn refuse(&self) -> Result<()> {
        let (client, last) = (&self.core.client, self.last_token());
        let mut terms = Terms::default();
        let ours = terms.is_owned(&self.owner);
        let free = terms.is_free(client.time.earliest(), last_token(client.time.latest()));
        let below = terms.has_token_below(last.saturating_add(1));
        let (owner, end, value) = (terms.name(OWNER), terms.name(ENDS), terms.name(VALUE));
        let (ttl, token) = (terms.name(TTL), terms.name(TOKEN));
        let deleted = terms.value(number(self.core.deleted_at(client.time.latest())));
        let of = terms.value(number(last));
        let update = format!("SET {ttl} = {deleted}, {token} = {of} REMOVE {owner}, {end}, {value}");
        let condition = format!("(({ours} AND attribute_exists({token})) OR {free}) AND {below}");
        let record = (&*self.core.names.locks, self.name.as_str());
        let refuse = || client.change(record, &update, &condition, &terms);
        let answered =
            client.answer(RetrySafety::Repeatable, Lane::KeepAlive, self.deadline(), refuse).await?;
        match answered.answer {
            Changed::Done => {
                self.seen(last);
                self.core.waits.released(&self.name);
            }
            Changed::Hindered(found) => {
                let found = found.filter(|found| !self.is_ours(found));
                self.seen(found.and_then(|found| found.token).unwrap_or_default());
            }
        }
        Ok(())
    }

    async fn once_more(&self) -> Result<()> {
        if self.is_in_doubt() { self.refuse().await } else { self.give_back().await.map(drop) }
    }

    fn is_left(&self, error: Error) -> Error {
        let (name, ttl) = (&self.name, self.ttl);
        let why = format!("the lock {name:?} could not be given back; it ends by its TTL of {ttl:?}");
        Error::new(error.kind(), why).with_cause(error)
    }

    /// Tries until the lock is given back, or has ended by itself, and no request can get it that
    /// arrives late.
    async fn until_given_back(&self) {
        let (mut backoff, local) = (backoff(), self.core.client.time.local());
        let end = local.now() + self.ttl;
        while local.now() < end || self.is_in_doubt() {
            backoff.pause().await;
            match self.once_more().await {
                Ok(()) if !self.is_in_doubt() => return,
                Err(e) if e.kind() == ErrorKind::Closed => return,
                _ => {}
            }
        }
    }
}
