//! Ids that nobody else has.

use std::{
    hash::{BuildHasher, RandomState},
    process,
};

/// Returns a number that no other call returns, in any process on any machine: for the names of
/// contenders, sessions and markers.
///
/// It is 64 random bits, so that among a million ids that live at once two are the same in one of
/// 37 million cases. It keeps no order, and is no secret: it must not be what grants access. It
/// never blocks, and asks the system for randomness once per thread.
///
/// ```
/// use kv_core::backend::unique;
///
/// let name = format!("contender-{:016x}", unique());
/// assert_ne!(name, format!("contender-{:016x}", unique()));
/// ```
#[must_use]
pub fn unique() -> u64 {
    // Keys differ with every `RandomState`, and between threads and processes by the system's
    // randomness. A process that was forked has the keys of its parent, but another id.
    RandomState::new().hash_one(process::id())
}
