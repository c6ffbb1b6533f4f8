//! The parts that every call uses: the connection, the names, the limits, and what is given back
//! in the background.

use crate::{names::Names, server::Server};
use kv_core::{
    Capabilities, Locking, Result, TtlRange,
    backend::{
        Hub, Tasks,
        retry::{RetrySafety, Servers},
    },
    driver::Deadline,
};
use std::{future::ready, sync::Arc, time::Duration};

/// The state that the clones of a store share.
#[derive(Debug)]
pub(crate) struct Core {
    // DECIDE: of a cluster all members, by `Servers::new`.
    servers: Servers<Arc<Server>>,
    pub(crate) hub: Hub,
    /// Holds the tasks that give dropped locks back.
    pub(crate) tasks: Tasks,
    pub(crate) names: Names,
    pub(crate) capabilities: Capabilities,
}

impl Core {
    pub(crate) fn new(server: Arc<Server>, prefix: String) -> Self {
        let (servers, hub, tasks) = (Servers::one(server), Hub::new(), Tasks::default());
        Self { servers, hub, tasks, names: Names::new(prefix), capabilities: capabilities() }
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        self.servers.preferred()
    }

    /// Sends one request: a read again until it is answered or its time is over, a write never
    /// again once it may have been done.
    // DECIDE: what each error of your client did. `error.rs` makes a `RequestError` of it, with an
    // `Effect`; an attempt ends by itself at `attempt.patience()`. What the server says of the data
    // (another version) is an answer: `Ok`.
    pub(crate) async fn send<T: Send>(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn(&Server) -> T + Send + Sync,
    ) -> Result<T> {
        let attempts = self.servers.run(safety, deadline, |attempt| ready(Ok(request(attempt.server))));
        Ok(attempts.await?.answer)
    }
}

// DECIDE: what your server can do, learnt from the server where it depends on how it is set up. What you leave
// as it is, is refused before it reaches you; the suite then checks that it is.
fn capabilities() -> Capabilities {
    let ttl = TtlRange::new(Duration::from_millis(1), Duration::from_secs(10 * 365 * 86_400));
    let mut locking = Locking::new(ttl.clone());
    locking.fair = false;
    locking.fenced_writes = false;
    let mut capabilities = Capabilities::new("template");
    capabilities.lock = Some(locking);
    capabilities.ttl = Some(ttl);
    capabilities.delete_tree_counts = true;
    capabilities
}
