//! The interface for authors of backends and layers: the trait [`Store`], what its methods take,
//! and what they answer. The mechanisms that every backend needs are in
//! [`backend`](crate::backend).
//!
//! | method | takes | answers |
//! |---|---|---|
//! | `get`, `get_many`, `exists` | [`ReadOptions`] | [`Entry`](crate::Entry) |
//! | `put`, `delete` | [`Expect`], [`PutOptions`], [`WriteOptions`] | [`Written`](crate::Written) |
//! | `list` | [`ListOptions`], [`Cursor`] | [`Page`] |
//! | `delete_tree` | [`WriteOptions`], [`Cursor`] | [`Batch`] |
//! | `transact` | [`Transaction`] of [`Write`]s | [`Decision`] |
//! | `watch` | [`Target`], [`WatchOptions`] | [`WatchStream`] |
//! | `lease` | [`LeaseOptions`] | [`Leased`] |
//! | `lock`, `lock_holder` | [`LockOptions`], [`ReadOptions`] | [`Acquired`], [`Holder`](crate::Holder) |
//! | `set_holder`, `break_lock` | [`Fence`](crate::Fence), or the token; [`WriteOptions`] | whether the lock is held, or was |
//! | `locks` | where to go on, [`ReadOptions`] | [`LockPage`] |
//!
//! Every call has a [`Deadline`]. [`Kv::new`](crate::Kv::new) makes a handle of a store, and
//! [`Kv::layer`](crate::Kv::layer) puts a [`Layer`] over it.

mod deadline;
mod layer;
mod options;
mod page;
mod store;
mod target;
mod transaction;

pub use crate::left_out::NotesLeftOut;
pub use async_trait::async_trait;
pub use deadline::Deadline;
pub use layer::Layer;
pub use options::{
    Expect, LeaseOptions, ListOptions, LockOptions, PutOptions, ReadOptions, WatchOptions, WriteOptions,
};
pub use page::{Batch, Cursor, LockPage, Page};
pub use store::{Acquired, AsStore, Leased, Store};
pub use target::{Target, WatchStream};
pub use transaction::{Decision, Transaction, Write};
