//! Who holds a lock.

use crate::{
    client::Via,
    error::Problem,
    feed::answers,
    link::Linked,
    names::Names,
    node::{Ask, Got, gone_at, read},
    order::{ordered, token},
    store::Inner,
};
use kv_core::{backend::retry::RetrySafety, *};
use std::time::Duration;
use zookeeper_client::Error as ClientError;

/// Who holds a lock, and when nobody does, since when.
pub(crate) enum First {
    Held(Holder),
    Free(i64),
}

impl First {
    pub(crate) fn event(self, name: &Key) -> WatchEvent {
        match self {
            Self::Held(Holder { token, value, .. }) => {
                WatchEvent::Put(Entry::new(name.clone(), value, Version::new(token, 0)))
            }
            Self::Free(zxid) => WatchEvent::Delete { key: name.clone(), version: gone_at(zxid) },
        }
    }
}

/// The first in queue.
pub(crate) async fn first(linked: &Linked, names: &Names, name: &Key) -> Result<First, ClientError> {
    let queue = names.queue(name);
    'queue: loop {
        let mut reader = linked.session.new_multi_reader();
        // When a contender went is told by its parent, read first; when the queue went, by the
        // parent of that.
        reader.add_get_data(&names.area("lock"))?;
        reader.add_get_data(&queue)?;
        reader.add_get_children(&queue)?;
        let found = reader.commit();
        let mut got = answers(found.await?)?.into_iter();
        let zxid = |got: Option<Got>| match got {
            Some(Got::Data(_, stat)) => Some(stat.pzxid),
            _ => None,
        };
        let (area, of_queue) = (zxid(got.next()), zxid(got.next()));
        let waiting = match got.next() {
            Some(Got::Children(names)) => ordered(linked, &queue, names).await?,
            _ => Vec::new(),
        };
        for contender in waiting {
            let path = format!("{queue}/{contender}");
            let found = linked.session.get_data(&path);
            match found.await {
                // Nobody's: it came by a copy of the tree.
                Ok((_, stat)) if stat.ephemeral_owner == 0 => {}
                Ok((value, stat)) => return Ok(First::Held(Holder::new(token(stat.czxid), value))),
                // It left meanwhile.
                Err(ClientError::NoNode) => continue 'queue,
                Err(e) => return Err(e),
            }
        }
        return Ok(First::Free(of_queue.or(area).unwrap_or_default()));
    }
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let queue = inner.names.queue(name);
    'queue: loop {
        let waiting = Via::Any(&inner.client).call(RetrySafety::Read, options.deadline, |linked| {
            let queue = &queue;
            async move {
                let barrier = linked.barrier_for(options.consistency).await;
                let waiting = linked.session.list_children(queue);
                barrier.await?;
                Ok::<_, Problem>(ordered(&linked, queue, waiting.await?).await?)
            }
        });
        let Ok(waiting) = waiting.await? else { return Ok(None) };
        let behind = options.clone().consistency(Consistency::Stale);
        for contender in waiting {
            let got = read(&inner.client, &behind, &[Ask::Data(format!("{queue}/{contender}"))]).await?;
            match got.into_iter().next() {
                // Nobody's: it came by a copy of the tree.
                Some(Got::Data(_, stat)) if stat.ephemeral_owner == 0 => {}
                Some(Got::Data(value, stat)) => return Ok(Some(Holder::new(token(stat.czxid), value))),
                _ => continue 'queue,
            }
        }
        return Ok(None);
    }
}

/// Returns whether anybody holds a lock, or waits for it.
pub(crate) async fn is_held(inner: &Inner, name: &Key, within: Duration) -> Result<bool> {
    let read = ReadOptions::default().deadline(Deadline::after(within));
    Ok(holder(inner, name, &read).await?.is_some())
}
