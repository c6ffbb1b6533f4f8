//! Writes, and what they depend on, in one request.

use crate::{
    client::{
        Purpose,
        api::{self, Done, Fault, MOST_OPS, Op, Pair},
    },
    store::Inner,
    ttl::Life,
};
use kv_core::{backend::retry::Answered, *};
use std::sync::Arc;

/// What a version is on the server. One that none of Consul's can be equals nothing there.
fn modify_index(version: Version) -> u64 {
    match version.parts() {
        (index, 0) => index,
        _ => u64::MAX,
    }
}

impl Inner {
    pub(crate) async fn txn(&self, purpose: Purpose, deadline: Deadline, ops: &[Op]) -> Result<Done> {
        self.ask(purpose, deadline, ops).await.map(|answered| answered.answer)
    }

    /// The same, for an answer that is another one when the transaction was done before.
    pub(crate) async fn ask(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        ops: &[Op],
    ) -> Result<Answered<Done>> {
        let (body, most) = (api::body(ops)?, self.largest_txn);
        if body.len() > most {
            let why = format!(
                "the transaction has {} bytes, with its values in base64; the server takes {most} (`txn_max_req_len` in its \
                 `limits`)",
                body.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        api::txn(&self.client, purpose, deadline, body).await
    }
}

/// What a put hangs on.
enum Hangs {
    /// Nothing: it is permanent.
    On(Option<Arc<str>>),
    By(Arc<Life>),
}

impl Hangs {
    async fn new(inner: &Inner, options: &PutOptions, deadline: Deadline) -> Result<Self> {
        if let Some(id) = &options.lease {
            return Ok(Self::On(Some(id.as_str().into())));
        }
        let Some((range, ttl)) = inner.capabilities.ttl.as_ref().zip(options.ttl) else {
            return Ok(Self::On(None));
        };
        Ok(Self::By(inner.lives.get(inner, range.grant(ttl)?, deadline).await?))
    }

    fn session(&self) -> Option<&Arc<str>> {
        match self {
            Self::On(session) => session.as_ref(),
            Self::By(life) => Some(&life.session),
        }
    }

    fn life(&self) -> Option<&Arc<Life>> {
        match self {
            Self::On(_) => None,
            Self::By(life) => Some(life),
        }
    }

    fn unused(&self) {
        if let Self::By(life) = self {
            life.unused();
        }
    }

    /// After a write that was done.
    async fn written(
        &self,
        inner: &Inner,
        name: &str,
        version: Version,
        deadline: Deadline,
    ) -> Result<Written> {
        inner.lives.wrote(name, modify_index(version), self.life());
        if let Self::By(life) = self {
            life.begun(inner, deadline).await?;
        }
        Ok(Written::new(version, self.life().map(|life| life.ttl)))
    }
}

/// Whether it is certain that a write that ended in this way took no effect.
fn is_undone<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(e) if e.kind() != ErrorKind::OutcomeUnknown)
}

/// Whether the session of a TTL, which is our own affair, has ended: others are to be had.
fn is_over<'a>(inner: &Inner, hangs: impl Iterator<Item = &'a Hangs> + Clone, error: &Error) -> bool {
    if error.kind() != ErrorKind::LeaseLost || hangs.clone().any(|h| matches!(h, Hangs::On(Some(_)))) {
        return false;
    }
    hangs.filter_map(Hangs::life).for_each(|life| inner.lives.is_over(life));
    true
}

/// Makes the key anew: the same bytes would keep their version otherwise, and a key its session.
fn make(ops: &mut Vec<Op>, name: &str, value: &[u8], hangs: &Hangs, may_exist: bool) {
    if may_exist {
        ops.push(Op::delete(name));
    }
    ops.push(Op::write(name, value, hangs.session()));
}

fn version_of(done: &[Pair]) -> Result<Version> {
    let last = done.last().ok_or_else(|| {
        let why = "the server did not tell the version of what it wrote";
        Error::new(ErrorKind::OutcomeUnknown, why)
    });
    last.map(Pair::version)
}

/// The error of a write whose condition did not hold.
fn conflict(expect: Expect, faults: &[Fault]) -> Error {
    let said = faults.first().map_or("", |fault| &fault.what);
    match expect {
        Expect::Version(version) => {
            Error::new(ErrorKind::KeyModified, format!("expected version {version}; the server says: {said}"))
        }
        Expect::Missing => {
            Error::new(ErrorKind::KeyExists, format!("expected no key; the server says: {said}"))
        }
        Expect::Anything => Error::new(ErrorKind::Other, format!("the server says: {said}")),
    }
}

pub(crate) async fn put(
    inner: &Inner,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let (name, deadline) = (inner.names.name(key.as_str()), options.deadline);
    loop {
        let hangs = Hangs::new(inner, options, deadline).await?;
        let mut ops = Vec::with_capacity(3);
        match expect {
            Expect::Anything => {}
            Expect::Missing => ops.push(Op::check_missing(&name)),
            Expect::Version(at) => ops.push(Op::check_index(&name, modify_index(at))),
        }
        make(&mut ops, &name, &value, &hangs, expect != Expect::Missing);
        let answer = match inner.txn(Purpose::Write, deadline, &ops).await {
            Ok(Done::Committed(done)) => version_of(&done),
            Ok(Done::Refused(faults)) => Err(conflict(expect, &faults)),
            Err(e) => Err(e),
        };
        if is_undone(&answer) {
            hangs.unused();
        }
        match answer {
            Err(e) if is_over(inner, [&hangs].into_iter(), &e) && !deadline.has_passed() => {}
            answer => return hangs.written(inner, &name, answer?, deadline).await,
        }
    }
}

