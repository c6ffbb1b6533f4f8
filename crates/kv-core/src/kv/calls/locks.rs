//! The calls about locks and leases.

#[allow(unused_imports, reason = "the documentation speaks of them")]
use crate::{ErrorKind, Lease};
use crate::{
    IntoKey,
    kv::{BreakLock, Kv, LeaseCall, Lock, LockHolder, Locks},
};
use std::time::Duration;

impl Kv {
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
    #[doc(alias = "singleton")]
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
}
