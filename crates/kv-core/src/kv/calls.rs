//! The calls of a handle. Each is a builder, which is sent when it is awaited.

use super::{
    Adopt, BreakLock, Delete, DeleteTree, Exists, Get, GetMany, HealthCall, Kv, LeaseCall, List, Lock,
    LockHolder, Locks, Next, Put, Txn, Update, WatchCall,
};
#[allow(unused_imports, reason = "the documentation speaks of them")]
use crate::{Capabilities, Error, ErrorKind, Lease, Watch};
use crate::{
    Entry, IntoKey, IntoValue, Result, Version,
    driver::{Expect, Target},
};
use std::time::Duration;

impl Kv {
    /// Reads a key: its entry, or `None` when it is missing or expired. The read sees every write
    /// that was acknowledged before it began, unless it is [`stale`](Get::stale).
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Timeout`](ErrorKind::Timeout),
    /// [`Unavailable`](ErrorKind::Unavailable), and the server's refusals. A missing key is no
    /// error.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/color", "red").await?;
    /// let entry = kv.get("app/color").await?.expect("it was put");
    /// assert_eq!(entry.text(), Some("red"));
    /// assert!(kv.get("app/size").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "read")]
    #[doc(alias = "lookup")]
    pub fn get(&self, key: impl IntoKey) -> Get {
        Get::new(self, key.into_key())
    }

    /// Reads several keys, in as few requests as the server allows. The answers are in the order
    /// of the keys. Without keys there is no request.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), for all keys at once.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("a", "1").await?;
    /// let found = kv.get_many(["a", "b"]).await?;
    /// assert!(found[0].is_some() && found[1].is_none());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "mget")]
    #[doc(alias = "multi_get")]
    #[doc(alias = "batch")]
    pub fn get_many<K: IntoKey>(&self, keys: impl IntoIterator<Item = K>) -> GetMany {
        GetMany::new(self, keys.into_iter().map(IntoKey::into_key).collect())
    }

    /// Returns whether a key is there. It fetches no value where the server allows that.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "").await?;
    /// assert!(kv.exists("app/a").await?);
    /// assert!(!kv.exists("app").await?); // a directory is no key
    /// # Ok(()) }
    /// ```
    #[doc(alias = "contains")]
    #[doc(alias = "contains_key")]
    #[doc(alias = "has")]
    pub fn exists(&self, key: impl IntoKey) -> Exists {
        Exists::new(self, key.into_key())
    }

    /// Creates or replaces a key, and returns its new version and the granted TTL. Without
    /// [`ttl`](Put::ttl) and [`lease`](Put::lease) the key is permanent, whatever it was before.
    /// The value is borrowed or owned text or bytes.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), [`TooLarge`](ErrorKind::TooLarge),
    /// [`Unsupported`](ErrorKind::Unsupported) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument); then what its conditions ask for, the
    /// server's refusals, and [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was
    /// lost: [`Put`] has them all.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use std::time::Duration;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let first = kv.put("app/color", "red").await?.version;
    /// kv.put("app/color", "blue").if_version(first).await?; // compare-and-swap
    /// kv.put("nodes/1", "up").ttl(Duration::from_secs(30)).await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "set")]
    #[doc(alias = "upsert")]
    #[doc(alias = "write")]
    #[doc(alias = "insert")]
    pub fn put(&self, key: impl IntoKey, value: impl IntoValue) -> Put {
        Put::new(self, key.into_key(), value.into_value(), Expect::Anything)
    }

    /// Replaces a key at this version; with `None` creates it. The same as [`put`](Self::put) with
    /// [`if_version`](Put::if_version) or [`if_missing`](Put::if_missing).
    ///
    /// # Errors
    /// [`KeyModified`](ErrorKind::KeyModified) when the key is at another version or gone,
    /// [`KeyExists`](ErrorKind::KeyExists) when it was to be created; else those of
    /// [`put`](Self::put).
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::ErrorKind;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let seen = kv.atomic_put("counter", "1", None).await?.version;
    /// kv.atomic_put("counter", "2", seen).await?;
    /// let late = kv.atomic_put("counter", "2", seen).await.unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::KeyModified);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cas")]
    #[doc(alias = "compare_and_swap")]
    #[doc(alias = "compare_exchange")]
    pub fn atomic_put(
        &self,
        key: impl IntoKey,
        value: impl IntoValue,
        previous: impl Into<Option<Version>>,
    ) -> Put {
        let expect = previous.into().map_or(Expect::Missing, Expect::Version);
        Put::new(self, key.into_key(), value.into_value(), expect)
    }

