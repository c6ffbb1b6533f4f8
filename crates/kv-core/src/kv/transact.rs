//! `transact`.

use super::{Delete, Does, Kv, Put, awaitable, deadline, part::Part};
use crate::{
    Capabilities, Condition, Error, ErrorKind, Fence, IntoKey, Key, Outcome, Refusal, Result, Version,
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
    /// The transaction by whole names, or what is wrong with it.
    transaction: Result<Transaction>,
    /// The conditions as they were given, for the refusal.
    given: Vec<Condition>,
    within: Duration,
}

impl Txn {
    pub(super) fn new(kv: &Kv) -> Self {
        let (transaction, given) = (Ok(Transaction::default()), Vec::new());
        Self { kv: kv.clone(), transaction, given, within: kv.deadline }
    }
    deadline!();

    /// Adds a piece, whose names are those in this part of the tree.
    fn add(mut self, part: &Part, piece: Result<(Vec<Condition>, Option<Write>)>) -> Self {
        let Ok(transaction) = &mut self.transaction else { return self };
        let added = piece.and_then(|(given, write)| {
            for condition in given {
                transaction.conditions.push(part.whole_condition(&condition)?);
                self.given.push(condition);
            }
            transaction.writes.extend(write.map(|write| part.whole_write(write)).transpose()?);
            Ok(())
        });
        if let Err(e) = added {
            self.transaction = Err(e);
        }
        self
    }

    /// Adds a piece, whose names are those of the handle.
    fn add_own(self, piece: Result<(Vec<Condition>, Option<Write>)>) -> Self {
        let part = self.kv.part().clone();
        self.add(&part, piece)
    }

    /// Adds a condition.
    pub fn when(self, condition: Condition) -> Self {
        self.add_own(Ok((vec![condition], None)))
    }
    /// Adds the condition that the key is at this version.
    #[doc(alias = "cas")]
    #[doc(alias = "if_match")]
    pub fn when_version(self, key: impl IntoKey, version: Version) -> Self {
        self.add_own(key.into_key().map(|key| (vec![Condition::Version(key, version)], None)))
    }
    /// Adds the condition that the key is there.
    pub fn when_exists(self, key: impl IntoKey) -> Self {
        self.add_own(key.into_key().map(|key| (vec![Condition::Exists(key)], None)))
    }
    /// Adds the condition that the key is not there.
    pub fn when_missing(self, key: impl IntoKey) -> Self {
        self.add_own(key.into_key().map(|key| (vec![Condition::Missing(key)], None)))
    }
    /// Adds the condition that the lock is held; it takes the lock's guard, or its [`Fence`].
    #[doc(alias = "fencing_token")]
    pub fn when_held(self, lock: impl AsRef<Fence>) -> Self {
        self.when(Condition::Held(lock.as_ref().clone()))
    }
    /// Adds a write: `kv.put(..)` or `kv.delete(..)` with its options, not awaited. Its own
    /// conditions become conditions of the transaction; its deadline does not count. It may be of
    /// another handle on the same store, made by [`Kv::within`]: its key is the one that it is
    /// there.
    pub fn then(self, step: impl Into<Step>) -> Self {
        let Step { part, piece } = step.into();
        self.add(&part, piece.map(|(conditions, write)| (conditions, Some(write))))
    }

    fn run(self) -> impl Future<Output = Result<Outcome>> {
        self.send("transact", None)
    }

    /// Makes the call, as a part of this operation on this key.
    pub(super) async fn send(self, operation: &'static str, key: Option<&Key>) -> Result<Outcome> {
        let key = key.map(Key::as_str);
        let mut transaction = self.transaction.map_err(|e| self.kv.in_call(e, operation, key))?;
        let (store, deadline) = self.kv.begin(self.within);
        for write in &mut transaction.writes {
            if let Write::Put { options, .. } = write {
                options.deadline = deadline;
            }
        }
        let transact = async {
            check(store.capabilities(), self.kv.part(), &transaction)?;
            match store.transact(transaction, &WriteOptions { deadline }).await? {
                Decision::Committed(written) => Ok(Outcome::Committed(written)),
                Decision::Refused { condition: index } if index < self.given.len() => {
                    Ok(Outcome::Refused(Refusal { index, condition: self.given[index].clone() }))
                }
                // The store says that nothing was written, for a condition that nobody asked for.
                Decision::Refused { condition } => Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the store refused by condition {condition}; there is none of that number"),
                )),
            }
        };
        self.kv.call(operation, key, Does::Write, deadline, transact).await
    }
}
awaitable!(Txn => Outcome, Txn::run);

/// Checks a transaction, of which an error shows the names that they are in this part of the tree.
pub(super) fn check(capabilities: &Capabilities, part: &Part, transaction: &Transaction) -> Result<()> {
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
            let why = format!("the key {:?} is written twice in one transaction", part.shown(write.key()));
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
pub struct Step {
    /// The part of the tree in which the names are given.
    part: Part,
    piece: Result<(Vec<Condition>, Write)>,
}

impl From<Put> for Step {
    fn from(put: Put) -> Self {
        let (part, piece) = put.step();
        Self { part, piece }
    }
}

impl From<Delete> for Step {
    fn from(delete: Delete) -> Self {
        let (part, piece) = delete.step();
        Self { part, piece }
    }
}
