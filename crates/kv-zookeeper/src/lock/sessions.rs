//! Gives locks their session: one for all locks of one TTL.

use crate::{
    client::{
        keep_alive,
        session::{ENDED_WITHIN, Ephemeral},
    },
    core::Core,
};
use kv_core::{
    Result,
    backend::{Session, Use},
    driver::Deadline,
};
use std::{sync::Arc, time::Duration};

/// Returns the session of this TTL, and opens one where there is none that a lock may join.
pub(crate) async fn session(
    core: &Core,
    ttl: Duration,
    each_request: Duration,
) -> Result<Use<Arc<Ephemeral>>> {
    let open = || async {
        let deadline = Deadline::after(each_request);
        let (session, alive) =
            keep_alive::open(&core.client.options, core.limits, &core.clock, ttl, deadline).await?;
        let ended = session.clone();
        let end = core.tasks.undo(async move { ended.end(Deadline::after(ENDED_WITHIN)).await });
        Ok(Session { session, alive, end })
    };
    let fits = |session: &Arc<Ephemeral>| session.is_alive() && !session.let_go.is_on();
    core.sessions.get_where(ttl, fits, open).await
}
