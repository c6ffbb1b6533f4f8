//! A wait in line, on this side.

use super::{session::Session, waiters::QueuePosition};
use std::{future::pending, sync::Arc};
use tokio::sync::oneshot;

/// A wait in line; dropping it ends it here, not on the server.
pub(crate) struct Waiting {
    session: Arc<Session>,
    contender: String,
    told: oneshot::Receiver<QueuePosition>,
}

impl Waiting {
    /// Waits in line from here on, also for what is told before the wait.
    pub(crate) fn new(session: &Arc<Session>, contender: &str) -> Self {
        let told = session.waiting.add(contender);
        Self { session: session.clone(), contender: contender.to_owned(), told }
    }

    /// Returns how the wait ends.
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
        self.session.waiting.remove(&self.contender);
    }
}