    /// Changes a key by a function of what is there: reads the key, has the function compute what
    /// comes after it, and writes that if nobody has written the key meanwhile. Else it begins
    /// again, after a pause at random that grows, until the deadline.
    ///
    /// The function gets the entry, or `None` where the key is missing. It returns the value to
    /// put, or a [`Next`]; an error of it ends the update, with nothing written. It may be called
    /// several times, so that it should do nothing but compute.
    ///
    /// An update whose answer was lost is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), and is not
    /// made again, since it may have been done; [`exactly_once`](Update::exactly_once) finds out.
    ///
    /// # Errors
    /// Those of [`Update`].
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::{Entry, Error, ErrorKind, Result};
    ///
    /// fn count(found: Option<&Entry>) -> Result<String> {
    ///     let hits = found.and_then(Entry::text).unwrap_or("0").parse::<u64>();
    ///     let hits = hits.map_err(|e| Error::new(ErrorKind::Corrupt, "no number").with_cause(e))?;
    ///     Ok((hits + 1).to_string())
    /// }
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.update("hits", count).await?;
    /// let second = kv.update("hits", count).exactly_once().await?;
    /// assert_eq!(second.text(), Some("2"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "modify")]
    #[doc(alias = "compute")]
    #[doc(alias = "fetch_update")]
    #[doc(alias = "increment")]
    #[doc(alias = "counter")]
    #[doc(alias = "cas")]
    pub fn update<F, N>(&self, key: impl IntoKey, change: F) -> Update
    where
        F: FnMut(Option<&Entry>) -> Result<N> + Send + 'static,
        N: Into<Next>,
    {
        Update::new(self, key.into_key(), change)
    }

    /// Deletes a key, and returns whether it was there. The keys below it stay.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost. A missing key is no
    /// error.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("a", "1").await?;
    /// assert!(kv.delete("a").await?);
    /// assert!(!kv.delete("a").await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "remove")]
    #[doc(alias = "del")]
    pub fn delete(&self, key: impl IntoKey) -> Delete {
        Delete::new(self, key.into_key(), Expect::Anything)
    }

    /// Deletes a key at this version. The same as [`delete`](Self::delete) with
    /// [`if_version`](Delete::if_version).
    ///
    /// # Errors
    /// [`KeyModified`](ErrorKind::KeyModified) when the key is at another version or gone; else
    /// those of [`delete`](Self::delete).
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let seen = kv.put("a", "1").await?.version;
    /// kv.put("a", "2").await?;
    /// assert!(kv.atomic_delete("a", seen).await.is_err()); // somebody wrote it meanwhile
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cas_delete")]
    pub fn atomic_delete(&self, key: impl IntoKey, version: Version) -> Delete {
        Delete::new(self, key.into_key(), Expect::Version(version))
    }

    /// Lists the keys strictly below a directory, in ascending byte order. A directory that is not
    /// there has nothing in it. Awaited it is a `Vec` of entries; [`List::entries`],
    /// [`List::keys`] and [`List::children`] are streams that fetch page by page.
    /// [`Capabilities::list_snapshot`] tells whether all pages show one moment.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Timeout`](ErrorKind::Timeout) for a
    /// page that takes longer than the deadline, [`Unavailable`](ErrorKind::Unavailable), and the
    /// server's refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "1").await?;
    /// kv.put("app/b/c", "2").await?;
    /// kv.put("application", "3").await?;
    /// let keys: Vec<_> = kv.list("app").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    /// assert_eq!(keys, ["app/a", "app/b/c"]);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "scan")]
    #[doc(alias = "range")]
    #[doc(alias = "keys")]
    #[doc(alias = "prefix")]
    #[doc(alias = "ls")]
    pub fn list(&self, directory: impl IntoKey) -> List {
        List::new(self, directory.into_directory())
    }

