//! A small networked store, for the suite's own tests: a server over TCP with a store in memory behind it, and a client
//! that keeps the contract over a bad network, so that the cases about outages are seen green; and, with one deliberate
//! [`Fault`] at a time, red.

mod client;
mod protocol;
mod server;

pub(crate) use client::Wire;
pub(crate) use server::Server;

use kv_core::{Kv, Result, async_trait};
use kv_testsuite::{Harness, Proxy};
use std::{net::SocketAddr, sync::Arc};

/// What a client does wrong.
#[allow(dead_code, reason = "not every test program has them all")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write whose answer is lost is sent again.
    RetriesBlindly,
    /// A write whose answer is lost is said to have met a conflict.
    LostReplyIsConflict,
    /// A write whose answer is lost is said to have succeeded.
    LostReplyIsSuccess,
    /// What cannot be read is said to be missing.
    DownIsMissing,
    /// A watch goes on after an outage as if nothing had happened meanwhile.
    WatchForgetsOutage,
    /// A watch ends with its connection.
    WatchEndsAtCut,
    /// A lock or lease is lost with the first renewal that fails.
    LosesLockAtFirstFailure,
    /// A lock or lease is never lost.
    BelievesInLockForever,
    /// Calls wait for their answers for ever.
    IgnoresDeadline,
}

/// One server, and clients of it that may be faulty.
#[derive(Clone)]
pub(crate) struct Net {
    server: Arc<Server>,
    fault: Option<Fault>,
}

impl Net {
    /// Starts a server on the runtime in which this is called.
    pub(crate) async fn start(fault: Option<Fault>) -> Self {
        Self { server: Arc::new(Server::start().await), fault }
    }

    fn client(&self, address: SocketAddr, prefix: &str) -> Kv {
        Kv::new(Wire::new(address, prefix, self.fault))
    }
}

#[async_trait]
impl Harness for Net {
    fn name(&self) -> String {
        "wire".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Ok(self.client(self.server.address(), prefix))
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(Ok(self.client(proxy.address(), prefix)))
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.server.address())
    }

    fn server(&self) -> Option<Arc<dyn kv_testsuite::Server>> {
        Some(self.server.clone())
    }
}
