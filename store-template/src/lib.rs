//! A small working backend to copy: `kv-core`'s `Store` over a map in this process.
//!
//! The promises of the contract, and what keeps them here:
//!
//! | promise | here |
//! |---|---|
//! | key | the prefix, then the key, as one name |
//! | version | the number of the change, which the server counts up for all names together |
//! | TTL | by the server, to the millisecond |
//! | watch | the server's changes in order, after a reading |
//! | lock | `kv_core::backend::fallback`: a key with a TTL, kept by compare-and-swap |
//!
//! It differs from the contract in this: there are no transactions and no leases, locks are
//! neither fair nor a condition of writes, and the data end with the process.
//! [`Capabilities`](kv_core::Capabilities) say the same to programs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = store_template::open("template://a-server/app/").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod config;
mod core;
mod list;
mod lock;
mod names;
mod server;
mod store;
mod watch;
mod write;

pub use config::{Config, from_url, open};
pub use store::Template;
