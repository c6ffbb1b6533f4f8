//! `put`, `delete`.

use super::{Does, Kv, Lease, awaitable, deadline, lifetime::Lifetime, part::Part};
use crate::{
    Bytes, Condition, Error, ErrorKind, Fence, Key, Result, Version, Written,
    driver::{Deadline, Decision, Expect, Store, Transaction, Write, WriteOptions},
};
use std::time::Duration;

/// [`Kv::put`] and [`Kv::atomic_put`], to be awaited, or to be a [`Step`](crate::Step) of a
/// transaction.
///
/// # Errors
/// Before any I/O: [`InvalidKey`](ErrorKind::InvalidKey), [`TooLarge`](ErrorKind::TooLarge),
/// [`Unsupported`](ErrorKind::Unsupported), [`InvalidArgument`](ErrorKind::InvalidArgument) for a
/// TTL together with a lease or above the greatest, and for two conditions of one kind that
/// differ. Then [`KeyExists`](ErrorKind::KeyExists), [`KeyModified`](ErrorKind::KeyModified),
/// [`LockLost`](ErrorKind::LockLost), [`LeaseLost`](ErrorKind::LeaseLost) as asked for;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Put {
    kv: Kv,
    /// The call that the program makes.
    operation: &'static str,
    /// The key, or what is wrong with the call.
    key: Result<Key>,
    value: Bytes,
    expect: Expect,
    life: Lifetime,
    fence: Option<Fence>,
    within: Duration,
}

impl Put {
    pub(super) fn new(
        kv: &Kv,
        operation: &'static str,
        key: Result<Key>,
        value: Bytes,
        expect: Expect,
    ) -> Self {
        let (kv, within, life) = (kv.clone(), kv.deadline, Lifetime::default());
        Self { kv, operation, key, value, expect, life, fence: None, within }
    }
    /// Sets how long the key lives after this write, at least. The TTL is rounded up to the
    /// server's unit and raised to its least, and the answer tells what was granted.
    /// [`Capabilities::lateness`](crate::Capabilities::lateness) tells how much longer the key may
    /// be seen.
    #[doc(alias = "expire")]
    #[doc(alias = "expiry")]
    #[doc(alias = "timeout")]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.life.ttl = Some(ttl);
        self
    }
    /// Has the key live as long as the lease.
    #[doc(alias = "ephemeral")]
    #[doc(alias = "session")]
    pub fn lease(mut self, lease: &Lease) -> Self {
        self.life.lease = Some(lease.id().clone());
        self
    }
    /// Makes the put only if the key is not there; else it fails with
    /// [`KeyExists`](ErrorKind::KeyExists).
    #[doc(alias = "create")]
    #[doc(alias = "put_if_absent")]
    #[doc(alias = "setnx")]
    pub fn if_missing(mut self) -> Self {
        expects(&mut self.key, &mut self.expect, Expect::Missing);
        self
    }
    /// Makes the write only if the key is at this version; else it fails with
    /// [`KeyModified`](ErrorKind::KeyModified), also when the key is gone.
    #[doc(alias = "cas")]
    #[doc(alias = "compare_and_swap")]
    #[doc(alias = "if_match")]
    pub fn if_version(mut self, version: Version) -> Self {
        expects(&mut self.key, &mut self.expect, Expect::Version(version));
        self
    }
    /// Makes the put only while the lock is held, which the store decides in the same step; else
    /// it fails with [`LockLost`](ErrorKind::LockLost).
    ///
    /// It takes a guard, or the guard's [`Fence`] where another task has the guard.
    #[doc(alias = "fencing_token")]
    pub fn fenced(mut self, lock: impl AsRef<Fence>) -> Self {
        depends_on(&mut self.key, &mut self.fence, lock.as_ref());
        self
    }
    deadline!();

    /// Sets these options in place of all that there were.
    pub(super) fn with(mut self, life: Lifetime, fence: Option<Fence>, within: Duration) -> Self {
        (self.life, self.fence, self.within) = (life, fence, within);
        self
    }

    /// Makes the call.
    pub(super) async fn run(self) -> Result<Written> {
        let Self { kv, operation, key, value, expect, life, fence, within } = self;
        let key = &key.map_err(|e| kv.in_call(e, operation, None))?;
        let (store, deadline) = kv.begin(within);
        let put = async {
            store.capabilities().check_value(&value)?;
            let options = life.options(store.capabilities(), deadline)?;
            let whole = kv.part().whole(key)?;
            let Some(fence) = fence else {
                return store.put(&whole, value, expect, &options).await;
            };
            let write = Write::Put { key: whole.into_owned(), value, options };
            // It is boxed apart: every put would carry its size.
            let written = Box::pin(fenced(store, fence, expect, write, deadline)).await?;
            written.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the store gave a put no version"))
        };
        kv.call(operation, Some(key.as_str()), Does::Write, deadline, put).await
    }

    /// Returns the put as a piece of a transaction, with the part of the tree that it names.
    pub(super) fn step(self) -> (Part, Result<(Vec<Condition>, Write)>) {
        let Self { kv, key, value, expect, life, fence, .. } = self;
        let piece = key.and_then(|key| {
            kv.capabilities().check_value(&value)?;
            // The transaction sets its own deadline.
            let options = life.options(kv.capabilities(), Deadline::NEVER)?;
            Ok((conditions(fence, &key, expect), Write::Put { key, value, options }))
        });
        (kv.part().clone(), piece)
    }
}
awaitable!(Put => Written, Put::run);

