//! Sends transactions: writes of several keys, and their conditions, in one request.

use crate::{
    client::{
        Lane,
        cancelled::hindered,
        clock::Millis,
        item::{Asked, Found, is_foreign, primary_key},
        terms::Terms,
        unique_id,
    },
    core::Core,
    error::{Failure, code, corrupt, outpaced, unknown_whether},
    list::read::fresh_time,
    write::{
        life::{Life, put_item},
        precondition::foreign_value,
        turns::{Turn, TurnOf},
    },
};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use kv_core::{
    Bytes, Condition, ErrorKind, Result, Version, Written,
    backend::{
        Instant, Mutex,
        retry::{Answered, Effect, RetrySafety},
    },
    driver::{Deadline, Decision, Transaction, Write, WriteOptions},
};
use std::{collections::HashMap, time::Duration};

/// The time within which a transaction is repeated: the service knows a repeat by its token, which
/// it remembers for ten minutes.
const REPEATABLE: Duration = Duration::from_secs(5 * 60);
const TOO_OLD: &str =
    "DynamoDB: no answer to the transaction within five minutes, after which a repeat may not be known";

/// The part of a transaction that concerns one item: the service allows one action on each item.
#[derive(Default)]
struct Action {
    /// Holds the indexes of the transaction's conditions on this item.
    conditions: Vec<usize>,
    write: Option<usize>,
}

/// The end of a transaction on the service.
enum Ended {
    Done,
    /// Holds, for each action whose condition was not true, the item that the service found.
    Cancelled(Vec<Option<Option<Found>>>),
}

/// A transaction, by items.
struct Plan<'a> {
    core: &'a Core,
    transaction: &'a Transaction,
    places: Vec<(&'a str, &'a str)>,
    actions: Vec<Action>,
    lives: Vec<Option<Life>>,
    /// The foreign values that conditions speak of, by the index of the condition.
    foreign: HashMap<usize, Bytes>,
}

