//! Locks: a record each, whose owner holds it until its end.
//!
//! The record stays after a release, because it holds the token; a day later, unless it is taken again, the service
//! deletes it. A record that is made anew begins its tokens at the service's time in milliseconds, which is above all that
//! were given out before: no lock is taken once a millisecond for a day.

use crate::{
    client::{Backoff, Client, Does, corrupt},
    clock::Millis,
    error::Failed,
    item::{ENDS, Found, OWNER, TOKEN, TTL, Terms, VALUE, bytes, number, text, unique},
    lease::prolong,
    store::{Inner, read_many},
};
use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{
    backend::{Alive, Undo},
    *,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedMutexGuard},
    task::AbortHandle,
};

/// How often the records of all locks that this store waits for are looked at, in one request a hundred.
const POLL: Duration = Duration::from_millis(250);
/// How many times in a row a lock is handed on within this store before others have a whole round of polls to come first.
const IN_A_ROW: u32 = 8;

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
    Got { token: u64, since: backend::Instant },
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
            Asked::Got { token, since } => Ok(Some(attempt.held(token, since))),
            Asked::Held(_) => Ok(None),
        };
    }
    // Those of one store stand in line here; only the first of them asks the service.
    let (turn, wait) = inner.waits.turn(name).await;
    loop {
        match attempt.clone().ask().await? {
            Asked::Got { token, since } => {
                drop(turn);
                return Ok(Some(attempt.held(token, since)));
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
            let asked = attempt.enter().await;
            let maybe_held = !matches!(&asked, Ok(Asked::Held(_)))
                && !matches!(&asked, Err(e) if e.kind() != ErrorKind::OutcomeUnknown);
            let unknown = asked.is_err();
            let abandoned = answer.send(asked).is_err();
            if maybe_held && (abandoned || unknown) {
                // What cannot be given back ends by its TTL.
                let _ = attempt.give_back(None).await;
            }
        });
        match answered.await {
            Ok(asked) => asked,
            Err(_) => Err(Error::new(ErrorKind::Closed, "the store was closed")),
        }
    }

    async fn enter(&self) -> Result<Asked> {
        self.inner.fresh_time(self.deadline()).await?;
        let (client, time) = (&self.inner.client, &self.inner.client.time);
        let enter = || async {
            let (since, now, ends) = (time.local().now(), time.earliest(), time.end_of(self.ttl));
            let mut terms = Terms::default();
            let (owner, end) = (terms.name(OWNER), terms.name(ENDS));
            let (ttl, value, token) = (terms.name(TTL), terms.name(VALUE), terms.name(TOKEN));
            let condition =
                format!("attribute_not_exists({owner}) OR {end} <= {}", terms.value(number(now)));
            let set = [
                (owner, text(&self.owner)),
                (end, number(ends)),
                (ttl, number(self.inner.deleted_at(ends))),
                (value, bytes(self.value.clone())),
            ];
            let set: Vec<_> = set.into_iter().map(|(name, v)| format!("{name} = {}", terms.value(v))).collect();
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
            return Ok(Asked::Got { token: token()?, since });
        }
        if found.owner.as_deref() == Some(&self.owner) {
            // An earlier request, whose answer was lost; it was not sent before this.
            return Ok(Asked::Got { token: token()?, since: began });
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

/// The locks that this store waits for, and what is known of them.
pub(crate) struct Waits(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    partition: String,
    lines: Mutex<HashMap<Key, Weak<Line>>>,
    poller: Mutex<Option<AbortHandle>>,
}

/// Those who wait for one lock.
#[derive(Default)]
struct Line {
    /// Whose turn it is to ask the service.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Asks again now.
    free: Notify,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    /// Whether the first in line looks at what the polls find.
    waits: bool,
    handed_on: u32,
}

/// The first in line.
pub(crate) struct Wait {
    line: Arc<Line>,
    shared: Arc<Shared>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Weak<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines whose first waits.
    fn waiting(&self) -> Vec<(Key, Arc<Line>)> {
        let lines = self.lines();
        let lines = lines.iter().filter_map(|(name, line)| Some((name.clone(), line.upgrade()?)));
        lines.filter(|(_, line)| line.state().waits).collect()
    }

    /// Looks at the records as long as somebody waits.
    async fn poll(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        loop {
            tokio::time::sleep(POLL - POLL / 8 + Duration::from_millis(unique() % 64)).await;
            let waiting = self.waiting();
            if waiting.is_empty() {
                let mut poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner);
                // Who began to wait meanwhile has seen this poller.
                if self.waiting().is_empty() {
                    *poller = None;
                    return;
                }
                continue;
            }
            let names = waiting.iter().map(|(name, _)| name.as_str());
            // From the past will do: who asks is told the truth.
            let found = read_many(&self.client, &self.partition, names, false, Deadline::default()).await;
            let Ok(found) = found else {
                backoff.pause().await;
                continue;
            };
            backoff.reset();
            for (name, line) in waiting {
                let held = found.get(name.as_str()).is_some_and(|record| {
                    let over = record.ends.is_some_and(|end| self.client.time.is_over(end));
                    record.owner.is_some() && !over
                });
                if !held {
                    line.free.notify_one();
                }
            }
        }
    }
}

impl Waits {
    pub(crate) fn new(client: Arc<Client>, partition: String) -> Self {
        Self(Arc::new(Shared { client, partition, lines: Mutex::default(), poller: Mutex::default() }))
    }

    /// Waits in line behind the others of this store.
    async fn turn(&self, name: &Key) -> (OwnedMutexGuard<()>, Wait) {
        let line = {
            let mut lines = self.0.lines();
            lines.retain(|_, line| line.strong_count() > 0);
            let there = lines.get(name).and_then(Weak::upgrade);
            there.unwrap_or_else(|| {
                let line = Arc::<Line>::default();
                lines.insert(name.clone(), Arc::downgrade(&line));
                line
            })
        };
        let wait = Wait { line, shared: self.0.clone() };
        (wait.line.turn.clone().lock_owned().await, wait)
    }

    /// A lock of this store was given back: who waits for it here need not wait for the next poll; but now and then, so
    /// that other clients have a chance.
    fn released(&self, name: &Key) {
        let Some(line) = self.0.lines().get(name).and_then(Weak::upgrade) else { return };
        let mut state = line.state();
        state.handed_on += 1;
        if !state.handed_on.is_multiple_of(IN_A_ROW) {
            line.free.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        if let Some(poller) = self.0.poller.lock().unwrap_or_else(PoisonError::into_inner).take() {
            poller.abort();
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.close();
    }
}

impl Wait {
    /// Ready when the lock may be free. Cancel safe.
    async fn free(&self, ends: Option<Millis>) {
        let watched = Watched::new(self);
        let time = &self.shared.client.time;
        // A holder that was killed gives no notice.
        let over = async {
            match ends {
                Some(ends) => loop {
                    match time.until(ends) {
                        Duration::ZERO => return,
                        left => time.local().sleep(left).await,
                    }
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.line.free.notified() => {}
            () = over => {}
        }
        drop(watched);
    }
}

/// Has the polls look at a lock as long as it lives.
struct Watched<'a>(&'a Line);

impl<'a> Watched<'a> {
    fn new(wait: &'a Wait) -> Self {
        wait.line.state().waits = true;
        let mut poller = wait.shared.poller.lock().unwrap_or_else(PoisonError::into_inner);
        if poller.as_ref().is_none_or(AbortHandle::is_finished) {
            *poller = Some(tokio::spawn(wait.shared.clone().poll()).abort_handle());
        }
        Self(&wait.line)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.state().waits = false;
    }
}
