//! The kv store on etcd v3.
//!
//! The table shows by which means of the server each promise is kept:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte: `etcdctl get app/color` |
//! | version | the key's `mod_revision` |
//! | TTL | a lease, which puts of one TTL share that follow each other closely; nobody renews it |
//! | lease | a lease, kept alive |
//! | list | ranges, all at the revision of the first page |
//! | delete_tree | one range deletion, or one transaction that deletes the parts between the locks of other stores |
//! | transact | one transaction |
//! | watch | a watch, then a list at one revision; after an outage the list tells what differs |
//! | lock | one key for each contender, under a lease that all locks of one TTL share; the contender created first holds the lock, and its `create_revision` is the fencing token; a name in the queue without a lease is no contender |
//! | our own keys | below the prefix, behind `\x01`, which no key can begin with |
//!
//! # Limits
//! * A TTL is a whole number of seconds, two at least, or more where the server's election
//!   time-out demands more; the call returns the TTL that the server granted. When the leader
//!   changes, and so when a single server restarts, each lease gets its whole TTL anew.
//! * A value may have 1.5 MiB, less what a request needs besides it; a transaction may have 128
//!   conditions and writes, and its request 1.5 MiB with all names, each of which it has up to
//!   three times. A server that is configured to take less refuses more with
//!   [`TooLarge`](kv_core::ErrorKind::TooLarge).
//! * Puts of one TTL share a lease with those that follow within half a second, or within a
//!   sixtieth of the TTL where that is longer. Only the first of them asks for the lease. The
//!   lease is a second longer than the TTL, or a thirtieth of it, because it is granted before the
//!   last of the puts. A put that took so long that the lease may end before its TTL renews the
//!   lease; where the lease has other keys, for a second behind that time: a put that took longer
//!   still returns the TTL that is left.
//! * A lease of TTLs ends by itself, at its time, whatever became of its keys: nobody revokes it
//!   because a key was replaced or deleted, since it may have others. A runtime that is writing one
//!   TTL all the time leaves at most some hundred and twenty leases on the server, also when the
//!   store is closed: with a TTL of a year those stay for a year. They can be more where the server
//!   takes longer for a grant than puts share a lease. Only a lease under which nothing was put is
//!   revoked, after half a second or by `close`. Leases of users and of locks are others.
//! * A lease whose grant had no answer is taken where the request is repeated in time and finds it.
//!   Otherwise it is revoked, again and again for ten seconds or until `close`. It stays for its TTL
//!   where the outage lasts longer.
//! * `delete_tree` also deletes names below the directory that other tools wrote and that are no
//!   keys. It leaves out names that hold the character `\x01`, which stores with a prefix inside
//!   of the directory keep for themselves. Where there are such names below the directory it takes
//!   two requests, and another one each time that a further store in there takes its first lock
//!   meanwhile.
//! * `delete_tree` deletes a tree of any size in one step. The server does no other write
//!   meanwhile, and gives up an answer that takes longer than five seconds and twice its election
//!   time-out. The deletion of some hundred thousand keys can take longer: it is
//!   [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) then, with any deadline, and is done
//!   all the same, so that the next call answers. Delete such a tree by its subdirectories, one
//!   after another. It is not divided here, since readers would see a part of it, and since each
//!   deletion, however small, would first have to ask how large the tree is. Where a
//!   store with a prefix inside of the directory has locks, the names below the directory are read
//!   first, within the same deadline.
//! * A server that is restored from an older copy of its data continues its revisions from that
//!   copy. Watches tell what differs, and locks and leases are lost, but versions and fencing
//!   tokens can be given out a second time: do not compare those from before the restore with
//!   those from after it.
//! * etcd does not say that a server was wiped, or restored, and written again. A watch recognizes
//!   it by a revision or a term that is lower than before, by a key that it was not told of, or by
//!   another value at a revision that it knows; then it reads everything anew. When a watch comes
//!   back, it compares the values of the last 1,024 revisions, and older values after its
//!   `Synced`, a megabyte each half second: where nothing but such an older value differs, the
//!   watch tells it then, before another `Synced`.
//! * Tools that copy keys by their names (`etcdctl make-mirror`, a dump) copy no leases. Keys with
//!   a TTL become permanent, and contenders belong to nobody: such a name stays in the queue,
//!   where it is skipped, until another tool deletes it.
//! * A listing whose pages are read so slowly that the server compacts its revision meanwhile ends
//!   with [`Unavailable`](kv_core::ErrorKind::Unavailable): list again.
//! * A `release` or `revoke` whose answer was lost is repeated. When the repeat finds nothing, it
//!   is not known who ended the lock or the lease, and the error is
//!   [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown).
//!
//! # A server over its quota
//! Such a server still takes reads, deletions, releases, revocations, renewals and `open`; other
//! writes fail with [`NoSpace`](kv_core::ErrorKind::NoSpace). etcd does the write by which it
//! becomes full, and refuses it all the same: where that may have happened, the error is
//! [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown).
//!
//! # Rights
//! All names of a store lie below its prefix, so that
//! `etcdctl role grant-permission ROLE readwrite --prefix PREFIX` is enough. A user that may only
//! read can open, read and watch. Users, roles and passwords may change while a store is open: the
//! store logs in again when the server asks for it. A login goes on without the call that needed
//! it, for ten seconds at most, so that a call that gives up, or is not polled, holds back no other.
//! [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated) is the server's answer to a login. An
//! answer that a proxy gives in the server's place counts as an outage.
//!
//! A lock whose release is refused ends with its lease, by its TTL, once no other lock of its TTL
//! is held under that lease. A contender that waits under that lease moves to another one, and
//! goes to the end of the queue.
//!
//! # Links
//! Each member has one connection for calls and renewals and one for watches, made when first
//! needed. Pings notice a frozen link within ten seconds, and renewals notice it within a fifth of
//! the TTL of a lock or a lease. Reads go to the next member when one fails; a write goes to
//! another one only when it is certain that it took no effect. Each runtime that uses the store
//! has connections of its own, so that a store outlives the runtime that opened it; guards and
//! leases end with their runtime. A runtime that stands still between calls (`block_on` now and
//! then) checks its connections before it writes, so that a restart of the server meanwhile is not
//! taken for a lost answer.
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

use kv_core::{Kv, Result, StoreUrl, backend::in_open};
use std::future::Future;

/// Opens `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those
/// of [`Config`]: `tls` (`true` or `false`), `ca`, `cert`, `key` (PEM files), `server_name`, and
/// `raw_prefix` in place of the path.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a
/// text that is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("etcd"))?).await.map(Kv::new)
}

/// Opens the store for a [`Registry`](kv_core::Registry):
/// `registry.with("etcd", kv_etcd::from_url)`. The URL is that of [`open`].
///
/// # Errors
/// Those of [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Etcd>> + Send + 'static {
    let config = Config::from_url(url).map_err(in_open("etcd"));
    async move { config?.build().await }
}
