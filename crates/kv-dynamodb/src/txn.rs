//! Writes, and what they depend on, in one request.

use crate::{
    client::{Does, corrupt},
    clock::Millis,
    error::{Failed, Fate, code},
    item::{
        ENDS, Found, Item, LEASE, TTL, Terms, VALUE, VERSION, Versions, bytes, is_foreign, number, text,
        unique, versioned,
    },
    lease::Lease,
    store::Inner,
    turns::{self, Turn},
};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem,
};
use kv_core::*;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Whether a write happened, or what hindered it.
#[derive(Debug)]
pub(crate) enum Wrote<T> {
    Done(T),
    /// The condition is not true of what was found.
    Refused(Option<Found>),
}

/// How long a key that is put lives.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    ttl: Option<Duration>,
    lease: Option<Arc<Lease>>,
}

impl Life {
    pub(crate) async fn of(inner: &Inner, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        let ttl = match (&inner.capabilities.ttl, options.ttl) {
            (Some(range), Some(ttl)) => Some(range.grant(ttl)?),
            _ => None,
        };
        let lease = options.lease.as_ref().map(|id| inner.leases.get(id)).transpose()?;
        if ttl.is_some() {
            inner.fresh_time(deadline).await?;
        }
        Ok(Self { ttl, lease })
    }

    /// The attributes that say so, for a write that is sent now.
    fn attributes(&self, inner: &Inner) -> Result<Vec<(String, aws_sdk_dynamodb::types::AttributeValue)>> {
        let ends = match (&self.lease, self.ttl) {
            (Some(lease), _) => Some(lease.ends()?),
            (None, Some(ttl)) => Some(inner.client.time.end_of(ttl)),
            (None, None) => None,
        };
        let mut all = ends.map_or_else(Vec::new, |ends| inner.ends(ends));
        all.extend(self.lease.as_ref().map(|lease| (LEASE.to_owned(), text(lease.id()))));
        Ok(all)
    }

    /// Before the write is sent.
    fn begin(&self, key: &Key) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.add(key))
    }
}

impl Inner {
    /// The attributes of something that ends: for us, and for the service, which deletes it later.
    pub(crate) fn ends(&self, ends: Millis) -> Vec<(String, aws_sdk_dynamodb::types::AttributeValue)> {
        vec![(ENDS.to_owned(), number(ends)), (TTL.to_owned(), number(self.deleted_at(ends)))]
    }

    /// The second from which on the service may delete what ends then.
    pub(crate) fn deleted_at(&self, ends: Millis) -> u64 {
        ends.div_ceil(1000).saturating_add(self.slack.as_secs())
    }

    /// The item that puts the key.
    fn put_item(&self, key: &Key, value: &Bytes, version: Version, life: &Life) -> Result<Item> {
        let mut item = Self::key(&self.names.data, key.as_str());
        item.insert(VALUE.to_owned(), bytes(value.clone()));
        item.insert(VERSION.to_owned(), versioned(version));
        item.extend(life.attributes(self)?);
        Ok(item)
    }

    fn next_version(&self) -> Version {
        Versions::next(self.client.time.latest())
    }

    /// The value that another tool wrote and that was read at this version, if it still is there.
    async fn foreign_value(&self, key: &Key, at: Version, deadline: Deadline) -> Result<Option<Bytes>> {
        let read = ReadOptions::default().deadline(deadline);
        let found = self.living(self.item(&self.names.data, key.as_str(), &[], &read).await?);
        Ok(found.filter(|found| found.version() == Some(at)).and_then(|found| found.value))
    }
}

