//! Deletes whole directories.

use super::ops::conflict;
use crate::{
    client::{
        Purpose,
        api::{self, Done, MOST_OPS, OP_OVERHEAD, Op},
    },
    core::Core,
    names::{below, is_plain, is_somebodys_own},
};
use futures::{StreamExt, TryStreamExt, future, stream};
use kv_core::{
    Directory, Result,
    backend::retry::outcome_unknown,
    driver::{Batch, Cursor, Deadline, Expect, WriteOptions},
};
use std::ops::Range;

/// The most transactions of one deletion that are under way at once.
const AT_ONCE: usize = 8;

/// Deletes everything below a directory, except what the library keeps there for itself: for this
/// store, and for stores whose prefix lies inside of the directory.
///
/// Each name is deleted by itself, as many in one transaction as the server takes. A whole
/// directory is never deleted by its beginning: a store inside of it may take its first lock at
/// any moment, and the server has no condition by which such a deletion could find that out.
pub(crate) async fn delete_tree(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<Batch> {
    let deadline = options.deadline;
    let prefix = below(&core.names, directory);
    let mut names = names(core, &prefix, deadline).await?;
    let base = core.names.prefix().len();
    names.retain(|name| !is_somebodys_own(&name[base..]));
    if names.is_empty() && !directory.is_root() {
        // A listing leaves out in silence what the token may not read: this deletion, of a name
        // that only other tools make, is refused where the token has no rights there.
        names.push(prefix);
    }
    let mut parts = parts(core.largest_txn, &names).into_iter();
    let within = deadline.remaining();
    let Some(first) = parts.next() else { return Ok(Batch { deleted: None, next: None }) };
    // What is refused is refused before anything was deleted.
    delete(core, &names[first], deadline).await?;
    // No request begins that may end with the deadline, for then nobody would know its outcome. The
    // time that the listing took does not count: the next batch lists again.
    let has_time = |_: &Range<usize>| future::ready(deadline.remaining() >= within / 2);
    let left = parts.len();
    let rest = stream::iter(parts).take_while(has_time);
    let deleted = rest.map(|part| delete(core, &names[part], deadline)).buffer_unordered(AT_ONCE);
    let deleted = deleted.try_fold(0, |count, ()| future::ok(count + 1)).await.map_err(outcome_unknown)?;
    // The next batch begins at the front again: what was there is gone.
    Ok(Batch { deleted: None, next: (deleted < left).then(|| Cursor::new("more")) })
}

/// Deletes these names in one transaction.
async fn delete(core: &Core, names: &[String], deadline: Deadline) -> Result<()> {
    let before = names.iter().filter_map(|name| core.ttl_sessions.before(name)).collect();
    let ops: Vec<_> = names.iter().map(|name| Op::delete(name)).collect();
    match core.txn(Purpose::Write, deadline, &ops).await? {
        Done::Committed(_) => {
            core.ttl_sessions.deleted(before);
            Ok(())
        }
        Done::Refused(faults) => Err(conflict(Expect::Anything, &faults)),
    }
}

/// Parts names into transactions of so many bytes at most; one name is always taken, for the server to
/// refuse.
fn parts(most_bytes: usize, names: &[String]) -> Vec<Range<usize>> {
    let (mut parts, mut from) = (Vec::new(), 0);
    while from < names.len() {
        // In JSON each byte of a name may be six.
        let bytes = names[from..].iter().scan(0, |sum, name| {
            *sum += OP_OVERHEAD + 6 * name.len();
            Some(*sum)
        });
        let count = bytes.take(MOST_OPS).take_while(|sum| *sum <= most_bytes).count().max(1);
        parts.push(from..from + count);
        from += count;
    }
    parts
}

/// Returns all names below a prefix, in their order.
async fn names(core: &Core, prefix: &str, deadline: Deadline) -> Result<Vec<String>> {
    let mut names = match is_plain(prefix) {
        true => api::names(&core.client, Purpose::Read, deadline, prefix).await?.0,
        false => {
            let pairs = api::tree(&core.client, Purpose::Read, deadline, prefix).await?;
            pairs.into_iter().map(|pair| pair.name).collect()
        }
    };
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_holds_as_many_names_as_it_has_room_for() {
        let sizes = |count: usize, length: usize| -> Vec<usize> {
            let names = vec!["a".repeat(length); count];
            parts(512 << 10, &names).into_iter().map(|part| part.len()).collect()
        };
        assert_eq!(sizes(0, 1), [0; 0]);
        assert_eq!(sizes(1, 1), [1]);
        assert_eq!(sizes(150, 100), [MOST_OPS, MOST_OPS, 150 - 2 * MOST_OPS]);
        assert_eq!(sizes(10, 20_000), [4, 4, 2]);
        assert_eq!(sizes(2, 1 << 20), [1, 1]);
    }
}
