//! Writes: puts, deletions, transactions and whole trees.

mod life;
mod transact;
mod tree;

pub(crate) use transact::{delete, deleted, found, is_missing, put, read, transact, unexpected};
pub(crate) use tree::delete_tree;
