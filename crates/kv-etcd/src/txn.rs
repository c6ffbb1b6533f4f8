//! Writes, and what they depend on, in one request.

use crate::{
    client::Does,
    lease,
    names::{Names, Range},
    store::{ANSWER, Inner, MOST_OPS, revision, version},
};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions as ServerPut, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use kv_core::*;
use std::time::{Duration, Instant};

/// The lease of a TTL is granted before the key is put, and must not end before the put's TTL has: it is this much longer,
/// and is renewed once in a put that took even more.
const AHEAD: Duration = Duration::from_secs(1);
/// How many names a deletion of a tree looks at for their leases.
const MOST_NAMES: i64 = 10_000;

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
    pub(crate) async fn txn(&self, does: Does, deadline: Deadline, txn: Txn) -> Result<TxnResponse> {
        self.client
            .call(does, deadline, |service| {
                let txn = txn.clone();
                async move { service.kv_client().max_decoding_message_size(ANSWER).txn(txn).await }
            })
            .await
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

/// Several names, in their order.
pub(crate) async fn read(
    inner: &Inner,
    names: &[Vec<u8>],
    does: Does,
    deadline: Deadline,
    options: &GetOptions,
) -> Result<Vec<Option<KeyValue>>> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(MOST_OPS) {
        let gets: Vec<_> = names.iter().map(|name| TxnOp::get(name.clone(), Some(options.clone()))).collect();
        let answer = inner.txn(does, deadline, Txn::new().and_then(gets)).await?;
        let before = all.len();
        all.extend(found(&answer).into_iter().map(|mut found| found.pop()));
        if all.len() - before != names.len() {
            return Err(Error::new(ErrorKind::Corrupt, "the server answered fewer reads than it was asked"));
        }
    }
    Ok(all)
}

/// What a put hangs on.
struct Life {
    lease: i64,
    ttl: Option<Duration>,
    /// For a lease of our own: when it was asked for.
    ours: Option<Instant>,
}

impl Life {
    async fn new(inner: &Inner, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        let forever = Self { lease: 0, ttl: None, ours: None };
        if let Some(id) = &options.lease {
            return Ok(Self { lease: lease::number(id)?, ..forever });
        }
        let Some((range, ttl)) = inner.capabilities.ttl.as_ref().zip(options.ttl) else { return Ok(forever) };
        let ttl = range.grant(ttl)?;
        let (ours, each) = (Instant::now(), deadline.within().min(Deadline::DEFAULT));
        let grant = lease::grant(&inner.client, &inner.clock, ttl + AHEAD, deadline, each).await?;
        // From here on the put is under way, and may be there when its lease is revoked.
        grant.revoke.forget();
        Ok(Self { lease: grant.id, ttl: Some(ttl), ours: Some(ours) })
    }

    fn options(&self) -> ServerPut {
        ServerPut::new().with_lease(self.lease)
    }

    /// After a write that took no effect.
    fn end(&self, inner: &Inner) {
        if self.ours.is_some() {
            drop(lease::revoke(&inner.client, self.lease, Deadline::DEFAULT));
        }
    }

    /// After a write that was done.
    async fn written(&self, inner: &Inner, revision: i64, deadline: Deadline) -> Written {
        if self.ours.is_some_and(|asked| asked.elapsed() > AHEAD) {
            // It is renewed by then, or its key ends by its TTL, counted from the grant.
            let _ = lease::renew(&inner.client, self.lease, deadline).await;
        }
        Written::new(version(revision), self.ttl)
    }
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
    let life = Life::new(inner, options, options.deadline).await?;
    let put = TxnOp::put(name.clone(), value, Some(life.options()));
    let answer = write_if(inner, name, expect, put, options.deadline).await.map(|(revision, _)| revision);
    if is_undone(&answer) {
        life.end(inner);
    }
    Ok(life.written(inner, answer?, options.deadline).await)
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
    let answer = inner.txn(Does::Write, deadline, txn).await?;
    let there = found(&answer).into_iter().flatten().next();
    if answer.succeeded() {
        inner.replaced(&there);
        return Ok((revision(answer.header())?, there.is_some()));
    }
    expect.check(there.map(|found| version(found.mod_revision())))?;
    Err(Error::new(ErrorKind::Corrupt, "the server refused a write whose condition is true"))
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = inner.names.key(key.as_str());
    let delete = TxnOp::delete(name.clone(), None);
    write_if(inner, name, expect, delete, options.deadline).await.map(|(_, was_there)| was_there)
}

