//! Watches of keys, of trees and of the holders of locks.

mod feed;
mod history;
mod holder;
mod keys;

pub(crate) use holder::{holder, watch_holder};
pub(crate) use keys::watch;
