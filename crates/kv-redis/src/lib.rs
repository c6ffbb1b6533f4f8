//! The kv store on Redis and Valkey: Redis 7.0 and newer, Valkey 8, one server, a master with
//! sentinels, or a cluster.
//!
//! The promises of the API are kept on the server like this:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte, a plain string: `redis-cli get app/color` |
//! | version | a number greater than all before, at least the server's clock in microseconds, and a random number of the write |
//! | TTL | the key's own, to the millisecond |
//! | lease | a set of its keys; they are renewed and revoked step by step, as long as they have the end that the lease gave them |
//! | list | pages of a sorted set of all keys |
//! | delete_tree | batches of 500 keys, each in one step |
//! | transact, and every other call | one script, one round trip, one step |
//! | watch | a channel for the key or directory, to which the writing scripts publish if it has a listener |
//! | lock | a queue in a sorted set; the contender in front holds the lock, and its number is a part of the token |
//! | our own records | the prefix, then `.kv/`, which no key can begin with |
//!
//! # What is lost, and what that means
//! [`Durability`](kv_core::Durability) is read from the server at `open`: `Fsync` for a server on
//! its own with `appendonly yes`, `appendfsync always` and `no-appendfsync-on-rewrite no`, else
//! `MayLose`. A server with replicas, with sentinels, in a cluster, or beside another host in the
//! URL is not on its own, also while its replicas are away. Redis passes a write to
//! its replicas after it has acknowledged it. So a failover, also one of a cluster or of
//! sentinels, can lose the last writes, an acquired lock among them: **two programs may then
//! believe to hold one lock**, and a master that was cut off goes on to confirm it to the first
//! one until it notices. The fencing token protects against this: it grows over failovers too, as
//! far as the servers' clocks agree to within the time that a failover takes, and no two
//! acquisitions get the same one. Write with `.fenced(&guard)`, or have the guarded resource
//! refuse tokens below the greatest it has seen. A version is never given twice either, whatever
//! is lost or deleted: a random number is a part of it. A watch that finds, after a failover, that
//! the server went back to an older version of a key tells a `Delete` and then that version.
//!
//! A replica refuses reads as it does writes, so that both are sent to the master: every script
//! tries a write that changes nothing, which a replica refuses. So a master that was made a
//! replica is not read on, also where it hears nothing of the new one. Every five seconds, watches
//! check that their server is still the master, and that they still hear all of their channels; a
//! user who may not call `CLIENT INFO` learns only of the loss of all channels at once. A user
//! without the right to `ZADD` is protected by this check alone, and only while it watches.
//!
//! Keys end by the server's own wall clock. If it is set forward, they end early.
//!
//! # Keys that other programs wrote
//! They are read, compared and replaced at once. Listings and watches go by the index; they show
//! such keys after their first write through the library, or after
//! [`Kv::adopt`](kv_core::Kv::adopt), which looks at every name on the server once. A later change
//! by another program is seen by `get` and `list` at once, and by watches after the next `adopt`:
//! values that it set, keys that it deleted or gave an end, and a `FLUSHDB` or `SWAPDB` too, which
//! take the notes of the keys with them. After an `adopt` every watch of its directory reads
//! again, keys and versions, and says `Synced`. Names of other types (lists, hashes, …) are no
//! keys; a put over one is refused.
//!
//! A listing of names alone reads no values, so that large ones cost it nothing. The version that
//! [`child_keys`](kv_core::List::child_keys) gives is that of the key's last write through the
//! library, or of its adoption: where another program has written since, a conditional write with
//! it is refused, and `get` and listings with values tell the version that the key has.
//!
//! A key is under a lease as long as it has the end that the lease gave it. A key that another
//! program, or a store around this one, sets anew, makes permanent or gives another end is no
//! longer renewed by the lease, and not deleted with it.
//!
//! A record of ours, below `.kv/`, that another program overwrote is found before anything is
//! written: the call fails with [`Corrupt`](kv_core::ErrorKind::Corrupt), names the record, and
//! did nothing. The same holds for requests for a lock, and for waits, if its queue is such a
//! record, or the session of a contender before them is. The holder of the lock loses it when its
//! session is renewed next, or at the end of its time. A release is tried again until the record
//! is deleted, or put back, and then the lock is free. A note of a single key that cannot be read
//! counts as none, and so does one whose number is more than a day above the last one given and
//! the server's clock: later writes of that key would look older. The record of the last number
//! given, `.kv/clock`, is not believed when it is more than ten years ahead of the server's clock;
//! a clock that was set back by less goes on from there.
//!
//! # Limits
//! * TTLs of locks and leases are two seconds at least; those of keys a millisecond.
//! * A lease has 5,000 keys at the most for each second of its TTL, and 200,000 at the most: a put
//!   of more is [`TooLarge`](kv_core::ErrorKind::TooLarge). A renewal has a quarter of the TTL to
//!   go through all of them, in steps of 1,500, and other calls wait for one step alone. It takes
//!   some 20 ms for a thousand keys: give a lease on a busy server a longer TTL than its keys need.
//! * A server over its `maxmemory` refuses what is new ([`NoSpace`](kv_core::ErrorKind::NoSpace)),
//!   and serves what makes room: reads, deletions, `delete_tree`, revocations, releases, renewals.
//!   Contenders that wait in the queue of a lock stay there, and get the lock. A contender that
//!   comes then gets into no queue: `acquire` asks again, every two seconds at the latest, until
//!   there is room, also where the lock is free, and such contenders get it in no order;
//!   `acquire_within` ends with `NoSpace`, and so does `try_acquire` where the lock is free.
//! * A server that cannot write to its disk, and is told to take no writes then
//!   (`stop-writes-on-bgsave-error`, or any failure with `appendonly`), refuses all of them,
//!   deletions, releases and renewals included, with [`NoSpace`](kv_core::ErrorKind::NoSpace). It
//!   serves reads and watches, and can be opened. Locks and leases are lost by their TTL.
//! * A value has 8 MiB at the most. A value above 16 KiB costs each watch a request of its own.
//! * A user needs the rights `~PREFIX*`, `&PREFIX*` and the commands that the scripts use: `+@all
//!   -@dangerous` is enough. If the user lacks a right for a part of a write, by the rights at
//!   that moment, nothing of the write is done
//!   ([`PermissionDenied`](kv_core::ErrorKind::PermissionDenied)). A user without `INFO` and
//!   `CONFIG GET` can open a store; its durability then counts as `MayLose`, and its eviction
//!   policy is not checked.
//! * In a cluster all names of a store are in one slot, on one node: see [`Config::cluster`], and
//!   [`Config::spread`] for more slots. While that slot is moved to another node, calls fail with
//!   `Unavailable`.
//! * A value that another tool wrote has a version that is made of its bytes: when that tool
//!   writes the same bytes again later, a compare-and-swap with the earlier version matches.
//! * In a cluster stores do not nest: each prefix is a slot of its own, so that the keys of a
//!   store at `in` are not the keys `in/…` of the store around it. Everybody opens a spread store
//!   with the same number of parts; another number is refused. Whoever opens it without `spread` is
//!   not refused, and has another store, which shows none of its keys.
//! * One record of ours, the last number given, stays for thirty days after the last write, and
//!   until the server's clock has passed the number by as much, so that versions and tokens grow
//!   also when that clock is set back.
//!
//! # Links
//! Each runtime that uses a store has one connection for calls, and, while there are watches or
//! lock waits, one for these, which is checked every five seconds; a [spread](Config::spread) store
//! has these for each of its parts. So a runtime that ends or stands still holds up no other;
//! guards and leases end with the runtime in which they were taken. The files of TLS are read again
//! for every new connection. A server without a free connection (`maxclients`) is asked again until
//! the deadline.
//!
//! The Redis client that is used below never sends anything twice: it is told to try each command
//! once, on a connection that is never mended but replaced. A runtime that stood still (`block_on`
//! now and then) first reads the end of a connection that arrived meanwhile, so that a write is
//! not sent into it.
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

use kv_core::{Kv, Result, StoreUrl, backend::in_open};
use std::future::Future;

/// Opens the store at `redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`;
/// `rediss://` does the same with TLS, `redis-cluster://` opens one on a cluster,
/// `redis-sentinel://` one on the master that sentinels know as `master`. The parameters are those
/// of [`Config`]: `tls` (`true` or `false`), `ca`, `cert`, `key` (PEM files), `server_name`, `db`
/// (0 to 255), `allow_eviction` (`true` or `false`), `raw_prefix` (in place of the path); `spread`
/// for clusters; `master`, `sentinel_user` and `sentinel_password` for sentinels.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a
/// text that is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("redis"))?).await.map(Kv::new)
}

/// Does the same for a [`Registry`](kv_core::Registry): `registry.with("redis",
/// kv_redis::from_url)`, and likewise for the other schemes.
///
/// # Errors
/// Those of [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Redis>> + Send + 'static {
    let config = Config::from_url(url).map_err(in_open("redis"));
    async move { config?.build().await }
}
