//! The sides of a cell: ours, and what is measured beside it.

use bytes::Bytes;
use kv_testsuite::Failure;
use std::{fmt, future::Future};

/// The result of a call of a side.
pub(crate) type Done<T> = Result<T, Failure>;

/// The value that all sides write: 256 bytes.
pub(crate) const VALUE: Bytes = Bytes::from_static(&[b'v'; 256]);

/// The TTL of `put_ttl`, in seconds: within the range of every server.
pub(crate) const TTL: u64 = 30;

/// The error of a call that a side does not have: the side is left out of the cell.
#[derive(Debug)]
pub(crate) struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this side has no such call")
    }
}

impl std::error::Error for Absent {}

/// Returns the answer of a call that a side does not have.
pub(crate) fn absent<T>() -> Done<T> {
    Err(Absent.into())
}

/// A client of a store. Clones are one client; [`another`](Self::another) is a second one.
///
/// A call that is absent answers [`Absent`]. Names are those that [`name`](Self::name) made, so that no
/// side spends its time on formatting them.
pub(crate) trait Side: Clone + Send + Sync + 'static {
    type Version: Send + 'static;
    type Guard: Send + 'static;
    type Changes: Changes;

    /// Returns the name on the server of a key.
    fn name(&self, key: &str) -> String {
        key.to_owned()
    }

    /// Returns the name on the server of a directory, or what all names in it begin with.
    fn directory(&self, directory: &str) -> String {
        self.name(directory)
    }

    /// Opens a second client, with connections of its own.
    fn another(&self) -> impl Future<Output = Done<Self>> + Send {
        async { Ok(self.clone()) }
    }

    /// Reads a key, and returns the length of its value.
    fn get(&self, name: &str) -> impl Future<Output = Done<usize>> + Send;

    fn put(&self, name: &str) -> impl Future<Output = Done<()>> + Send;

    /// Puts a key that ends by itself after [`TTL`] seconds.
    fn put_ttl(&self, _name: &str) -> impl Future<Output = Done<()>> + Send {
        async { absent() }
    }

    /// Puts a key whatever its version is, and returns the version that it has then.
    fn written(&self, _name: &str) -> impl Future<Output = Done<Self::Version>> + Send {
        async { absent() }
    }

    /// Puts a key that still has this version, and returns the new one.
    fn atomic_put(
        &self,
        _name: &str,
        _last: Self::Version,
    ) -> impl Future<Output = Done<Self::Version>> + Send {
        async { absent() }
    }

    /// Reads all keys below a directory with their values, and returns their number.
    fn list(&self, _directory: &str) -> impl Future<Output = Done<usize>> + Send {
        async { absent() }
    }

    fn delete_tree(&self, _directory: &str) -> impl Future<Output = Done<()>> + Send {
        async { absent() }
    }

    /// Waits for a lock.
    fn lock(&self, _name: &str) -> impl Future<Output = Done<Self::Guard>> + Send {
        async { absent() }
    }

    fn unlock(&self, _guard: Self::Guard) -> impl Future<Output = Done<()>> + Send {
        async { absent() }
    }

    /// Opens a watch of a key, which tells of changes from now on.
    fn watch(&self, _name: &str) -> impl Future<Output = Done<Self::Changes>> + Send {
        async { absent() }
    }
}

/// A watch that is open.
pub(crate) trait Changes: Send + 'static {
    /// Waits for the next change.
    fn next(&mut self) -> impl Future<Output = Done<()>> + Send;
}

/// The watch of a side that has none.
#[derive(Debug)]
pub(crate) enum Nothing {}

impl Changes for Nothing {
    async fn next(&mut self) -> Done<()> {
        match *self {}
    }
}
