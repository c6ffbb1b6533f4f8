//! Who holds a lock.

use crate::{
    client::Via,
    error::Problem,
    feed::answers,
    line::{ordered, token},
    link::Linked,
    names::Names,
    node::{Ask, Got, gone_at, read},
    store::Inner,
};
use kv_core::{backend::retry::RetrySafety, *};
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

/// The first in line.
pub(crate) async fn first(linked: &Linked, names: &Names, name: &Key) -> Result<First, ClientError> {
    let line = names.line(name);
    'line: loop {
        let mut reader = linked.session.new_multi_reader();
        // When a contender went is told by its parent, read first; when the line went, by the line's parent.
        reader.add_get_data(&names.area("lock"))?;
        reader.add_get_data(&line)?;
        reader.add_get_children(&line)?;
        let found = reader.commit();
        let mut got = answers(found.await?)?.into_iter();
        let zxid = |got: Option<Got>| match got {
            Some(Got::Data(_, stat)) => Some(stat.pzxid),
            _ => None,
        };
        let (area, of_line) = (zxid(got.next()), zxid(got.next()));
        let waiting = match got.next() {
            Some(Got::Children(names)) => ordered(linked, &line, names).await?,
            _ => Vec::new(),
        };
        for contender in waiting {
            let path = format!("{line}/{contender}");
            let found = linked.session.get_data(&path);
            match found.await {
                // Nobody's: it came by a copy of the tree.
                Ok((_, stat)) if stat.ephemeral_owner == 0 => {}
                Ok((value, stat)) => return Ok(First::Held(Holder::new(token(stat.czxid), value))),
                // It left meanwhile.
                Err(ClientError::NoNode) => continue 'line,
                Err(e) => return Err(e),
            }
        }
        return Ok(First::Free(of_line.or(area).unwrap_or_default()));
    }
}

/// [`Store::lock_holder`].
pub(crate) async fn holder(inner: &Inner, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let line = inner.names.line(name);
    'line: loop {
        let waiting = Via::Any(&inner.client).call(RetrySafety::Read, options.deadline, |linked| {
            let line = &line;
            async move {
                let barrier = linked.barrier_for(options.consistency).await;
                let waiting = linked.session.list_children(line);
                barrier.await?;
                Ok::<_, Problem>(ordered(&linked, line, waiting.await?).await?)
            }
        });
        let Ok(waiting) = waiting.await? else { return Ok(None) };
        let behind = options.clone().consistency(Consistency::Stale);
        for contender in waiting {
            let got = read(&inner.client, &behind, &[Ask::Data(format!("{line}/{contender}"))]).await?;
            match got.into_iter().next() {
                // Nobody's: it came by a copy of the tree.
                Some(Got::Data(_, stat)) if stat.ephemeral_owner == 0 => {}
                Some(Got::Data(value, stat)) => return Ok(Some(Holder::new(token(stat.czxid), value))),
                _ => continue 'line,
            }
        }
        return Ok(None);
    }
}
