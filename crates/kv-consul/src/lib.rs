//! The kv store on Consul.
//!
//! The table shows by which means of the server each promise is kept:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix, then the key, byte for byte: `consul kv get app/color` |
//! | version | the key's `ModifyIndex` |
//! | put | a transaction that deletes the key and makes it anew: otherwise the same bytes would keep their index, and the key its session |
//! | TTL | a session whose end deletes its keys, a tenth longer than the TTL; puts of one TTL that follow each other closely share it |
//! | lease | a session, kept alive |
//! | list | one request for the whole directory; for immediate children the names of everything below it, then the values of the children |
//! | delete_tree | a reading of the names, then their deletion, 64 in a transaction |
//! | transact | one transaction |
//! | watch | blocking queries, each shared by all watches of the same key or directory; they tell what differs from the answer before |
//! | lock | one key for each contender, under a session that all locks of one TTL share; the contender created first holds the lock, and its `CreateIndex` is the fencing token; a name in the queue that is none of ours, or that no session holds, is no contender |
//! | our own keys | below the prefix, in `.kv/` |
//!
//! # Limits
//! * TTLs are from ten seconds to 78,545 s, and those of leases and locks up to a day, unless the
//!   server has another `session_ttl_min`, which the store asks for when it is opened. The server
//!   ends a session at *twice* its TTL, and a change of the leader, and so a restart of a single
//!   server, grants each session its whole life anew: a key goes 1.2 TTLs late, and another 2.2
//!   TTLs late after such a change.
//! * Sessions live on the node of the agent that is asked, without health checks; in another
//!   datacenter they live on the node of a server. Deregistering that node ends them at once:
//!   locks, leases and keys with a TTL are lost together, before their time. Where the agent that
//!   is asked is itself a server, its crash does the same: the other servers remove it some 12 s
//!   later (autopilot's `cleanup_dead_servers`, which is on by default). Ask client agents, as
//!   Consul advises, or switch it off.
//! * The session of a key with a TTL stays until its time is over where another client replaces or
//!   deletes the key, or where there are more than 65,536 such keys. There are about twenty
//!   sessions for each TTL in use and process at most.
//! * A value may have 380 KB, since a transaction has 512 KiB and holds values in base64. A
//!   transaction may have 32 conditions and writes, since it has 64 operations and a put is two.
//!   The store asks for `kv_max_value_size` and `txn_max_req_len` when it is opened. Larger values
//!   that other tools wrote are read.
//! * A server whose disk is full takes no writes, deletions included. The first write is
//!   [`NoSpace`](kv_core::ErrorKind::NoSpace); then the server leads no more, so that calls but
//!   stale reads are `Unavailable` or of unknown outcome until there is room. Watches go on
//!   afterwards, and so do locks and leases whose time is not over.
//! * The server lists whole directories only: a listing with a limit, and each event of a watched
//!   directory, costs as much as the whole directory. Behind each answer a watch rests for about
//!   twice the time that the answer took both sides: not a millisecond for a small directory, 50 ms
//!   for one of ten thousand keys, and at most two seconds. So a directory that changes constantly
//!   is read a third of the time at most; a watch tells the newest state of each key
//!   ([`Watching::NewestState`](kv_core::Watching::NewestState)).
//! * When another tool deletes a directory whole (`consul kv delete -recurse`), the server does not
//!   wake the watches of a directory in it from which something was deleted before: these watches
//!   tell the deletion within eleven seconds.
//! * The server goes on with a blocking query that was given up until the query has waited ten
//!   seconds, and counts its connection meanwhile. So the poll of a watch that is dropped goes on
//!   as long, unless the store is dropped or closed, and other watches of the same names share it.
//! * `delete_tree` also deletes names below the directory that other tools wrote and that are no
//!   keys, if they are text and the token may read them. It counts nothing, and what is written
//!   meanwhile may stay. What stores inside of the directory keep for themselves stays, also what
//!   they come to keep meanwhile: therefore no directory is deleted whole, by the beginning of its
//!   names, and a directory of *n* names takes *n*/64 requests. A directory that takes longer than
//!   half of a deadline is deleted in several batches, each of which reads the names anew.
//! * A prefix is the directory of that name; `raw_prefix` takes bytes as they are, for trees that
//!   exist already. A prefix begins with no slash and has no empty segment, none that is `.` and
//!   none that is `..`: the path of no request can spell those.
//! * A server that is restored from an older copy (`consul snapshot restore`, a copy of its data)
//!   gives versions and fencing tokens out again. Watches notice, and tell what the copy holds:
//!   they keep a digest of each value, since a server that is wiped, or restored, and written
//!   again may have another value at the same index. A lock that was released after the copy was
//!   made is held again by the session of its former holder, until that session ends.
//! * The request for a lease whose answer was lost may come to the server late. The store looks
//!   for the session of such a lease three times within five seconds, and in
//!   [`close`](kv_core::Kv::close) three times within half a second. A session that is made later
//!   than that ends by its TTL, and holds nothing.
//! * A request for a lock that was sent twice, since an agent was silent, or that was given up
//!   without an answer, leaves an empty key in `.kv/gone/` when the lock is given back: by it, a
//!   copy of the request that comes late does nothing. The key goes with the session, when no lock
//!   of that TTL is held any more.
//! * Each request of a watch has the time that the watch was given; watches that share a poll have
//!   the longest of theirs. Of a directory that takes longer to read, nothing is told.
//! * A write is [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) when its connection ends
//!   before the answer. After a pause the library listens for a millisecond before it writes: a
//!   runtime that stood still (`block_on` now and then) has not heard yet that the agent was
//!   restarted meanwhile.
//! * Each runtime that uses the store has connections, polls and sessions of locks of its own: one
//!   that ends or stands still holds up no other. Guards and leases end with the runtime in which
//!   they were taken.
//! * After another tool's lock on a key has ended, the server refuses TTLs and leases on it for
//!   that lock's delay, 15 s by default: [`Unavailable`](kv_core::ErrorKind::Unavailable).
//!   Advisory locks that other tools hold on a key stop nothing else.
//!
//! # Rights
//! Opening reads one name below the prefix: where the store may not read it, the error says so,
//! with the setting that is missing or wrong. With ACLs a token needs
//! `key_prefix "PREFIX" { policy = "write" }`, and `session_prefix "" { policy = "write" }` for
//! TTLs, leases and locks. With `agent_prefix "" { policy = "read" }` the server's limits are
//! known; without it the defaults are assumed. The server leaves out of listings what a token may
//! not read, in silence: a watch asks for each name that vanishes, one transaction for 64 of them,
//! and ends with [`PermissionDenied`](kv_core::ErrorKind::PermissionDenied) where the name is
//! merely hidden.
//!
//! A token in the file of `token_file`, and the certificates of `ca`, `cert` and `key`, are read
//! again when an agent refuses what they held: a rotation does not need the store to be opened
//! anew, and the connections that were made with the old certificates end when they are idle.
//! Certificates that do not fit for a while are an outage. While the server does not know the
//! token, calls ask again until their deadline, and watches and waits for locks go on for ten
//! seconds. A token that is given as `token` and deleted on the server then ends them with
//! [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated). Locks, leases and keys with a TTL hang
//! on sessions, which belong to no token, and go on under the new one.
//!
//! A lock whose release is refused ends with its session, once no other lock of its TTL is held
//! under that session. A contender that waits under that session moves to another one, and goes to
//! the end of the queue.
//!
//! # Links
//! Agents are asked over HTTP/1.1. All stores of one process share the connections that an agent
//! takes from it: 24 for calls, 24 for what keeps locks and leases and gives them back, which wait
//! for nothing else, and 48 for watches and waits for locks. A call that its program does not poll
//! holds up no other: where many are under way, further ones run on tasks of their own. By default
//! an agent takes 200 from all programs behind one address (`http_max_conns_per_client`), so that
//! two busy processes fit; it ends further ones in silence, and the errors mention that. When there
//! are more watches than that, they share polls of directories above theirs; stores in great number
//! take turns, a second each. A silent link is noticed within 16 seconds, and by calls within their
//! deadline. Reads go to the next agent when one fails; a write goes to another one only when it is
//! certain that it took no effect. Linearizable reads are `consistent` ones; no proxy of the
//! environment is used, since one may send a request twice.
//!
//! Something between us and an agent (a reverse proxy, an ingress, a portal) may answer in the
//! agent's place. Only an answer with Consul's marks is believed: the index of what is there and
//! of what is not, JSON of the right shape, the words of its refusals with a header of Consul's. An
//! agent older than 1.9 has no such header on a refusal; there, the agent is asked for the leader
//! before its refusal is believed. Any other answer is
//! [`Unavailable`](kv_core::ErrorKind::Unavailable), or
//! [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown) for a write, and watches ride it out.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_consul::open("consul://127.0.0.1:8500/app/").await?;
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
pub use store::Consul;

use kv_core::{Kv, Result, StoreUrl, backend::in_open};
use std::future::Future;

/// Opens `consul://HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The parameters are those of [`Config`]:
/// `token`, `token_file`, `dc`, `ns`, `tls` (`true` or `false`), `ca`, `cert`, `key` (PEM files),
/// `server_name`, and `raw_prefix` in place of the path.
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a
/// text that is no URL and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("consul"))?).await.map(Kv::new)
}

/// Opens the store for a [`Registry`](kv_core::Registry):
/// `registry.with("consul", kv_consul::from_url)`. The URL is that of [`open`].
///
/// # Errors
/// Those of [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<Consul>> + Send + 'static {
    let config = Config::from_url(url).map_err(in_open("consul"));
    async move { config?.build().await }
}
