//! The sessions that locks hang on.

use crate::{lease, store::Inner};
use kv_core::{
    Deadline, Result,
    backend::{self, LetGo, Session},
};
use std::{sync::Arc, time::Duration};

/// A session for locks.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) id: Arc<str>,
    pub(crate) let_go: LetGo,
}

pub(crate) type Sessions = backend::Sessions<Own>;
pub(crate) type Use = backend::Use<Own>;

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        let create = || async {
            let deadline = Deadline::after(each_request);
            let session = lease::create(self, "lock", ttl, deadline, each_request).await?;
            let alive = lease::keep(self, &session, ttl, each_request);
            let own = Own { id: session.id, let_go: LetGo::default() };
            Ok(Session { session: own, alive, end: session.end })
        };
        self.sessions.get_where(ttl, |own| !own.let_go.is_on(), create).await
    }
}
