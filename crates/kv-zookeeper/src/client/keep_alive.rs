//! Opens sessions that the quorum's answers keep alive, and ends those whose owners know them to
//! be lost.

use super::{
    connect::Options,
    limits::Limits,
    session::{ENDED_WITHIN, Ephemeral, OVER},
};
use crate::error::{closed, failed};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Alive, Clock, Instant},
    driver::Deadline,
};
use std::{sync::Arc, time::Duration};
use zookeeper_client::Error as ClientError;

/// Opens a session for this TTL, and keeps it alive as long as the returned [`Alive`] lives.
pub(crate) async fn open(
    options: &Arc<Options>,
    limits: Limits,
    clock: &Clock,
    ttl: Duration,
    deadline: Deadline,
) -> Result<(Arc<Ephemeral>, Alive)> {
    let granted = clock.now();
    let session = Arc::new(Ephemeral::open(options, limits.timeout(ttl), false, deadline).await?);
    let alive = keep_alive(&session, clock, ttl, granted);
    Ok((session, alive))
}

/// Keeps a session alive as long as the returned [`Alive`] lives. The client's own pings keep it
/// alive on the server too, but only an answer of the quorum counts as a renewal. A session that
/// its owner knows to be lost is ended, whether or not it is alive on the server.
fn keep_alive(session: &Arc<Ephemeral>, clock: &Clock, ttl: Duration, granted: Instant) -> Alive {
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
            // A session that cannot be ended in time is not connected again, and ends by its
            // time-out.
            let _ = session.end(Deadline::after(ENDED_WITHIN)).await;
        }
    });
    alive
}
