//! Lists the locks that are held.

use crate::{
    client::item::Found,
    core::Core,
    list::{
        cursor::{PageToken, page_token},
        query::query,
    },
    names::{Names, Range},
};
use kv_core::{
    Directory, HeldLock, Result,
    driver::{Cursor, LockPage, ReadOptions},
};

/// The most records that one request looks at.
const PAGE: usize = 256;

/// Does [`Store::locks`](kv_core::driver::Store::locks). Nobody but the contenders themselves
/// knows who waits.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ReadOptions,
) -> Result<LockPage> {
    let Range { start, end } = Names::below(directory);
    let start = page_token(from, directory)?.map_or(start, |token| token.start);
    let range = Range { start, end };
    let found = query(&core.client, &core.names.locks, &range, Some(PAGE), true, options).await?;
    let mut locks = Vec::new();
    for (name, found) in found.rows {
        let Some(lock) = Names::parse(&name).filter(|lock| lock.is_below(directory)) else { continue };
        let holder = core.holding(&name, Some(found))?.and_then(Found::holder);
        locks.extend(holder.map(|holder| HeldLock::new(lock, holder, None)));
    }
    let next = found.next.map(|start| PageToken { size: PAGE, start }.cursor());
    Ok(LockPage { locks, next })
}
