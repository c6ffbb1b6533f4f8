//! The backends: each starts its server, and opens the sides that are measured on it.

#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "redb")]
mod fjall;
mod memory;
mod ours;
#[cfg(any(feature = "consul", feature = "dynamodb"))]
mod proxy;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(
    feature = "consul",
    feature = "dynamodb",
    feature = "etcd",
    feature = "redis",
    feature = "zookeeper"
))]
mod server;
#[cfg(feature = "redb")]
mod sqlite;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use crate::{counts::Counter, drive::Opened, side::Done};
use futures::future::BoxFuture;
use kv_core::Kv;
use std::{any::Any, path::Path};

/// A backend whose sides are open.
pub(crate) struct Backend {
    /// The version of the server, or of the crate that is the store.
    pub(crate) version: String,
    /// The sides, ours first.
    pub(crate) sides: Vec<Box<dyn Opened>>,
    /// Our handle, for what is measured of us alone.
    pub(crate) kv: Kv,
    /// The counter of requests, where there is a server.
    pub(crate) counter: Option<Box<dyn Counter>>,
    /// The most keys of a directory that is listed or deleted here.
    pub(crate) largest: usize,
    /// The server, which ends with this.
    pub(crate) keep: Box<dyn Any + Send + Sync>,
}

/// Starts a backend, with its data in this folder.
type Start = for<'a> fn(&'a Path) -> BoxFuture<'a, Done<Backend>>;

/// All backends by their names, in the order of the tables.
pub(crate) const ALL: &[(&str, Start)] = &[
    ("memory", |folder| Box::pin(memory::start(folder))),
    #[cfg(feature = "redb")]
    ("redb", |folder| Box::pin(redb::start(folder))),
    #[cfg(feature = "etcd")]
    ("etcd", |folder| Box::pin(etcd::start(folder))),
    #[cfg(feature = "consul")]
    ("consul", |folder| Box::pin(consul::start(folder))),
    #[cfg(feature = "zookeeper")]
    ("zookeeper", |folder| Box::pin(zookeeper::start(folder))),
    #[cfg(feature = "redis")]
    ("redis", |folder| Box::pin(redis::start(folder))),
    #[cfg(feature = "dynamodb")]
    ("dynamodb", |folder| Box::pin(dynamodb::start(folder))),
];