/// Everything below a directory, in one step.
pub(crate) async fn delete_tree(
    inner: &Inner,
    directory: &Directory,
    options: &WriteOptions,
) -> Result<Batch> {
    let Range { start, end } = inner.names.below(directory);
    // The names tell of leases; those of more keys than these end by their TTL.
    let names = GetOptions::new().with_range(end.clone()).with_keys_only().with_limit(MOST_NAMES);
    let all = DeleteOptions::new().with_range(end);
    let txn = Txn::new().and_then([TxnOp::get(start.clone(), Some(names)), TxnOp::delete(start, Some(all))]);
    let answer = inner.txn(Does::Write, options.deadline, txn).await?;
    inner.replaced(found(&answer).iter().flatten());
    let deleted = answer.op_responses().into_iter().find_map(|op| match op {
        TxnOpResponse::Delete(deleted) => u64::try_from(deleted.deleted()).ok(),
        _ => None,
    });
    Ok(Batch { deleted, next: None })
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

fn is_true(condition: &Condition, found: Option<&KeyValue>) -> bool {
    match condition {
        Condition::Version(_, at) => found.is_some_and(|f| f.mod_revision() == mod_revision(*at)),
        Condition::Exists(_) => found.is_some(),
        Condition::Missing(_) => found.is_none(),
        Condition::Held(fence) => {
            found.is_some_and(|f| u64::try_from(f.create_revision()) == Ok(fence.token()))
        }
    }
}

pub(crate) async fn transact(
    inner: &Inner,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Outcome> {
    let Transaction { conditions, writes, .. } = transaction;
    let lives = lives(inner, &writes, options.deadline).await?;
    let (names, when): (Vec<_>, Vec<_>) = conditions.iter().map(|c| condition(&inner.names, c)).unzip();
    // A look at the keys for their leases, where there is room for it.
    let looks = if writes.len() <= MOST_OPS / 2 { &writes[..] } else { &[] };
    let looks = looks.iter().map(|write| only_the_key(inner.names.key(write.key().as_str())));
    let mut then: Vec<_> = looks.collect();
    then.extend(writes.into_iter().zip(&lives).map(|(write, life)| operation(&inner.names, write, life)));
    let txn =
        Txn::new().when(when).and_then(then).or_else(names.into_iter().map(only_the_key).collect::<Vec<_>>());
    let answer = inner.txn(Does::Write, options.deadline, txn).await;
    let refused = matches!(&answer, Ok(answer) if !answer.succeeded());
    if refused || is_undone(&answer) {
        lives.iter().flatten().for_each(|life| life.end(inner));
    }
    let answer = answer?;
    if refused {
        let found = found(&answer);
        let there = |at: usize| found.get(at).and_then(|found| found.first());
        let failed = conditions.iter().enumerate().find(|(at, condition)| !is_true(condition, there(*at)));
        return match failed {
            Some((condition, _)) => Ok(Outcome::Refused { condition }),
            None => Err(Error::new(
                ErrorKind::Corrupt,
                "the server refused a transaction whose conditions are true",
            )),
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
    Ok(Outcome::Committed(written))
}

/// What each put hangs on; `None` for a deletion. Puts of one TTL share a lease: they end at one moment.
async fn lives(inner: &Inner, writes: &[Write], deadline: Deadline) -> Result<Vec<Option<Life>>> {
    let mut lives: Vec<Option<Life>> = Vec::with_capacity(writes.len());
    for write in writes {
        let Write::Put { options, .. } = write else {
            lives.push(None);
            continue;
        };
        let granted = match (&options.ttl, &inner.capabilities.ttl) {
            (Some(ttl), Some(range)) => Some(range.grant(*ttl)?),
            _ => None,
        };
        let shared = lives.iter().flatten().find(|life| granted.is_some() && life.ttl == granted);
        let life = match shared {
            Some(life) => Ok(Life { ..*life }),
            None => Life::new(inner, options, deadline).await,
        };
        match life {
            Ok(life) => lives.push(Some(life)),
            Err(e) => {
                lives.iter().flatten().for_each(|life| life.end(inner));
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
