//! Things that live as long as somebody uses them.

use super::Mutex;
use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Weak},
};

/// Holds things that are made for the first who uses them, that others share, and that are dropped
/// with the last: the source of a [`Hub`](super::Hub) that runs while there are watches, or the
/// connections that the stores of one server have together. Each has a key, such as the runtime
/// that it lives in.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::backend::{AbortOnDrop, Hub, WhileUsed};
/// use std::{future::pending, sync::Arc};
/// use tokio::runtime::Handle;
///
/// /// What each watch holds.
/// struct Feed {
///     hub: Hub,
///     _reads: AbortOnDrop,
/// }
///
/// let start = || {
///     let hub = Hub::new();
///     let reads = tokio::spawn(pending::<()>()); // it would read, and publish to the hub
///     Feed { hub, _reads: AbortOnDrop::new(reads.abort_handle()) }
/// };
/// let (feeds, here) = (WhileUsed::new(), Handle::current().id());
/// let (one, other) = (feeds.get_or(here, start), feeds.get_or(here, start));
/// assert!(Arc::ptr_eq(&one, &other) && one.hub.subscribers() == 0);
/// drop((one, other)); // the last watch ends, and the task with it
/// assert!(feeds.get(&here).is_none());
/// # }
/// ```
pub struct WhileUsed<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K: Eq + Hash, V> WhileUsed<K, V> {
    /// Makes one that holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Returns the thing of this key, if somebody uses it.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.0.lock().get(key).and_then(Weak::upgrade)
    }

    /// Returns the thing of this key; makes it where nobody uses one. `make` must not come back
    /// here: others wait for it.
    pub fn get_or(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut all = self.0.lock();
        if let Some(there) = all.get(&key).and_then(Weak::upgrade) {
            return there;
        }
        all.retain(|_, thing| thing.strong_count() > 0);
        let new = Arc::new(make());
        all.insert(key, Arc::downgrade(&new));
        new
    }

    /// Returns all things that somebody uses, with their keys.
    pub fn all(&self) -> Vec<(K, Arc<V>)>
    where
        K: Clone,
    {
        let all = self.0.lock();
        all.iter().filter_map(|(key, thing)| Some((key.clone(), thing.upgrade()?))).collect()
    }
}

impl<K: Eq + Hash, V> Default for WhileUsed<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for WhileUsed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.lock().values().filter(|thing| thing.strong_count() > 0).count();
        write!(f, "WhileUsed({used} in use)")
    }
}
