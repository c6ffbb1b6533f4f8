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
    /// Deletes its node, or sees to it that it goes with its session.
    pub(crate) async fn leave(&self) -> Result<Left> {
        drop(self.counted_on());
        match self.delete().await {
            Err(e) if e.kind() == ErrorKind::LeaseLost => self.left_by_end().await,
            Err(e) => {
                self.is_left.store(true, Ordering::Release);
                if e.is_lasting() {
                    // It may stay for as long as the session, which others who wait would keep.
                    self.session.let_go.begin();
                }
                Err(e)
            }
            left => left,
        }
    }

    /// Nobody counts on the session any more. Where a deletion has failed it is ended on the server
    /// as well, if it is not yet.
    async fn left_by_end(&self) -> Result<Left> {
        if self.is_left.load(Ordering::Acquire) {
            self.session.end(Deadline::after(ENDED_WITHIN)).await?;
        }
        Ok(Left::NotThere)
    }

    async fn delete(&self) -> Result<Left> {
        // All that was sent to enter is answered before the queue is.
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
            // Nobody else deletes it; what an attempt before deleted was there.
            Err(answer) if answer.is_repeat && answer.said == Said::NoNode => Left::Gone,
            Err(_) => Left::NotThere,
        })
    }
}
