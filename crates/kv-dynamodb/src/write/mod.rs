//! Writes: puts and deletions, and transactions.

pub(crate) mod put;
pub(crate) mod turns;
pub(crate) mod txn;
