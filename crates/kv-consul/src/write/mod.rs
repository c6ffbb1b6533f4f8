//! Writes: puts, deletions, transactions and deletions of directories, each by one transaction on the server.

mod lifetime;
mod ops;
mod put;
mod transact;
mod tree;

pub(crate) use put::{delete, put};
pub(crate) use transact::transact;
pub(crate) use tree::delete_tree;
