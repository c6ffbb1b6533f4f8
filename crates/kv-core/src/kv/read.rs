//! `get`, `get_many`, `exists`, `health`.

use super::{Does, Kv, awaitable, deadline};
use crate::{Consistency, Entry, Health, Key, Result, driver::ReadOptions};
use std::time::Duration;

/// [`Kv::get`], to be awaited.
///
/// # Errors
/// [`InvalidKey`](crate::ErrorKind::InvalidKey); [`Timeout`](crate::ErrorKind::Timeout),
/// [`Unavailable`](crate::ErrorKind::Unavailable) and the server's refusals. A missing key is no
/// error.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Get {
    kv: Kv,
    key: Result<Key>,
    consistency: Consistency,
    within: Duration,
}

impl Get {
    pub(super) fn new(kv: &Kv, key: Result<Key>) -> Self {
        Self { kv: kv.clone(), key, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past. This is cheaper, and works without a leader where
    /// the server allows it.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    deadline!();

    fn run(self) -> impl Future<Output = Result<Option<Entry>>> {
        self.send("get")
    }

    /// Makes the call, as a part of this operation.
    pub(super) async fn send(self, operation: &'static str) -> Result<Option<Entry>> {
        let Self { kv, key, consistency, within } = self;
        let key = &key.map_err(|e| kv.in_call(e, operation, None))?;
        let (store, deadline) = kv.begin(within);
        let get = async {
            store.capabilities().check_consistency(consistency)?;
            let whole = kv.part().whole(key)?;
            let found = store.get(&whole, &ReadOptions { consistency, deadline }).await?;
            found.map(|entry| kv.part().own_entry(entry)).transpose()
        };
        kv.call(operation, Some(key.as_str()), Does::Read, deadline, get).await
    }
}
awaitable!(Get => Option<Entry>, Get::run);

/// [`Kv::get_many`], to be awaited. Without keys there is no request.
///
/// # Errors
/// Those of [`Get`].
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct GetMany {
    kv: Kv,
    keys: Result<Vec<Key>>,
    consistency: Consistency,
    within: Duration,
}

impl GetMany {
    pub(super) fn new(kv: &Kv, keys: Result<Vec<Key>>) -> Self {
        Self { kv: kv.clone(), keys, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    deadline!();

    async fn run(self) -> Result<Vec<Option<Entry>>> {
        let Self { kv, keys, consistency, within } = self;
        let keys = keys.map_err(|e| kv.in_call(e, "get_many", None))?;
        let (store, deadline) = kv.begin(within);
        let get_many = async {
            store.capabilities().check_consistency(consistency)?;
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let whole = kv.part().whole_keys(&keys)?;
            let found = store.get_many(&whole, &ReadOptions { consistency, deadline }).await?;
            if kv.part().is_whole_tree() {
                return Ok(found);
            }
            found.into_iter().map(|entry| entry.map(|entry| kv.part().own_entry(entry)).transpose()).collect()
        };
        kv.call("get_many", None, Does::Read, deadline, get_many).await
    }
}
awaitable!(GetMany => Vec<Option<Entry>>, GetMany::run);

/// [`Kv::exists`], to be awaited.
///
/// # Errors
/// Those of [`Get`].
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Exists {
    kv: Kv,
    key: Result<Key>,
    consistency: Consistency,
    within: Duration,
}

impl Exists {
    pub(super) fn new(kv: &Kv, key: Result<Key>) -> Self {
        Self { kv: kv.clone(), key, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    deadline!();

    async fn run(self) -> Result<bool> {
        let Self { kv, key, consistency, within } = self;
        let key = &key.map_err(|e| kv.in_call(e, "exists", None))?;
        let (store, deadline) = kv.begin(within);
        let exists = async {
            store.capabilities().check_consistency(consistency)?;
            let whole = kv.part().whole(key)?;
            store.exists(&whole, &ReadOptions { consistency, deadline }).await
        };
        kv.call("exists", Some(key.as_str()), Does::Read, deadline, exists).await
    }
}
awaitable!(Exists => bool, Exists::run);

/// [`Kv::health`], to be awaited.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) where the store has none;
/// [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable) and the
/// server's refusals.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct HealthCall {
    kv: Kv,
    within: Duration,
}

impl HealthCall {
    pub(super) fn new(kv: &Kv) -> Self {
        Self { kv: kv.clone(), within: kv.deadline }
    }
    deadline!();

    async fn run(self) -> Result<Health> {
        let (store, deadline) = self.kv.begin(self.within);
        let health = async {
            if !store.capabilities().health {
                return Err(store.capabilities().unsupported("health"));
            }
            store.health(&ReadOptions { consistency: Consistency::Linearizable, deadline }).await
        };
        self.kv.call("health", None, Does::Read, deadline, health).await
    }
}
awaitable!(HealthCall => Health, HealthCall::run);
