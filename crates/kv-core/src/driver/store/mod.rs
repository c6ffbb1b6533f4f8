//! The trait that a backend implements.

mod pointers;

use super::{
    Batch, Cursor, Decision, Expect, LeaseOptions, ListOptions, LockOptions, LockPage, Page, PutOptions,
    ReadOptions, Target, Transaction, WatchOptions, WatchStream, WriteOptions,
};
use crate::{
    Capabilities, Directory, Entry, Fence, Health, Holder, Item, Key, LeaseId, Result, Written, backend,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{any::Any, fmt::Debug, time::Duration};

/// The trait that a backend's author implements: six methods make a backend, the others are
/// provided.
///
/// Users never call it: they hold a [`Kv`](crate::Kv), which checks names and options against the
/// [`Capabilities`] before it calls a method here, so that an implementation need not check them
/// again. It hands down each TTL as granted, and the deadline of the call. The text of each method
/// says what an implementation must do; the conformance suite tells whether it does so.
///
/// These are the signatures as they are written under `#[async_trait]`; below, the page shows what
/// the macro makes of them. Those behind the empty line are provided:
///
/// ```text
/// fn capabilities(&self) -> &Capabilities;
/// async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>>;
/// async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions)
///     -> Result<Written>;
/// async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool>;
/// async fn list(&self, directory: &Directory, from: Option<&Cursor>, options: &ListOptions)
///     -> Result<Page>;
/// async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream>;
///
/// async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>>;
/// async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool>;
/// async fn delete_tree(&self, directory: &Directory, from: Option<&Cursor>, options: &WriteOptions)
///     -> Result<Batch>;
/// async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision>;
/// async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased>;
/// async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>>;
/// async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>>;
/// async fn locks(&self, directory: &Directory, from: Option<&Cursor>, options: &ReadOptions)
///     -> Result<LockPage>;
/// async fn set_holder(&self, name: &Key, fence: &Fence, value: Bytes, options: &WriteOptions)
///     -> Result<bool>;
/// async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool>;
/// async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64>;
/// async fn health(&self, options: &ReadOptions) -> Result<Health>;
/// fn describe(&self) -> String;
/// fn inner(&self) -> Option<&dyn Store>;
/// async fn close(&self) -> Result<()>;
/// ```
///
/// # Deadlines
/// Every call ends within its options' [`Deadline`](crate::driver::Deadline). The handle cuts a
/// call off there, a write 50 ms later, and can then only answer
/// [`Timeout`](crate::ErrorKind::Timeout) for a read and
/// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) for a write; a backend that knows better
/// (the request never left) answers first.
///
/// # Errors
/// A write that may have reached the server is never sent again. Its error is
/// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), or, where it is certain that the write
/// took no effect, [`Unavailable`](crate::ErrorKind::Unavailable) or
/// [`Timeout`](crate::ErrorKind::Timeout). Reads may be sent again until the deadline. No failure
/// reads as success, as *missing* or as a conflict. No secret is in a message.
///
/// # Cancel safety
/// Any future may be dropped at any point. The work that it began is undone in the background
/// ([`backend::Undo`]), or ends by its TTL.
///
/// # Wrappers
/// A layer is a `Store` over a `Store`, put there by a [`Layer`](crate::driver::Layer). It forwards
/// every method, which `#[deny(clippy::missing_trait_methods)]` on its impl checks, and tells by
/// [`inner`](Self::inner) what it stands on. A TTL that its capabilities grant is one that the store
/// below would grant unchanged. Call the methods of an `Arc<dyn Store>` through
/// `as_ref()`: the `Arc` is a `Store` too, and would box each future twice.
#[async_trait]
pub trait Store: AsStore + Any + Send + Sync + Debug {
    /// Returns what this store can do: complete and fixed once it is open.
    fn capabilities(&self) -> &Capabilities;

    /// Returns the entry of a key; `None` when the key is missing or expired.
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>>;

    /// Creates or replaces the key if it is as expected. The key gets a new version, also for the
    /// same bytes. A put without a TTL makes the key permanent; a put with one starts the TTL
    /// anew.
    ///
    /// # Errors
    /// [`KeyExists`](crate::ErrorKind::KeyExists) for [`Expect::Missing`],
    /// [`KeyModified`](crate::ErrorKind::KeyModified) for [`Expect::Version`], also when the key
    /// is gone. [`LeaseLost`](crate::ErrorKind::LeaseLost) when the lease has ended.
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written>;

    /// Deletes the key if it is as expected, and returns whether it was there.
    ///
    /// # Errors
    /// [`KeyModified`](crate::ErrorKind::KeyModified) for [`Expect::Version`], also when the key
    /// is gone.
    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool>;

    /// Returns one page of what lies strictly below the directory, in ascending order of
    /// [`Position`](crate::Position). It begins where `from` noted, or else behind
    /// `options.start_after`. Over all pages, a key that is there all the time appears once, and a
    /// key that is never there does not appear. A page may be empty and still have a next one.
    async fn list(&self, directory: &Directory, from: Option<&Cursor>, options: &ListOptions)
    -> Result<Page>;

    /// Watches a target: the stream gives what is there as `Put`s, then `Synced`, then every
    /// change; after an outage it gives what differs, then `Synced`. A target that does not exist
    /// yet is watched just the same. [`backend::watch`] makes such a stream of a source that says
    /// what its server can tell.
    ///
    /// Outages are ridden out inside the stream; its first `Err` is its end. Dropping the stream
    /// stops all its work, on the server too. A slow reader holds back this stream alone.
    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream>;

    /// Reads several keys, in as few requests as the server allows. The answers are in the order
    /// of the keys. Provided: a `get` for each.
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key, options).await?);
        }
        Ok(found)
    }

    /// Returns whether the key is there, without reading its value where the server allows it.
    /// Provided: by `get`.
    async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        Ok(self.get(key, options).await?.is_some())
    }

    /// Deletes one batch of what lies strictly below the directory, beginning where `from` noted:
    /// all of it where the server can, and never the library's own keys. It can be called again
    /// after a failure. Provided: lists a page and deletes it key by key, which is right where a
    /// [`Cursor`] notes a name, as those of [`Page`] do.
    async fn delete_tree(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &WriteOptions,
    ) -> Result<Batch> {
        let read = ReadOptions::default().deadline(options.deadline);
        let list = ListOptions::default().keys_only(true).limit(Some(100)).read(read);
        let page = self.list(directory, from, &list).await?;
        let mut deleted = 0;
        for key in page.items.iter().filter_map(Item::key) {
            deleted += u64::from(self.delete(key, Expect::Anything, options).await?);
        }
        Ok(Batch { deleted: Some(deleted), next: page.next })
    }

    /// Makes all writes if all conditions are true, else none. Provided: `Unsupported`.
    async fn transact(&self, transaction: Transaction, options: &WriteOptions) -> Result<Decision> {
        let _ = (transaction, options);
        Err(self.capabilities().unsupported("transactions"))
    }

    /// Grants a lease of this TTL, which the handle has rounded by [`Capabilities::lease_ttl`];
    /// where the server grants a longer one, the answer has that. [`backend::Alive`] keeps it alive as
    /// long as the answer lives. Renewing changes no version and yields no event. Provided:
    /// `Unsupported`.
    async fn lease(&self, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
        let _ = (ttl, options);
        Err(self.capabilities().unsupported("leases"))
    }

    /// Acquires the lock; `None` when it is not free and `options.wait` is false. Two acquisitions
    /// exclude each other also within one handle. Dropping the future leaves nothing behind.
    /// Provided: `Unsupported`; a backend with TTLs and watches can answer with
    /// [`backend::fallback::lock`].
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let _ = (name, options);
        Err(self.capabilities().unsupported("locks"))
    }

    /// Returns who holds the lock; `None` when it is free. Provided: `Unsupported`.
    async fn lock_holder(&self, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
        let _ = (name, options);
        Err(self.capabilities().unsupported("locks"))
    }

    /// Returns one page of the locks strictly below the directory that are held, in ascending
    /// order of their names. It begins where `from` noted. Over all pages, a lock that is held all
    /// the time, by whomever, appears once, and one that is never held does not appear. A page may
    /// be empty and still have a next one. Provided: `Unsupported`.
    async fn locks(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ReadOptions,
    ) -> Result<LockPage> {
        let _ = (directory, from, options);
        Err(self.capabilities().unsupported("listings of locks"))
    }

    /// Changes the value that others read of the lock's holder, if it is still held by the
    /// acquisition of this fence; returns whether it is. The fence alone says which lock it is; the
    /// name is for layers, which know it by another name than the store below. The watch of the holder tells the value,
    /// with a version that grows, also where the bytes are the same. It renews nothing, and a copy
    /// of the request by which the lock was acquired that comes late does not bring the first
    /// value back. Provided: `Unsupported`; a backend whose locks are those of
    /// [`backend::fallback`] answers with [`backend::fallback::set_holder`].
    async fn set_holder(
        &self,
        name: &Key,
        fence: &Fence,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<bool> {
        let _ = (name, fence, value, options);
        Err(self.capabilities().unsupported("changes of a held lock's value"))
    }

    /// Ends the acquisition that has this token, if it holds the lock, and no other; returns
    /// whether it did. The lock goes to the next contender, fences of that acquisition are true no
    /// more, and no renewal of its holder brings them back. Provided: `Unsupported`; a backend
    /// whose locks are those of [`backend::fallback`] answers with
    /// [`backend::fallback::break_lock`].
    async fn break_lock(&self, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
        let _ = (name, token, options);
        Err(self.capabilities().unsupported("ending another's lock"))
    }

    /// Brings keys that other tools wrote below the directory into listings and watches, and
    /// returns how many. Provided: 0, for backends that see them anyway.
    async fn adopt(&self, directory: &Directory, options: &WriteOptions) -> Result<u64> {
        let _ = (directory, options);
        Ok(0)
    }

    /// Makes one linearizable read that needs the quorum. Provided: `Unsupported`.
    async fn health(&self, options: &ReadOptions) -> Result<Health> {
        let _ = options;
        Err(self.capabilities().unsupported("health"))
    }

    /// Describes this store in one line, without what it stands on and without any secret: the
    /// `Debug` of a handle shows its layers so. An empty text is left out; pointers to a store give
    /// that. Provided: the text of its own `Debug`.
    fn describe(&self) -> String {
        format!("{self:?}")
    }

    /// Returns the store that a layer stands on, for `find`, the method of `dyn Store`. Provided:
    /// `None`, for a backend, which stands on no other store.
    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    /// Ends the connections, once and for all. The handle has ended guards, leases, waits and
    /// watches before; what undoes them, and what was dropped meanwhile, may be under way still:
    /// await [`backend::Tasks::finish`] first, which counts each [`backend::Undo`] that these tasks
    /// have made. It may be called again. Provided: does nothing.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Gives a store as a `&dyn Store`, which a pointer to a type that may itself be `dyn Store`
/// cannot make. Every store has it; nobody writes it.
pub trait AsStore {
    /// Returns the store itself.
    fn as_store(&self) -> &dyn Store;
}

impl<T: Store> AsStore for T {
    fn as_store(&self) -> &dyn Store {
        self
    }
}

impl dyn Store {
    /// Returns the store of this type: this one, or the first below it that is of the type; `None`
    /// where there is none. It gives access, from any handle, to what a backend offers beside the
    /// trait:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let memory = kv.store().find::<kv_memory::Memory>().expect("that is what was opened");
    /// memory.raw_put("a", "as another tool does");
    /// # Ok(()) }
    /// ```
    pub fn find<T: Store>(&self) -> Option<&T> {
        let mut store = self;
        loop {
            let any: &dyn Any = store;
            match any.downcast_ref() {
                Some(found) => return Some(found),
                None => store = store.inner()?,
            }
        }
    }
}

/// A lock that was acquired: the answer of [`Store::lock`].
#[derive(Debug)]
pub struct Acquired {
    /// The proof of holding the lock, with its token.
    pub fence: Fence,
    /// The life of the lock, which tells whether it is still held, by the owner's clock.
    pub alive: backend::Alive,
    /// Gives the lock back; `true` when it was still held.
    pub release: backend::Undo,
}

/// A lease that was granted: the answer of [`Store::lease`].
#[derive(Debug)]
pub struct Leased {
    /// The backend's name of the lease.
    pub id: LeaseId,
    /// The TTL as granted.
    pub ttl: Duration,
    /// The life of the lease, which tells whether it is not over, by the owner's clock.
    pub alive: backend::Alive,
    /// Ends the lease, and its keys; `true` when it was still alive.
    pub revoke: backend::Undo,
}
