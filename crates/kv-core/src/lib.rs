//! One small API over key/value stores: etcd, Consul, ZooKeeper, Redis, DynamoDB, an embedded one.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
mod capabilities;
mod entry;
mod error;
mod key;
mod kv;
mod list;
mod options;
mod registry;
mod secret;
mod store;
mod txn;
mod url;
mod watch;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use capabilities::{Capabilities, Durability, ForeignKeys, Linearizable, Locking, TtlRange, Watching};
pub use entry::{Entry, Health, Holder, Version, Written};
pub use error::{Error, ErrorKind, Result};
pub use key::{Directory, IntoKey, Key};
pub use kv::*;
pub use list::{Batch, Cursor, Item, Page, Position};
pub use options::{
    Consistency, Deadline, Expect, LeaseId, LeaseOptions, ListOptions, LockOptions, PutOptions, ReadOptions,
    WatchOptions, WriteOptions,
};
pub use registry::Registry;
pub use secret::Secret;
pub use store::{Acquired, Leased, Store};
pub use txn::{Condition, Fence, Outcome, Transaction, Write};
pub use url::StoreUrl;
pub use watch::{Target, WatchEvent, WatchStream};
