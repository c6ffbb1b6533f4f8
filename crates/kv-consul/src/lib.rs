//! The kv store on Consul.
//!
//! What it maps onto what:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte: `consul kv get app/color` |
//! | version | the key's `ModifyIndex` |
//! | put | a transaction that deletes the key and makes it anew: the same bytes would keep their index otherwise, and the key its session |
//! | TTL | a session whose end deletes its keys, a tenth longer than the TTL; puts of one TTL that follow each other closely share it |
//! | lease | a session, kept alive |
//! | list | one request for the whole directory; of immediate children the names of all, then the values of the children |
//! | delete_tree | one request; for the root one transaction by top-level names |
//! | transact | one transaction |
//! | watch | blocking queries, each shared by all watches of the same key or directory, and what differs from the answer before |
//! | lock | one contender key per waiter under a session that the locks of one TTL share; the one created first holds it, its `CreateIndex` is the token |
//! | our own keys | below the prefix, in `.kv/` |
//!
//! # Limits
//! * TTLs are ten seconds to 78,545 s, and those of leases and locks to a day, unless the server's `session_ttl_min` is another: it
//!   is asked when the store is opened. The server ends a session at *twice* its TTL, and a change of the leader, and so a restart of a
//!   single server, grants each session its whole life anew: a key goes 1.2 TTLs late, and once more 2.2 TTLs after such a change.
//! * Sessions live on the node of the agent that is asked, without health checks; in another datacenter on a server's. Deregistering
//!   that node ends them at once: locks, leases and keys with a TTL are lost together.
//! * The session of a key with a TTL that is replaced or deleted by another client, or of more than 65,536 such keys, stays until
//!   its time is over. There are about twenty for each TTL in use and process at most.
//! * A value has 380 KB, since a transaction has 512 KiB and holds it in base64, and a transaction 32 conditions and writes, since it has
//!   64 operations and a put is two; `kv_max_value_size` and `txn_max_req_len` are asked for when the store is opened. Larger values that
//!   other tools wrote are read.
//! * The server lists whole directories only: a listing with a limit, and each event of a watched directory, costs as much as the
//!   directory is large. A directory that changes constantly is soon read ten times a second at most, and a third of the time; a watch
//!   tells the newest state of each key ([`Watching::NewestState`](kv_core::Watching::NewestState)).
//! * The server does not wake watches of a directory when one above it is deleted whole, if something was deleted in it before: they
//!   are told within eleven seconds.
//! * A watch that is dropped costs the client nothing more. The server forgets it when its blocking query has waited long enough: ten
//!   seconds, a minute for a place in line for a lock.
//! * `delete_tree` also deletes names below the directory that other tools wrote and that are no keys. It counts nothing.
//! * A prefix begins with no slash and has no empty segment, none that is `.` and none that is `..`: no request's path can spell it.
//! * A server that is restored from an older copy (`consul snapshot restore`) gives versions and tokens out again. Watches notice, and
//!   tell what the copy holds.
//! * After another tool's lock on a key has ended, the server refuses TTLs and leases on it for that lock's delay, 15 s by default:
//!   [`Unavailable`](kv_core::ErrorKind::Unavailable). Advisory locks that other tools hold on a key stop nothing else.
//!
//! # Rights
//! With ACLs a token needs `key_prefix "PREFIX" { policy = "write" }`, and `session_prefix "" { policy = "write" }` for TTLs, leases and
//! locks. With `agent_prefix "" { policy = "read" }` the server's limits are known; without it they are taken for the defaults. What a
//! token may not read the server leaves out of listings, in silence: a watch asks for each name that vanishes, one transaction for 64 of them,
//! and ends with [`PermissionDenied`](kv_core::ErrorKind::PermissionDenied) where it is merely hidden.
//!
//! # Links
//! Agents are asked over HTTP/1.1, by at most 32 connections for calls and 43 for watches and waits for locks: a server takes 200 of
//! one machine by default. Beyond those, watches share polls of directories above theirs. A silent link is noticed within 16 seconds, and by
//! calls within their deadline. Reads go to the next agent when one fails; a write goes to another one only when it is certain that it took
//! no effect. Linearizable reads are `consistent` ones; no proxy of the environment is used, since one may send a request twice.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_consul::open("consul://127.0.0.1:8500/app/").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod agent;
mod api;
mod asker;
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
