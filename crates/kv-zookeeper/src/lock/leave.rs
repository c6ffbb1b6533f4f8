//! Takes a contender out of its queue.

use super::contender::Contender;
use crate::{
    client::session::ENDED_WITHIN,
    error::{Problem, Said},
};
use kv_core::{
    ErrorKind, Result,
    backend::{queue::Left, retry::RetrySafety},
    driver::Deadline,
};
use std::sync::atomic::Ordering;

impl Contender {
    /// Deletes its node, or sees to it that the node ends with its session.
    pub(crate) async fn leave(&self) -> Result<Left> {
        drop(self.counted_on());
        match self.delete().await {
            Err(e) if e.kind() == ErrorKind::LeaseLost => self.left_by_end().await,
            Err(e) => {
                self.is_left.store(true, Ordering::Release);
                if e.is_lasting() {
                    // The node may stay as long as the session, which other waiting contenders
                    // would keep.
                    self.session.let_go.begin();
                }
                Err(e)
            }
            left => left,
        }
    }

    /// Leaves with the session, on which nobody counts any more. If a deletion has failed, the
    /// session is ended on the server as well, unless it has ended.
    async fn left_by_end(&self) -> Result<Left> {
        if self.is_left.load(Ordering::Acquire) {
            self.session.end(Deadline::after(ENDED_WITHIN)).await?;
        }
        Ok(Left::NotThere)
    }

    async fn delete(&self) -> Result<Left> {
        // Every request to enter is answered before the listing of the queue is.
        if self.node.get().is_none() && self.find().await?.is_none() {
            return Ok(Left::NotThere);
        }
        let path = self.path();
        let deleted = self.via().call(RetrySafety::Repeatable, self.deadline(), |connection| async move {
            let deleted = connection.session.delete(path, None);
            Ok::<_, Problem>(deleted.await?)
        });
        Ok(match deleted.await? {
            Ok(()) => Left::Gone,
            // An earlier attempt deleted it, or an operator who broke the lock.
            Err(answer) if answer.is_repeat && answer.said == Said::NoNode => Left::Maybe,
            Err(_) => Left::NotThere,
        })
    }
}
