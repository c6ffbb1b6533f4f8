//! Lists the locks that are held.

use super::order::{First, first, held, ordered};
use crate::{
    client::{connection::Connection, via::Via},
    core::Core,
    error::{Answer, Problem},
    names::{Named, Names},
};
use kv_core::{
    Directory, HeldLock, Key, Result,
    backend::retry::RetrySafety,
    driver::{Cursor, LockPage, ReadOptions},
};
use std::collections::BTreeMap;
use zookeeper_client::Error as ClientError;

/// The most queues of one page.
const PAGE: usize = 100;

/// Does [`Store::locks`](kv_core::driver::Store::locks).
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ReadOptions,
) -> Result<LockPage> {
    let place = |cursor| LockPage::place(cursor).filter(|place| place.is_below(directory));
    let behind = &from.map(|cursor| place(cursor).ok_or_else(Cursor::refused)).transpose()?;
    let area = &core.names.area("lock");
    let found = Via::Any(&core.client).call(RetrySafety::Read, options.deadline, |connection| async move {
        let barrier = connection.barrier_for(options.consistency).await;
        let nodes = connection.session.list_children(area);
        barrier.await?;
        let nodes = match nodes.await {
            // Nobody took a lock so far.
            Err(ClientError::NoNode) => Vec::new(),
            nodes => nodes?,
        };
        let queues = nodes.iter().filter_map(|node| queue(&core.names, format!("{area}/{node}")));
        let is_wanted =
            |lock: &Key| lock.is_below(directory) && behind.as_ref().is_none_or(|behind| lock > behind);
        let mut queues: BTreeMap<_, _> = queues.filter(|(lock, _)| is_wanted(lock)).collect();
        let rest = queues.keys().nth(PAGE).cloned().map(|first| queues.split_off(&first));
        let locks = look(&connection, &core.names, &queues).await?;
        let last = queues.last_key_value().filter(|_| rest.is_some());
        Ok::<_, Problem>(LockPage { locks, next: last.map(|(lock, _)| LockPage::behind(lock)) })
    });
    found.await?.map_err(Answer::unexpected)
}

/// Returns the lock of a queue, and its path; `None` for a node of another tool.
fn queue(names: &Names, path: String) -> Option<(Key, String)> {
    match names.parse(&path)? {
        Named::Lock(lock) => Some((lock, path)),
        Named::Key(_) => None,
    }
}

/// Looks who holds these locks, all at once.
async fn look(
    connection: &Connection,
    names: &Names,
    queues: &BTreeMap<Key, String>,
) -> Result<Vec<HeldLock>, ClientError> {
    let asked: Vec<_> = queues.values().map(|path| connection.session.list_children(path)).collect();
    let mut lines = Vec::with_capacity(asked.len());
    for ((lock, path), asked) in queues.iter().zip(asked) {
        let line = match asked.await {
            Err(ClientError::NoNode) => continue,
            line => ordered(connection, path, line?).await?,
        };
        if let Some(front) = line.first() {
            lines.push((lock, format!("{path}/{front}"), line.len() - 1));
        }
    }
    let asked: Vec<_> = lines.iter().map(|(_, path, _)| connection.session.get_data(path)).collect();
    let mut locks = Vec::with_capacity(lines.len());
    for ((lock, _, waiters), asked) in lines.iter().zip(asked) {
        let holder = match asked.await {
            Ok((value, stat)) if stat.ephemeral_owner != 0 => held(&stat, value),
            // It left meanwhile, or came by a copy of the tree.
            Ok(_) | Err(ClientError::NoNode) => match first(connection, names, lock).await? {
                First::Held(holder) => holder,
                First::Free(_) => continue,
            },
            Err(e) => return Err(e),
        };
        locks.push(HeldLock::new((*lock).clone(), holder, Some(*waiters as u64)));
    }
    Ok(locks)
}
