//! Tells contenders of one lock apart, and which of them comes before which.

use kv_core::Key;

/// A contender as others see it: the index at which it was created, which gives the order, and its
/// key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Before {
    pub(crate) created: u64,
    pub(crate) key: Key,
}
