//! The kv store on Amazon DynamoDB.

mod client;
mod clock;
mod config;
mod error;
mod follow;
mod item;
mod lease;
mod list;
mod lock;
mod names;
mod shards;
mod store;
mod stream;
mod table;
mod txn;
mod watch;

pub use config::Config;
pub use store::Dynamo;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `dynamodb://[ACCESS_KEY:SECRET@]TABLE/PREFIX?PARAMETERS`. The parameters are those of [`Config`]: `region`,
/// `endpoint`, `profile`, `session_token`, `create` and `replicas` (`true` or `false`), `slack` (seconds).
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    Ok(Kv::new(from_url(StoreUrl::parse(url)?).await?))
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("dynamodb", kv_dynamodb::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Dynamo>> + Send + 'static {
    let config = Config::from_url(url);
    async move { config?.open().await }
}
