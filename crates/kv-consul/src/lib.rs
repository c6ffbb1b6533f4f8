//! The kv store on Consul.

mod api;
mod client;
mod config;
mod error;
mod lease;
mod list;
mod lock;
mod names;
mod poll;
mod session;
mod store;
mod ttl;
mod txn;
mod watch;

pub use config::Config;
pub use store::Consul;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `consul://HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those of [`Config`]: `token`, `dc`, `ns`, `tls`
/// (`true` or `false`), `ca`, `cert`, `key` (PEM files) and `server_name`.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    Ok(Kv::new(from_url(StoreUrl::parse(url)?).await?))
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("consul", kv_consul::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Consul>> + Send + 'static {
    let config = Config::from_url(url);
    async move { config?.open().await }
}
