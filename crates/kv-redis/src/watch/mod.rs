//! Watches of keys, of directories and of the holders of locks.

pub(crate) mod feed;
mod holder;
mod keys;
mod listener;
mod looks;
pub(crate) mod notification;

use crate::core::Core;
use kv_core::driver::{Target, WatchOptions, WatchStream};
use std::sync::Arc;

/// Starts the watch of a target.
pub(crate) fn watch(core: Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    match target {
        Target::Key(key) => keys::of_key(core, key, options),
        Target::Tree(directory) => keys::of_tree(core, directory, options),
        Target::Holder(name) => holder::watch(core, name, options),
    }
}
