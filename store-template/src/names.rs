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

    /// Returns the server's name of a key. The library's own stand behind a slash that no key has, whatever the prefix.
    // DECIDE: how a key is spelt on your server. What it refuses must be escaped, and nothing else: its own tools shall
    // read what you write. Two keys never get one name.
    pub(crate) fn name(&self, key: &Key) -> String {
        let own = if key.is_internal() { "/" } else { "" };
        format!("{}{own}{key}", self.prefix)
    }

    /// Returns what the names of all keys below the directory begin with.
    pub(crate) fn start(&self, directory: &Directory) -> String {
        format!("{}{}", self.prefix, directory.start())
    }

    /// Returns the key of a name; `None` for what is not ours: outside the prefix, not in normal form, or the library's
    /// own.
    pub(crate) fn key(&self, name: &str) -> Option<Key> {
        Key::from_stored(name.strip_prefix(&self.prefix)?)
    }

    /// Returns the key of a name that the fallback's locks have; listings and watches of data never ask.
    pub(crate) fn lock_key(&self, name: &str) -> Option<Key> {
        let lock = name.strip_prefix(&self.prefix)?.strip_prefix(BELOW_LOCKS)?;
        Key::from_stored(lock).map(|lock| Key::internal(LOCKS, &lock))
    }
}
