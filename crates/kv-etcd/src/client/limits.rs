//! The limits of etcd's requests, and what a store on etcd can do.

use kv_core::{Capabilities, Durability, Locking, TtlRange};
use std::time::Duration;

/// Limits the bytes of a request, by etcd's defaults.
pub(crate) const REQUEST: usize = 3 << 19;
/// Counts the bytes that a request has besides its parts, at most; the user's name is among them.
pub(crate) const ENVELOPE: usize = 1 << 10;
/// Counts the bytes that a comparison, a read or a write has besides names and values, at most.
pub(crate) const FRAME: usize = 32;
/// Counts the bytes of a request that a value leaves to all else; only a prefix of hundreds of
/// bytes needs more.
const ROOM: usize = 12 << 10;
/// Counts the bytes of the longest key.
const KEY: usize = 1000;
/// Counts how often a put has the name of its key, or of the lock that it depends on: three times
/// for its precondition, three times for the lock.
const NAMED: usize = 6;
/// Counts the bytes that the name of a contender has besides the prefix and the lock's name.
const CONTENDER: usize = 32;
/// Limits the conditions and writes of one transaction, and the keys that are read at once, by
/// etcd's defaults.
pub(crate) const MOST_OPS: usize = 128;
/// Limits TTLs: to the longest lease that the server grants, less the second by which the lease of
/// a TTL is longer.
const LONGEST: Duration = Duration::from_secs(9_000_000_000 - 1);
/// Sets the least TTL. A server with etcd's defaults grants at least one and a half of its
/// election time-outs, rounded up. A server with longer time-outs grants more, which only the
/// answer to a grant tells, and so does the answer to the call. A shorter TTL would be of no use:
/// what is kept alive needs time for more than one renewal on a busy machine.
const SHORTEST: Duration = Duration::from_secs(2);
/// Sets no limit to the bytes of an answer: answers are as large as the server makes them.
pub(crate) const ANSWER: usize = i32::MAX as usize;

/// Returns what a store below this prefix can do.
pub(crate) fn capabilities(prefix: &str) -> Capabilities {
    let mut ttl = TtlRange::new(SHORTEST, LONGEST);
    ttl.unit = Duration::from_secs(1);
    // A new leader grants each lease its whole TTL anew, and looks for ended leases twice a
    // second.
    ttl.late_share = 1.0;
    ttl.late_by = Duration::from_secs(3);
    let mut c = Capabilities::new("etcd");
    c.durability = Durability::Quorum;
    let named = NAMED * (FRAME + CONTENDER + KEY + prefix.len());
    c.max_value = REQUEST.saturating_sub(ROOM.max(ENVELOPE + named));
    c.max_txn_ops = MOST_OPS;
    // A request that many long names make larger is refused before it is sent.
    c.max_txn_bytes = c.max_value + KEY;
    c.lease = Some(ttl.clone());
    c.lock = Some(Locking::new(ttl.clone()));
    // The lease of a TTL is a thirtieth longer than the TTL, or a second. What puts share it live
    // a second longer still where one of them took so long that the lease was renewed.
    ttl.late_share = 1.1;
    ttl.late_by = Duration::from_secs(5);
    c.ttl = Some(ttl);
    c.watch_ordered = true;
    c.list_snapshot = true;
    c.delete_tree_atomic = true;
    c.delete_tree_counts = true;
    c.health = true;
    c
}