fn gone(deadline: Deadline) -> Error {
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
            Versions::seen(at);
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
    let turn = Turn::of(&inner.names.data, [(key, turns::Does::Puts)], deadline).await;
    loop {
        let mut terms = Terms::default();
        let mut clauses = Vec::from_iter(expected(inner, &mut terms, key, expect, deadline).await?);
        let version = inner.next_version();
        if !matches!(expect, Expect::Version(_)) {
            clauses.push(terms.is_older(version));
        }
        life.begin(key)?;
        let item = inner.put_item(key, &value, version, &life)?;
        let wrote = match put_once(inner, item, &clauses.join(" AND "), &terms, deadline).await {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                settle(inner, key, version, deadline, e).await?
            }
            wrote => wrote?,
        };
        match wrote {
            Wrote::Done(()) => {
                drop(turn);
                if let Some(lease) = &life.lease {
                    lease.is_whole(inner, key, version).await?;
                }
                return Ok(Written::new(version, life.ttl));
            }
            Wrote::Refused(found) => {
                expect.check(inner.living(found).and_then(|found| found.version()))?;
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
    item: Item,
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
            .set_item(Some(item.clone()))
            .condition_expression(condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Wrote::Done(())),
            Err(e) => match e.as_service_error().and_then(|e| match e {
                aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(e) => {
                    Some(e)
                }
                _ => None,
            }) {
                Some(failed) => Ok(Wrote::Refused(failed.item().map(Found::of))),
                None => Err(Failed::from(e)),
            },
        }
    };
    inner.client.call(Does::Write, deadline, put).await
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
    let _turn = Turn::of(&inner.names.data, [(key, turns::Does::Deletes)], deadline).await;
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
                Err(e) => match e.as_service_error().and_then(|e| match e {
                    aws_sdk_dynamodb::operation::delete_item::DeleteItemError::ConditionalCheckFailedException(e) => {
                        Some(e)
                    }
                    _ => None,
                }) {
                    Some(failed) => Ok(Wrote::Refused(failed.item().map(Found::of))),
                    None => Err(Failed::from(e)),
                },
            }
        };
        match inner.client.call(Does::Write, deadline, delete).await? {
            Wrote::Done(found) => return Ok(inner.living(found).is_some_and(|found| found.value.is_some())),
            Wrote::Refused(found) => {
                expect.check(inner.living(found).and_then(|found| found.version()))?;
                if deadline.has_passed() {
                    return Err(gone(deadline));
                }
            }
        }
    }
}

/// What a transaction does with one item: the service allows one action on each.
#[derive(Default)]
struct Action {
    /// Where the conditions on it are in the transaction.
    conditions: Vec<usize>,
    write: Option<usize>,
}

/// How a transaction ended on the service.
enum Ended {
    Done,
    /// What hindered it, by action.
    Cancelled(Vec<Option<Option<Found>>>),
}

/// A transaction, by items.
struct Plan<'a> {
    inner: &'a Inner,
    transaction: &'a Transaction,
    places: Vec<(&'a str, &'a str)>,
    actions: Vec<Action>,
    lives: Vec<Option<Life>>,
    /// Values of other tools that conditions speak of.
    foreign: HashMap<usize, Bytes>,
}

impl<'a> Plan<'a> {
    async fn new(inner: &'a Inner, transaction: &'a Transaction, deadline: Deadline) -> Result<Self> {
        let mut plan = Self {
            inner,
            transaction,
            places: Vec::new(),
            actions: Vec::new(),
            lives: Vec::new(),
            foreign: HashMap::new(),
        };
        for (n, condition) in transaction.conditions.iter().enumerate() {
            let (partition, key) = match condition {
                Condition::Held(fence) => (&inner.names.locks, fence.lock()),
                Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => {
                    (&inner.names.data, key)
                }
            };
            if let Condition::Version(key, at) = condition {
                Versions::seen(*at);
                if is_foreign(*at)
                    && let Some(value) = inner.foreign_value(key, *at, deadline).await?
                {
                    plan.foreign.insert(n, value);
                }
            }
            plan.action(partition, key.as_str()).conditions.push(n);
        }
        for (n, write) in transaction.writes.iter().enumerate() {
            plan.action(&inner.names.data, write.key().as_str()).write = Some(n);
            plan.lives.push(match write {
                Write::Put { options, .. } => Some(Life::of(inner, options, deadline).await?),
                Write::Delete { .. } => None,
            });
        }
        Ok(plan)
    }

    fn action(&mut self, partition: &'a str, key: &'a str) -> &mut Action {
        let at = self.places.iter().position(|place| *place == (partition, key)).unwrap_or_else(|| {
            self.places.push((partition, key));
            self.actions.push(Action::default());
            self.places.len() - 1
        });
        &mut self.actions[at]
    }

