//! The actions of an administrator and of foreign tools, by which tests change a store from
//! outside.

use crate::{data::Life, store::Memory};
use bytes::Bytes;
use kv_core::{IntoKey, LeaseId, Result};

impl Memory {
    /// Takes the lock of this name, below this client's prefix, away from its holder, as an
    /// administrator could; tells whether it was held. The next contender gets it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// # use kv_core::{ErrorKind, Kv};
    /// let memory = kv_memory::Memory::new();
    /// let kv = Kv::new(memory.clone());
    /// let guard = kv.new_lock("leader").acquire().await?;
    /// assert!(memory.evict_lock("leader")?);
    /// assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](kv_core::ErrorKind::InvalidKey) for the name.
    pub fn evict_lock(&self, name: impl IntoKey) -> Result<bool> {
        let lock = self.0.lock_name(&name.into_key()?);
        Ok(self.0.look().evict(&lock, "an administrator took it away"))
    }

    pub(crate) fn evict_lease(&self, id: &LeaseId) -> bool {
        let mut data = self.0.look();
        data.lease(id).is_ok_and(|id| data.evict_lease(id, "an administrator ended it"))
    }

    /// Returns the value under this whole name, whatever the client's prefix. The name is any
    /// text, in normal form or not.
    pub fn raw_get(&self, name: &str) -> Option<Bytes> {
        self.0.look().entries.get(name).map(|record| record.value().clone())
    }

    /// Writes under this whole name, as a tool could that does not know this library. The name is
    /// any text, in normal form or not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let memory = kv_memory::Memory::new();
    /// memory.raw_put("app//x", "no key");
    /// memory.raw_put("app/x", "a key");
    /// let kv = kv_core::Kv::new(memory.with_prefix("app/"));
    /// assert_eq!(kv.list("").await?.len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn raw_put(&self, name: &str, value: impl Into<Bytes>) {
        let value = value.into();
        self.0.look().put(name, None, value, Life::Forever);
    }

    /// Deletes this whole name; tells whether it was there.
    pub fn raw_delete(&self, name: &str) -> bool {
        self.0.look().remove(name)
    }

    /// Lists, in words, what exists below this client's prefix beside data: internal keys, leases,
    /// locks and watches. It is for tests that a program leaves nothing behind. What the program
    /// dropped is given back in the background, a moment later.
    pub fn leftovers(&self) -> Vec<String> {
        let (data, prefix) = (self.0.look(), &*self.0.prefix);
        let internal =
            data.entries.iter().filter(|(name, record)| name.starts_with(prefix) && record.is_internal());
        let mut left: Vec<_> = internal.map(|(name, _)| format!("the key {name:?}")).collect();
        let leases = data.leases.iter().filter(|(_, lease)| *lease.prefix == *prefix);
        left.extend(leases.map(|(id, lease)| format!("the lease {id} with {} keys", lease.keys.len())));
        let locks = data.locks.iter().filter(|((of, _), _)| **of == *prefix);
        left.extend(
            locks.map(|((_, name), line)| format!("the lock {name:?} with {} in line", line.waiting())),
        );
        match data.watches(prefix) {
            0 => {}
            watches => left.push(format!("{watches} watches")),
        }
        left
    }
}
