//! The limits of the service, and what a store can do within them.

use kv_core::{Capabilities, Durability, Locking, TtlRange, Watching};
use std::time::Duration;

/// The largest item that the service takes, in bytes, the names of its attributes included.
const ITEM: usize = 400 << 10;
/// The bytes that an item needs besides its value: its two keys at their longest, and the other
/// attributes.
const OVERHEAD: usize = 4 << 10;
/// The most items of one transaction, and the most bytes.
pub(crate) const MOST_OPS: usize = 100;
const MOST_BYTES: usize = 4 << 20;
/// The shortest life. The service tells its time in whole seconds, and a renewal has to succeed in
/// time even while the table is throttled.
const LEAST: Duration = Duration::from_secs(3);
/// The longest life.
pub(crate) const GREATEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The lateness of ends: a second on the writer's side, one on the reader's, and what both may
/// have drifted meanwhile.
const LATE: Duration = Duration::from_secs(3);

/// Returns what a store can do. Without the table's stream there are no watches, and `no_stream`
/// is the hint that tells why.
pub(super) fn capabilities(no_stream: Option<String>) -> Capabilities {
    let mut ttl = TtlRange::new(LEAST, GREATEST);
    ttl.late_share = 0.01;
    ttl.late_by = LATE;
    let mut lock = Locking::new(ttl.clone());
    lock.fair = false;
    let mut c = Capabilities::new("dynamodb");
    c.durability = Durability::Quorum;
    c.max_value = ITEM - OVERHEAD;
    c.max_txn_ops = MOST_OPS;
    c.max_txn_bytes = MOST_BYTES - MOST_OPS * OVERHEAD;
    c.lease = Some(ttl.clone());
    c.lock = Some(lock);
    c.ttl = Some(ttl);
    c.health = true;
    if let Some(hint) = no_stream {
        c.watch = Watching::Unsupported;
        c.hint = Some(hint.into());
    }
    c
}
