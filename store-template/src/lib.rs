//! A small working backend to copy: `kv-core`'s `Store` over a map in this process.
//!
//! What it maps onto what:
//!
//! | promise | here |
//! |---|---|
//! | key | the prefix, then the key, as one name |
//! | version | the number of the change, which the server counts up for all names together |
//! | TTL | by the server, to the millisecond |
//! | watch | the server's changes in order, after a reading |
//! | lock | `kv_core::backend::fallback`: a key with a TTL, kept by compare-and-swap |
//!
//! Where it differs from the contract: there are no transactions and no leases, locks are neither fair nor a condition
//! of writes, and the data end with the process. [`Capabilities`](kv_core::Capabilities) say the same to programs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = store_template::open("template://a-server/app/").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod config;
mod lock;
mod server;
mod store;
mod watch;

pub use config::Config;
pub use store::Template;

use kv_core::{Kv, Result, StoreUrl};

/// Opens `template://SERVER/PREFIX`.
///
/// # Errors
/// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    Ok(Kv::new(from_url(StoreUrl::parse(url)?).await?))
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("template", store_template::from_url)`.
///
/// # Errors
/// As [`open`].
pub async fn from_url(url: StoreUrl) -> Result<Template> {
    Config::from_url(url)?.open().await
}
