//! The content and the answers of a store: versions, entries, holders.

use crate::{Error, ErrorKind, Key};
use bytes::Bytes;
use std::{fmt, str::FromStr, time::Duration};

/// A version of a key: every write gives a new one, also a write of the same bytes.
///
/// Equality decides a compare-and-swap. Order is meaningful between versions of one key. A version
/// can be printed, and parsed again for the same kind of backend; it survives restarts of client
/// and server, and a stale one never matches again, even after the key was deleted and made anew.
///
/// ```
/// use kv_core::Version;
///
/// let version = Version::new(7, 0);
/// assert_eq!(version.to_string(), "7");
/// assert_eq!("7".parse::<Version>()?, version);
/// assert!(version < Version::new(7, 1));
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
#[doc(alias = "revision")]
#[doc(alias = "etag")]
#[doc(alias = "index")]
pub struct Version(u128);

impl Version {
    /// Makes, for backends, a version of two numbers; in the order, the first counts before the
    /// second.
    pub const fn new(high: u64, low: u64) -> Self {
        Self((high as u128) << 64 | low as u128)
    }

    /// Returns, for backends, the two numbers.
    pub const fn parts(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (high, 0) => write!(f, "{high}"),
            (high, low) => write!(f, "{high}.{low}"),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{self}")
    }
}

impl FromStr for Version {
    type Err = Error;
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for text that is neither a number of 64
    /// bits, nor two of them joined by a dot.
    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let (high, low) = text.split_once('.').unwrap_or((text, "0"));
        match (number(high), number(low)) {
            (Some(high), Some(low)) => Ok(Self::new(high, low)),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{text:?} is not a version; a version looks like 17 or 17.4"),
            )),
        }
    }
}

impl TryFrom<&str> for Version {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Version {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// A key with its value and version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Entry {
    /// The key, in normal form.
    pub key: Key,
    /// The value: any bytes, empty ones included. Serde writes it as text where it is UTF-8 and
    /// the format is one that people read, else as bytes, which JSON has as a list of numbers.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::value"))]
    pub value: Bytes,
    /// The version that the last write gave the key.
    pub version: Version,
}

impl Entry {
    /// Makes an entry.
    pub fn new(key: Key, value: impl Into<Bytes>, version: Version) -> Self {
        Self { key, value: value.into(), version }
    }

    /// Returns the value as text; `None` where it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

/// The answer to a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Written {
    /// The version that the key has now.
    pub version: Version,
    /// The TTL as granted: the one that was asked for, rounded up to the server's unit and raised
    /// to its least. Where the put took so long that a part of the TTL had passed (etcd, whose
    /// TTLs are granted before the key is put), it is what is left of that. `None` for a key
    /// without a TTL.
    pub ttl: Option<Duration>,
}

impl Written {
    /// Makes the answer to a put.
    pub fn new(version: Version, ttl: Option<Duration>) -> Self {
        Self { version, ttl }
    }
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Holder {
    /// The fencing token of this acquisition.
    pub token: u64,
    /// The value that the holder gave by [`Lock::value`](crate::Lock::value), or last by
    /// [`Guard::set_value`](crate::Guard::set_value).
    pub value: Bytes,
    /// A number that grows, from 0 on, whenever the holder changes the value; on some servers by
    /// more than one.
    pub changes: u64,
}

impl Holder {
    /// Makes a holder that has not changed its value.
    pub fn new(token: u64, value: impl Into<Bytes>) -> Self {
        Self { token, value: value.into(), changes: 0 }
    }

    /// Sets, for backends, the number that grows with the changes of the value.
    #[must_use]
    pub fn with_changes(mut self, changes: u64) -> Self {
        self.changes = changes;
        self
    }

    /// Returns the version by which a watch of the holder tells this value: it grows from holder
    /// to holder, and from value to value.
    ///
    /// ```
    /// use kv_core::{Holder, Version};
    ///
    /// let holder = Holder::new(7, "host-1");
    /// assert_eq!(holder.version(), Version::new(7, 0));
    /// assert!(holder.clone().with_changes(1).version() > holder.version());
    /// ```
    pub fn version(&self) -> Version {
        Version::new(self.token, self.changes)
    }

    /// Returns, for backends, the entry by which a watch tells the holder of this lock.
    #[must_use]
    pub fn entry(self, lock: Key) -> Entry {
        let version = self.version();
        Entry::new(lock, self.value, version)
    }
}

/// A lock that is held, as [`Kv::locks`](crate::Kv::locks) lists it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HeldLock {
    /// The name of the lock.
    pub name: Key,
    /// The holder of the lock.
    pub holder: Holder,
    /// The number of others that stand in line for the lock; `None` where the server does not know.
    pub waiters: Option<u64>,
}

impl HeldLock {
    /// Makes a lock that is held.
    pub fn new(name: Key, holder: Holder, waiters: Option<u64>) -> Self {
        Self { name, holder, waiters }
    }
}

/// The answer of [`Kv::health`](crate::Kv::health), found by one linearizable read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The server's version, as the server names it.
    pub version: String,
    /// The leader, where there is one and it is known.
    pub leader: Option<String>,
    /// The members of the cluster, where known.
    pub members: Vec<String>,
}

impl Health {
    /// Makes the answer of a server of this version, without leader and members.
    pub fn new(version: impl Into<String>) -> Self {
        Self { version: version.into(), ..Self::default() }
    }
}