impl<'a> Plan<'a> {
    async fn new(core: &'a Core, transaction: &'a Transaction, deadline: Deadline) -> Result<Self> {
        let mut plan = Self {
            core,
            transaction,
            places: Vec::new(),
            actions: Vec::new(),
            lives: Vec::new(),
            foreign: HashMap::new(),
        };
        if !transaction.conditions.is_empty() {
            fresh_time(core, deadline).await?;
        }
        for (n, condition) in transaction.conditions.iter().enumerate() {
            let (partition, key) = match condition {
                Condition::Held(fence) => (&core.names.locks, fence.lock()),
                Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => {
                    (&core.names.data, key)
                }
            };
            if let Condition::Version(key, at) = condition {
                core.shared.versions.seen(*at, core.client.time.latest());
                if is_foreign(*at)
                    && let Some(value) = foreign_value(core, key, *at, deadline).await?
                {
                    plan.foreign.insert(n, value);
                }
            }
            plan.action(partition, key.as_str()).conditions.push(n);
        }
        for (n, write) in transaction.writes.iter().enumerate() {
            plan.action(&core.names.data, write.key().as_str()).write = Some(n);
            plan.lives.push(match write {
                Write::Put { options, .. } => Some(Life::of(core, options, deadline).await?),
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
                format!("({} AND {})", terms.is_owned(&owner), terms.is_held(now))
            }
        }
    }

    /// Returns the item that the service found for this condition, unless it has ended; an error
    /// if it is damaged.
    fn there(&self, n: usize, found: Option<&Found>) -> Result<Option<Found>> {
        match &self.transaction.conditions[n] {
            Condition::Held(fence) => self.core.holding(fence.lock().as_str(), found.cloned()),
            Condition::Exists(key) | Condition::Missing(key) | Condition::Version(key, _) => {
                self.core.living(key.as_str(), found.cloned())
            }
        }
    }

    fn is_true(&self, n: usize, found: Option<&Found>) -> Result<bool> {
        let found = self.there(n, found)?;
        Ok(match &self.transaction.conditions[n] {
            Condition::Exists(_) => found.is_some_and(|found| found.value.is_some()),
            Condition::Missing(_) => found.is_none_or(|found| found.value.is_none()),
            Condition::Version(_, at) => found.is_some_and(|found| found.version() == Some(*at)),
            Condition::Held(fence) => {
                found.is_some_and(|found| found.owner.as_deref().map(str::as_bytes) == Some(fence.proof()))
            }
        })
    }

    /// Returns the actions of the request; each put has its version.
    fn items(&self, versions: &[Option<Version>]) -> Result<Vec<TransactWriteItem>> {
        let now = self.core.client.time.earliest();
        let table = &self.core.client.table;
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
                            .set_item(Some(put_item(self.core, key, value, version, life)?))
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
                            .set_key(Some(primary_key(partition, key)))
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
                            .set_key(Some(primary_key(partition, key)))
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

    /// Sends the transaction; returns how it ended, when it was made, and whether an earlier
    /// attempt may still be done.
    async fn send(&self, versions: &[Option<Version>], deadline: Deadline) -> Result<(Ended, Instant, bool)> {
        let client = &self.core.client;
        // This is the request of an attempt that may have taken effect, for the repeat.
        let sent = Mutex::new(None::<Sent>);
        let kept = || sent.lock();
        let send = || async {
            let before = kept().clone();
            let is_repeat = before.is_some();
            let this = match before {
                Some(before) if client.time.local().now().since(before.made) > REPEATABLE => {
                    return Err(Failure::new(Effect::Refused, ErrorKind::Timeout, TOO_OLD));
                }
                Some(before) => before,
                None => Sent {
                    items: self.items(versions).map_err(Failure::refused)?,
                    // The service knows a repeat by this token, for ten minutes.
                    token: unique_id(),
                    made: client.time.local().now(),
                },
            };
            *kept() = Some(this.clone());
            let asked = Asked::now(&client.time);
            let transact = client
                .tables()
                .transact_write_items()
                .set_transact_items(Some(this.items))
                .client_request_token(&this.token);
            let ended = match transact.send().await {
                Ok(_) => Ok(Ended::Done),
                Err(e) => match e.as_service_error() {
                    Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                        let reasons = cancelled.cancellation_reasons();
                        hindered(reasons, self.actions.len(), asked).map(Ended::Cancelled)
                    }
                    _ if code(&e) == Some("IdempotentParameterMismatchException") => Err(Failure::new(
                        Effect::Refused,
                        ErrorKind::Other,
                        "the service took our token for another's",
                    )),
                    _ => Err(Failure::from(e)),
                },
            };
            // A request that took no effect is made anew, so that the TTLs of its keys count from
            // the attempt that puts them.
            if !is_repeat && matches!(&ended, Err(failed) if failed.effect != Effect::Unknown) {
                *kept() = None;
            }
            Ok((ended?, this.made))
        };
        let answered = client.answer(RetrySafety::Repeatable, Lane::Calls, deadline, send).await?;
        let Answered { answer: (ended, made), is_repeat } = answered;
        Ok((ended, made, is_repeat))
    }
}

/// A transaction as it was sent.
#[derive(Clone)]
struct Sent {
    items: Vec<TransactWriteItem>,
    token: String,
    made: Instant,
}

/// Does [`Store::transact`](kv_core::driver::Store::transact).
pub(crate) async fn transact(
    core: &Core,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let deadline = options.deadline;
    let plan = Plan::new(core, &transaction, deadline).await?;
    if plan.actions.is_empty() {
        return Ok(Decision::Committed(Vec::new()));
    }
    let writes = transaction.writes.iter().map(|write| match write {
        Write::Put { key, .. } => (key, TurnOf::Puts),
        Write::Delete { .. } => (write.key(), TurnOf::Deletes),
    });
    let turn = Turn::of(&core.shared.turns, writes, deadline).await;
    loop {
        let versions: Vec<_> =
            plan.lives.iter().map(|life| life.as_ref().map(|_| core.next_version())).collect();
        for (life, write) in plan.lives.iter().zip(&transaction.writes) {
            life.as_ref().map_or(Ok(()), |life| life.begin(write.key()))?;
        }
        let (ended, made, is_repeat) = plan.send(&versions, deadline).await?;
        let (is_done, hindered) = match ended {
            Ended::Done => (true, Vec::new()),
            Ended::Cancelled(hindered) => (false, hindered),
        };
        let ours = plan.actions.iter().zip(&hindered).any(|(action, found)| {
            let put = action.write.and_then(|n| versions[n]);
            put.is_some() && found.as_ref().and_then(|found| found.as_ref()?.version) == put
        });
        if is_done || ours {
            drop(turn);
            let mut written = Vec::with_capacity(versions.len());
            for ((life, version), write) in plan.lives.iter().zip(versions).zip(&transaction.writes) {
                if let Some((life, version)) = life.as_ref().zip(version) {
                    life.is_whole(core, write.key(), version).await?;
                }
                let ttl = life.as_ref().and_then(|life| life.granted(core, made));
                written.push(version.map(|version| Written::new(version, ttl)));
            }
            return Ok(Decision::Committed(written));
        }
        if is_repeat {
            let why = "a repeat of the transaction was cancelled, and its first request, whose answer was lost, may still be \
                       done: read before writing again";
            return Err(unknown_whether(why));
        }
        let action_of = |n: usize| plan.actions.iter().position(|action| action.conditions.contains(&n));
        for n in 0..transaction.conditions.len() {
            let found = action_of(n).and_then(|at| hindered.get(at)).and_then(Option::as_ref);
            if let Some(found) = found
                && !plan.is_true(n, found.as_ref())?
            {
                return Ok(Decision::Refused { condition: n });
            }
        }
        // A damaged item lets no put of its key through.
        for ((action, (_, key)), found) in plan.actions.iter().zip(&plan.places).zip(hindered) {
            if action.write.is_some() {
                core.living(key, found.flatten())?;
            }
        }
        // An item has ended by now, or its version was newer than the one of this write.
        if deadline.has_passed() {
            return Err(outpaced("wrote the keys", deadline));
        }
    }
}