    /// Deletes everything strictly below a directory; returns the count, where the server tells it
    /// for free. It is one atomic step where [`Capabilities::delete_tree_atomic`] says so, else
    /// batches.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost. After any error it
    /// can be called again.
    ///
    /// # Cancel safety
    /// A future that is dropped may have deleted a part, or all. It can be called again.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "1").await?;
    /// kv.put("application", "2").await?;
    /// kv.delete_tree("app").await?;
    /// assert!(!kv.exists("app/a").await? && kv.exists("application").await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "delete_prefix")]
    #[doc(alias = "remove_dir")]
    #[doc(alias = "clear")]
    pub fn delete_tree(&self, directory: impl IntoKey) -> DeleteTree {
        DeleteTree::new(self, directory.into_directory())
    }

    /// Watches one key, which need not be there: first what is there, then `Synced`, then every
    /// change (or the newest state, as [`Capabilities::watch`] says). Outages are ridden out
    /// inside the stream; only what [`Error::is_lasting`] names ends it.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), and
    /// [`Unsupported`](ErrorKind::Unsupported) where the store has no watches. Later ones come
    /// from [`Watch::event`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::WatchEvent;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let mut watch = kv.watch("app/color").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Synced)); // nothing was there
    /// kv.put("app/color", "red").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Put(entry) if entry.text() == Some("red")));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "subscribe")]
    #[doc(alias = "observe")]
    #[doc(alias = "listen")]
    pub fn watch(&self, key: impl IntoKey) -> WatchCall {
        WatchCall::new(self, key.into_key().map(Target::Key))
    }

    /// Watches everything strictly below a directory, as [`watch`](Self::watch) does a key.
    /// Folding the events over an empty map arrives at what a listing shows.
    /// [`Capabilities::watch_ordered`] tells whether the changes of different keys come in the
    /// order in which they were made.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::WatchEvent;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("nodes/1", "up").await?;
    /// let mut watch = kv.watch_tree("nodes").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    /// assert!(matches!(watch.event().await?, WatchEvent::Synced));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "watch_prefix")]
    #[doc(alias = "subscribe")]
    #[doc(alias = "observe")]
    #[doc(alias = "listen")]
    pub fn watch_tree(&self, directory: impl IntoKey) -> WatchCall {
        WatchCall::new(self, directory.into_directory().map(Target::Tree))
    }

    /// Begins a transaction: conditions and writes, all or nothing. It is sent when it is awaited.
    /// [`Capabilities::max_txn_ops`] is the most conditions and writes that it may have.
    ///
    /// # Errors
    /// Those of [`Txn`], when it is awaited. A condition that is not true is no error: the outcome
    /// names it.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("from", "1").await?;
    /// let moved = kv.transact().when_missing("to").then(kv.put("to", "1")).then(kv.delete("from")).await?;
    /// assert!(moved.is_committed());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "txn")]
    #[doc(alias = "transaction")]
    #[doc(alias = "multi")]
    pub fn transact(&self) -> Txn {
        Txn::new(self)
    }

    /// Asks for a lease, which is kept alive in the background; keys that are put under it live as
    /// long. The TTL is rounded up to the server's unit and raised to its least: [`Lease::ttl`]
    /// tells what was granted.
    ///
    /// # Errors
    /// Before any I/O [`Unsupported`](ErrorKind::Unsupported), and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL; then the server's refusals,
    /// and [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost.
    ///
    /// # Cancel safety
    /// A future that is dropped gives back in the background what was granted.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use std::time::Duration;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let lease = kv.lease(Duration::from_secs(10)).await?;
    /// kv.put("nodes/1", "up").lease(&lease).await?; // gone when this process is
    /// lease.revoke().await?;
    /// assert!(!kv.exists("nodes/1").await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "session")]
    #[doc(alias = "keepalive")]
    #[doc(alias = "heartbeat")]
    #[doc(alias = "ephemeral")]
    #[doc(alias = "register")]
    pub fn lease(&self, ttl: Duration) -> LeaseCall {
        LeaseCall::new(self, ttl)
    }

