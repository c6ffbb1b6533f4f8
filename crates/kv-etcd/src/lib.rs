//! The kv store on etcd v3.
//!
//! What it maps onto what:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte: `etcdctl get app/color` |
//! | version | the key's `mod_revision` |
//! | TTL | a lease per put, a second longer than the TTL, because it is granted before the put |
//! | lease | a lease, kept alive |
//! | list | ranges, all at the revision of the first page |
//! | delete_tree | one range deletion |
//! | transact | one transaction |
//! | watch | a reading, then a watch from its revision on; after an outage what differs |
//! | lock | one contender key per waiter under a lease that the locks of one TTL share; the one created first holds it, its `create_revision` is the token |
//! | our own keys | at the prefix, then `\x01`, which no key can begin with |
//!
//! # Limits
//! * TTLs are whole seconds, and at least two of them or one and a half election time-outs, as the server tells at `open`. A change of the
//!   leader, and so a restart of a single server, grants each lease its whole TTL anew.
//! * A value has 1.5 MiB less what a request needs besides it; a transaction 128 conditions and writes. A server that was
//!   told to take less answers [`TooLarge`](kv_core::ErrorKind::TooLarge) itself.
//! * A key that is replaced or deleted before its TTL has passed leaves a lease without a key, which is revoked in the
//!   background; one that another tool replaces or deletes leaves it on the server until the TTL has passed. To know of it,
//!   every write looks at the key in the same request: a user needs the right to read what it writes.
//! * `delete_tree` also deletes names below the directory that other tools wrote and that are no keys.
//! * A listing whose pages are read so slowly that the server compacts its revision meanwhile ends with
//!   [`Unavailable`](kv_core::ErrorKind::Unavailable): list again.
//!
//! # Links
//! Each member has one connection for calls and one for watches and renewals, made when first needed. A frozen link is
//! noticed within ten seconds by pings. Reads go to the next member when one fails; a write goes to another one only when
//! it is certain that it took no effect.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_etcd::open("etcd://h1:2379,h2:2379,h3:2379/app/").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod client;
mod config;
mod error;
mod lease;
mod link;
mod list;
mod lock;
mod names;
mod session;
mod store;
mod txn;
mod vigil;
mod watch;

pub use config::Config;
pub use store::Etcd;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those of [`Config`]: `tls`
/// (`true` or `false`), `ca`, `cert`, `key` (PEM files) and `server_name`.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    Ok(Kv::new(from_url(StoreUrl::parse(url)?).await?))
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("etcd", kv_etcd::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Etcd>> + Send + 'static {
    let config = Config::from_url(url);
    async move { config?.open().await }
}
