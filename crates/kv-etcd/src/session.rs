//! The leases that locks hang on.

use crate::{lease, store::Inner, vigil::Vigil};
use kv_core::{
    Deadline, Result,
    backend::{self, Session},
};
use std::{sync::Arc, time::Duration};

/// A lease for locks, and who looks after the contenders under it.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) lease: i64,
    pub(crate) vigil: Arc<Vigil>,
}

pub(crate) type Sessions = backend::Sessions<Own>;
pub(crate) type Use = backend::Use<Own>;

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        let grant = || async {
            let deadline = Deadline::after(each_request);
            let grant = lease::grant(&self.client, &self.clock, ttl, deadline, each_request).await?;
            let alive = lease::keep(&self.client, &self.clock, &grant, each_request);
            let vigil = Arc::new(Vigil::new(self.client.clone(), each_request));
            Ok(Session { session: Own { lease: grant.id, vigil }, alive, end: grant.revoke })
        };
        self.sessions.get(ttl, grant).await
    }
}
