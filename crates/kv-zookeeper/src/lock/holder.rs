//! Finds the holder of a lock, and whether there is one, and changes the holder's value.

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

/// Finds the first contender: [`Store::lock_holder`](kv_core::driver::Store::lock_holder).
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
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
            let got = read(&core.client, &behind, &[Ask::Data(format!("{queue}/{contender}"))]).await?;
            match got.into_iter().next() {
                // A node without a session came by a copy of the tree, and is no contender.
                Some(Got::Data(_, stat)) if stat.ephemeral_owner == 0 => {}
                Some(Got::Data(value, stat)) => return Ok(Some(held(&stat, value))),
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
