//! Writes keys: puts and deletions of one, transactions, and deletions of trees.

mod delete;
mod life;
mod precondition;
mod put;
mod tree;
pub(crate) mod turns;
mod txn;
pub(crate) mod versions;

pub(crate) use delete::delete;
pub(crate) use put::put;
pub(crate) use tree::delete_batch;
pub(crate) use txn::transact;
