//! The sessions that locks hang on.

use crate::{lease, store::Inner};
use kv_core::{
    Deadline, Result,
    backend::{self, Session},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// A session for locks.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) id: Arc<str>,
    pub(crate) let_go: LetGo,
}

pub(crate) type Sessions = backend::Sessions<Own>;
pub(crate) type Use = backend::Use<Own>;

/// Has whoever waits under a session take another one: something hangs on it that goes with it alone.
#[derive(Clone, Debug)]
pub(crate) struct LetGo(Arc<watch::Sender<bool>>);

impl LetGo {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready when it has begun.
    pub(crate) async fn begun(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|is_on| *is_on).await;
    }
}

impl Inner {
    /// The session of this TTL.
    pub(crate) async fn session(&self, ttl: Duration, each_request: Duration) -> Result<Use> {
        let create = || async {
            let deadline = Deadline::after(each_request);
            let session = lease::create(self, "lock", ttl, deadline, each_request).await?;
            let alive = lease::keep(self, &session, ttl, each_request);
            let own = Own { id: session.id, let_go: LetGo::new() };
            Ok(Session { session: own, alive, end: session.end })
        };
        loop {
            let used = self.sessions.get(ttl, create).await?;
            if !used.session().let_go.is_on() {
                return Ok(used);
            }
            self.sessions.forget(&used);
        }
    }
}
