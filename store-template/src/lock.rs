//! Locks, made of put-if-missing, TTL and watch.
// DECIDE: whether your server has something better: keys that end with a session, and a number
// that grows with every write. If so, implement `backend::queue::Queue`, the few requests of which
// `queue::lock` makes a fair lock. Then have `transact` check `Condition::Held`, and set `fair`
// and `fenced_writes` in `core.rs`.

use crate::core::Core;
use kv_core::{
    Bytes, Fence, Holder, Key, Result,
    backend::fallback,
    driver::{Acquired, LockOptions, ReadOptions, Store, WatchOptions, WatchStream, WriteOptions},
};

/// Takes the lock. The fallback calls the store itself, as any program does.
pub(crate) async fn lock<S: Store + Clone>(
    store: &S,
    core: &Core,
    name: &Key,
    options: &LockOptions,
) -> Result<Option<Acquired>> {
    fallback::lock(store, core.server().clock(), &core.tasks, name, options).await
}

/// Returns the holder of the lock.
pub(crate) async fn holder(store: &impl Store, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    fallback::lock_holder(store, name, options).await
}

/// Changes the value of the holder of the lock.
pub(crate) async fn set_holder(
    store: &impl Store,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    fallback::set_holder(store, fence, value, options).await
}

/// Ends the acquisition of this token, if it holds the lock.
pub(crate) async fn break_lock(
    store: &impl Store,
    name: &Key,
    token: u64,
    options: &WriteOptions,
) -> Result<bool> {
    fallback::break_lock(store, name, token, options).await
}

/// Watches the holder of the lock.
pub(crate) async fn watch(store: &impl Store, name: &Key, options: &WatchOptions) -> Result<WatchStream> {
    fallback::watch_holder(store, name, options).await
}
