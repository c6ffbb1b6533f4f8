//! Keeps a session alive by the quorum's answers, and ends it when its owner knows it to be lost.

use super::session::{ENDED_WITHIN, Ephemeral, OVER};
use crate::error::{closed, failed};
use kv_core::{
    Deadline, Error, ErrorKind,
    backend::{Alive, Clock, Instant},
};
use std::{sync::Arc, time::Duration};
use zookeeper_client::Error as ClientError;

/// Keeps a session alive as long as the answer lives. The client's own pings do so too; what counts is that the quorum
/// answers, and a session whose owner knows it to be lost is ended, be it alive on the server or not.
pub(crate) fn keep_alive(session: &Arc<Ephemeral>, clock: &Clock, ttl: Duration, granted: Instant) -> Alive {
    let kept = Arc::downgrade(session);
    let alive = Alive::keep_by(clock, ttl, granted, move |deadline| {
        let session = kept.upgrade();
        async move {
            let Some(session) = session else { return Err(closed()) };
            let connection = session.link(deadline).await?;
            connection.barrier().await.await.map_err(|e| match e {
                ClientError::SessionExpired => Error::new(ErrorKind::LeaseLost, OVER),
                e => failed(e).error.with_kind(ErrorKind::Unavailable),
            })
        }
    });
    let (over, end, lost) = (session.over(), alive.ending(), alive.lost());
    let session = Arc::downgrade(session);
    tokio::spawn(async move {
        let is_over = tokio::select! {
            why = over => {
                end(why);
                true
            }
            _ = lost => false,
        };
        if let Some(session) = session.upgrade() {
            session.lost.send_replace(true);
            if is_over {
                session.heard().await;
            }
            // What cannot be told in time is not connected again, and ends by its time-out.
            let _ = session.end(Deadline::after(ENDED_WITHIN)).await;
        }
    });
    alive
}
