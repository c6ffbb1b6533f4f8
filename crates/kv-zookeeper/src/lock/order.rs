//! Reads the queue of a lock: its contenders in order, by the numbers of their nodes, and the
//! first of them.

use super::before::{Before, sequence};
use crate::{
    client::{
        connection::Connection,
        multi::{Ask, Got, request},
        node::gone_at,
    },
    names::Names,
};
use kv_core::{Holder, Key, WatchEvent};
use zookeeper_client::{Error as ClientError, Stat};

/// Returns the contenders of a queue, in order.
///
/// Once the greatest number is reached, the server gives that one again and again, and other ones
/// only to contenders that come at once: then the order is that in which the nodes were made.
pub(crate) async fn ordered(
    connection: &Connection,
    queue: &str,
    names: Vec<String>,
) -> Result<Vec<String>, ClientError> {
    let names = contenders(names);
    if names.last().is_none_or(|last| Before::new(last).is_in_order()) {
        return Ok(names);
    }
    let asked: Vec<_> =
        names.iter().map(|name| connection.session.check_stat(&format!("{queue}/{name}"))).collect();
    let mut placed = Vec::with_capacity(names.len());
    for (name, answer) in names.into_iter().zip(asked) {
        if let Some(stat) = answer.await? {
            placed.push((stat.czxid, name));
        }
    }
    placed.sort();
    Ok(placed.into_iter().map(|(_, name)| name).collect())
}

/// The holder of a lock; or, of a free lock, the zxid since which it is free, unless the nodes
/// that tell it are gone with the lock's queue.
pub(crate) enum First {
    Held(Holder),
    Free(Option<i64>),
}

impl First {
    /// Returns the event for watches of the holder; `None` where its version is not known.
    pub(crate) fn event(self, name: &Key) -> Option<WatchEvent> {
        Some(match self {
            Self::Held(holder) => WatchEvent::Put(holder.entry(name.clone())),
            Self::Free(zxid) => WatchEvent::Delete { key: name.clone(), version: gone_at(zxid?) },
        })
    }
}

/// Finds the first in a queue.
pub(crate) async fn first(connection: &Connection, names: &Names, name: &Key) -> Result<First, ClientError> {
    let queue = names.queue(name);
    'queue: loop {
        // The zxid at which a contender was deleted is in the stat of the queue, which is read
        // first; that at which the queue was deleted is in the stat of its parent.
        let asks = [Ask::Data(names.area("lock")), Ask::Data(queue.clone()), Ask::Children(queue.clone())];
        let mut got = request(connection, &asks).await?.into_iter();
        let zxid = |got: Option<Got>| match got {
            Some(Got::Data(_, stat)) => Some(stat.pzxid),
            _ => None,
        };
        let (area, of_queue) = (zxid(got.next()), zxid(got.next()));
        let waiting = match got.next() {
            Some(Got::Children(names)) => ordered(connection, &queue, names).await?,
            _ => Vec::new(),
        };
        for contender in waiting {
            let path = format!("{queue}/{contender}");
            let found = connection.session.get_data(&path);
            match found.await {
                // A node without a session came by a copy of the tree, and is no contender.
                Ok((_, stat)) if stat.ephemeral_owner == 0 => {}
                Ok((value, stat)) => return Ok(First::Held(held(&stat, value))),
                // The contender left meanwhile.
                Err(ClientError::NoNode) => continue 'queue,
                Err(e) => return Err(e),
            }
        }
        return Ok(First::Free(of_queue.or(area)));
    }
}

/// Returns the names of contenders among these, in the order of their numbers.
fn contenders(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| sequence(name).is_some());
    names.sort_by_key(|name| sequence(name));
    names
}

/// Returns the holder that a node stands for. The server counts the changes of its data.
pub(crate) fn held(stat: &Stat, value: Vec<u8>) -> Holder {
    Holder::new(token(stat.czxid), value).with_changes(u64::try_from(stat.version).unwrap_or_default())
}

/// Returns a contender's token: the zxid of its creation.
pub(crate) fn token(czxid: i64) -> u64 {
    u64::try_from(czxid).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::contenders;

    #[test]
    fn a_queue_has_the_order_of_its_sequence_and_nobody_else_in_it() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = |sequence: &str| format!("{id}-{sequence}");
        // The server counts on beyond the greatest number.
        let ours = ["0000000009", "0000000010", "2147483647", "-2147483648", "-2147483647"].map(name);
        let theirs = ["x", "x-1", "-1", ".kv", "é-0000000001", id, &id[1..]].map(str::to_owned);
        let theirs = theirs.into_iter().chain(["", "1", "+000000001", "99999999999"].map(name));
        let mixed = ours.iter().rev().cloned().chain(theirs).collect();
        assert_eq!(contenders(mixed), ours);
    }
}
