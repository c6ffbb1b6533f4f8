//! `Encrypt`: values that the server cannot read.

mod keyring;
mod seal;

pub use keyring::Keyring;

use crate::events;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Health, Holder, Item, Key, Result,
    WatchEvent, Written,
    driver::{
        Acquired, Batch, Cursor, Decision, Expect, Layer, LeaseOptions, Leased, ListOptions, LockOptions,
        LockPage, Page, PutOptions, ReadOptions, Store, Target, Transaction, WatchOptions, WatchStream,
        Write, WriteOptions, async_trait,
    },
};
use seal::{OVERHEAD, Of};
use std::{sync::Arc, time::Duration};

/// Counts the bytes of the longest key that a store takes.
const LONGEST_KEY: usize = 1000;

/// A layer that encrypts values, with AES-256-GCM: those of keys, and those that holders of locks
/// give. The server and its backups have names, versions, sizes and times in the clear, and
/// nothing of the values.
///
/// Each value is bound to the name of its key or lock, and to the number of the key that sealed
/// it: a value that somebody changed, or moved to another name, is
/// [`Corrupt`](ErrorKind::Corrupt), and is never read as a value. Whoever can write to the server
/// can still bring back an older value of the same key, or delete it. The names are those that
/// this layer sees: a [`Prefix`](crate::Prefix) above it belongs to them, one below it does not.
/// So the order of the two may not be changed later.
///
/// Conditions look at versions alone, so that compare-and-swap, transactions and fenced writes
/// work as without the layer. The same value is never sealed alike, so that nobody sees whether a
/// write changed it.
///
/// What was written without the layer is [`Corrupt`](ErrorKind::Corrupt) with it, and so are the
/// listings and watches that meet it. To encrypt a store that is in use, write it anew through the
/// layer into another directory or store.
///
/// # Capabilities
/// `max_txn_bytes` is less by 36 bytes for each operation that a transaction can have, so that each
/// transaction within it has room in the store when it is sealed. `max_value` is 36 bytes less, or
/// as much less as leaves room for it in a transaction: on a store whose transactions take one
/// greatest value and its key, it is less by those 36 bytes for each operation, too (4608 bytes on
/// etcd). A store whose greatest value is 256 KiB then takes less than the contract promises.
/// `native_values` is `false`: the server's own tools see sealed bytes.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt), naming the key, for a value that does not open: it ends the
/// listing or the watch that meets it. The message says whether it was never sealed, was sealed
/// with a key that the [`Keyring`] does not have, or was changed.
///
/// # Cancel safety
/// That of the store below: the layer itself never waits.
///
/// # Cost
/// A copy of each value with the work of the cipher, for which most processors have instructions,
/// and 36 bytes on the server. A call that carries many megabytes keeps its thread for as long as
/// they take. Keys only, existence and deletions cost nothing more.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::{Encrypt, Keyring};
///
/// # let key = [7; 32];
/// let store = kv_memory::open("memory://").await?;
/// let kv = store.clone().layer(Encrypt::new(&Keyring::new(1, key)));
/// let seen = kv.put("db/password", "hunter2").await?.version;
/// assert_eq!(kv.get("db/password").await?.unwrap().text(), Some("hunter2"));
/// kv.put("db/password", "hunter3").if_version(seen).await?;
///
/// let stored = store.get("db/password").await?.unwrap();
/// assert_eq!(stored.value.len(), "hunter3".len() + 36);
/// store.put("db/other", stored.value).await?; // somebody moves it
/// assert_eq!(kv.get("db/other").await.unwrap_err().kind(), kv_core::ErrorKind::Corrupt);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Encrypt(Keyring);

impl Encrypt {
    /// Makes the layer with these keys.
    pub fn new(keys: &Keyring) -> Self {
        Self(keys.clone())
    }

    /// Returns the number of the key that sealed a value, as a handle without the layer reads it;
    /// `None` for a value that is not sealed.
    pub fn key_of(stored: &[u8]) -> Option<u32> {
        seal::key_of(stored)
    }
}

impl Layer for Encrypt {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let capabilities = capabilities(inner.as_ref().capabilities());
        Arc::new(Encrypted { inner, keys: self.0.clone(), capabilities })
    }
}

fn capabilities(below: &Capabilities) -> Capabilities {
    let mut c = below.clone();
    c.native_values = false;
    c.max_value = below.max_value.saturating_sub(OVERHEAD);
    if below.max_txn_ops > 0 {
        c.max_txn_bytes = below.max_txn_bytes.saturating_sub(OVERHEAD.saturating_mul(below.max_txn_ops));
        c.max_value = c.max_value.min(c.max_txn_bytes.saturating_sub(LONGEST_KEY));
    }
    c
}

