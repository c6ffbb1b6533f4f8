//! Locks, out of put-if-missing, TTL and watch.
// DECIDE: whether your server has something better: keys that end with a session, and a number that
// grows with every write. Then implement `backend::queue::Queue`, the few requests out of which
// `queue::lock` makes a fair lock; have `transact` check `Condition::Held`, and say `fair` and
// `fenced_writes`.

use crate::Template;
use kv_core::{
    Acquired, Holder, Key, LockOptions, Locking, ReadOptions, Result, TtlRange, WatchOptions, WatchStream,
    backend::fallback,
};

/// Where the fallback keeps its locks.
pub(crate) const AREA: &str = "lock";
pub(crate) const BELOW: &str = "/.kv/lock/";

pub(crate) fn locking(ttl: TtlRange) -> Locking {
    let mut locking = Locking::new(ttl);
    locking.fair = false;
    locking.fenced_writes = false;
    locking
}

pub(crate) async fn lock(store: &Template, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let client = store.client();
    fallback::lock(store, client.server().clock(), &client.tasks, name, options).await
}

pub(crate) async fn holder(store: &Template, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    fallback::lock_holder(store, name, options).await
}

pub(crate) async fn watch(store: &Template, name: &Key, options: &WatchOptions) -> Result<WatchStream> {
    fallback::watch_holder(store, name, options).await
}
