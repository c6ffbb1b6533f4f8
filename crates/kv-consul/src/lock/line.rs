//! Tells who is in the queue of a lock, and who holds the lock.

use crate::{
    client::{
        Purpose,
        api::{Op, Pair},
    },
    core::Core,
    names::Names,
};
use kv_core::{Entry, Holder, Key, Result, Version, driver::Deadline};

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

/// Returns the version by which a holder is told: its value was changed whenever its key was
/// modified.
pub(crate) fn version(first: &Pair) -> Version {
    Version::new(first.created, first.modified.saturating_sub(first.created))
}

/// Returns the holder that the first contender is.
pub(crate) fn holder(first: &Pair) -> Result<Holder> {
    let (token, changes) = version(first).parts();
    Ok(Holder::new(token, first.value()?).with_changes(changes))
}

/// Returns the entry that tells who holds a lock.
pub(crate) fn held_by(lock: Key, first: &Pair) -> Result<Entry> {
    Ok(holder(first)?.entry(lock))
}

/// Asks whether the token may read a queue. A listing leaves out what the token may not read, and
/// so does a transaction that gets a name; a transaction that checks a name is refused.
pub(crate) async fn may_read(core: &Core, purpose: Purpose, deadline: Deadline, line: &str) -> Result<()> {
    core.txn(purpose, deadline, &[Op::check_index(&format!("{line}-"), 0)]).await.map(drop)
}
