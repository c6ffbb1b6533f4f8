//! Writes and transactions: each is one run of one script, which checks its conditions too.

pub(crate) mod adopt;
pub(crate) mod tree;

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
    version::{digest_text, nonce, version_of_text, version_text},
};
use fred::types::Value;
use kv_core::{
    Bytes, Condition, Error, ErrorKind, Key, LeaseId, Result, Version, Written,
    backend::retry::RetrySafety,
    driver::{Deadline, Decision, Expect, PutOptions, Transaction, Write, WriteOptions},
};
use std::time::Duration;

/// The names and arguments of one run of the script.
#[derive(Default)]
struct Order {
    names: Vec<String>,
    conditions: Vec<Value>,
    count: i64,
    writes: Vec<Value>,
    /// The TTL that is granted to each write.
    granted: Vec<Option<Duration>>,
}

/// The outcome of a run.
enum Done {
    Refused {
        condition: usize,
        found: Option<Version>,
    },
    /// Holds the version, and for each write whether its key was there.
    Written(Version, Vec<bool>),
}

impl Order {
    fn condition(&mut self, core: &Core, condition: &Condition) {
        self.count += 1;
        let mut about = |kind: &str, key: &Key| {
            self.names.push(core.names.key(key.as_str()));
            self.conditions.extend([kind.into(), key.as_str().into()]);
        };
        match condition {
            Condition::Exists(key) => about("exists", key),
            Condition::Missing(key) => about("missing", key),
            Condition::Version(key, version) => {
                about("version", key);
                self.conditions.push(version_text(*version).into());
            }
            Condition::Held(fence) => {
                let proof = String::from_utf8_lossy(fence.proof()).into_owned();
                let (number, contender) = proof.split_once(' ').unwrap_or_default();
                let session = contender.split(':').next().unwrap_or_default();
                let [queue, _] = core.names.lock(fence.lock());
                self.names.extend([queue, core.names.session(session)]);
                self.conditions.extend(["held".into(), contender.into(), number.into()]);
            }
        }
    }

    fn put(&mut self, core: &Core, key: &Key, value: Bytes, options: &PutOptions) {
        let lease = options.lease.as_ref().map_or("", LeaseId::as_str);
        self.names.push(core.names.key(key.as_str()));
        if !lease.is_empty() {
            let [lease, _] = core.names.lease(lease);
            self.names.push(lease);
        }
        let ttl = options.ttl.map_or(String::new(), |ttl| ttl.as_millis().to_string());
        let digest = digest_text(&value);
        self.writes.extend(["put".into(), key.as_str().into(), Value::Bytes(value)]);
        self.writes.extend([digest.into(), ttl.into(), lease.into()]);
        self.granted.push(options.ttl);
    }

    fn delete(&mut self, core: &Core, key: &Key) {
        self.names.push(core.names.key(key.as_str()));
        self.writes.extend(["delete".into(), key.as_str().into()]);
        self.granted.push(None);
    }

    async fn send(self, core: &Core, deadline: Deadline) -> Result<(Done, Vec<Option<Duration>>)> {
        let nonce = nonce();
        let head = [nonce.to_string().into(), self.count.into()];
        let arguments = head.into_iter().chain(self.conditions).chain(self.writes);
        let answer = core.run(RetrySafety::Write, deadline, &script::WRITE, self.names, arguments).await?;
        let mut answer = answer.list()?;
        let done = match next(&mut answer)?.text()?.as_str() {
            "refused" => {
                let condition = usize::try_from(next(&mut answer)?.number()?).unwrap_or_default();
                let found = next(&mut answer)?.some().map(Answer::text).transpose()?;
                Done::Refused { condition, found: found.as_deref().map(version_of_text).transpose()? }
            }
            "lease" => {
                let why = "the lease has ended, or is none of this store's";
                return Err(Error::new(ErrorKind::LeaseLost, why));
            }
            "many" => {
                let most = next(&mut answer)?.number()?;
                let why = format!(
                    "the lease can carry {most} keys, and would have more: a lease has 5,000 keys for each second of its \
                     TTL, and 200,000 at the most; put the others under another lease, or give it a longer TTL"
                );
                return Err(Error::new(ErrorKind::TooLarge, why));
            }
            "type" => {
                let (kind, key) = (next(&mut answer)?.text()?, next(&mut answer)?.text()?);
                let why = format!(
                    "another program keeps a {kind} under the name {:?}, which is left alone; delete it there first",
                    core.names.key(&key)
                );
                return Err(Error::new(ErrorKind::Corrupt, why));
            }
            _ => {
                let number = next(&mut answer)?.unsigned()?;
                let there = answer.map(|there| Ok(Answer(there).number()? == 1)).collect::<Result<_>>()?;
                Done::Written(Version::new(number, nonce), there)
            }
        };
        Ok((done, self.granted))
    }
}

/// Adds the precondition of a key.
fn expected(core: &Core, order: &mut Order, key: &Key, expect: Expect) {
    match expect {
        Expect::Anything => {}
        Expect::Missing => order.condition(core, &Condition::Missing(key.clone())),
        Expect::Version(version) => order.condition(core, &Condition::Version(key.clone(), version)),
    }
}

/// Sends one write of a key with its precondition.
async fn write_if(
    core: &Core,
    expect: Expect,
    order: Order,
    deadline: Deadline,
) -> Result<(Version, bool, Option<Duration>)> {
    match order.send(core, deadline).await? {
        (Done::Written(version, there), granted) => {
            Ok((version, there.first() == Some(&true), granted.into_iter().next().flatten()))
        }
        (Done::Refused { found, .. }, _) => {
            expect.check(found)?;
            Err(Error::new(ErrorKind::Corrupt, "the server refused a write whose condition is true"))
        }
    }
}

/// Writes a key.
pub(crate) async fn put(
    core: &Core,
    key: &Key,
    value: Bytes,
    expect: Expect,
    options: &PutOptions,
) -> Result<Written> {
    let mut order = Order::default();
    expected(core, &mut order, key, expect);
    order.put(core, key, value, options);
    let (version, _, ttl) = write_if(core, expect, order, options.deadline).await?;
    Ok(Written::new(version, ttl))
}

/// Deletes a key.
pub(crate) async fn delete(core: &Core, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
    let mut order = Order::default();
    expected(core, &mut order, key, expect);
    order.delete(core, key);
    write_if(core, expect, order, options.deadline).await.map(|(_, was_there, _)| was_there)
}

/// Does all writes of a transaction, or none.
pub(crate) async fn transact(
    core: &Core,
    transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    let mut order = Order::default();
    for condition in &transaction.conditions {
        order.condition(core, condition);
    }
    let mut puts = Vec::with_capacity(transaction.writes.len());
    for write in transaction.writes {
        puts.push(matches!(write, Write::Put { .. }));
        match write {
            Write::Put { key, value, options } => order.put(core, &key, value, &options),
            Write::Delete { key } => order.delete(core, &key),
        }
    }
    match order.send(core, options.deadline).await? {
        (Done::Refused { condition, .. }, _) => Ok(Decision::Refused { condition }),
        (Done::Written(version, _), granted) => Ok(Decision::Committed(
            puts.into_iter()
                .zip(granted)
                .map(|(is_put, ttl)| is_put.then(|| Written::new(version, ttl)))
                .collect(),
        )),
    }
}