pub(crate) async fn delete(inner: &Inner, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let name = inner.names.name(key.as_str());
    let check = match expect {
        Expect::Missing => Op::check_missing(&name),
        Expect::Version(at) => Op::check_index(&name, modify_index(at)),
        // The deletion alone would not tell whether the key was there.
        Expect::Anything => Op::get(&name),
    };
    let before = inner.lives.before(&name, false);
    let done = inner.txn(Purpose::Write, options.deadline, &[check, Op::delete(&name)]).await?;
    match (done, expect) {
        (Done::Committed(_), _) => {
            inner.lives.deleted(before);
            Ok(expect != Expect::Missing)
        }
        (Done::Refused(faults), Expect::Anything) if faults.iter().all(Fault::is_missing) => Ok(false),
        (Done::Refused(faults), _) => Err(conflict(expect, &faults)),
    }
}

/// What a condition is on the server.
fn condition(inner: &Inner, condition: &Condition) -> Op {
    let name = |key: &Key| inner.names.name(key.as_str());
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

pub(crate) async fn transact(
    inner: &Inner,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let (Transaction { conditions, writes, .. }, deadline) = (transaction, options.deadline);
    loop {
        let hangs = all_hang(inner, &writes, deadline).await?;
        let mut ops: Vec<_> = conditions.iter().map(|c| condition(inner, c)).collect();
        let names: Vec<_> = writes.iter().map(|write| inner.names.name(write.key().as_str())).collect();
        for ((write, name), hangs) in writes.iter().zip(&names).zip(&hangs) {
            match (write, hangs) {
                (Write::Put { key, value, .. }, Some(hangs)) => {
                    let is_missing =
                        |c: &Condition| matches!(c, Condition::Missing(missing) if missing == key);
                    make(&mut ops, name, value, hangs, !conditions.iter().any(is_missing));
                }
                _ => ops.push(Op::delete(name)),
            }
        }
        let deletes = writes.iter().zip(&names).filter(|(write, _)| matches!(write, Write::Delete { .. }));
        let before = deletes.flat_map(|(_, name)| inner.lives.before(name, false)).collect();
        let answer = inner.txn(Purpose::Write, deadline, &ops).await;
        if is_undone(&answer) || matches!(answer, Ok(Done::Refused(_))) {
            hangs.iter().flatten().for_each(Hangs::unused);
        }
        let done = match answer {
            Ok(Done::Committed(done)) => done,
            Ok(Done::Refused(faults)) => {
                return match faults.iter().map(|fault| fault.at).min() {
                    Some(condition) if condition < conditions.len() => Ok(Decision::Refused { condition }),
                    _ => Err(conflict(Expect::Anything, &faults)),
                };
            }
            Err(e) if is_over(inner, hangs.iter().flatten(), &e) && !deadline.has_passed() => continue,
            Err(e) => return Err(e),
        };
        inner.lives.deleted(before);
        // All of a transaction happens at one index.
        let version = if hangs.iter().any(Option::is_some) { Some(version_of(&done)?) } else { None };
        let mut written = Vec::with_capacity(hangs.len());
        for (hangs, name) in hangs.iter().zip(&names) {
            written.push(match (hangs, version) {
                (Some(hangs), Some(version)) => Some(hangs.written(inner, name, version, deadline).await?),
                _ => None,
            });
        }
        return Ok(Decision::Committed(written));
    }
}

/// What each put hangs on; `None` for a deletion.
async fn all_hang(inner: &Inner, writes: &[Write], deadline: Deadline) -> Result<Vec<Option<Hangs>>> {
    let mut all: Vec<Option<Hangs>> = Vec::with_capacity(writes.len());
    for write in writes {
        let Write::Put { options, .. } = write else {
            all.push(None);
            continue;
        };
        match Hangs::new(inner, options, deadline).await {
            Ok(hangs) => all.push(Some(hangs)),
            Err(e) => {
                all.iter().flatten().for_each(Hangs::unused);
                return Err(e);
            }
        }
    }
    Ok(all)
}

/// Several names, in their order; in one request when all are there.
pub(crate) async fn read(
    inner: &Inner,
    names: &[String],
    purpose: Purpose,
    deadline: Deadline,
) -> Result<Vec<Option<Pair>>> {
    let mut found: Vec<Option<Pair>> = vec![None; names.len()];
    let mut wanted: Vec<usize> = (0..names.len()).collect();
    while !wanted.is_empty() {
        let (now, later) = wanted.split_at(wanted.len().min(MOST_OPS));
        let ops: Vec<_> = now.iter().map(|&at| Op::get(&names[at])).collect();
        match inner.txn(purpose, deadline, &ops).await? {
            Done::Committed(pairs) => {
                // What one may not read is left out.
                let mut pairs = pairs.into_iter().peekable();
                for &at in now {
                    match pairs.next_if(|pair| pair.name == names[at]) {
                        Some(pair) => found[at] = Some(pair),
                        None => return Err(api::hidden(&names[at])),
                    }
                }
                wanted = later.to_vec();
            }
            Done::Refused(faults) => {
                let missing = |n: &usize| faults.iter().any(|fault| fault.at == *n);
                let there = now.iter().enumerate().filter(|(n, _)| !missing(n)).map(|(_, &at)| at);
                wanted = there.chain(later.iter().copied()).collect();
            }
        }
    }
    Ok(found)
}

/// Whether the key is there, without its value: no key was ever modified at index 0.
pub(crate) async fn exists(inner: &Inner, key: &Key, options: &ReadOptions) -> Result<bool> {
    let check = Op::check_index(&inner.names.name(key.as_str()), 0);
    match inner.txn(Purpose::of(options), options.deadline, &[check]).await? {
        Done::Committed(_) => Ok(true),
        Done::Refused(faults) => Ok(!faults.iter().all(Fault::is_missing)),
    }
}
