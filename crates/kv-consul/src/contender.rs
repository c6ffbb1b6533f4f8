//! What an attempt puts in a lock's line, and how it is taken out again.

use crate::{
    api::{Done, Op},
    client::on_a_task,
    http::Purpose,
    names::{self, contender},
    store::Inner,
};
use kv_core::{
    Deadline, Error, ErrorKind, Key, Result,
    backend::{Backoff, unique},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The key of one attempt. It does not keep the session alive on which the key hangs.
pub(crate) struct Contender {
    inner: Arc<Inner>,
    session: Arc<str>,
    id: String,
    pub(crate) key: Key,
    /// The server's name of it.
    pub(crate) name: String,
    each_request: Duration,
    /// A copy of the request to enter may still arrive: one of several was answered, or none.
    pub(crate) comes_late: AtomicBool,
}

/// How an attempt left its line.
pub(crate) enum Left {
    Now,
    Before,
    /// Now, or before: the answer was lost, and there was nothing at the second try.
    Somehow,
}

impl Contender {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        lock: &Key,
        session: Arc<str>,
        each_request: Duration,
    ) -> Result<Self> {
        let id = names::id(unique());
        let key = contender(lock, &id)?;
        let name = inner.names.name(key.as_str());
        let comes_late = AtomicBool::new(true);
        Ok(Self { inner: inner.clone(), session, id, key, name, each_request, comes_late })
    }

    /// The server's name of what has a late request do nothing.
    pub(crate) fn mark(&self) -> String {
        self.inner.names.given_up(&self.id)
    }

    /// Deletes it. Where a copy of the request that made it may still arrive, with a mark that has it do nothing: it would take the
    /// place anew, and make a fence true again that was given back. The mark goes with the session, as the copy does: nobody knows
    /// how long a server hangs.
    pub(crate) async fn delete(&self) -> Result<Left> {
        let mut ops = vec![Op::get(&self.name), Op::delete(&self.name)];
        let comes_late = self.comes_late.load(Ordering::Acquire);
        if comes_late {
            ops.push(Op::write(&self.mark(), b"", Some(&self.session)));
        }
        let told = match self.inner.ask(Purpose::Release, on_a_task(self.each_request), &ops).await {
            // With the session everything of ours is gone, and nothing can come. An earlier try may have done it.
            Err(e) if e.kind() == ErrorKind::LeaseLost => return Ok(Left::Somehow),
            told => told?,
        };
        let left = match (told.answer, told.is_repeat) {
            (Done::Committed(_), _) => return Ok(Left::Now),
            (Done::Refused(_), false) => Left::Before,
            (Done::Refused(_), true) => Left::Somehow,
        };
        if comes_late {
            match self.inner.txn(Purpose::Release, Deadline::after(self.each_request), &ops[1..]).await {
                Err(e) if e.kind() == ErrorKind::LeaseLost => {}
                marked => drop(marked?),
            }
        }
        Ok(left)
    }

    /// Until it is deleted, or the session has ended, with which it goes.
    ///
    /// # Errors
    /// How the session ended.
    pub(crate) async fn delete_until(&self, ended: impl Future<Output = Error>) -> Result<Left> {
        let delete = async {
            let mut backoff = Backoff::default();
            loop {
                backoff.pause().await;
                if let Ok(left) = self.delete().await {
                    return left;
                }
            }
        };
        tokio::select! { biased; e = ended => Err(e), left = delete => Ok(left) }
    }
}
