//! The commands, each with its arguments.

pub(crate) mod about;
pub(crate) mod adopt;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod edit;
pub(crate) mod elect;
pub(crate) mod get;
pub(crate) mod lease;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod locks;
pub(crate) mod put;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod semaphore;
pub(crate) mod terms;
pub(crate) mod transfer;
pub(crate) mod tree;
pub(crate) mod txn;
pub(crate) mod watch;