    fn clause(&self, terms: &mut Terms, n: usize, now: Millis) -> String {
        match &self.transaction.conditions[n] {
            Condition::Exists(_) => terms.exists(now),
            Condition::Missing(_) => format!("NOT {}", terms.exists(now)),
            Condition::Version(_, at) => match self.foreign.get(&n) {
                Some(value) => terms.is_foreign(value.clone(), now),
                None => terms.is_at(*at, now),
            },
            Condition::Held(fence) => {
                let owner = String::from_utf8_lossy(fence.proof()).into_owned();
                format!("({} AND {})", terms.is_owned(&owner), terms.lives(now))
            }
        }
    }

    fn is_true(&self, n: usize, found: Option<&Found>) -> bool {
        let found = self.inner.living(found.cloned());
        match &self.transaction.conditions[n] {
            Condition::Exists(_) => found.is_some_and(|found| found.value.is_some()),
            Condition::Missing(_) => found.is_none_or(|found| found.value.is_none()),
            Condition::Version(_, at) => found.is_some_and(|found| found.version() == Some(*at)),
            Condition::Held(fence) => {
                found.is_some_and(|found| found.owner.as_deref().map(str::as_bytes) == Some(fence.proof()))
            }
        }
    }

    /// The actions, in which each put has its version.
    fn items(&self, versions: &[Option<Version>]) -> Result<Vec<TransactWriteItem>> {
        let now = self.inner.client.time.earliest();
        let table = &self.inner.client.table;
        let odd = |_| corrupt("the SDK refused a transaction");
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        let mut items = Vec::with_capacity(self.actions.len());
        for (action, (partition, key)) in self.actions.iter().zip(&self.places) {
            let mut terms = Terms::default();
            let mut clauses: Vec<_> =
                action.conditions.iter().map(|n| self.clause(&mut terms, *n, now)).collect();
            let write = action.write.map(|n| (&self.transaction.writes[n], versions[n], &self.lives[n]));
            if let Some((Write::Put { .. }, Some(version), _)) = write {
                clauses.push(terms.is_older(version));
            }
            let condition = (!clauses.is_empty()).then(|| clauses.join(" AND "));
            let item = TransactWriteItem::builder();
            items.push(
                match write {
                    Some((Write::Put { key, value, .. }, Some(version), Some(life))) => item.put(
                        Put::builder()
                            .table_name(table)
                            .set_item(Some(self.inner.put_item(key, value, version, life)?))
                            .set_condition_expression(condition)
                            .set_expression_attribute_names(terms.names())
                            .set_expression_attribute_values(terms.values())
                            .return_values_on_condition_check_failure(old.clone())
                            .build()
                            .map_err(odd)?,
                    ),
                    Some(_) => item.delete(
                        Delete::builder()
                            .table_name(table)
                            .set_key(Some(Inner::key(partition, key)))
                            .set_condition_expression(condition)
                            .set_expression_attribute_names(terms.names())
                            .set_expression_attribute_values(terms.values())
                            .return_values_on_condition_check_failure(old.clone())
                            .build()
                            .map_err(odd)?,
                    ),
                    None => item.condition_check(
                        ConditionCheck::builder()
                            .table_name(table)
                            .set_key(Some(Inner::key(partition, key)))
                            .set_condition_expression(condition)
                            .set_expression_attribute_names(terms.names())
                            .set_expression_attribute_values(terms.values())
                            .return_values_on_condition_check_failure(old.clone())
                            .build()
                            .map_err(odd)?,
                    ),
                }
                .build(),
            );
        }
        Ok(items)
    }

    async fn send(&self, items: Vec<TransactWriteItem>, deadline: Deadline) -> Result<Ended> {
        // By it the service knows a repeat, for ten minutes.
        let token = format!("{:016x}{:016x}", unique(), unique());
        let client = &self.inner.client;
        let send = || async {
            let transact = client
                .tables
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(&token);
            match transact.send().await {
                Ok(_) => Ok(Ended::Done),
                Err(e) => match e.as_service_error() {
                    Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                        let reasons = cancelled.cancellation_reasons();
                        hindered(reasons).map(Ended::Cancelled)
                    }
                    _ if code(&e) == Some("IdempotentParameterMismatchException") => Err(Failed::new(
                        Fate::Refused,
                        ErrorKind::Other,
                        "the service took our token for another's",
                    )),
                    _ => Err(Failed::from(e)),
                },
            }
        };
        client.call(Does::Repeatable, deadline, send).await
    }
}

