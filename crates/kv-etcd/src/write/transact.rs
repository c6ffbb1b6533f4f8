//! Writes, and what they depend on, in one request.

use super::life::Life;
use crate::{
    client::Purpose,
    names::Names,
    store::{ANSWER, Inner, MOST_OPS, revision, version},
};
use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use kv_core::*;
use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

/// What a version is on the server. One that none of etcd's can be equals nothing there, not even *missing*, which is 0.
fn mod_revision(version: Version) -> i64 {
    match version.parts() {
        (revision @ 1.., 0) => i64::try_from(revision).unwrap_or(-1),
        _ => -1,
    }
}

fn is_at(name: Vec<u8>, at: Version) -> Compare {
    Compare::mod_revision(name, CompareOp::Equal, mod_revision(at))
}

pub(crate) fn is_missing(name: Vec<u8>) -> Compare {
    Compare::create_revision(name, CompareOp::Equal, 0)
}

fn only_the_key(name: Vec<u8>) -> TxnOp {
    TxnOp::get(name, Some(GetOptions::new().with_keys_only()))
}

impl Inner {
    pub(crate) async fn txn(&self, purpose: Purpose, deadline: Deadline, txn: Txn) -> Result<TxnResponse> {
        let answer = self
            .client
            .call(purpose, deadline, |service| {
                let txn = txn.clone();
                async move { service.kv_client().max_decoding_message_size(ANSWER).txn(txn).await }
            })
            .await?;
        self.saw(answer.header());
        Ok(answer)
    }
}

/// What the ranges of a transaction found, in their order.
pub(crate) fn found(answer: &TxnResponse) -> Vec<Vec<KeyValue>> {
    let ranges = answer.op_responses().into_iter().filter_map(|op| match op {
        TxnOpResponse::Get(mut found) => Some(found.take_kvs()),
        _ => None,
    });
    ranges.collect()
}

/// How many names its deletions deleted.
pub(crate) fn deleted(answer: &TxnResponse) -> Option<u64> {
    let deletions = answer.op_responses().into_iter().filter_map(|op| match op {
        TxnOpResponse::Delete(deleted) => Some(u64::try_from(deleted.deleted()).unwrap_or_default()),
        _ => None,
    });
    deletions.reduce(|one, other| one + other)
}

/// An answer that makes no sense.
pub(crate) fn unexpected(why: &'static str) -> Error {
    Error::new(ErrorKind::Other, why)
}

/// Several names, in their order.
pub(crate) async fn read(
    inner: &Inner,
    names: &[Vec<u8>],
    purpose: Purpose,
    deadline: Deadline,
    options: &GetOptions,
) -> Result<Vec<Option<KeyValue>>> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(MOST_OPS) {
        let gets: Vec<_> = names.iter().map(|name| TxnOp::get(name.clone(), Some(options.clone()))).collect();
        let answer = inner.txn(purpose, deadline, Txn::new().and_then(gets)).await?;
        let before = all.len();
        all.extend(found(&answer).into_iter().map(|mut found| found.pop()));
        if all.len() - before != names.len() {
            return Err(unexpected("the server answered fewer reads than it was asked"));
        }
    }
    Ok(all)
}

/// Whether it is certain that a write that ended in this way took no effect.
fn is_undone<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(e) if e.kind() != ErrorKind::OutcomeUnknown)
}

pub(crate) async fn put(
    inner: &Inner,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let name = inner.names.key(key.as_str());
    let life = Life::new(inner, options, 1, options.deadline).await?;
    let trace = Trace::new(inner, name.clone());
    let put = TxnOp::put(name.clone(), value, Some(life.options()));
    let answer = match write_if(inner, name, expect, put, options.deadline).await {
        Ok((revision, _)) => Ok(revision),
        Err(e) => Err(trace.error(inner, life.error(e), options.deadline).await),
    };
    if is_undone(&answer) {
        life.end(inner);
    }
    Ok(life.written(inner, answer?, options.deadline).await)
}

/// The key of one put of a request, by which one can tell whether it was done.
struct Trace {
    name: Vec<u8>,
    /// A revision before it.
    before: i64,
}

