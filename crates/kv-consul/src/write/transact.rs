//! Commits transactions: conditions and writes, in one request.

use super::{
    lifetime::{Lifetime, is_over, lifetimes},
    ops::{conflict, is_undone, make, modify_index, version_of},
};
use crate::{
    client::{
        Purpose,
        api::{Done, Op},
    },
    core::Core,
};
use kv_core::{
    Condition, Key, Result,
    driver::{Decision, Expect, Transaction, Write, WriteOptions},
};
use std::sync::Arc;

/// Returns the operation that checks a condition on the server.
fn condition(core: &Core, condition: &Condition) -> Op {
    let name = |key: &Key| core.names.name(key.as_str());
    match condition {
        Condition::Version(key, at) => Op::check_index(&name(key), modify_index(*at)),
        Condition::Exists(key) => Op::get(&name(key)),
        Condition::Missing(key) => Op::check_missing(&name(key)),
        Condition::Held(fence) => {
            let proof = String::from_utf8_lossy(fence.proof());
            let (session, contender) = proof.split_once(' ').unwrap_or_default();
            Op::check_session(contender, session)
        }
    }
}

/// Commits a transaction, or tells which condition did not hold.
pub(crate) async fn transact(
    core: &Arc<Core>,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let (Transaction { conditions, writes, .. }, deadline) = (transaction, options.deadline);
    let mut is_retry = false;
    loop {
        let lifetimes = lifetimes(core, &writes, deadline).await?;
        let mut ops: Vec<_> = conditions.iter().map(|c| condition(core, c)).collect();
        let names: Vec<_> = writes.iter().map(|write| core.names.name(write.key().as_str())).collect();
        for ((write, name), lifetime) in writes.iter().zip(&names).zip(&lifetimes) {
            match (write, lifetime) {
                (Write::Put { key, value, .. }, Some(lifetime)) => {
                    let is_missing =
                        |c: &Condition| matches!(c, Condition::Missing(missing) if missing == key);
                    make(&mut ops, name, value, lifetime.session(), !conditions.iter().any(is_missing));
                }
                _ => ops.push(Op::delete(name)),
            }
        }
        let deletes = writes.iter().zip(&names).filter(|(write, _)| matches!(write, Write::Delete { .. }));
        let before = deletes.filter_map(|(_, name)| core.ttl_sessions.before(name)).collect();
        let answer = core.txn(Purpose::Write, deadline, &ops).await;
        if is_undone(&answer) || matches!(answer, Ok(Done::Refused(_))) {
            lifetimes.iter().flatten().for_each(Lifetime::unused);
        }
        let done = match answer {
            Ok(Done::Committed(done)) => done,
            Ok(Done::Refused(faults)) => {
                return match faults.iter().map(|fault| fault.at).min() {
                    Some(condition) if condition < conditions.len() => Ok(Decision::Refused { condition }),
                    _ => Err(conflict(Expect::Anything, &faults)),
                };
            }
            Err(e) if is_over(core, lifetimes.iter().flatten(), &e, is_retry) && !deadline.has_passed() => {
                is_retry = true;
                continue;
            }
            Err(e) => return Err(e),
        };
        core.ttl_sessions.deleted(before);
        // All of a transaction happens at one index.
        let version = if lifetimes.iter().any(Option::is_some) { Some(version_of(&done)?) } else { None };
        let mut written = Vec::with_capacity(lifetimes.len());
        for (lifetime, name) in lifetimes.iter().zip(&names) {
            written.push(match (lifetime, version) {
                (Some(lifetime), Some(version)) => {
                    Some(lifetime.written(core, name, version, deadline).await?)
                }
                _ => None,
            });
        }
        return Ok(Decision::Committed(written));
    }
}