/// What was found where a condition was not true; an error where something else hindered the transaction.
pub(crate) fn hindered(reasons: &[CancellationReason]) -> Result<Vec<Option<Option<Found>>>, Failed> {
    let mut found = Vec::with_capacity(reasons.len());
    for reason in reasons {
        let said = reason.message().unwrap_or_default();
        let failed = |fate, kind, why: &str| Err(Failed::new(fate, kind, format!("DynamoDB: {why}: {said}")));
        match reason.code() {
            None | Some("None") => found.push(None),
            Some("ConditionalCheckFailed") => found.push(Some(reason.item().map(Found::of))),
            Some("TransactionConflict") => {
                return failed(
                    Fate::Undone,
                    ErrorKind::Unavailable,
                    "another transaction is at work on a key",
                );
            }
            Some("ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded") => {
                return failed(
                    Fate::Throttled,
                    ErrorKind::Unavailable,
                    "more is asked of the table than it takes",
                );
            }
            Some("ItemCollectionSizeLimitExceeded") => {
                return failed(Fate::Refused, ErrorKind::TooLarge, "more than the service takes");
            }
            Some("ValidationError") if said.contains("size") => {
                return failed(Fate::Refused, ErrorKind::TooLarge, "more than the service takes");
            }
            Some(code) => return failed(Fate::Refused, ErrorKind::Other, code),
        }
    }
    Ok(found)
}

pub(crate) async fn transact(
    inner: &Inner,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Outcome> {
    let deadline = options.deadline;
    let plan = Plan::new(inner, &transaction, deadline).await?;
    if plan.actions.is_empty() {
        return Ok(Outcome::Committed(Vec::new()));
    }
    let writes = transaction.writes.iter().map(|write| match write {
        Write::Put { key, .. } => (key, turns::Does::Puts),
        Write::Delete { .. } => (write.key(), turns::Does::Deletes),
    });
    let turn = Turn::of(&inner.names.data, writes, deadline).await;
    loop {
        let versions: Vec<_> =
            plan.lives.iter().map(|life| life.as_ref().map(|_| inner.next_version())).collect();
        for (life, write) in plan.lives.iter().zip(&transaction.writes) {
            life.as_ref().map_or(Ok(()), |life| life.begin(write.key()))?;
        }
        let ended = plan.send(plan.items(&versions)?, deadline).await?;
        let hindered = match ended {
            Ended::Done => Vec::new(),
            Ended::Cancelled(hindered) => hindered,
        };
        let ours = plan.actions.iter().zip(&hindered).any(|(action, found)| {
            let put = action.write.and_then(|n| versions[n]);
            put.is_some() && found.as_ref().and_then(|found| found.as_ref()?.version) == put
        });
        if hindered.is_empty() || ours {
            drop(turn);
            let mut written = Vec::with_capacity(versions.len());
            for ((life, version), write) in plan.lives.iter().zip(versions).zip(&transaction.writes) {
                if let Some((Life { lease: Some(lease), .. }, version)) = life.as_ref().zip(version) {
                    lease.is_whole(inner, write.key(), version).await?;
                }
                let ttl = life.as_ref().and_then(|life| life.ttl);
                written.push(version.map(|version| Written::new(version, ttl)));
            }
            return Ok(Outcome::Committed(written));
        }
        let action_of = |n: usize| plan.actions.iter().position(|action| action.conditions.contains(&n));
        let not_true = (0..transaction.conditions.len()).find(|n| {
            let found = action_of(*n).and_then(|at| hindered.get(at)).and_then(Option::as_ref);
            found.is_some_and(|found| !plan.is_true(*n, found.as_ref()))
        });
        if let Some(condition) = not_true {
            return Ok(Outcome::Refused { condition });
        }
        // Something has ended by now, or there was a newer version than ours.
        if deadline.has_passed() {
            return Err(gone(deadline));
        }
    }
}
