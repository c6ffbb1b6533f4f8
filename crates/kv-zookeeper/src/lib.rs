//! The kv store on Apache ZooKeeper.

mod client;
mod config;
mod error;
mod expiring;
mod lease;
mod link;
mod list;
mod lock;
mod names;
mod node;
mod pool;
mod probe;
mod session;
mod store;
mod tree;
mod txn;
mod watch;

pub use config::Config;
pub use store::ZooKeeper;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `zookeeper://[USER:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those of [`Config`]:
/// `acl`, `tls` (`true` or `false`), `ca`, `cert` and `key` (PEM files).
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    Ok(Kv::new(from_url(StoreUrl::parse(url)?).await?))
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("zookeeper", kv_zookeeper::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<ZooKeeper>> + Send + 'static {
    let config = Config::from_url(url);
    async move { config?.open().await }
}
