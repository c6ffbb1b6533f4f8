//! A small networked store, for the suite's own tests: a server over TCP with a store in memory
//! behind it, and a client that keeps the contract over a bad network, so that the cases about
//! outages are seen green; and, with one deliberate [`Fault`] at a time, red.

mod client;
mod protocol;
mod server;
mod told;

pub(crate) use client::Wire;
pub(crate) use server::Server;

use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::{Harness, Proxy};
use std::{net::SocketAddr, sync::Arc};

/// One mistake of a client or of the server.
#[allow(dead_code, reason = "not every test program has them all")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A wait for a lock takes an outage for a refusal.
    TakesOutagesForRefusals,
    /// A watch takes for granted that versions only go up.
    TrustsTheCounter,
    /// The answer of something else is taken for the server's word.
    BelievesIntermediaries,
    /// A write whose answer is lost is sent again.
    RetriesBlindly,
    /// A write whose answer is lost is said to have met a conflict.
    LostReplyIsConflict,
    /// A write whose answer is lost is said to have succeeded.
    LostReplyIsSuccess,
    /// A lock or lease that was begun on a connection that is lost since is not ended.
    EndsOnOneLink,
    /// A lock or lease that is given back twice, because the first answer was lost, is said not to
    /// have been held.
    AnswersForRepeats,
    /// A put has a version that was made when it was sent.
    VersionsAtSending,
    /// A key that cannot be read is said to be missing.
    DownIsMissing,
    /// A watch goes on after an outage as if nothing had happened meanwhile.
    WatchForgetsOutage,
    /// A watch ends with its connection.
    WatchEndsAtCut,
    /// A lock or lease is lost with the first renewal that fails.
    LosesLockAtFirstFailure,
    /// A renewal has the deadline of the handle.
    RenewsLikeACall,
    /// A lock or lease is never lost.
    BelievesInLockForever,
    /// Calls wait for their answers for ever.
    IgnoresDeadline,
    /// A read is asked once, whatever becomes of its connection.
    ReadsOnce,
    /// A connection is made by the call that needs it, while all others wait for that.
    ConnectsInCalls,
    /// A connection from which nothing comes is trusted for ever.
    TrustsSilence,
    /// A watch ends when nothing comes for a moment.
    WatchEndsAtSilence,
    /// A watch cannot begin while the server is away.
    WatchNeedsTheServer,
    /// A watch that is dropped goes on on the server.
    NeverUnwatches,
    /// A release says that the lock was still held.
    ReleaseIsAlwaysTrue,
    /// A failed acquisition is not undone on the server.
    LeavesLocksBehind,
    /// Closing ends the connections before all is given back.
    ClosesTooSoon,
    /// An acquisition whose connection is lost is given up, and the server keeps the lock for it.
    AbandonsLocks,
    /// Whoever waits for a lock asks who holds it whenever any is given back.
    WakesAllInLine,
    /// A watch misses a change now and then.
    DropsEvents,
    /// A lock that is lost does not keep writes from happening.
    IgnoresFences,
    /// The server forgets what it held when it starts again.
    ForgetsAtRestart,
    /// The server never ends what is not renewed.
    NeverEndsSessions,
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
        Self { server: Arc::new(Server::start(fault).await), fault }
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

    fn is_documented(&self) -> bool {
        false
    }

    fn speaks_http(&self) -> bool {
        // The store does not speak HTTP, but knows it when it reads it.
        true
    }

    fn server(&self) -> Option<Arc<dyn kv_testsuite::Server>> {
        Some(self.server.clone())
    }
}
