//! Puts, deletes and does transactions: each is one request of several operations.

pub(crate) mod directory;
pub(crate) mod known;
mod op;
pub(crate) mod own;
mod plan;
mod request;
mod settle;
pub(crate) mod tree;
mod txn;

use crate::{
    core::Core,
    lease::life::{Life, life},
};
use kv_core::{
    Bytes, Condition, Error, ErrorKind, Key, Result, Written,
    driver::{Deadline, Decision, Expect, PutOptions, Transaction, Write, WriteOptions},
};
use request::{Done, Request, is_forever};
use std::time::Duration;
use txn::run;

/// Puts a key: [`Store::put`](kv_core::driver::Store::put).
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let conditions = condition(key, expect);
    let writes = [Write::Put { key: key.clone(), value, options: options.clone() }];
    match run_in_life(core, &conditions, &writes, Some(options), options.deadline).await? {
        (Done::Committed { at, .. }, ttl) => Ok(Written::new(at, ttl)),
        (Done::Refused(_), _) => Err(refused(core, key, expect)),
    }
}

/// Does a request whose keys have the life of this put. Also returns their granted TTL.
///
/// A session that keys of one TTL share belongs to none of them: where the server has lost it,
/// nothing was done, and the request takes another one.
async fn run_in_life(
    core: &Core,
    conditions: &[Condition],
    writes: &[Write],
    put: Option<&PutOptions>,
    deadline: Deadline,
) -> Result<(Done, Option<Duration>)> {
    loop {
        let life = match put {
            Some(put) => life(core, put, deadline).await?,
            None => Life::Forever,
        };
        let ttl = life.ttl();
        match run(core, &Request { conditions, writes, life, deadline }).await {
            Err(e) if e.kind() == ErrorKind::LeaseLost && ttl.is_some() && !deadline.has_passed() => {}
            done => return Ok((done?, ttl)),
        }
    }
}

fn condition(key: &Key, expect: Expect) -> Vec<Condition> {
    match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![Condition::Missing(key.clone())],
        Expect::Version(at) => vec![Condition::Version(key.clone(), at)],
    }
}

fn refused(core: &Core, key: &Key, expect: Expect) -> Error {
    // The key as it was found a moment ago.
    let found = core.known().get(key).and_then(|seen| seen.at());
    let other = || Error::new(ErrorKind::KeyModified, "another client wrote it meanwhile");
    match (expect, expect.check(found)) {
        (_, Err(e)) => e,
        (Expect::Missing, Ok(())) => Error::new(ErrorKind::KeyExists, "expected no key, found one"),
        _ => other(),
    }
}

/// Deletes a key: [`Store::delete`](kv_core::driver::Store::delete).
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let request = Request {
        conditions: &condition(key, expect),
        writes: &[Write::Delete { key: key.clone() }],
        life: Life::Forever,
        deadline: options.deadline,
    };
    match run(core, &request).await? {
        Done::Committed { were, .. } => Ok(were.first().copied().unwrap_or(false)),
        Done::Refused(_) => Err(refused(core, key, expect)),
    }
}

/// Does a transaction: [`Store::transact`](kv_core::driver::Store::transact).
pub(crate) async fn transact(
    core: &Core,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let Transaction { conditions, writes, .. } = transaction;
    let mut lives = writes.iter().filter(|write| !is_forever(write)).filter_map(|write| match write {
        Write::Put { options, .. } => Some(options),
        Write::Delete { .. } => None,
    });
    let first = lives.next();
    if lives.any(|other| first.is_some_and(|first| (first.ttl, &first.lease) != (other.ttl, &other.lease))) {
        let why = "on ZooKeeper the keys with a TTL or a lease that one transaction puts have the same one: one session owns \
                   what a request creates";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let first = first.cloned();
    let done = run_in_life(core, &conditions, &writes, first.as_ref(), options.deadline).await?;
    Ok(match done {
        (Done::Refused(condition), _) => Decision::Refused { condition },
        (Done::Committed { at, .. }, ttl) => {
            let written = |write: &Write| {
                let ttl = ttl.filter(|_| !is_forever(write));
                matches!(write, Write::Put { .. }).then(|| Written::new(at, ttl))
            };
            Decision::Committed(writes.iter().map(written).collect())
        }
    })
}
