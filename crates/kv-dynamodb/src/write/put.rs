//! Puts and deletions of one key, and what they depend on, in one request.

use crate::{
    client::{
        clock::Millis,
        item::{
            ENDS, Found, Item, LEASE, RENEWAL, TTL, VALUE, VERSION, bytes, is_foreign, number, text,
            versioned,
        },
        terms::Terms,
    },
    error::Failure,
    lease::Lease,
    store::Inner,
    write::turns::{Turn, TurnOf},
};
use aws_sdk_dynamodb::{
    operation::{delete_item::DeleteItemError, put_item::PutItemError},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use kv_core::{
    Bytes, Deadline, Error, ErrorKind, Expect, Key, PutOptions, ReadOptions, Result, Version, WriteOptions,
    Written,
    backend::{Instant, Mutex, retry::RetrySafety},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Whether a write happened, or what hindered it.
#[derive(Debug)]
pub(crate) enum Wrote<T> {
    Done(T),
    /// The condition is not true of what was found.
    Refused(Option<Found>),
}

/// A put of which the service could have known for so long is told what is left of its TTL.
const SLOW: Duration = Duration::from_secs(1);

/// How long a key that is put lives.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) ttl: Option<Duration>,
    pub(crate) lease: Option<Arc<Lease>>,
    /// The lease's renewal by which the key ends, as it was sent last.
    by: AtomicU64,
}

impl Life {
    pub(crate) async fn of(inner: &Inner, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        let ttl = match (&inner.capabilities.ttl, options.ttl) {
            (Some(range), Some(ttl)) => Some(range.grant(ttl)?),
            _ => None,
        };
        let lease = options.lease.as_ref().map(|id| inner.shared.leases.get(id)).transpose()?;
        if ttl.is_some() {
            inner.fresh_time(deadline).await?;
        }
        Ok(Self { ttl, lease, by: AtomicU64::new(0) })
    }

    /// The attributes that say so, for a write that is sent now.
    fn attributes(&self, inner: &Inner) -> Result<Vec<(String, AttributeValue)>> {
        if let Some(lease) = &self.lease {
            let to = lease.ends()?;
            self.by.store(to.number, Ordering::Relaxed);
            let mut all = inner.ends(to.ends);
            all.push((LEASE.to_owned(), text(lease.id())));
            all.push((RENEWAL.to_owned(), number(to.number)));
            return Ok(all);
        }
        let ends = self.ttl.map(|ttl| inner.client.time.end_of(ttl));
        Ok(ends.map_or_else(Vec::new, |ends| inner.ends(ends)))
    }

    /// What is told of it after a write that was made then: what a put took longer than a second is no part of its life.
    pub(crate) fn granted(&self, inner: &Inner, made: Instant) -> Option<Duration> {
        let took = inner.client.time.local().now().since(made);
        self.ttl.map(|ttl| if took < SLOW { ttl } else { ttl.saturating_sub(took) })
    }

    /// After the write was acknowledged.
    pub(crate) async fn is_whole(&self, inner: &Inner, key: &Key, version: Version) -> Result<()> {
        match &self.lease {
            Some(lease) => lease.is_whole(inner, key, version, self.by.load(Ordering::Relaxed)).await,
            None => Ok(()),
        }
    }

    /// Before the write is sent.
    pub(crate) fn begin(&self, key: &Key) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.add(key))
    }
}

impl Inner {
    /// The attributes of something that ends: for us, and for the service, which deletes it later.
    pub(crate) fn ends(&self, ends: Millis) -> Vec<(String, AttributeValue)> {
        vec![(ENDS.to_owned(), number(ends)), (TTL.to_owned(), number(self.deleted_at(ends)))]
    }

    /// The second from which on the service may delete what ends then.
    pub(crate) fn deleted_at(&self, ends: Millis) -> u64 {
        ends.div_ceil(1000).saturating_add(self.slack.as_secs())
    }

    /// The item that puts the key.
    pub(crate) fn put_item(&self, key: &Key, value: &Bytes, version: Version, life: &Life) -> Result<Item> {
        let mut item = Self::key(&self.names.data, key.as_str());
        item.insert(VALUE.to_owned(), bytes(value.clone()));
        item.insert(VERSION.to_owned(), versioned(version));
        item.extend(life.attributes(self)?);
        Ok(item)
    }

    pub(crate) fn next_version(&self) -> Version {
        self.shared.versions.next(self.client.time.latest())
    }

    /// The value that another tool wrote and that was read at this version, if it still is there.
    pub(crate) async fn foreign_value(
        &self,
        key: &Key,
        at: Version,
        deadline: Deadline,
    ) -> Result<Option<Bytes>> {
        let read = ReadOptions::default().deadline(deadline);
        let found = self.item(&self.names.data, key.as_str(), &[], &read).await?;
        let found = self.living(key.as_str(), found)?;
        Ok(found.filter(|found| found.version() == Some(at)).and_then(|found| found.value))
    }
}

pub(crate) fn gone(deadline: Deadline) -> Error {
    let why =
        format!("others wrote the key again and again for {:?}; nothing was written", deadline.within());
    Error::new(ErrorKind::Timeout, why)
}

