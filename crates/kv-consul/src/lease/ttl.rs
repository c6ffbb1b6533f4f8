//! Gives puts with a TTL the sessions that their keys live by.

use super::{
    session,
    ttl_sessions::{Slot, TtlSession, session_ttl},
};
use crate::{client::a_moment_before, core::Core};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Clock, apart},
    driver::Deadline,
};
use std::{sync::Arc, time::Duration};

/// Returns a session for a put with this TTL that is about to be sent.
pub(crate) async fn get(core: &Arc<Core>, ttl: Duration, deadline: Deadline) -> Result<Arc<TtlSession>> {
    let slot = core.ttl_sessions.slot(ttl);
    let session = match slot.get() {
        Some(session) => session.clone(),
        // All puts of the TTL wait for whoever asks, whether its caller polls it or not.
        None => apart(fill(core.clone(), slot.clone(), ttl, deadline)).await?,
    };
    // The put is counted while we hold the session, so that nobody ends it.
    session.used();
    Ok(session)
}

/// Returns the session in the slot, and asks for one where none is there.
async fn fill(core: Arc<Core>, slot: Slot, ttl: Duration, deadline: Deadline) -> Result<Arc<TtlSession>> {
    // The session that another put asked for is waited for no longer than one of our own.
    let deadline = a_moment_before(deadline);
    let session = deadline.limit(slot.get_or_try_init(|| create(&core, ttl, deadline))).await;
    let session = session.unwrap_or_else(|| {
        let why = format!(
            "nothing was sent within {deadline}: the put waited for the session that another one asked for"
        );
        Err(Error::new(ErrorKind::Timeout, why))
    });
    session.cloned()
}

async fn create(core: &Core, ttl: Duration, deadline: Deadline) -> Result<Arc<TtlSession>> {
    let at = Clock::system().now();
    // Other puts share the session, whose end has not the time of this one alone.
    let session = session::create(core, "ttl", session_ttl(ttl), deadline, Deadline::DEFAULT).await?;
    Ok(core.ttl_sessions.begin(session.id, session.end, ttl, at))
}
