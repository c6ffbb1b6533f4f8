//! The sessions that locks hang on.

use crate::{
    session::{ENDED_WITHIN, Ephemeral, keep},
    store::Inner,
};
use kv_core::{
    Deadline, Result,
    backend::{self, Session, Use},
};
use std::{sync::Arc, time::Duration};

pub(crate) type Sessions = backend::Sessions<Arc<Ephemeral>>;

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use<Arc<Ephemeral>>> {
        let open = || async {
            let (granted, deadline) = (self.clock.now(), Deadline::after(each_request));
            let timeout = self.limits.timeout(ttl);
            let session = Arc::new(Ephemeral::open(&self.client.options, timeout, false, deadline).await?);
            let alive = keep(&session, &self.clock, ttl, granted);
            let ended = session.clone();
            let end = self.tasks.undo(async move { ended.end(Deadline::after(ENDED_WITHIN)).await });
            Ok(Session { session, alive, end })
        };
        let fits = |session: &Arc<Ephemeral>| session.is_alive() && !session.let_go.is_on();
        self.sessions.get_where(ttl, fits, open).await
    }
}
