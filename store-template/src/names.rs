//! The server's names of keys, and the keys of those names.

use kv_core::{Directory, Key};

/// The area of internal keys in which the fallback keeps its locks.
const LOCKS: &str = "lock";
const BELOW_LOCKS: &str = "/.kv/lock/";

/// The names below one prefix.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// Returns the server's name of a key. An internal key has a slash after the prefix; no other
    /// key begins with one.
    // DECIDE: how a key is spelt on your server. Escape what the server refuses, and nothing else,
    // so that its own tools can read what you write. Two keys never get the same name.
    pub(crate) fn name(&self, key: &Key) -> String {
        let own = if key.is_internal() { "/" } else { "" };
        format!("{}{own}{key}", self.prefix)
    }

    /// Returns the text with which the names of all keys below the directory begin.
    pub(crate) fn start(&self, directory: &Directory) -> String {
        format!("{}{}", self.prefix, directory.start())
    }

    /// Returns the key of a name; `None` for a name that is outside the prefix, not in normal
    /// form, or that of an internal key.
    pub(crate) fn key(&self, name: &str) -> Option<Key> {
        Key::from_stored(name.strip_prefix(&self.prefix)?)
    }

    /// Returns the internal key of a name that a lock of the fallback has; `None` for every other
    /// name.
    pub(crate) fn lock_key(&self, name: &str) -> Option<Key> {
        let lock = name.strip_prefix(&self.prefix)?.strip_prefix(BELOW_LOCKS)?;
        Key::from_stored(lock).map(|lock| Key::internal(LOCKS, &lock))
    }
}
