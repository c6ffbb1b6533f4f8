//! Waits in line, on this side.

use crate::lock::session::Session;
use std::{future::pending, sync::Arc};
use tokio::sync::oneshot;

/// How a wait in line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueuePosition {
    First,
    /// The contender is gone.
    Lost,
}

/// One who is about to get in line, or waits there.
pub(crate) struct Waiter {
    tell: oneshot::Sender<QueuePosition>,
    /// Whether the server said that it is in line.
    pub(crate) is_in_line: bool,
}

impl Session {
    pub(crate) fn is_at(&self, contender: &str, place: QueuePosition) {
        if let Some(waiter) = self.waiting.lock().remove(contender) {
            // Who waited may have gone.
            let _ = waiter.tell.send(place);
        }
    }

    pub(crate) fn is_waited_on(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Waits in line from here on, also for what is told before the wait.
    pub(crate) fn waits(self: &Arc<Self>, contender: &str) -> Waiting {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().insert(contender.to_owned(), Waiter { tell, is_in_line: false });
        Waiting { session: self.clone(), contender: contender.to_owned(), told }
    }

    /// The server has it in line.
    pub(crate) fn is_in_line(&self, contender: &str) {
        if let Some(waiter) = self.waiting.lock().get_mut(contender) {
            waiter.is_in_line = true;
        }
    }
}

/// A wait in line; dropping it ends it here, not on the server.
pub(crate) struct Waiting {
    session: Arc<Session>,
    contender: String,
    told: oneshot::Receiver<QueuePosition>,
}

impl Waiting {
    pub(crate) async fn place(&mut self) -> QueuePosition {
        let lost = async {
            match self.session.alive() {
                Some(alive) => drop(alive.lost().await),
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            place = &mut self.told => place.unwrap_or(QueuePosition::Lost),
            () = lost => QueuePosition::Lost,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.session.waiting.lock().remove(&self.contender);
    }
}
