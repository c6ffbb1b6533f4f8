//! The kv store on Redis and Valkey: Redis 7.0 and newer, Valkey 8, one server, a master with sentinels, or a cluster.
//!
//! The promises of the API are kept on the server like this:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte, a plain string: `redis-cli get app/color` |
//! | version | a number above all before, at least the server's microseconds, and a random one of the write's own |
//! | TTL | the key's own, to the millisecond |
//! | lease | a set of its keys, which are renewed, and revoked, step by step, as long as they have the end that it gave them |
//! | list | pages of a sorted set of all keys |
//! | delete_tree | batches of 500 keys, each in one step |
//! | transact, and every other call | one script, one round trip, one step |
//! | watch | a channel for the key or directory, to which the writing scripts publish where somebody listens |
//! | lock | a line in a sorted set; who is in front of it holds the lock, and its number is the token |
//! | our own keys | at the prefix, then `.kv/`, which no key can begin with |
//!
//! # What is lost, and what that means
//! [`Durability`](kv_core::Durability) is read from the server at `open`: `Fsync` for a server on its own with `appendonly yes`
//! and `appendfsync always`, else `MayLose`. Redis tells a write to its replicas after it has acknowledged it. So a failover,
//! also one of a cluster or of sentinels, can lose the last writes, an acquired lock among them: **two may then believe to
//! hold one lock**, and a master that was cut off goes on to confirm it to the first until it notices. The answer is the
//! fencing token: it grows over failovers too, as far as the servers' clocks agree to within the time that a failover
//! takes, and no two acquisitions get the same one; write with `.fenced(&guard)`, or have the guarded resource refuse tokens
//! below the greatest it has seen. A version is never given twice either, whatever is lost or deleted: a random number is a
//! part of it. A watch that finds, after a failover, that the server went back to an older version of a key tells a `Delete`
//! and then that version.
//!
//! Reads are refused by a server that is a replica, as writes are, and asked of the master: every script tries a write that
//! changes nothing, of which a replica says no. So a master that was made a replica is not read on, also where it hears nothing
//! of the new one. Watches look for it every five seconds, and whether they hear all of their channels still; who may not ask
//! `CLIENT INFO` learns of a loss of all channels alone. A user without the right to `ZADD` has this look alone, while it
//! watches.
//!
//! Keys end by the server's own wall clock. One that is set forward ends them early.
//!
//! # Keys that other programs wrote
//! They are read, compared and replaced at once. Listings and watches, which go by the index, show them after their first
//! write through the library, or after [`Kv::adopt`](kv_core::Kv::adopt), which looks at every name on the server once.
//! A later change by another program is seen by `get` and `list` at once, and by watches after the next `adopt`: values that it
//! set, keys that it deleted or gave an end, and a `FLUSHDB` or `SWAPDB` too, which take what is noted of the keys with them:
//! after an `adopt` every watch of its directory reads again, keys and versions, and says `Synced`. Names of other types (lists,
//! hashes, …) are no keys; a put over one is refused.
//!
//! A key is under a lease as long as it has the end that the lease gave it. What another program, or a store around this one,
//! sets anew, makes permanent or gives another end is not renewed by the lease any more, and not deleted with it.
//!
//! A record of ours, below `.kv/`, that another program overwrote is found before anything is
//! written: the call fails with [`Corrupt`](kv_core::ErrorKind::Corrupt), names the record, and
//! did nothing. The same holds for requests for a lock, and for waits, if its queue is such a
//! record, or the session of a contender before them is. The holder of the lock loses it when its
//! session is renewed next, or at the end of its time. A release is tried again until the record
//! is deleted, or put back, and then the lock is free.
//!
//! # Limits
//! * Locks and leases live for two seconds at least; TTLs of keys for a millisecond.
//! * A lease has 200,000 keys at the most. A renewal has a quarter of the TTL to go through all of them, in steps of 1,500, and
//!   others wait for one step alone: give a lease of a hundred thousand keys half a minute.
//! * A server over its `maxmemory` refuses what is new ([`NoSpace`](kv_core::ErrorKind::NoSpace)), and serves what makes room:
//!   reads, deletions, `delete_tree`, revocations, releases, renewals. Who waits in a lock's line stays there, and gets the lock. Who
//!   comes then gets into no line: `acquire` asks anew, every two seconds at the latest, until there is room, also where the lock is
//!   free, and such waiters get it in no order; `acquire_within` ends with `NoSpace`, and so does `try_acquire` where the lock is free.
//! * A value has 8 MiB. Values above 16 KiB cost a watch a request of its own.
//! * A user needs the rights `~PREFIX*`, `&PREFIX*` and the commands that the scripts use: `+@all -@dangerous` is enough. Who may
//!   not do all of a write does nothing of it ([`PermissionDenied`](kv_core::ErrorKind::PermissionDenied)), by the rights that
//!   there are at that moment. A user without `INFO` and `CONFIG GET` can open a store; its durability then counts as `MayLose`,
//!   and its eviction policy is not checked.
//! * In a cluster all names of a store are in one slot, on one node: see [`Config::cluster`], and [`Config::spread`] for
//!   the way to more. While that slot is moved to another node, calls answer `Unavailable`.
//! * A value that another tool wrote has a version that is made of its bytes: where it writes the same bytes again later, a
//!   compare-and-swap with the version of before matches.
//! * In a cluster stores do not nest: each prefix is a slot of its own, so what a store at `in` holds is not `in/…` of
//!   the store around it. A spread store is opened with the same number of parts by everybody; another number is refused.
//! * One key of our own, the last number given, stays for thirty days after the last write, and until the server's clock has
//!   passed it by as much, so that versions and tokens grow also when that clock is set back.
//!
//! # Links
//! A store has one connection for calls, and one for watches and lock waits while there are any, which is looked at every five
//! seconds; a [spread](Config::spread) one has these for each of its parts. The files of TLS are read again for every new
//! connection. A server without a connection left (`maxclients`) is asked again until the deadline.
//!
//! Nothing is ever sent twice by the client beneath: it is told to try each command once, on a connection that is never mended
//! but replaced. A runtime that stood still (`block_on` now and then) first reads the end of a connection that arrived
//! meanwhile, so that a write is not sent into it.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_redis::open("redis://h1:6379/app/").await?;
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
mod spread;
mod store;
mod version;
mod watch;
mod write;

pub use config::Config;
pub use store::Redis;

use kv_core::{Kv, Result, StoreUrl};
use std::future::Future;

/// Opens `redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`; `rediss://` the same with TLS,
/// `redis-cluster://` a cluster, `redis-sentinel://` the master that sentinels know as `master`. The parameters are those of
/// [`Config`]: `tls` (`true` or `false`), `ca`, `cert`, `key` (PEM files), `server_name`, `db` (0 to 255),
/// `allow_eviction` (`true` or `false`), `raw_prefix` (in place of the path); `spread` for
/// clusters; `master`, `sentinel_user` and `sentinel_password` for sentinels.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for what is no URL and for
/// unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(config::in_open)?).await.map(Kv::new)
}

/// The same for a [`Registry`](kv_core::Registry): `registry.with("redis", kv_redis::from_url)`, and so for the other schemes.
///
/// # Errors
/// As [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Redis>> + Send + 'static {
    let config = Config::from_url(url).map_err(config::in_open);
    async move { config?.build().await }
}
