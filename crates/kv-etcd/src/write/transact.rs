//! Transactions: writes, and what they depend on, in one request.

use super::{
    conditions::{condition, is_kept, is_true},
    life::{Life, TRIES},
    size,
    trace::{Trace, is_undone},
};
use crate::{
    client::{
        Purpose,
        answer::revision,
        limits::MOST_OPS,
        txn::{found, only_the_key},
    },
    core::Core,
    error::unexpected,
    names::Names,
};
use etcd_client::{Txn, TxnOp, TxnResponse};
use kv_core::{
    Condition, ErrorKind, Result,
    driver::{Deadline, Decision, Transaction, Write, WriteOptions},
};

/// Does [`Store::transact`](kv_core::driver::Store::transact).
pub(crate) async fn transact(
    core: &Core,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    size::check(&core.names, &transaction)?;
    let Transaction { conditions, writes, .. } = transaction;
    let (names, mut when): (Vec<_>, Vec<_>) = conditions.iter().map(|c| condition(&core.names, c)).unzip();
    // Each fence has one more condition, as far as the server takes so many: the first fence
    // always has.
    let room = MOST_OPS.saturating_sub(when.len());
    when.extend(conditions.iter().filter_map(is_kept).take(room));
    let otherwise: Vec<_> = names.into_iter().map(only_the_key).collect();
    let put = writes.iter().find_map(|write| match write {
        Write::Put { key, .. } => Some(core.names.key(key.as_str())),
        Write::Delete { .. } => None,
    });
    for tries in 1.. {
        let lives = lives(core, &writes, options.deadline).await?;
        let trace = put.clone().map(|name| Trace::new(core, name));
        let then = writes.iter().zip(&lives).map(|(write, life)| operation(&core.names, write, life));
        let then: Vec<_> = then.collect();
        let txn = Txn::new().when(when.clone()).and_then(then).or_else(otherwise.clone());
        let sending = || lives.iter().flatten().for_each(Life::sending);
        let answer = core.noted_txn(Purpose::Write, options.deadline, txn, sending).await;
        let refused = matches!(&answer, Ok(answer) if !answer.succeeded());
        if refused || is_undone(&answer) {
            lives.iter().flatten().for_each(Life::undone);
        }
        match answer {
            Ok(answer) if refused => return decline(&conditions, &answer),
            Ok(answer) => return commit(core, &lives, &answer, options.deadline).await,
            Err(e) if e.kind() == ErrorKind::LeaseLost && are_over(core, &lives) && tries < TRIES => {}
            Err(e) => {
                // Where a user's lease is among them, the error is about that one.
                let of_users = lives.iter().flatten().any(Life::is_users);
                let of_ttl = lives.iter().flatten().find(|life| !of_users && life.lease != 0);
                let e = of_ttl.map_or(e.clone(), |life| life.error(e));
                return Err(match &trace {
                    Some(trace) => trace.error(core, e, options.deadline).await,
                    None => e,
                });
            }
        }
    }
    Err(unexpected("the last try has an answer"))
}

/// Gives the leases of TTLs to no further puts; returns whether there are any.
fn are_over(core: &Core, lives: &[Option<Life>]) -> bool {
    lives.iter().flatten().filter(|life| life.is_over(core)).count() > 0
}

/// Returns which condition was not true.
fn decline(conditions: &[Condition], answer: &TxnResponse) -> Result<Decision> {
    let found = found(answer);
    let there = |at: usize| found.get(at).and_then(|found| found.first());
    let failed = conditions.iter().enumerate().find(|(at, condition)| !is_true(condition, there(*at)));
    match failed {
        Some((condition, _)) => Ok(Decision::Refused { condition }),
        None => Err(unexpected("the server refused a transaction whose conditions are true")),
    }
}

/// Returns what was written.
async fn commit(
    core: &Core,
    lives: &[Option<Life>],
    answer: &TxnResponse,
    deadline: Deadline,
) -> Result<Decision> {
    let revision = revision(answer.header())?;
    let mut written = Vec::with_capacity(lives.len());
    for life in lives {
        written.push(match life {
            Some(life) => Some(life.written(core, revision, deadline).await),
            None => None,
        });
    }
    Ok(Decision::Committed(written))
}

/// Makes the life of each put; `None` for a deletion. Puts of one TTL share a lease, so that they
/// end at one moment.
async fn lives(core: &Core, writes: &[Write], deadline: Deadline) -> Result<Vec<Option<Life>>> {
    let mut lives: Vec<Option<Life>> = Vec::with_capacity(writes.len());
    for write in writes {
        let Write::Put { options, .. } = write else {
            lives.push(None);
            continue;
        };
        let shared =
            lives.iter().flatten().find(|life| options.ttl.is_some() && life.granted() == options.ttl);
        let life = match shared {
            Some(life) => life.clone(),
            None => Life::new(core, options, deadline).await?,
        };
        lives.push(Some(life));
    }
    Ok(lives)
}

/// Returns the server's operation of a write.
fn operation(names: &Names, write: &Write, life: &Option<Life>) -> TxnOp {
    match write {
        Write::Put { key, value, .. } => {
            TxnOp::put(names.key(key.as_str()), value.clone(), life.as_ref().map(Life::options))
        }
        Write::Delete { key } => TxnOp::delete(names.key(key.as_str()), None),
    }
}
