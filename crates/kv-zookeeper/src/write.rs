//! Puts, deletes and transactions.

use crate::{
    client::{Does, Via},
    error::{Problem, unknown},
    node::{Node, Seen, version},
    plan::is_forever,
    store::Inner,
    txn::{Done, Life, Request, run},
};
use kv_core::*;

pub(crate) async fn put(
    inner: &Inner,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let life = inner.life(options, options.deadline).await?;
    let ttl = match &life {
        Life::Own { ttl, .. } => *ttl,
        Life::Forever => None,
    };
    if expect == Expect::Anything && life.is_forever() && !value.is_empty() {
        let is_missing = inner.known.get(key).is_some_and(|seen| seen.node.is_none());
        if !is_missing && let Some(at) = replace(inner, key, &value, options.deadline).await? {
            return Ok(Written::new(at, None));
        }
    }
    let request = Request {
        conditions: &condition(key, expect),
        writes: &[Write::Put { key: key.clone(), value, options: options.clone() }],
        life,
        deadline: options.deadline,
    };
    match run(inner, &request).await? {
        Done::Committed { at, .. } => Ok(Written::new(at, ttl)),
        Done::Refused(_) => Err(refused(inner, key, expect)),
    }
}

fn condition(key: &Key, expect: Expect) -> Vec<Condition> {
    match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![Condition::Missing(key.clone())],
        Expect::Version(at) => vec![Condition::Version(key.clone(), at)],
    }
}

fn refused(inner: &Inner, key: &Key, expect: Expect) -> Error {
    // As it was found a moment ago.
    let found = inner.known.get(key).and_then(|seen| seen.at());
    let other = || Error::new(ErrorKind::KeyModified, "another client wrote it meanwhile");
    match (expect, expect.check(found)) {
        (_, Err(e)) => e,
        (Expect::Missing, Ok(())) => Error::new(ErrorKind::KeyExists, "expected no key, found one"),
        _ => other(),
    }
}

/// Writes a node that is there, whatever it holds; its version, or `None` when it is not there.
async fn replace(inner: &Inner, key: &Key, value: &Bytes, deadline: Deadline) -> Result<Option<Version>> {
    let path = &inner.names.key(key);
    let answer = Via::Any(&inner.client)
        .call(Does::Write, deadline, |linked| async move {
            let done = linked.session.set_data(path, value, None);
            Ok::<_, Problem>((linked.generation, done.await?))
        })
        .await?;
    let Ok((generation, stat)) = answer else {
        inner.known.forget(key);
        return Ok(None);
    };
    let at = version(&stat);
    let is_same =
        |seen: &Seen| seen.generation == generation && seen.node.is_some_and(|node| node.czxid == stat.czxid);
    let before = inner.known.get(key).filter(is_same);
    let epoch = before.and_then(|seen| seen.epoch);
    let mark = before.and_then(|seen| seen.node).and_then(|node| node.mark);
    // Nothing tells whether a child is a mark.
    if before.is_some() || stat.num_children == 0 {
        inner.known.set(key, Seen { node: Some(Node::new(false, &stat, mark)), epoch, generation });
    } else {
        inner.known.forget(key);
    }
    if stat.ephemeral_owner == 0 {
        return Ok(Some(at));
    }
    // It had a TTL, and would go with its session: it is made anew, unless another client wrote it since.
    let request = Request {
        conditions: &[Condition::Version(key.clone(), at)],
        writes: &[Write::Put { key: key.clone(), value: value.clone(), options: PutOptions::default() }],
        life: Life::Forever,
        deadline,
    };
    match run(inner, &request).await {
        Ok(Done::Committed { at, .. }) => Ok(Some(at)),
        // It ended in between; a put makes it anew.
        Ok(Done::Refused(_))
            if inner.look_one(key, &ReadOptions::default().deadline(deadline)).await?.seen.at().is_none() =>
        {
            Ok(None)
        }
        Ok(Done::Refused(_)) => Ok(Some(at)),
        Err(e) => Err(unknown(e)),
    }
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let request = Request {
        conditions: &condition(key, expect),
        writes: &[Write::Delete { key: key.clone() }],
        life: Life::Forever,
        deadline: options.deadline,
    };
    match run(inner, &request).await? {
        Done::Committed { were, .. } => Ok(were.first().copied().unwrap_or(false)),
        Done::Refused(_) => Err(refused(inner, key, expect)),
    }
}

pub(crate) async fn transact(
    inner: &Inner,
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
    let life = match first {
        Some(put) => inner.life(put, options.deadline).await?,
        None => Life::Forever,
    };
    let ttl = match &life {
        Life::Own { ttl, .. } => *ttl,
        Life::Forever => None,
    };
    let request = Request { conditions: &conditions, writes: &writes, life, deadline: options.deadline };
    Ok(match run(inner, &request).await? {
        Done::Refused(condition) => Decision::Refused { condition },
        Done::Committed { at, .. } => {
            let written = |write: &Write| {
                let ttl = ttl.filter(|_| !is_forever(write));
                matches!(write, Write::Put { .. }).then(|| Written::new(at, ttl))
            };
            Decision::Committed(writes.iter().map(written).collect())
        }
    })
}
