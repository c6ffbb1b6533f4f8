//! The sessions that locks hang on.

use crate::{lease, store::Inner};
use kv_core::{
    Deadline, Result,
    backend::{self, Session},
};
use std::{sync::Arc, time::Duration};

/// By their ids.
pub(crate) type Sessions = backend::Sessions<Arc<str>>;
pub(crate) type Use = backend::Use<Arc<str>>;

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        let create = || async {
            let deadline = Deadline::after(each_request);
            let session = lease::create(self, "lock", ttl, deadline, each_request).await?;
            let alive = lease::keep(self, &session, ttl, each_request);
            Ok(Session { session: session.id, alive, end: session.end })
        };
        self.sessions.get(ttl, create).await
    }
}
