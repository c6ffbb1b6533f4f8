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
    // DECIDE: all members of a cluster, by `Servers::new`.
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

    /// Sends one request. A read is sent again until it is answered or its time is over; a write
    /// is never sent again once it may have been done.
    // DECIDE: the effect of each error of your client. Add an `error.rs` that makes a
    // `RequestError` of it, with an `Effect`; an attempt ends by itself at `attempt.patience()`.
    // What the server says of the data (another version) is an answer: `Ok`.
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

// DECIDE: what your server can do; ask the server where that depends on its settings. A call that
// needs what you leave at its default is refused before it reaches you, and the suite checks that.
fn capabilities() -> Capabilities {
    let ttl = TtlRange::new(Duration::from_millis(1), Duration::from_secs(10 * 365 * 86_400));
    let mut locking = Locking::new(ttl.clone());
    locking.fair = false;
    locking.fenced_writes = false;
    locking.lists = false;
    let mut capabilities = Capabilities::new("template");
    capabilities.lock = Some(locking);
    capabilities.ttl = Some(ttl);
    capabilities.watch_ordered = true;
    capabilities.delete_tree_counts = true;
    capabilities
}
