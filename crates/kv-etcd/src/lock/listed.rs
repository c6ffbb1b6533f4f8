//! Lists the locks that are held.

use crate::{
    client::answer::{self, revision},
    core::Core,
    list::{fewer, purpose, read_names, reading},
    names::after,
};
use etcd_client::KeyValue;
use kv_core::{
    Directory, HeldLock, Key, Result,
    driver::{Cursor, LockPage, ReadOptions},
};

/// The most contenders that one request reads, without their values.
const CONTENDERS: i64 = 1000;

/// The queue of one lock, as far as it was read.
struct Line {
    lock: Key,
    /// The contender that came first: when, and its name.
    first: (i64, Vec<u8>),
    contenders: u64,
}

/// Does [`Store::locks`](kv_core::driver::Store::locks): all of a page is of one revision.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ReadOptions,
) -> Result<LockPage> {
    let range = core.names.locks(directory);
    let mut start = match from {
        Some(cursor) => {
            let last = LockPage::place(cursor).filter(|last| last.is_below(directory));
            core.names.contenders(&last.ok_or_else(Cursor::refused)?).end
        }
        None => range.start,
    };
    let (mut at, mut lines, mut more) = (0, Vec::<Line>::new(), true);
    // The last lock of what was read may have more contenders.
    while more && lines.len() < 2 {
        let ask = reading(options).with_range(range.end.clone()).with_revision(at);
        let ask = ask.with_keys_only().with_limit(CONTENDERS);
        let mut answer = core.range(purpose(options), options.deadline, &start, ask).await?;
        if at == 0 {
            at = revision(answer.header())?;
        }
        more = answer.more();
        let found = answer.take_kvs();
        if let Some(last) = found.last() {
            start = after(last.key());
        }
        for contender in found {
            stands(core, &mut lines, &contender);
        }
    }
    if more {
        lines.pop();
    }
    let names: Vec<_> = lines.iter().map(|line| line.first.1.clone()).collect();
    let (reads, pinned) = (purpose(options), reading(options).with_revision(at));
    let values = fewer(names.len(), options.deadline, |count, within| {
        read_names(core, &names[..count], reads, within, &pinned)
    });
    let (count, found) = values.await?;
    more |= count < lines.len();
    let held = lines.into_iter().zip(found).filter_map(|(line, first)| {
        let holder = answer::holder(first?);
        Some(HeldLock::new(line.lock, holder, Some(line.contenders - 1)))
    });
    let locks: Vec<_> = held.collect();
    let next = locks.last().filter(|_| more).map(|last| LockPage::behind(&last.name));
    Ok(LockPage { locks, next })
}

/// Notes a contender, whose name is behind those of the contenders that were noted before.
fn stands(core: &Core, lines: &mut Vec<Line>, contender: &KeyValue) {
    let Some(lock) = core.names.lock_of(contender.key(), contender.lease()) else { return };
    let came = (contender.create_revision(), contender.key().to_vec());
    match lines.last_mut().filter(|line| line.lock == lock) {
        Some(line) => {
            line.contenders += 1;
            if came < line.first {
                line.first = came;
            }
        }
        None => lines.push(Line { lock, first: came, contenders: 1 }),
    }
}
