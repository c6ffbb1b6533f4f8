//! Puts one key, if its precondition is true, in one request.

use crate::{
    client::{
        item::{Asked, Item, VERSION},
        terms::Terms,
    },
    core::Core,
    error::{Failure, outpaced},
    list::read::read_item,
    write::{
        life::{Life, put_item},
        precondition::{Wrote, expected},
        turns::{Turn, TurnOf},
    },
};
use aws_sdk_dynamodb::{operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure};
use kv_core::{
    Bytes, Error, ErrorKind, Key, Result, Version, Written,
    backend::{Mutex, retry::RetrySafety},
    driver::{Deadline, Expect, PutOptions, ReadOptions},
};

/// Does [`Store::put`](kv_core::driver::Store::put).
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let deadline = options.deadline;
    let life = Life::of(core, options, deadline).await?;
    let turn = Turn::of(&core.shared.turns, [(key, TurnOf::Puts)], deadline).await;
    loop {
        let mut terms = Terms::default();
        let mut clauses = Vec::from_iter(expected(core, &mut terms, key, expect, deadline).await?);
        let version = core.next_version();
        if !matches!(expect, Expect::Version(_)) {
            clauses.push(terms.is_older(version));
        }
        life.begin(key)?;
        // The TTL counts from the attempt that puts the key, so that the key has all of it.
        let made = Mutex::new(core.client.time.local().now());
        let item = || {
            *made.lock() = core.client.time.local().now();
            put_item(core, key, &value, version, &life)
        };
        let wrote = match put_once(core, item, &clauses.join(" AND "), &terms, deadline).await {
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                settle(core, key, version, deadline, e).await?
            }
            wrote => wrote?,
        };
        match wrote {
            Wrote::Done(()) => {
                drop(turn);
                let made = *made.lock();
                let granted = life.granted(core, made);
                life.is_whole(core, key, version).await?;
                return Ok(Written::new(version, granted));
            }
            Wrote::Refused(found) => {
                expect.check(core.living(key.as_str(), found)?.and_then(|found| found.version()))?;
                // The item has ended by now, or its version was newer than the one of this put.
                if deadline.has_passed() {
                    return Err(outpaced("wrote the key", deadline));
                }
            }
        }
    }
}

async fn put_once(
    core: &Core,
    item: impl Fn() -> Result<Item> + Sync,
    condition: &str,
    terms: &Terms,
    deadline: Deadline,
) -> Result<Wrote<()>> {
    let put = || async {
        let asked = Asked::now(&core.client.time);
        let put = core
            .client
            .tables()
            .put_item()
            .table_name(&core.client.table)
            .set_item(Some(item().map_err(Failure::refused)?))
            .condition_expression(condition)
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Wrote::Done(())),
            Err(e) => match e.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Wrote::Refused(failed.item().map(|item| asked.found(item))))
                }
                _ => Err(Failure::from(e)),
            },
        }
    };
    core.client.call(RetrySafety::Write, deadline, put).await
}

/// Reads whether a put happened whose answer was lost. Its version is nobody else's, so that one
/// read can tell.
async fn settle(
    core: &Core,
    key: &Key,
    version: Version,
    deadline: Deadline,
    lost: Error,
) -> Result<Wrote<()>> {
    let read = ReadOptions::default().deadline(deadline);
    match read_item(core, &core.names.data, key.as_str(), &[VERSION], &read).await {
        Ok(Some(found)) if found.version == Some(version) => Ok(Wrote::Done(())),
        _ => Err(lost),
    }
}
