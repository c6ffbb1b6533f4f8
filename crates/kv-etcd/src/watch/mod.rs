//! Watches: of a key, of a tree, and of the holder of a lock.

mod feed;
mod history;
mod holder;
mod keys;

use crate::{core::Core, names::Range};
use kv_core::driver::{Target, WatchOptions, WatchStream};
use std::sync::Arc;

/// Does [`Store::watch`](kv_core::driver::Store::watch).
pub(crate) fn watch(core: &Arc<Core>, target: &Target, options: &WatchOptions) -> WatchStream {
    let range = match target {
        Target::Tree(directory) => core.names.below(directory),
        Target::Key(key) => Range { start: core.names.key(key.as_str()), end: Vec::new() },
        Target::Holder(name) => return holder::watch_holder(core.clone(), name, options),
    };
    keys::watch_range(core.clone(), range, options)
}