impl Trace {
    fn new(inner: &Inner, name: Vec<u8>) -> Self {
        Self { name, before: inner.seen.load(Ordering::Relaxed) }
    }

    /// The error of the request. A server that becomes full by a request does it, and says all the same that there is no
    /// space; by the key one sees whether it was so.
    async fn error(&self, inner: &Inner, error: Error, deadline: Deadline) -> Error {
        if error.kind() != ErrorKind::NoSpace {
            return error;
        }
        let keys_only = GetOptions::new().with_keys_only();
        let read = inner.range(Purpose::Read, deadline, &self.name, keys_only).await;
        let is_untouched = read.and_then(|read| {
            let written = read.kvs().first().map(KeyValue::mod_revision);
            Ok(self.is_untouched(revision(read.header())?, written))
        });
        match is_untouched {
            Ok(true) => error,
            _ => {
                let why = "the server became full, perhaps by this very write, which may have happened";
                Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
            }
        }
    }

    /// Whether nobody has written or deleted the key since, by what it is at this revision: what was done may be overwritten
    /// or deleted by now.
    fn is_untouched(&self, now: i64, written: Option<i64>) -> bool {
        match written {
            Some(written) => written <= self.before && self.before <= now,
            None => self.before == now,
        }
    }
}

/// One write of a key that has to be as expected; the revision of it, and whether the key was there.
async fn write_if(
    inner: &Inner,
    name: Vec<u8>,
    expect: Expect,
    write: TxnOp,
    deadline: Deadline,
) -> Result<(i64, bool)> {
    let when = match expect {
        Expect::Anything => vec![],
        Expect::Missing => vec![is_missing(name.clone())],
        Expect::Version(at) => vec![is_at(name.clone(), at)],
    };
    let before = only_the_key(name);
    let txn = Txn::new().when(when).and_then([before.clone(), write]).or_else([before]);
    let answer = inner.txn(Purpose::Write, deadline, txn).await?;
    let there = found(&answer).into_iter().flatten().next();
    if answer.succeeded() {
        inner.replaced(&there);
        return Ok((revision(answer.header())?, there.is_some()));
    }
    expect.check(there.map(|found| version(found.mod_revision())))?;
    Err(unexpected("the server refused a write whose condition is true"))
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = inner.names.key(key.as_str());
    let delete = TxnOp::delete(name.clone(), None);
    write_if(inner, name, expect, delete, options.deadline).await.map(|(_, was_there)| was_there)
}

/// What a condition compares, and where one looks when it was not true.
fn condition(names: &Names, condition: &Condition) -> (Vec<u8>, Compare) {
    let name = |key: &Key| names.key(key.as_str());
    match condition {
        Condition::Version(key, at) => (name(key), is_at(name(key), *at)),
        Condition::Exists(key) => (name(key), Compare::create_revision(name(key), CompareOp::Greater, 0)),
        Condition::Missing(key) => (name(key), is_missing(name(key))),
        Condition::Held(fence) => {
            let contender = fence.proof().to_vec();
            let token = i64::try_from(fence.token()).unwrap_or(-1);
            (contender.clone(), Compare::create_revision(contender, CompareOp::Equal, token))
        }
    }
}

/// That a contender still hangs on its session: what another tool wrote over it is in line no more.
fn is_kept(condition: &Condition) -> Option<Compare> {
    match condition {
        Condition::Held(fence) => Some(Compare::lease(fence.proof().to_vec(), CompareOp::NotEqual, 0)),
        _ => None,
    }
}

fn is_true(condition: &Condition, found: Option<&KeyValue>) -> bool {
    match condition {
        Condition::Version(_, at) => found.is_some_and(|f| f.mod_revision() == mod_revision(*at)),
        Condition::Exists(_) => found.is_some(),
        Condition::Missing(_) => found.is_none(),
        Condition::Held(fence) => {
            found.is_some_and(|f| u64::try_from(f.create_revision()) == Ok(fence.token()) && f.lease() != 0)
        }
    }
}

