//! Tells who stands in a lock's line, and who holds the lock.

use crate::{
    client::{
        Purpose,
        api::{Op, Pair},
    },
    core::Core,
    names::Names,
};
use kv_core::{Entry, Key, Result, Version, driver::Deadline};

/// Returns the key of a contender; `None` for what other tools put in its place, which stands in
/// nobody's way. A contender has a session from its first moment on: without one it was released
/// by hand.
pub(crate) fn contends(names: &Names, pair: &Pair) -> Option<Key> {
    names.parse(&pair.name).filter(|_| pair.is_held)
}

/// Returns the contender that holds the lock of this line.
pub(crate) fn first<'a>(names: &Names, line: impl IntoIterator<Item = &'a Pair>) -> Option<&'a Pair> {
    let contenders = line.into_iter().filter(|pair| contends(names, pair).is_some());
    contenders.min_by_key(|pair| pair.created)
}

/// Returns the event of who holds a lock.
pub(crate) fn held_by(lock: Key, first: &Pair) -> Result<Entry> {
    Ok(Entry::new(lock, first.value()?, Version::new(first.created, 0)))
}

/// Asks whether the token may read a line. A listing leaves out what it may not; one name that is
/// checked is refused, and to get it in a transaction is not.
pub(crate) async fn may_read(core: &Core, purpose: Purpose, deadline: Deadline, line: &str) -> Result<()> {
    core.txn(purpose, deadline, &[Op::check_index(&format!("{line}-"), 0)]).await.map(drop)
}
