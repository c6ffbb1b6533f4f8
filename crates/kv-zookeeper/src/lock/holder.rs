//! Finds the holder of a lock, changes its value, and ends what it holds.

use super::order::{held, ordered, token};
use crate::{
    client::{
        attempts::early,
        multi::{Ask, Got},
        read::read,
        via::Via,
    },
    core::Core,
    error::{Problem, Said},
};
use kv_core::{
    Bytes, Consistency, Fence, Holder, Key, Result,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions, WriteOptions},
};
use std::time::Duration;
use zookeeper_client::Stat;

/// The node of the first contender: its path, its stat and its value.
type Found = (String, Stat, Vec<u8>);

/// Reads the holder: [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    Ok(found(core, name, options).await?.map(|(_, stat, value)| held(&stat, value)))
}

/// Finds the first contender.
async fn found(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Found>> {
    let queue = core.names.queue(name);
    'queue: loop {
        let waiting = Via::Any(&core.client).call(RetrySafety::Read, options.deadline, |connection| {
            let queue = &queue;
            async move {
                let barrier = connection.barrier_for(options.consistency).await;
                let waiting = connection.session.list_children(queue);
                barrier.await?;
                Ok::<_, Problem>(ordered(&connection, queue, waiting.await?).await?)
            }
        });
        let Ok(waiting) = waiting.await? else { return Ok(None) };
        let behind = options.clone().consistency(Consistency::Stale);
        for contender in waiting {
            let path = format!("{queue}/{contender}");
            let got = read(&core.client, &behind, &[Ask::Data(path.clone())]).await?;
            match got.into_iter().next() {
                // A node without a session came by a copy of the tree, and is no contender.
                Some(Got::Data(_, stat)) if stat.ephemeral_owner == 0 => {}
                Some(Got::Data(value, stat)) => return Ok(Some((path, stat, value))),
                _ => continue 'queue,
            }
        }
        return Ok(None);
    }
}

/// Returns whether a lock has a holder.
pub(crate) async fn is_held(core: &Core, name: &Key, within: Duration) -> Result<bool> {
    let read = ReadOptions::default().deadline(Deadline::after(within));
    Ok(holder(core, name, &read).await?.is_some())
}

/// Sets the data of the holder's node, of which no other has the name:
/// [`Store::set_holder`](kv_core::driver::Store::set_holder).
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: &Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let path = &String::from_utf8_lossy(fence.proof());
    let set =
        Via::Any(&core.client).call(RetrySafety::Write, early(options.deadline), |connection| async move {
            let set = connection.session.set_data(path, value, None);
            Ok::<_, Problem>(set.await?)
        });
    match set.await? {
        Ok(stat) => Ok(token(stat.czxid) == fence.token()),
        Err(answer) if answer.said == Said::NoNode => Ok(false),
        Err(answer) => Err(answer.unexpected()),
    }
}

/// Deletes the holder's node, if it is the one of this token:
/// [`Store::break_lock`](kv_core::driver::Store::break_lock).
pub(crate) async fn break_lock(
    core: &Core,
    name: &Key,
    token_of: u64,
    options: &WriteOptions,
) -> Result<bool> {
    let deadline = early(options.deadline);
    let found = found(core, name, &ReadOptions::default().deadline(deadline)).await?;
    let Some((path, ..)) = found.filter(|(_, stat, _)| token(stat.czxid) == token_of) else {
        return Ok(false);
    };
    let path = &path;
    let deleted = Via::Any(&core.client).call(RetrySafety::Write, deadline, |connection| async move {
        let deleted = connection.session.delete(path, None);
        Ok::<_, Problem>(deleted.await?)
    });
    match deleted.await? {
        Ok(()) => Ok(true),
        Err(answer) if answer.said == Said::NoNode => Ok(false),
        Err(answer) => Err(answer.unexpected()),
    }
}