pub(crate) async fn transact(
    inner: &Inner,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let Transaction { conditions, writes, .. } = transaction;
    let lives = lives(inner, &writes, options.deadline).await?;
    let (names, mut when): (Vec<_>, Vec<_>) = conditions.iter().map(|c| condition(&inner.names, c)).unzip();
    // One more for each fence, as far as the server takes them: always for the first.
    let room = MOST_OPS.saturating_sub(when.len());
    when.extend(conditions.iter().filter_map(is_kept).take(room));
    let trace = writes.iter().find_map(|write| match write {
        Write::Put { key, .. } => Some(Trace::new(inner, inner.names.key(key.as_str()))),
        Write::Delete { .. } => None,
    });
    // A look at the keys for their leases, where there is room for it.
    let looks = if writes.len() <= MOST_OPS / 2 { &writes[..] } else { &[] };
    let looks = looks.iter().map(|write| only_the_key(inner.names.key(write.key().as_str())));
    let mut then: Vec<_> = looks.collect();
    then.extend(writes.into_iter().zip(&lives).map(|(write, life)| operation(&inner.names, write, life)));
    let txn =
        Txn::new().when(when).and_then(then).or_else(names.into_iter().map(only_the_key).collect::<Vec<_>>());
    let answer = match inner.txn(Purpose::Write, options.deadline, txn).await {
        Err(e) => {
            // With leases of users among them it is one of those that is meant.
            let on_leases = || lives.iter().flatten().filter(|life| life.lease != 0);
            let all_ours = on_leases().all(|life| life.ours.is_some());
            let e = match on_leases().next() {
                Some(life) if all_ours => life.error(e),
                _ => e,
            };
            Err(match &trace {
                Some(trace) => trace.error(inner, e, options.deadline).await,
                None => e,
            })
        }
        done => done,
    };
    let refused = matches!(&answer, Ok(answer) if !answer.succeeded());
    if refused || is_undone(&answer) {
        ended(inner, &lives);
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
    inner.replaced(found(&answer).iter().flatten());
    let revision = revision(answer.header())?;
    let mut written = Vec::with_capacity(lives.len());
    for life in &lives {
        written.push(match life {
            Some(life) => Some(life.written(inner, revision, options.deadline).await),
            None => None,
        });
    }
    Ok(Decision::Committed(written))
}

/// Ends the leases of a transaction that was not done.
fn ended(inner: &Inner, lives: &[Option<Life>]) {
    let mut leases = BTreeSet::new();
    lives.iter().flatten().filter(|life| leases.insert(life.lease)).for_each(|life| life.end(inner));
}

/// What each put hangs on; `None` for a deletion. Puts of one TTL share a lease: they end at one moment.
async fn lives(inner: &Inner, writes: &[Write], deadline: Deadline) -> Result<Vec<Option<Life>>> {
    let mut lives: Vec<Option<Life>> = Vec::with_capacity(writes.len());
    let grant = |ttl: Option<Duration>| match (ttl, &inner.capabilities.ttl) {
        (Some(ttl), Some(range)) => range.grant(ttl).map(Some),
        _ => Ok(None),
    };
    let asked = |write: &Write| match write {
        Write::Put { options, .. } if options.lease.is_none() => grant(options.ttl).ok().flatten(),
        _ => None,
    };
    for write in writes {
        let Write::Put { options, .. } = write else {
            lives.push(None);
            continue;
        };
        let ttl = grant(options.ttl)?;
        let shared =
            lives.iter().flatten().find(|life| ttl.is_some() && life.ttl.map(|(asked, _)| asked) == ttl);
        let life = match shared {
            Some(life) => Ok(*life),
            None => {
                let keys = writes.iter().filter(|write| ttl.is_some() && asked(write) == ttl).count();
                Life::new(inner, options, keys, deadline).await
            }
        };
        match life {
            Ok(life) => lives.push(Some(life)),
            Err(e) => {
                ended(inner, &lives);
                return Err(e);
            }
        }
    }
    Ok(lives)
}

fn operation(names: &Names, write: Write, life: &Option<Life>) -> TxnOp {
    match write {
        Write::Put { key, value, .. } => {
            TxnOp::put(names.key(key.as_str()), value, life.as_ref().map(Life::options))
        }
        Write::Delete { key } => TxnOp::delete(names.key(key.as_str()), None),
    }
}
