//! Leases: sessions, by which keys live that do not live for ever.

use crate::{
    api,
    client::{before, on_a_task},
    store::Inner,
};
use kv_core::{
    Deadline, Error, ErrorKind, LeaseId, LeaseOptions, Leased, Result,
    backend::{Alive, Instant, Undo},
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// A session that was created.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Arc<str>,
    /// A moment before it was created.
    pub(crate) at: Instant,
    pub(crate) end: Undo,
}

/// A number that nobody else uses.
pub(crate) fn unique() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Asks for a session for this. The server gives it an id, so that one whose answer was lost is found by a name of our own, and ended; another
/// one is asked for meanwhile.
pub(crate) async fn create(
    inner: &Inner,
    what: &str,
    ttl: Duration,
    deadline: Deadline,
    each_request: Duration,
) -> Result<Session> {
    loop {
        let name = format!("kv {what} {:016x}", unique());
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let lost = end_named(inner, name.clone(), each_request);
        let at = inner.clock.now();
        match api::create_session(&inner.client, deadline, &name, ttl, inner.node().as_deref()).await {
            Ok(id) => {
                let end = end(inner, id.clone(), each_request);
                lost.forget();
                return Ok(Session { id, at, end });
            }
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                drop(lost);
                if deadline.remaining() < deadline.within() / 20 {
                    // Nothing of what the caller wanted was begun.
                    return Err(e.with_kind(ErrorKind::Unavailable));
                }
            }
            Err(e) => {
                lost.forget();
                if e.is_transient() {
                    inner.renew_node(before(deadline), each_request).await;
                }
                return Err(e);
            }
        }
    }
}

/// Ends a session, and its keys; `true` when it was there.
fn end(inner: &Inner, id: Arc<str>, each_request: Duration) -> Undo {
    let client = inner.client.clone();
    inner.tasks.undo(async move {
        let deadline = on_a_task(each_request);
        let is_there = api::renew_session(&client, deadline, &id).await?;
        if is_there {
            api::destroy_session(&client, deadline, &id).await?;
        }
        Ok(is_there)
    })
}

fn end_named(inner: &Inner, name: String, each_request: Duration) -> Undo {
    let client = inner.client.clone();
    inner.tasks.undo(async move {
        // The request may arrive after the first looks. What comes later still ends by its TTL, and holds nothing.
        for pause in [0, 1, 4] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let deadline = Deadline::after(each_request);
            let Ok(lost) = api::sessions_named(&client, deadline, &name).await else { continue };
            for id in &lost {
                api::destroy_session(&client, deadline, id).await?;
            }
            if !lost.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Keeps a session alive as long as the answer lives.
pub(crate) fn keep(inner: &Inner, session: &Session, ttl: Duration, each_request: Duration) -> Alive {
    let (client, id) = (inner.client.clone(), session.id.clone());
    Alive::keep(&inner.clock, ttl, session.at, move || {
        let (client, id) = (client.clone(), id.clone());
        async move {
            match api::renew_session(&client, Deadline::after(each_request), &id).await? {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::LeaseLost, "the server ended its session")),
            }
        }
    })
}

/// [`Store::lease`](kv_core::Store::lease).
pub(crate) async fn lease(inner: &Inner, ttl: Duration, options: &LeaseOptions) -> Result<Leased> {
    let session = create(inner, "lease", ttl, options.deadline, options.each_request).await?;
    let alive = keep(inner, &session, ttl, options.each_request);
    Ok(Leased { id: LeaseId::new(session.id.clone()), ttl, alive, revoke: session.end })
}