    /// Returns the lock of this name, which is acquired by [`Lock::acquire`] and its like. Names
    /// follow the rules of keys, and live apart from the data. No I/O.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("leader").acquire().await?;
    /// kv.put("plan", "v2").fenced(&guard).await?; // refused by the store once another leads
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "lock")]
    #[doc(alias = "mutex")]
    #[doc(alias = "election")]
    #[doc(alias = "leader")]
    pub fn new_lock(&self, name: impl IntoKey) -> Lock {
        Lock::new(self, name.into_key())
    }

    /// Reads who holds the lock of this name; `None` when it is free. [`LockHolder::watch`]
    /// watches it.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) and [`Unsupported`](ErrorKind::Unsupported) before
    /// any I/O; else those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// assert!(kv.lock_holder("leader").await?.is_none());
    /// let guard = kv.new_lock("leader").value("host-1").acquire().await?;
    /// let holder = kv.lock_holder("leader").await?.expect("it is held");
    /// assert_eq!((holder.value, holder.token), ("host-1".into(), guard.token()));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "leader")]
    #[doc(alias = "election")]
    #[doc(alias = "owner")]
    pub fn lock_holder(&self, name: impl IntoKey) -> LockHolder {
        LockHolder::new(self, name.into_key())
    }

    /// Lists the locks strictly below a directory that are held, in ascending byte order of their
    /// names: each with its holder and, where the server knows, how many others stand in line.
    /// Locks are no keys, and no other listing shows them. Awaited it is a `Vec`;
    /// [`Locks::stream`] fetches page by page. A lock that is held all the time appears once; what
    /// changes meanwhile may be shown as it was or as it is.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) and [`Unsupported`](ErrorKind::Unsupported) before
    /// any I/O; else those of [`list`](Self::list).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("jobs/nightly").value("host-1").acquire().await?;
    /// let held = kv.locks("jobs").await?;
    /// assert_eq!((held[0].name.as_str(), held[0].waiters), ("jobs/nightly", Some(0)));
    /// assert_eq!((held[0].holder.token, held.len()), (guard.token(), 1));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "list_locks")]
    #[doc(alias = "holders")]
    pub fn locks(&self, directory: impl IntoKey) -> Locks {
        Locks::new(self, directory.into_directory())
    }

    /// Ends the acquisition of a lock that has the token of [`BreakLock::token`], and no other, if
    /// it holds the lock; returns whether it did. It is for operators, where a holder hangs and is
    /// renewed on. The lock goes to the next in line. The holder is told of the loss, at its next
    /// renewal at the latest, and its fenced writes are refused at once; what else it does goes on
    /// until then, so end its process first where you can.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported), and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) without a token; else those of
    /// [`delete`](Self::delete). It can be called again: no other acquisition has the token.
    ///
    /// # Cancel safety
    /// A future that is dropped may have ended the acquisition. It can be called again.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let guard = kv.new_lock("nightly").value("host-1").acquire().await?;
    /// let holder = kv.lock_holder("nightly").await?.expect("it is held");
    /// assert!(kv.break_lock("nightly").token(holder.token).await?);
    /// assert!(kv.lock_holder("nightly").await?.is_none() && !guard.is_held());
    /// assert!(!kv.break_lock("nightly").token(holder.token).await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "force_unlock")]
    #[doc(alias = "steal")]
    #[doc(alias = "evict")]
    pub fn break_lock(&self, name: impl IntoKey) -> BreakLock {
        BreakLock::new(self, name.into_key())
    }

    /// Brings keys that other tools wrote below the directory into listings and watches, where
    /// [`Capabilities::foreign_keys`] says that this is needed; returns how many. Elsewhere it
    /// does nothing.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost. It can be called
    /// again.
    ///
    /// # Cancel safety
    /// A future that is dropped may have adopted a part. It can be called again.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// assert_eq!(kv.adopt("").await?, 0); // needed on Redis alone
    /// # Ok(()) }
    /// ```
    #[doc(alias = "import")]
    pub fn adopt(&self, directory: impl IntoKey) -> Adopt {
        Adopt::new(self, directory.into_directory())
    }

    /// Makes one linearizable read that needs the quorum, and returns the server's version, and
    /// leader and members where they are known.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the store has none;
    /// [`Timeout`](ErrorKind::Timeout), [`Unavailable`](ErrorKind::Unavailable), and the server's
    /// refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// println!("the server is {}", kv.health().await?.version);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "ping")]
    #[doc(alias = "status")]
    pub fn health(&self) -> HealthCall {
        HealthCall::new(self)
    }
}
