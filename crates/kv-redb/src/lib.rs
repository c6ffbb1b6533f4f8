//! The kv store in a file of this machine: durable, in process, on [redb](https://docs.rs/redb).

mod config;
mod engine;
mod error;
mod lease;
mod lock;
mod store;
mod watch;

pub use config::Config;
pub use store::{Redb, Stats};

use kv_core::{Kv, Result, StoreUrl};

/// Opens the store of a URL, as [`Config::from_url`] reads it.
///
/// # Errors
/// As [`Config::from_url`] and [`Config::open`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url)?).await.map(Kv::new)
}

/// Opens the store of a URL, for a [`Registry`](kv_core::Registry).
///
/// # Errors
/// As [`Config::from_url`] and [`Config::open`].
pub async fn from_url(url: StoreUrl) -> Result<Redb> {
    Redb::open(Config::from_url(url)?).await
}
