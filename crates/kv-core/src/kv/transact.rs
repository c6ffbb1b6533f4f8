//! `transact`.

use super::{Delete, Does, Kv, Put, awaitable, deadline};
use crate::{
    Capabilities, Condition, Error, ErrorKind, Fence, IntoKey, Outcome, Refusal, Result, Version,
    driver::{Decision, Transaction, Write, WriteOptions},
};
use std::{collections::HashSet, time::Duration};

/// [`Kv::transact`], to be awaited: conditions and writes, all or nothing, at one moment.
///
/// Conditions count in the order in which they are added, by `when…` and by the steps of
/// [`then`](Self::then). [`Outcome::Refused`] names the first that is not true, with its index.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Outcome;
///
/// let kv = kv_memory::open("memory://").await?;
/// let from = kv.put("account/a", "70").await?.version;
/// let moved = kv
///     .transact()
///     .when_version("account/a", from)
///     .then(kv.put("account/a", "0"))
///     .then(kv.put("account/b", "70").if_missing())
///     .await?;
/// assert!(moved.is_committed());
/// let again = kv.transact().when_version("account/a", from).then(kv.delete("account/b")).await?;
/// let Outcome::Refused(refusal) = again else { panic!("a stale version never matches") };
/// assert_eq!(refusal.to_string(), format!("condition 0: the key \"account/a\" is not at version {from}"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Before any I/O: [`Unsupported`](ErrorKind::Unsupported);
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a key that is written twice;
/// [`TooLarge`](ErrorKind::TooLarge) for more than the store's [`Capabilities`] allow; what a
/// [`Put`] refuses. Then [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost. A
/// condition that is not true is no error.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Txn {
    kv: Kv,
    transaction: Result<Transaction>,
    within: Duration,
}

impl Txn {
    pub(super) fn new(kv: &Kv) -> Self {
        Self { kv: kv.clone(), transaction: Ok(Transaction::default()), within: kv.deadline }
    }
    deadline!();

    fn add(mut self, part: Result<(Vec<Condition>, Option<Write>)>) -> Self {
        match (&mut self.transaction, part) {
            (Ok(transaction), Ok((conditions, write))) => {
                transaction.conditions.extend(conditions);
                transaction.writes.extend(write);
            }
            (Ok(_), Err(e)) => self.transaction = Err(e),
            (Err(_), _) => {}
        }
        self
    }

    /// Adds a condition.
    pub fn when(self, condition: Condition) -> Self {
        self.add(Ok((vec![condition], None)))
    }
    /// Adds the condition that the key is at this version.
    pub fn when_version(self, key: impl IntoKey, version: Version) -> Self {
        self.add(key.into_key().map(|key| (vec![Condition::Version(key, version)], None)))
    }
    /// Adds the condition that the key is there.
    pub fn when_exists(self, key: impl IntoKey) -> Self {
        self.add(key.into_key().map(|key| (vec![Condition::Exists(key)], None)))
    }
    /// Adds the condition that the key is not there.
    pub fn when_missing(self, key: impl IntoKey) -> Self {
        self.add(key.into_key().map(|key| (vec![Condition::Missing(key)], None)))
    }
    /// Adds the condition that the lock is held; it takes the lock's guard, or its [`Fence`].
    pub fn when_held(self, lock: impl AsRef<Fence>) -> Self {
        self.when(Condition::Held(lock.as_ref().clone()))
    }
    /// Adds a write: `kv.put(..)` or `kv.delete(..)` with its options, not awaited. Its own
    /// conditions become conditions of the transaction; its deadline does not count.
    pub fn then(self, step: impl Into<Step>) -> Self {
        self.add(step.into().0.map(|(conditions, write)| (conditions, Some(write))))
    }

    async fn run(self) -> Result<Outcome> {
        let transaction = self.transaction.map_err(|e| self.kv.in_call(e, "transact", None))?;
        let (store, deadline) = self.kv.begin(self.within);
        let transact = async {
            check(store.capabilities(), &transaction)?;
            let mut conditions = transaction.conditions.clone();
            match store.transact(transaction, &WriteOptions { deadline }).await? {
                Decision::Committed(written) => Ok(Outcome::Committed(written)),
                Decision::Refused { condition: index } if index < conditions.len() => {
                    Ok(Outcome::Refused(Refusal { index, condition: conditions.swap_remove(index) }))
                }
                // The store says that nothing was written, for a condition that nobody asked for.
                Decision::Refused { condition } => Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the store refused by condition {condition}; there is none of that number"),
                )),
            }
        };
        self.kv.call("transact", None, Does::Write, deadline, transact).await
    }
}
awaitable!(Txn => Outcome, Txn::run);

pub(super) fn check(capabilities: &Capabilities, transaction: &Transaction) -> Result<()> {
    let Transaction { conditions, writes } = transaction;
    let (operations, most) = (conditions.len() + writes.len(), capabilities.max_txn_ops);
    if most == 0 {
        return Err(capabilities.unsupported("transactions"));
    }
    if operations > most {
        let why =
            format!("{operations} conditions and writes in one transaction; this store takes at most {most}");
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    if conditions.iter().any(|c| matches!(c, Condition::Held(_))) {
        capabilities.check_fence()?;
    }
    let (mut written, mut bytes) = (HashSet::with_capacity(writes.len()), 0);
    for write in writes {
        if !written.insert(write.key()) {
            let why = format!("the key {:?} is written twice in one transaction", write.key());
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        bytes += write.key().as_str().len();
        if let Write::Put { value, .. } = write {
            bytes += value.len();
        }
    }
    if bytes > capabilities.max_txn_bytes {
        let most = capabilities.max_txn_bytes;
        let why =
            format!("{bytes} bytes of keys and values in one transaction; this store takes at most {most}");
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    Ok(())
}

/// One write of a transaction, with its own conditions: made of a [`Put`] or a [`Delete`] that is
/// not awaited.
#[derive(Debug)]
pub struct Step(Result<(Vec<Condition>, Write)>);

impl From<Put> for Step {
    fn from(put: Put) -> Self {
        Self(put.step())
    }
}

impl From<Delete> for Step {
    fn from(delete: Delete) -> Self {
        Self(delete.step())
    }
}
