//! Puts and deletes keys, commits transactions and deletes directories, each by one transaction on
//! the server.

mod lifetime;
mod ops;
mod put;
mod transact;
mod tree;

pub(crate) use put::{delete, put};
pub(crate) use transact::transact;
pub(crate) use tree::delete_tree;
