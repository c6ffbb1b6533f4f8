//! The targets of watches, and the stream of a watch.

use crate::{Directory, Key, Result, WatchEvent};
use futures_core::stream::BoxStream;

/// The target of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One key.
    Key(Key),
    /// All keys strictly below a directory.
    Tree(Directory),
    /// The holder of the lock of this name. The events are a `Put` for each holder, and for each
    /// value that a holder gives, with the version of [`Holder::version`](crate::Holder::version):
    /// `Version::new(token, changes)`; and a `Delete` when nobody holds the lock.
    Holder(Key),
}

impl Target {
    /// Tells whether an event of this data key belongs to the watch. It never does for a
    /// [`Target::Holder`], whose events come from another place.
    pub fn concerns(&self, key: &Key) -> bool {
        match self {
            Self::Key(watched) => watched == key,
            Self::Tree(directory) => key.is_below(directory) && !key.is_internal(),
            Self::Holder(_) => false,
        }
    }

    /// Returns the name of the key, directory or lock.
    pub fn name(&self) -> &str {
        match self {
            Self::Key(name) | Self::Holder(name) => name.as_str(),
            Self::Tree(directory) => directory.as_str(),
        }
    }
}

/// The events of a watch: endless until the first `Err`, which means that the watch is over for
/// good. Dropping the stream stops all its work.
pub type WatchStream = BoxStream<'static, Result<WatchEvent>>;
