//! The kv store on etcd v3.
//!
//! The table shows by which means of the server each promise is kept:
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
//! | lock | one contender key per waiter under a lease that the locks of one TTL share; the one created first holds it, its `create_revision` is the token; a name in its line without a lease is nobody's |
//! | our own keys | at the prefix, then `\x01`, which no key can begin with |
//!
//! # Limits
//! * TTLs are whole seconds, and at least two of them, or more where the server's election
//!   time-out asks for more: what it granted is told. A change of the leader, and so a restart of
//!   a single server, grants each lease its whole TTL anew.
//! * A value has 1.5 MiB less what a request needs besides it; a transaction 128 conditions and
//!   writes. A server that was told to take less answers
//!   [`TooLarge`](kv_core::ErrorKind::TooLarge) itself.
//! * A key with a TTL that is replaced or deleted leaves a lease without a key, which is revoked
//!   in the background. The lease of several keys with one TTL, put by one transaction, is revoked
//!   when they go together; else, and where another tool replaces or deletes a key, it ends by its
//!   TTL. Leases of users and of locks are never touched. To know of it, every write looks at the
//!   key in the same request: a user needs the right to read what it writes.
//! * `delete_tree` also deletes names below the directory that other tools wrote and that are no
//!   keys. It leaves alone what holds the character `\x01`: what stores around whose prefixes it
//!   goes keep for themselves. Where there are leases below the directory it is two requests, and
//!   begins anew when somebody writes there meanwhile; after eight times it does not look any
//!   more, and would delete the lock of an inner store that never had one before.
//! * A server that is put back to an older copy of its data counts on from there: watches tell
//!   what differs, locks and leases are lost, but versions and tokens can be given out a second
//!   time. Do not compare those of before with those of after.
//! * etcd has no word for a server that was wiped, or put back, and written again: a watch knows
//!   it by a revision or a term that went back, a key that it was not told of, or another value
//!   under a revision that it knows, and then reads all anew. Values of the last 1,024 revisions
//!   are compared when a watch comes back, those of older ones behind its `Synced`, a megabyte
//!   each half second: where nothing but such a value differs, it is told by then, before another
//!   `Synced`.
//! * Keys that are copied by their names (`etcdctl make-mirror`, a dump) come without their
//!   leases: those with a TTL become permanent, and contenders nobody's. Such a name stays in the
//!   line, skipped, until another tool deletes it.
//! * A listing whose pages are read so slowly that the server compacts its revision meanwhile ends
//!   with [`Unavailable`](kv_core::ErrorKind::Unavailable): list again.
//! * `release` and `revoke` whose answer was lost are repeated; when the repeat finds nothing
//!   there, who ended it is not known, and [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown)
//!   says so.
//!
//! # A server over its quota
//! It reads, deletes, releases and revokes, renews and opens; other writes are
//! [`NoSpace`](kv_core::ErrorKind::NoSpace). etcd does the very write by which it becomes full and
//! refuses it all the same: where that may be so, the error is
//! [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown).
//!
//! # Rights
//! All that is kept lies below the prefix, so that
//! `etcdctl role grant-permission ROLE readwrite --prefix PREFIX` is enough; who may only read can
//! open, read and watch. Users, roles and passwords may change while a store is open: it logs in
//! again when the server asks for it. [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated) is
//! the answer to a login. What a proxy says in the server's place is an outage.
//!
//! A lock whose release is refused ends with its lease, by its TTL, once no other lock of its TTL
//! is held on it. Who waits for a lock by that lease takes another one, and comes last in line.
//!
//! # Links
//! Each member has one connection for calls and renewals and one for watches, made when first
//! needed. A frozen link is noticed within ten seconds by pings, and within a fifth of its TTL by
//! what a lock or a lease needs. Reads go to the next member when one fails; a write goes to
//! another one only when it is certain that it took no effect. Each runtime that uses the store
//! has connections of its own, so that a store outlives the runtime that opened it; guards and
//! leases do not outlive theirs. A runtime that stood still (`block_on` now and then) looks for
//! what happened to its connections before it writes, so that a restart in between is not taken
//! for a lost answer.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_etcd::open("etcd://h1:2379,h2:2379,h3:2379/app/").await?;
//! kv.put("color", "red").await?;
//! # Ok(()) }
//! ```

mod client;
mod config;
mod core;
mod error;
mod lease;
mod list;
mod lock;
mod names;
mod store;
mod watch;
mod write;

pub use config::Config;
pub use store::Etcd;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those
/// of [`Config`]: `tls` (`true` or `false`), `ca`, `cert`, `key` (PEM files), `server_name`, and
/// `raw_prefix` in place of the path.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for
/// what is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(config::in_open)?).await.map(Kv::new)
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("etcd", kv_etcd::from_url)`.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Etcd>> + Send + 'static {
    let config = Config::from_url(url).map_err(config::in_open);
    async move { config?.build().await }
}