#[derive(Debug)]
struct Encrypted {
    inner: Arc<dyn Store>,
    keys: Keyring,
    capabilities: Capabilities,
}

impl Encrypted {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    /// Seals the values of a transaction, and checks that the store takes it as it is then: a layer
    /// above this one may have made its names longer.
    fn seal_all(&self, transaction: &mut Transaction) -> Result<()> {
        let mut bytes = 0_usize;
        for write in &mut transaction.writes {
            bytes = bytes.saturating_add(write.key().as_str().len());
            if let Write::Put { key, value, .. } = write {
                *value = seal::seal(&self.keys, Of::Key, key, value)?;
                bytes = bytes.saturating_add(value.len());
            }
        }
        let most = self.below().capabilities().max_txn_bytes;
        if bytes > most {
            let why = format!(
                "{bytes} bytes of keys and sealed values in one transaction; this store takes at most {most}"
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        Ok(())
    }
}

fn opened(keys: &Keyring, mut entry: Entry) -> Result<Entry> {
    entry.value = seal::open(keys, Of::Key, &entry.key, &entry.value)?;
    Ok(entry)
}

/// Opens the value that was found of this very key, whatever name the answer has.
fn opened_of(keys: &Keyring, key: &Key, found: Option<Entry>) -> Result<Option<Entry>> {
    let Some(mut entry) = found else { return Ok(None) };
    entry.value = seal::open(keys, Of::Key, key, &entry.value)?;
    Ok(Some(entry))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Encrypted {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        opened_of(&self.keys, key, self.below().get(key, options).await?)
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        let sealed = seal::seal(&self.keys, Of::Key, key, &value)?;
        self.below().put(key, sealed, expect, options).await
    }

    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.below().delete(key, expect, options).await
    }

    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        let Page { items, next } = self.below().list(directory, from, options).await?;
        let open = |item| match item {
            Item::Entry(entry) => opened(&self.keys, entry).map(Item::Entry),
            other => Ok(other),
        };
        Ok(Page { items: items.into_iter().map(open).collect::<Result<_>>()?, next })
    }

    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        let changes = self.below().watch(target, options).await?;
        let keys = self.keys.clone();
        let of = match target {
            Target::Key(_) | Target::Tree(_) => Of::Key,
            Target::Holder(_) => Of::Lock,
        };
        Ok(events::map(changes, move |event| match event {
            WatchEvent::Put(mut entry) => {
                entry.value = seal::open(&keys, of, &entry.key, &entry.value)?;
                Ok(WatchEvent::Put(entry))
            }
            other => Ok(other),
        }))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let found = self.below().get_many(keys, options).await?;
        keys.iter().zip(found).map(|(key, found)| opened_of(&self.keys, key, found)).collect()
    }

    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        self.below().exists(key, options).await
    }

    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        self.below().delete_tree(directory, from, options).await
    }

    async fn transact(&self, mut transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        self.seal_all(&mut transaction)?;
        self.below().transact(transaction, options).await
    }

    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        self.below().lease(ttl, options).await
    }

    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let sealed = seal::seal(&self.keys, Of::Lock, name, &options.value)?;
        self.below().lock(name, &options.clone().value(sealed)).await
    }

    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let Some(mut holder) = self.below().lock_holder(name, options).await? else { return Ok(None) };
        holder.value = seal::open(&self.keys, Of::Lock, name, &holder.value)?;
        Ok(Some(holder))
    }

    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let LockPage { mut locks, next } = self.below().locks(directory, from, options).await?;
        for lock in &mut locks {
            lock.holder.value = seal::open(&self.keys, Of::Lock, &lock.name, &lock.holder.value)?;
        }
        Ok(LockPage { locks, next })
    }

    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        let value = seal::seal(&self.keys, Of::Lock, name, &value)?;
        self.below().set_holder(name, fence, value, options).await
    }

    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        self.below().break_lock(name, token, options).await
    }

    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        self.below().adopt(directory, options).await
    }

    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        self.below().health(options).await
    }

    fn describe(&self) -> String {
        format!("Encrypt(key {})", self.keys.writes_with())
    }

    fn inner(&self) -> Option<&dyn Store> {
        Some(self.below())
    }

    async fn close(&self) -> Result<()> {
        self.below().close().await
    }
}
