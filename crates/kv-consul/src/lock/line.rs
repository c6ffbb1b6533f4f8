//! Tells who is in the queue of a lock, and who holds the lock.

use crate::{
    client::{
        Purpose,
        api::{Op, Pair},
    },
    core::Core,
    names::Names,
};
use kv_core::{Entry, Key, Result, Version, driver::Deadline};

/// Returns the key of a contender; `None` for a name that other tools put into the queue, for
/// which nobody waits. A contender has a session from its first moment on: one without a session
/// was released by hand.
pub(crate) fn contends(names: &Names, pair: &Pair) -> Option<Key> {
    names.parse(&pair.name).filter(|_| pair.is_held)
}

/// Returns the contender that holds the lock of this queue.
pub(crate) fn first<'a>(names: &Names, line: impl IntoIterator<Item = &'a Pair>) -> Option<&'a Pair> {
    let contenders = line.into_iter().filter(|pair| contends(names, pair).is_some());
    contenders.min_by_key(|pair| pair.created)
}

/// Returns the entry that tells who holds a lock.
pub(crate) fn held_by(lock: Key, first: &Pair) -> Result<Entry> {
    Ok(Entry::new(lock, first.value()?, Version::new(first.created, 0)))
}

/// Asks whether the token may read a queue. A listing leaves out what the token may not read, and
/// so does a transaction that gets a name; a transaction that checks a name is refused.
pub(crate) async fn may_read(core: &Core, purpose: Purpose, deadline: Deadline, line: &str) -> Result<()> {
    core.txn(purpose, deadline, &[Op::check_index(&format!("{line}-"), 0)]).await.map(drop)
}
