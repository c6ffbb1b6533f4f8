//! The queue of one lock: contenders in the order of their creation.

use super::contender::Contender;
use crate::{
    client::{Purpose, answer::revision, txn::found},
    core::Core,
    names::{Names, Range},
};
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp};
use kv_core::{
    Bytes, Key, Result,
    backend::queue::{Left, Position},
    driver::Deadline,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Limits how many names of a queue are read at once to see whether there is a contender among
/// them.
pub(super) const JUNK: i64 = 128;

/// Sets the pauses before a waiter looks once more at its predecessor, for which it watches.
const SOON: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(20)];

/// The queue of one lock, for one call.
pub(super) struct LockQueue {
    pub(super) core: Arc<Core>,
    pub(super) name: Key,
    pub(super) range: Range,
    pub(super) ttl: Duration,
    pub(super) value: Bytes,
    pub(super) wait: bool,
    pub(super) each_request: Duration,
}

/// The contender before another one.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) name: Vec<u8>,
    /// Holds a revision at which the contender was there.
    pub(super) at: i64,
}

impl Before {
    pub(super) fn new(found: &KeyValue, at: i64) -> Self {
        Self { name: found.key().to_vec(), at }
    }
}

impl LockQueue {
    /// Returns the deadline of a request that is sent now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.each_request)
    }

    /// Returns the options that read all names of the queue.
    pub(super) fn all(&self) -> GetOptions {
        GetOptions::new().with_range(self.range.end.clone()).with_keys_only()
    }

    /// Tells whether a name that was found in the queue is that of a contender, and not what
    /// another tool put there.
    pub(super) fn is_contender(&self, kv: &KeyValue) -> bool {
        Names::is_contender(&self.range, kv.key(), kv.lease())
    }

    /// Returns the position of a contender, and the revision at which it had that position.
    pub(super) async fn look(&self, own: &Contender, token: i64) -> Result<(Position<Before>, i64)> {
        let (mut below, mut many) = (token, 1);
        loop {
            let before = self
                .all()
                .with_max_create_revision(below - 1)
                .with_sort(SortTarget::Create, SortOrder::Descend)
                .with_limit(many);
            let ops = [own.look(), TxnOp::get(self.range.start.clone(), Some(before))];
            let answer = self.core.txn(Purpose::Read, self.deadline(), Txn::new().and_then(ops)).await?;
            let at = revision(answer.header())?;
            let mut found = found(&answer).into_iter();
            let (own, before) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
            if !own.iter().any(|own| own.create_revision() == token && self.is_contender(own)) {
                return Ok((Position::Lost, at));
            }
            if let Some(before) = before.iter().find(|before| self.is_contender(before)) {
                return Ok((Position::Behind(Before::new(before, at)), at));
            }
            // A name that another tool wrote there is no contender, and nobody waits for it.
            match before.last().map(KeyValue::create_revision) {
                Some(last) if last > 1 => (below, many) = (last, JUNK),
                _ => return Ok((Position::First, at)),
            }
        }
    }

    /// Waits until the predecessor is gone (`true`), or until the queue has to be read again
    /// (`false`).
    ///
    /// The watch begins with what happens from now on: one that begins in the past is served by a
    /// loop of the server's that comes around every 100 ms. What happened before the server had
    /// the watch, a look at the predecessor tells.
    pub(super) async fn until_gone(&self, own: &Contender, before: &Before) -> Result<bool> {
        let Some(mut watch) = own.watch(before.name.clone(), 0) else { return Ok(false) };
        let Some(stands) = watch.stands().await else { return Ok(false) };
        if stands < before.at {
            // The server lags behind, or was restored from an older copy of its data.
            return Ok(false);
        }
        let mut looked = before.at;
        if stands > before.at {
            match self.is_there(before).await? {
                (true, at) => looked = at,
                (false, _) => return Ok(true),
            }
        }
        if looked > stands {
            // Something was written meanwhile. Where that was in the very moment in which the
            // watch began, the watch waits for that loop.
            for pause in SOON {
                match timeout(pause, watch.gone()).await {
                    Ok(is_gone) => return Ok(is_gone),
                    Err(_) if !self.is_there(before).await?.0 => return Ok(true),
                    Err(_) => {}
                }
            }
        }
        Ok(watch.gone().await)
    }

    /// Tells whether the predecessor is in the queue, and at which revision.
    async fn is_there(&self, before: &Before) -> Result<(bool, i64)> {
        let keys_only = GetOptions::new().with_keys_only();
        let found = self.core.range(Purpose::Read, self.deadline(), &before.name, keys_only).await?;
        let is_there = found.kvs().iter().any(|kv| self.is_contender(kv));
        Ok((is_there, revision(found.header())?))
    }
}

/// Returns what became of a contender that is deleted.
pub(super) fn left(was_there: bool, is_repeat: bool) -> Left {
    match was_there {
        true => Left::Gone,
        false if is_repeat => Left::Maybe,
        false => Left::NotThere,
    }
}
