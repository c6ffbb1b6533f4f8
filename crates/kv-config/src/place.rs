//! The place of settings in a store, and their form there.

use kv_core::{Directory, IntoKey, Key, Result};

/// The form in which settings are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A directory: each key below it is one setting.
    Tree,
    /// One key that holds a document in JSON.
    Json,
    /// One key that holds a document in TOML.
    #[cfg(feature = "toml")]
    Toml,
}

impl Form {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Json => "json",
            #[cfg(feature = "toml")]
            Self::Toml => "toml",
        }
    }
}

/// The place of settings: a directory, or the key of the same name that holds a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) form: Form,
}

impl Place {
    /// Returns the key of a document.
    ///
    /// # Errors
    /// [`InvalidKey`](kv_core::ErrorKind::InvalidKey) for the root, which is no key.
    pub(crate) fn key(&self) -> Result<Key> {
        (&self.directory).into_key()
    }

    /// Returns the name by which messages show the place.
    pub(crate) fn name(&self) -> &str {
        if self.directory.is_root() { "/" } else { self.directory.as_str() }
    }
}
