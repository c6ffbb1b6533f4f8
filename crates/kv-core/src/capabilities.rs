//! The abilities of a store, complete and fixed once it is open.

use crate::{Error, ErrorKind, Result};
use std::{sync::Arc, time::Duration};

/// The abilities of a store: complete and fixed once it is open, and learnt from the server where
/// they depend on the server's configuration. [`Kv`](crate::Kv) refuses a call that they rule out
/// with [`Unsupported`](ErrorKind::Unsupported), before any I/O.
///
/// ```
/// use kv_core::{Capabilities, Durability, TtlRange};
/// use std::time::Duration;
///
/// let mut c = Capabilities::new("mine");
/// c.durability = Durability::Fsync;
/// c.ttl = Some(TtlRange::new(Duration::from_secs(1), Duration::from_secs(86_400)));
/// assert_eq!(c.lateness(Duration::from_secs(9)), Duration::from_millis(250));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The backend's name: `etcd`, `redb`, … It stands in errors, spans and metrics.
    pub backend: &'static str,
    /// The losses that an acknowledged write survives.
    pub durability: Durability,
    /// The times at which a read that is not asked to be stale sees every acknowledged write.
    pub linearizable: Linearizable,
    /// The largest value, in bytes; at least 256 KiB.
    pub max_value: usize,
    /// The TTLs of keys; `None` where keys cannot expire.
    pub ttl: Option<TtlRange>,
    /// Tells whether a key that expires may have children, and a key with children a TTL.
    pub children_of_expiring: bool,
    /// The TTLs of leases; `None` where there are no leases.
    pub lease: Option<TtlRange>,
    /// The changes that a watch delivers.
    pub watch: Watching,
    /// Tells whether a watch of a tree tells the changes of different keys in the order in which
    /// they were made. What it tells before a `Synced`, when it begins and after an outage, comes
    /// in any order, and so does the end of a TTL, which no write makes.
    pub watch_ordered: bool,
    /// The abilities of locks; `None` where there are no locks.
    pub lock: Option<Locking>,
    /// The most conditions and writes of one transaction together; 0 where there are no
    /// transactions.
    pub max_txn_ops: usize,
    /// The most bytes of keys and values in one transaction: the greatest value and the longest
    /// key have room, with a few conditions. A store refuses a transaction of this size whose
    /// request comes to more than the server takes, because of many long names, with
    /// [`TooLarge`](ErrorKind::TooLarge), before it is sent.
    pub max_txn_bytes: usize,
    /// Tells whether a listing shows one moment, also over several pages.
    pub list_snapshot: bool,
    /// Tells whether `delete_tree` is one atomic step; else it is restartable.
    pub delete_tree_atomic: bool,
    /// Tells whether `delete_tree` returns a count.
    pub delete_tree_counts: bool,
    /// Tells whether values are stored as they are, so that the server's own tools read the same
    /// bytes. A layer that encrypts or compresses says `false`.
    pub native_values: bool,
    /// The time from which keys that other tools wrote are listed and watched.
    pub foreign_keys: ForeignKeys,
    /// Tells whether `health` asks the server.
    pub health: bool,
    /// The advice to an administrator about what is not offered, for the errors of refused calls:
    /// which setting of the server to change, and how.
    pub hint: Option<Arc<str>>,
}

impl Capabilities {
    /// Returns the least: a store that gets, puts, deletes, lists and watches, linearizably.
    pub fn new(backend: &'static str) -> Self {
        Self {
            backend,
            durability: Durability::MayLose,
            linearizable: Linearizable::Always,
            max_value: 256 << 10,
            ttl: None,
            children_of_expiring: true,
            lease: None,
            watch: Watching::EachChange,
            watch_ordered: false,
            lock: None,
            max_txn_ops: 0,
            max_txn_bytes: 0,
            list_snapshot: false,
            delete_tree_atomic: false,
            delete_tree_counts: true,
            native_values: true,
            foreign_keys: ForeignKeys::Seen,
            health: false,
            hint: None,
        }
    }

    /// Returns how long after its TTL a key may still be seen, counted while the server has a
    /// leader. It is zero where keys cannot expire.
    pub fn lateness(&self, ttl: Duration) -> Duration {
        self.ttl.as_ref().map_or(Duration::ZERO, |range| range.lateness(ttl))
    }
}

/// The losses that an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The loss of a minority of the servers.
    Quorum,
    /// A crash of the one machine: it was flushed to its disk.
    Fsync,
    /// Not every crash or failover: either can lose the write. A lock is then only as exclusive as
    /// the server is lossless.
    MayLose,
}

/// The times at which a read that is not asked to be stale sees every acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Linearizable {
    /// Always.
    Always,
    /// Always but in the moments in which a leader is replaced.
    ExceptDuringLeaderChange,
    /// Never: a read must ask for [`Consistency::Stale`](crate::Consistency::Stale).
    Never,
}

/// The changes that a watch delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watching {
    /// Each change of a key, as long as the link holds and the reader keeps up. Where the server's
    /// messages have no room for a value, as those of Redis for more than 16 KiB, a state that was
    /// overtaken may be skipped.
    EachChange,
    /// The newest state of each changed key; states between may be skipped.
    NewestState,
    /// There are no watches; the backend's docs say how to switch them on, where that is possible.
    Unsupported,
}

/// The time from which keys that other tools wrote are listed and watched. They can be read in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignKeys {
    /// At once.
    Seen,
    /// After their first write through the library, or [`Kv::adopt`](crate::Kv::adopt).
    AfterAdoption,
}

