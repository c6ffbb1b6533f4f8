//! Deletes a whole directory.

use crate::{
    client::{
        Purpose,
        answer::revision,
        limits::MOST_OPS,
        txn::{deleted, found},
    },
    core::Core,
    lease::SESSIONS,
    names::{Range, after, owned},
};
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, Txn, TxnOp, TxnResponse};
use kv_core::{
    Directory, Error, ErrorKind, Result,
    driver::{Batch, Deadline, WriteOptions},
};
use std::collections::BTreeSet;

/// Limits how many names a deletion of a tree reads in one request.
const MOST_NAMES: i64 = 10_000;
/// Limits how often a deletion begins anew because others write there, where that matters.
const TRIES: usize = 8;

/// Does [`Store::delete_tree`](kv_core::driver::Store::delete_tree): deletes everything below a
/// directory, in one step, except what stores with a prefix inside of the directory keep there for
/// themselves.
///
/// The locks of such stores hang on leases of sessions, as all that the library keeps does: where
/// nothing below the directory has such a lease, one request is enough. Otherwise the names are
/// read, and what lies between those of other stores is deleted, if nothing there has such a lease
/// by then.
pub(crate) async fn delete_tree(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<Batch> {
    let all = core.names.below(directory);
    let (mut when, mut parts) = (vec![has_no_session(&all)], vec![all.clone()]);
    let mut tries = 0;
    loop {
        let names = GetOptions::new().with_range(all.end.clone()).with_keys_only().with_limit(MOST_NAMES);
        let deletions: Vec<_> = parts.iter().map(deletion).collect();
        let txn =
            Txn::new().when(when).and_then(deletions).or_else([TxnOp::get(all.start.clone(), Some(names))]);
        let answer = core.txn(Purpose::Write, options.deadline, txn).await?;
        if answer.succeeded() {
            return Ok(Batch { deleted: deleted(&answer), next: None });
        }
        let (at, seen) = names_below(core, &all, &answer, options.deadline).await?;
        let others: BTreeSet<_> =
            seen.iter().filter_map(|kv| owned(kv.key())).map(|own| (own.start, own.end)).collect();
        // Another tool's lease may have the number of a session. A name that is seen to be a key
        // needs no condition.
        let keys = seen.iter().filter(|kv| kv.lease() >= SESSIONS && owned(kv.key()).is_none());
        let keys: BTreeSet<_> = keys.map(|kv| (kv.key().to_vec(), after(kv.key()))).collect();
        parts = between(&all, others.union(&keys));
        when = parts.iter().map(has_no_session).collect();
        parts.extend(keys.into_iter().map(|(start, end)| Range { start, end }));
        if parts.len() <= MOST_OPS {
            continue;
        }
        parts = between(&all, others.iter());
        when = parts.iter().map(|part| unchanged(part, at)).collect();
        tries += 1;
        if parts.len() > MOST_OPS {
            let why = format!(
                "more than {MOST_OPS} other stores have locks below {directory}: delete smaller directories"
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        if tries > TRIES {
            let why = format!(
                "others write below {directory} all the time, where more than {MOST_OPS} keys have other tools' leases; \
                 nothing was deleted"
            );
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
    }
}

/// Compares whether nothing in this part hangs on the lease of a session.
fn has_no_session(part: &Range) -> Compare {
    Compare::lease(part.start.clone(), CompareOp::Less, SESSIONS).with_range(part.end.clone())
}

fn deletion(part: &Range) -> TxnOp {
    TxnOp::delete(part.start.clone(), Some(DeleteOptions::new().with_range(part.end.clone())))
}

/// Compares whether nothing was written in this part since this revision.
fn unchanged(part: &Range, at: i64) -> Compare {
    Compare::mod_revision(part.start.clone(), CompareOp::Less, at + 1).with_range(part.end.clone())
}

/// Reads all names of the range, the first of which are in this answer; also returns their
/// revision.
async fn names_below(
    core: &Core,
    all: &Range,
    answer: &TxnResponse,
    deadline: Deadline,
) -> Result<(i64, Vec<KeyValue>)> {
    let at = revision(answer.header())?;
    let mut seen: Vec<_> = found(answer).into_iter().flatten().collect();
    let mut more = seen.len() >= MOST_NAMES as usize;
    while let Some(last) = seen.last().filter(|_| more) {
        let page = GetOptions::new()
            .with_range(all.end.clone())
            .with_keys_only()
            .with_limit(MOST_NAMES)
            .with_revision(at);
        let mut page = core.range(Purpose::Read, deadline, &after(last.key()), page).await?;
        more = page.more();
        seen.extend(page.take_kvs());
    }
    Ok((at, seen))
}

/// Returns the parts of the range that lie before, between and behind the others, which are in
/// their order, each from its start to its end.
fn between<'a>(all: &Range, others: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>) -> Vec<Range> {
    let (mut parts, mut start) = (Vec::new(), all.start.clone());
    for (other, end) in others {
        if start < *other {
            parts.push(Range { start, end: other.clone() });
            start = end.clone();
        } else if start < *end {
            start = end.clone();
        }
    }
    if all.end == [0] || start < all.end {
        parts.push(Range { start, end: all.end.clone() });
    }
    parts
}
