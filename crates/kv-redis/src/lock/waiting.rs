//! The wait of one contender in a queue, on this side.

use super::{session::Session, waiters::QueuePosition};
use std::{future::pending, sync::Arc};
use tokio::sync::oneshot;

/// A wait in a queue. Dropping it ends it here, not on the server.
pub(crate) struct Waiting {
    session: Arc<Session>,
    contender: String,
    told: oneshot::Receiver<QueuePosition>,
}

impl Waiting {
    /// Begins the wait. Messages that come before [`place`](Self::place) is called are kept.
    pub(crate) fn new(session: &Arc<Session>, contender: &str) -> Self {
        let told = session.waiting.add(contender);
        Self { session: session.clone(), contender: contender.to_owned(), told }
    }

    /// Waits, and returns how the wait ends: also as lost where the contender is to leave the
    /// session.
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
            () = self.session.let_go.begun() => QueuePosition::Lost,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.session.waiting.remove(&self.contender);
    }
}
