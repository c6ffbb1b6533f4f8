//! Transactions: writes, and what they depend on, in one request.

use super::{
    conditions::{condition, is_kept, is_true},
    life::Life,
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
    lease,
    names::Names,
};
use etcd_client::{Txn, TxnOp};
use kv_core::{
    Result,
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
    let lives = lives(core, &writes, options.deadline).await?;
    let (names, mut when): (Vec<_>, Vec<_>) = conditions.iter().map(|c| condition(&core.names, c)).unzip();
    // Each fence has one more condition, as far as the server takes so many: the first fence
    // always has.
    let room = MOST_OPS.saturating_sub(when.len());
    when.extend(conditions.iter().filter_map(is_kept).take(room));
    let trace = writes.iter().find_map(|write| match write {
        Write::Put { key, .. } => Some(Trace::new(core, core.names.key(key.as_str()))),
        Write::Delete { .. } => None,
    });
    // The keys are read too, for their leases, where there is room for that.
    let looks = if size::has_looks(&writes) { &writes[..] } else { &[] };
    let looks = looks.iter().map(|write| only_the_key(core.names.key(write.key().as_str())));
    let mut then: Vec<_> = looks.collect();
    then.extend(writes.into_iter().zip(&lives).map(|(write, life)| operation(&core.names, write, life)));
    let txn =
        Txn::new().when(when).and_then(then).or_else(names.into_iter().map(only_the_key).collect::<Vec<_>>());
    let sending = || lives.iter().flatten().for_each(Life::sending);
    let answer = match core.noted_txn(Purpose::Write, options.deadline, txn, sending).await {
        Err(e) => {
            // Where a user's lease is among them, the error is about that one.
            let on_leases = || lives.iter().flatten().filter(|life| life.lease != 0);
            let all_ours = on_leases().all(|life| life.ours.is_some());
            let e = match on_leases().next() {
                Some(life) if all_ours => life.error(e),
                _ => e,
            };
            Err(match &trace {
                Some(trace) => trace.error(core, e, options.deadline).await,
                None => e,
            })
        }
        done => done,
    };
    let refused = matches!(&answer, Ok(answer) if !answer.succeeded());
    if refused || is_undone(&answer) {
        lives.iter().flatten().for_each(Life::undone);
    }
    let answer = answer?;
    if refused {
        let found = found(&answer);
        let there = |at: usize| found.get(at).and_then(|found| found.first());
        let failed = conditions.iter().enumerate().find(|(at, condition)| !is_true(condition, there(*at)));
        return match failed {
            Some((condition, _)) => Ok(Decision::Refused { condition }),
            None => Err(unexpected("the server refused a transaction whose conditions are true")),
        };
    }
    lease::replaced(core, found(&answer).iter().flatten());
    let revision = revision(answer.header())?;
    let mut written = Vec::with_capacity(lives.len());
    for life in &lives {
        written.push(match life {
            Some(life) => Some(life.written(core, revision, options.deadline).await),
            None => None,
        });
    }
    Ok(Decision::Committed(written))
}

/// Makes the life of each put; `None` for a deletion. Puts of one TTL share a lease, so that they
/// end at one moment.
async fn lives(core: &Core, writes: &[Write], deadline: Deadline) -> Result<Vec<Option<Life>>> {
    let asked = |write: &Write| match (write, &core.capabilities.ttl) {
        (Write::Put { options, .. }, Some(range)) if options.lease.is_none() => {
            options.ttl.map(|ttl| range.grant(ttl)).transpose()
        }
        _ => Ok(None),
    };
    // A TTL that is refused is refused before a lease is asked for.
    let ttls = writes.iter().map(asked).collect::<Result<Vec<_>>>()?;
    let mut lives: Vec<Option<Life>> = Vec::with_capacity(writes.len());
    for (write, ttl) in writes.iter().zip(&ttls) {
        let Write::Put { options, .. } = write else {
            lives.push(None);
            continue;
        };
        let shared =
            lives.iter().flatten().find(|life| ttl.is_some() && life.ttl.map(|(asked, _)| asked) == *ttl);
        let life = match shared {
            Some(life) => Ok(life.clone()),
            None => {
                let keys = ttls.iter().filter(|of| ttl.is_some() && *of == ttl).count();
                Life::new(core, options, keys, deadline).await
            }
        };
        lives.push(Some(life?));
    }
    Ok(lives)
}

/// Returns the server's operation of a write.
fn operation(names: &Names, write: Write, life: &Option<Life>) -> TxnOp {
    match write {
        Write::Put { key, value, .. } => {
            TxnOp::put(names.key(key.as_str()), value, life.as_ref().map(Life::options))
        }
        Write::Delete { key } => TxnOp::delete(names.key(key.as_str()), None),
    }
}
