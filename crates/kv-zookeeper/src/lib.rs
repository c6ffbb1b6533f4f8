//! The kv store on Apache ZooKeeper.
//!
//! The promises of the API are kept on the server like this:
//!
//! | promise | on the server |
//! |---|---|
//! | key | the prefix's node, then a node a segment, whose data is the value: `zkCli get /app/color` |
//! | directory | a node without data, made with the first key below it and deleted with the last one |
//! | empty value | a node without data, and below it one called `.kv` that says so |
//! | version | the zxid of the key's last write and its time, which `zkCli stat` shows as `mZxid` and `mtime` |
//! | compare-and-swap | one request that checks the node's data version and a count of creations |
//! | TTL | an ephemeral node of a session that is left to itself; keys put with one TTL at about the same time share it |
//! | lease | a session of its own, whose ephemeral nodes are the keys under it |
//! | list | many nodes a request, level by level |
//! | delete_tree | a hundred nodes a request, the deepest first |
//! | transact | one request of several operations |
//! | watch | a persistent recursive watch, then a reading; one read of what changed for all watches of a handle |
//! | lock | a sequential ephemeral node per contender, in a session that the locks of one TTL share; each waits for the one before; the zxid of its creation is the token |
//! | our own nodes | below `PREFIX/.kv`, which no key can be |
//!
//! # Names
//! A character that the server refuses in a name is written as `%` and two hex digits for each
//! byte of its UTF-8: characters beyond U+FFFF (every emoji), U+E000 to U+F8FF, and U+FFF0 to
//! U+FFFF. A `%` that would be read as the beginning of such an escape is written as `%25`. Every
//! other name is written as it is, and `a%20b` is no escape. Below the top of the server the key
//! `zookeeper` is written as `%7Aookeeper`, since that node is the server's own. A node of another
//! tool whose name is an escape that is not needed is no key, and is neither listed nor told:
//! `%25` alone, for example, since the key `%` is the node `%`.
//!
//! # Why creations are counted
//! A node's data version begins at 0 again when the node is made anew, and the server can compare
//! nothing else. So each creation, of a directory too, also writes one of sixteen nodes below
//! `PREFIX/.kv/epoch`, chosen by the hash of its key, and a request that depends on a version
//! checks both. These nodes stay for good, also when a store is empty. Where they are deleted all
//! the same, by an administrator's `deleteall`, or put back node by node out of a copy, the counts
//! begin at 0 again as well. So with them one more node is made there, the *incarnation* of the
//! counts, whose name is random and never comes again, and a request that checks a count also
//! checks that this node is there, as it was made. Creations by other tools are not counted, nor
//! those through a store whose prefix lies around this one or within it: if they delete and create
//! a key anew between a read and a conditional write, the version that was read can match. A node
//! that was written 4,294,967,295 times since it was made has a data version that the server takes
//! for any: a conditional write at just that version is done in any case.
//!
//! A handle forgets what it remembers of nodes with each connection that ends. A server that was
//! restored from an older copy, or wiped, counts through its zxids once more; since versions hold
//! the time too, no earlier version matches a later one. Watches tell which keys went back, and
//! which have another version now. Locks and leases that began after the copy was made are lost,
//! and their owners are told. Tokens then go down, as the server's counter does: a resource
//! outside of the server that is guarded by a token has to be reset with it.
//!
//! # Limits
//! * Keys with a TTL or a lease have no children, and keys with children have no TTL and no lease
//!   ([`Unsupported`](kv_core::ErrorKind::Unsupported)). All such keys that one transaction puts
//!   have the same TTL or lease.
//! * TTLs lie within the time-outs that the server grants sessions, learnt at `open`: by default
//!   some 4 to 34 s. A session outlives its TTL by an eighth and more, so that none ends early
//!   when a member that had its last sign of life fails; and a change of the leader, or a restart
//!   of a single server, grants each its whole time anew. All members should grant alike: a
//!   session is not given to a member that grants it less. Where every host grants less, its locks
//!   and leases are lost at once; keys with such a TTL live on by themselves.
//! * A lease can be used only through the handle that granted it, or a clone of that handle.
//! * ZooKeeper's only limits of space are quotas of nodes and bytes (`setquota` of zkCli, with
//!   `enforceQuota=true`): beyond one, a request that makes nodes or lengthens values fails with
//!   [`NoSpace`](kv_core::ErrorKind::NoSpace); a lock is such a node. Everything else works. A
//!   server whose disk is full stops.
//! * A member that serves reads alone, for want of a quorum (`readonlymode.enabled`), counts as
//!   one that is down, and is waited for.
//! * A request has one mebibyte at the most, all names in it and the ACL of each node that it
//!   creates included; a transaction has 128 conditions and writes at the most. The server's
//!   `jute.maxbuffer` must not be less than its default: a request beyond it ends the connection.
//! * The children of one node are listed whole by the server: a directory of a million keys is one
//!   large answer. The names are kept for the next page of a listing, for ten seconds and of
//!   sixteen listings at most; a page that comes later lists them anew.
//! * Nodes without data that other tools made are directories. A directory that holds nothing is
//!   cleared when the last key below it is deleted through the library. One whose last key expired
//!   is cleared by the process that put the key, if it lives.
//! * A read comes behind a write that changes nothing, since a `sync` asks the leader alone, which
//!   may lead no longer, or be behind what a follower has acknowledged. So reads see every
//!   acknowledged write, cost the servers an entry of their logs, and take as long as a write;
//!   those that are under way at once on a handle share one such write. A read that may be a
//!   little old asks one member: `.stale()`. Without a quorum no member answers at all, stale
//!   reads included.
//! * A watch tells the newest state of a changed key. Servers since 3.8.4 and 3.9.2 send no events
//!   of nodes to users that may not read them; a watch learns that it lost a right when it reads
//!   again, after the next outage at the latest. A change of a key while it may not be read is not
//!   told later either, when the right is given back: a watch is behind for that key until its
//!   next change or the next outage, so begin watches anew after such a change of rights. A
//!   contender that waits for a lock or holds it checks every third of the TTL, by a request each,
//!   that the node that it watches exists.
//! * A delete of a key that this handle has neither read nor written lately, or that it remembers
//!   as missing, reads the key first; and one more read, which is sent with the deletion, finds out
//!   whether its directory is to be cleared.
//! * TLS trusts the given `ca` alone, and certificates must name the hosts as they are given: the
//!   client has no setting for another name.
//!
//! # Rights
//! A user needs create, delete, read and write at the prefix's node and below; where that node
//! does not exist yet, also create at the lowest existing node above it. A right that is withdrawn
//! ends the watches that need it, with [`PermissionDenied`](kv_core::ErrorKind::PermissionDenied),
//! and is never read as a deletion.
//!
//! A lock whose release is refused ends with its session, which can be ended without any right: at
//! once when the session has no other lock, else as soon as the other locks of its TTL that this
//! handle held by then are given back, or the handle is closed. Until then its deletion is tried
//! again. Locks that are asked for, or waited for, take another session.
//!
//! # Connections
//! A handle has one session for calls and watches, one for each lease, one for the locks of each
//! TTL, and, for a tenth of the TTL, one for the puts of each TTL; each is a connection. A program
//! with several runtimes has them in each that uses the handle. A server takes 60 of them from one
//! address unless its `maxClientCnxns` says otherwise, those of other handles and processes there
//! included, and ends further ones without an answer: `open` and `lease` then fail with
//! [`Unavailable`](kv_core::ErrorKind::Unavailable) and an error that names the setting. Put keys
//! that live and die together under one lease, and give locks one TTL.
//!
//! Idle connections are pinged, a few times in two seconds or in two fifths of a short TTL, which
//! is also how soon a frozen link is noticed; only an answer of the quorum renews a lock or a
//! lease. A connection that breaks is made anew to any of the hosts, with names looked up and
//! certificates read again; a write that was under way is
//! [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown), and never sent again. Before a session
//! is resumed, one more connection, ended at once, asks the member how much time it grants.
//!
//! Each runtime that uses the store has a connection of its own, and those of locks, leases and
//! puts with a TTL live where these were asked for. So a runtime that ends or stands still holds up
//! no other. Locks and leases are lost when their runtime ends, and say so at once; a watch goes on
//! in whichever runtime reads it. While a runtime stands still nothing is renewed there. A
//! connection that ended meanwhile is seen to have ended before a write is sent.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! let kv = kv_zookeeper::open("zookeeper://h1:2181,h2:2181,h3:2181/app").await?;
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
pub use store::ZooKeeper;

use kv_core::{Kv, Result, StoreUrl, backend::in_open};
use std::future::Future;

/// Opens the store at `zookeeper://[USER:PASSWORD@]HOST[:PORT][,HOST…]/PREFIX?PARAMETERS`. The
/// parameters are those of [`Config`]: `acl`, `tls` (`true` or `false`), `ca`, `cert` and `key`
/// (PEM files).
///
/// # Errors
/// Those of [`Config::open`], and [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a
/// text that is no URL, for another scheme and for unknown parameters.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("zookeeper"))?).await.map(Kv::new)
}

/// Does the same for a [`Registry`](kv_core::Registry): `registry.with("zookeeper",
/// kv_zookeeper::from_url)`.
///
/// # Errors
/// Those of [`open`].
pub fn from_url(url: StoreUrl) -> impl Future<Output = Result<ZooKeeper>> + Send + 'static {
    let config = Config::from_url(url).map_err(in_open("zookeeper"));
    async move { config?.build().await }
}