/// The clause of what is expected of a key.
async fn expected(
    inner: &Inner,
    terms: &mut Terms,
    key: &Key,
    expect: Expect,
    deadline: Deadline,
) -> Result<Option<String>> {
    let now = inner.client.time.earliest();
    Ok(match expect {
        Expect::Anything => None,
        Expect::Missing => Some(format!("NOT {}", terms.exists(now))),
        Expect::Version(at) if is_foreign(at) => match inner.foreign_value(key, at, deadline).await? {
            Some(value) => Some(terms.is_foreign(value, now)),
            // What no item is, so that the service tells what is there.
            None => Some(terms.is_at(at, now)),
        },
        Expect::Version(at) => {
            inner.shared.versions.seen(at, inner.client.time.latest());
            Some(terms.is_at(at, now))
        }
    })
}

pub(crate) async fn put(
    inner: &Inner,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let deadline = options.deadline;
    let life = Life::of(inner, options, deadline).await?;
    let turn = Turn::of(&inner.shared.turns, [(key, TurnOf::Puts)], deadline).await;
    loop {
        let mut terms = Terms::default();
        let mut clauses = Vec::from_iter(expected(inner, &mut terms, key, expect, deadline).await?);
        let version = inner.next_version();
        if !matches!(expect, Expect::Version(_)) {
            clauses.push(terms.is_older(version));
        }
        life.begin(key)?;
        // As long as it has to live, it lives from the attempt on that puts it.
        let made = Mutex::new(inner.client.time.local().now());
        let item = || {
            *made.lock() = inner.client.time.local().now();
            inner.put_item(key, &value, version, &life)
        };
        let wrote = match put_once(inner, item, &clauses.join(" AND "), &terms, deadline).await {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                settle(inner, key, version, deadline, e).await?
            }
            wrote => wrote?,
        };
        match wrote {
            Wrote::Done(()) => {
                drop(turn);
                let made = *made.lock();
                let granted = life.granted(inner, made);
                life.is_whole(inner, key, version).await?;
                return Ok(Written::new(version, granted));
            }
            Wrote::Refused(found) => {
                expect.check(inner.living(key.as_str(), found)?.and_then(|found| found.version()))?;
                // It has ended by now, or there was a newer version than ours.
                if deadline.has_passed() {
                    return Err(gone(deadline));
                }
            }
        }
    }
}

async fn put_once(
    inner: &Inner,
    item: impl Fn() -> Result<Item> + Sync,
    condition: &str,
    terms: &Terms,
    deadline: Deadline,
) -> Result<Wrote<()>> {
    let put = || async {
        let put = inner
            .client
            .tables
            .put_item()
            .table_name(&inner.client.table)
            .set_item(Some(item().map_err(Failure::refused)?))
            .condition_expression(condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Wrote::Done(())),
            Err(e) => match e.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Wrote::Refused(failed.item().map(Found::of)))
                }
                _ => Err(Failure::from(e)),
            },
        }
    };
    inner.client.call(RetrySafety::Write, deadline, put).await
}

/// After a put whose answer was lost: its version is nobody else's, so that one look can tell that it happened.
async fn settle(
    inner: &Inner,
    key: &Key,
    version: Version,
    deadline: Deadline,
    lost: Error,
) -> Result<Wrote<()>> {
    let read = ReadOptions::default().deadline(deadline);
    match inner.item(&inner.names.data, key.as_str(), &[VERSION], &read).await {
        Ok(Some(found)) if found.version == Some(version) => Ok(Wrote::Done(())),
        _ => Err(lost),
    }
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let deadline = options.deadline;
    let _turn = Turn::of(&inner.shared.turns, [(key, TurnOf::Deletes)], deadline).await;
    loop {
        let mut terms = Terms::default();
        let clause = expected(inner, &mut terms, key, expect, deadline).await?;
        let delete = || async {
            let delete = inner
                .client
                .tables
                .delete_item()
                .table_name(&inner.client.table)
                .set_key(Some(Inner::key(&inner.names.data, key.as_str())))
                .set_condition_expression(clause.clone())
                .set_expression_attribute_names(terms.names())
                .set_expression_attribute_values(terms.values())
                .return_values(ReturnValue::AllOld)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            match delete.send().await {
                Ok(answer) => Ok(Wrote::Done(answer.attributes().map(Found::of))),
                Err(e) => match e.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                        Ok(Wrote::Refused(failed.item().map(Found::of)))
                    }
                    _ => Err(Failure::from(e)),
                },
            }
        };
        match inner.client.call(RetrySafety::Write, deadline, delete).await? {
            Wrote::Done(found) => {
                // What was damaged is gone too, and was there.
                if let Some(version) = found.as_ref().and_then(|found| found.version) {
                    inner.shared.versions.seen(version, inner.client.time.latest());
                }
                return Ok(
                    found.is_some_and(|found| found.value.is_some() && !found.is_over(&inner.client.time))
                );
            }
            Wrote::Refused(found) => {
                expect.check(inner.living(key.as_str(), found)?.and_then(|found| found.version()))?;
                if deadline.has_passed() {
                    return Err(gone(deadline));
                }
            }
        }
    }
}