/// [`Kv::delete`] and [`Kv::atomic_delete`], to be awaited, or to be a [`Step`](crate::Step) of a
/// transaction.
///
/// # Errors
/// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), and
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for two conditions of one kind that differ;
/// [`KeyModified`](ErrorKind::KeyModified) and [`LockLost`](ErrorKind::LockLost) as asked for;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost. A missing key is no
/// error unless a version was expected.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Delete {
    kv: Kv,
    /// The call that the program makes.
    operation: &'static str,
    /// The key, or what is wrong with the call.
    key: Result<Key>,
    expect: Expect,
    fence: Option<Fence>,
    within: Duration,
}

impl Delete {
    pub(super) fn new(kv: &Kv, operation: &'static str, key: Result<Key>, expect: Expect) -> Self {
        Self { kv: kv.clone(), operation, key, expect, fence: None, within: kv.deadline }
    }
    /// Makes the write only if the key is at this version; else it fails with
    /// [`KeyModified`](ErrorKind::KeyModified), also when the key is gone.
    #[doc(alias = "cas")]
    #[doc(alias = "compare_and_delete")]
    #[doc(alias = "if_match")]
    pub fn if_version(mut self, version: Version) -> Self {
        expects(&mut self.key, &mut self.expect, Expect::Version(version));
        self
    }
    /// Makes the deletion only while the lock is held, which the store decides in the same step;
    /// else it fails with [`LockLost`](ErrorKind::LockLost). The answer is then `true` whether the
    /// key was there or not, unless a version is expected too.
    ///
    /// It takes a guard, or the guard's [`Fence`] where another task has the guard.
    #[doc(alias = "fencing_token")]
    pub fn fenced(mut self, lock: impl AsRef<Fence>) -> Self {
        depends_on(&mut self.key, &mut self.fence, lock.as_ref());
        self
    }
    deadline!();

    /// Makes the call.
    pub(super) async fn run(self) -> Result<bool> {
        let Self { kv, operation, key, expect, fence, within } = self;
        let key = &key.map_err(|e| kv.in_call(e, operation, None))?;
        let (store, deadline) = kv.begin(within);
        let delete = async {
            let whole = kv.part().whole(key)?;
            let Some(fence) = fence else {
                return store.delete(&whole, expect, &WriteOptions { deadline }).await;
            };
            let write = Write::Delete { key: whole.into_owned() };
            Box::pin(fenced(store, fence, expect, write, deadline)).await.map(|_| true)
        };
        kv.call(operation, Some(key.as_str()), Does::Write, deadline, delete).await
    }

    /// Returns the deletion as a piece of a transaction, with the part of the tree that it names.
    pub(super) fn step(self) -> (Part, Result<(Vec<Condition>, Write)>) {
        let Self { kv, key, expect, fence, .. } = self;
        (kv.part().clone(), key.map(|key| (conditions(fence, &key, expect), Write::Delete { key })))
    }
}
awaitable!(Delete => bool, Delete::run);

/// Notes the precondition of the key: neither of two that differ may be dropped in silence.
fn expects(key: &mut Result<Key>, expect: &mut Expect, new: Expect) {
    if *expect != Expect::Anything && *expect != new {
        contradicts(
            key,
            format!("the write expects {expect:?} and {new:?} of its key; it has one condition"),
        );
    }
    *expect = new;
}

/// Notes the lock that the write depends on, by the same rule.
pub(super) fn depends_on(key: &mut Result<Key>, fence: &mut Option<Fence>, new: &Fence) {
    if let Some(before) = fence.as_ref().filter(|before| *before != new) {
        let why = format!(
            "the write is fenced by {before:?} and by {new:?}; a transaction takes both by `when_held`"
        );
        contradicts(key, why);
    }
    *fence = Some(new.clone());
}

#[cold]
fn contradicts(key: &mut Result<Key>, why: String) {
    if key.is_ok() {
        *key = Err(Error::new(ErrorKind::InvalidArgument, why));
    }
}

fn conditions(fence: Option<Fence>, key: &Key, expect: Expect) -> Vec<Condition> {
    let expected = match expect {
        Expect::Anything => None,
        Expect::Missing => Some(Condition::Missing(key.clone())),
        Expect::Version(version) => Some(Condition::Version(key.clone(), version)),
    };
    fence.map(Condition::Held).into_iter().chain(expected).collect()
}

/// Makes one write that depends on a lock: by a transaction, whose refusal is an error here.
async fn fenced(
    store: &dyn Store,
    fence: Fence,
    expect: Expect,
    write: Write,
    deadline: Deadline,
) -> Result<Option<Written>> {
    store.capabilities().check_fence()?;
    let held = fence.clone();
    let transaction = Transaction::new(conditions(Some(fence), write.key(), expect), vec![write]);
    super::transact::check(store.capabilities(), &Part::default(), &transaction)?;
    match store.transact(transaction, &WriteOptions { deadline }).await? {
        Decision::Committed(written) => Ok(written.into_iter().next().flatten()),
        Decision::Refused { condition: 0 } => Err(lock_lost(&held)),
        Decision::Refused { .. } => Err(expect.refused()),
    }
}

/// Returns the error of a write that depends on a lock which is lost.
#[cold]
pub(super) fn lock_lost(fence: &Fence) -> Error {
    let why = format!("{fence:?} is no longer held; acquire it anew before writing");
    Error::new(ErrorKind::LockLost, why)
}