/// The abilities of locks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Locking {
    /// The TTLs of locks, and how late a dead holder's lock is free.
    pub ttl: TtlRange,
    /// Tells whether waiters get the lock in the order of asking.
    pub fair: bool,
    /// Tells whether a transaction, and so a put or delete, can be made conditional on still
    /// holding the lock.
    pub fenced_writes: bool,
    /// Tells whether the holder can change the value that others read of it.
    pub set_value: bool,
    /// Tells whether the lock can be taken from its holder, by who knows the holder's token.
    pub breaks: bool,
    /// Tells whether the locks that are held can be listed.
    pub lists: bool,
}

impl Locking {
    /// Returns the abilities of locks that lack none.
    pub fn new(ttl: TtlRange) -> Self {
        Self { ttl, fair: true, fenced_writes: true, set_value: true, breaks: true, lists: true }
    }
}

/// The durations that a server grants, and how late it acts on their end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TtlRange {
    /// The least duration; shorter ones are raised to it.
    pub least: Duration,
    /// The greatest duration; longer ones are refused.
    pub greatest: Duration,
    /// The unit; other durations are rounded up to a multiple of it.
    pub unit: Duration,
    /// The lateness of the server, as a share of the TTL.
    pub late_share: f64,
    /// The lateness of the server beyond that share.
    pub late_by: Duration,
}

impl TtlRange {
    /// Makes the range between these durations, to the millisecond, whose end the server acts on
    /// within 250 ms.
    pub fn new(least: Duration, greatest: Duration) -> Self {
        let (unit, late_by) = (Duration::from_millis(1), Duration::from_millis(250));
        Self { least, greatest, unit, late_share: 0.0, late_by }
    }

    /// Returns the duration that a server grants for this one: rounded up to the unit, raised to
    /// the least.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) above the greatest, and for zero, which
    /// elsewhere means *no TTL*: for that, leave the option out.
    pub fn grant(&self, ttl: Duration) -> Result<Duration> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        if ttl.is_zero() {
            return refused("a TTL of 0 s; leave out the TTL for a key that stays".into());
        }
        if ttl > self.greatest {
            let (ttl, greatest) = (words(ttl), words(self.greatest));
            return refused(format!("a TTL of {ttl}; the greatest of this store is {greatest}"));
        }
        let (unit, nanos) = (self.unit.as_nanos().max(1), ttl.as_nanos());
        let rounded = nanos.div_ceil(unit) * unit;
        let rounded = Duration::new((rounded / 1_000_000_000) as u64, (rounded % 1_000_000_000) as u32);
        Ok(rounded.clamp(self.least, self.greatest.max(self.least)))
    }

    /// Returns how long after this TTL the server may still not have acted on its end.
    pub fn lateness(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(self.late_share) + self.late_by
    }
}

/// Writes a duration as a person says it: long ones in days or years.
fn words(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() / DAY {
        0..2 => format!("{duration:?}"),
        days @ 2..730 => format!("{days} days"),
        days => format!("{} years", days / 365),
    }
}

impl Capabilities {
    /// Returns the TTL that a key is granted which is put with this one.
    ///
    /// The handle asks this once for each put, and [`lock_ttl`](Self::lock_ttl) and
    /// [`lease_ttl`](Self::lease_ttl) once for each lock and lease: a [`Store`] is handed what they
    /// return, and does not round again. Whoever calls a `Store` without a handle asks them first.
    ///
    /// ```
    /// use kv_core::{Capabilities, ErrorKind, TtlRange};
    /// use std::time::Duration;
    ///
    /// let mut c = Capabilities::new("mine");
    /// let asked = Duration::from_millis(1_200);
    /// assert_eq!(c.key_ttl(asked).unwrap_err().kind(), ErrorKind::Unsupported);
    /// let mut range = TtlRange::new(Duration::from_secs(1), Duration::from_secs(86_400));
    /// range.unit = Duration::from_secs(1);
    /// c.ttl = Some(range);
    /// assert_eq!(c.key_ttl(asked)?, Duration::from_secs(2));
    /// # Ok::<(), kv_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a store without TTLs, and those of
    /// [`TtlRange::grant`].
    ///
    /// [`Store`]: crate::driver::Store
    pub fn key_ttl(&self, asked: Duration) -> Result<Duration> {
        self.ttl.as_ref().ok_or_else(|| self.unsupported("TTLs"))?.grant(asked)
    }

    /// Returns the TTL that a lease is granted which asks for this one.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a store without leases, and those of
    /// [`TtlRange::grant`].
    pub fn lease_ttl(&self, asked: Duration) -> Result<Duration> {
        self.lease.as_ref().ok_or_else(|| self.unsupported("leases"))?.grant(asked)
    }

    /// Returns the TTL that a lock is granted which asks for this one.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a store without locks, and those of
    /// [`TtlRange::grant`].
    pub fn lock_ttl(&self, asked: Duration) -> Result<Duration> {
        self.lock.as_ref().ok_or_else(|| self.unsupported("locks"))?.ttl.grant(asked)
    }

    /// Returns the error of a call that this store does not offer.
    pub fn unsupported(&self, what: &str) -> Error {
        let backend = self.backend;
        let hint = self.hint.as_deref().unwrap_or("its `Capabilities` and docs say what it offers");
        Error::new(ErrorKind::Unsupported, format!("{backend} offers no {what} as it is set up; {hint}"))
    }
}
