//! The core of a store in one slot: the way to its server, its names, its clock, its limits, and
//! what lives as long as it.

use crate::{
    client::{
        Client,
        about::About,
        answer::Answer,
        request::Request,
        script::{self, Script},
    },
    names::Names,
    watch::feed::Feed,
};
use fred::types::Value;
use kv_core::{
    Capabilities, Health, Result,
    backend::{Clock, Instant, Tasks, retry::RetrySafety},
    driver::{Deadline, ReadOptions},
};
use std::{future::pending, sync::Arc, time::Duration};

/// The part of a store in one slot that everything else needs. Guards, leases and watches keep it
/// for longer than the store itself; so the sessions of locks, which end with the store, are kept
/// beside it.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) feed: Feed,
    /// The tasks that give back locks and leases in the background.
    pub(crate) tasks: Tasks,
}

impl Core {
    /// Learns what the server can do, and whether the user may read at all.
    pub(crate) async fn open(
        client: Client,
        names: Names,
        clock: Clock,
        deadline: Deadline,
        allow_eviction: bool,
    ) -> Result<Self> {
        let client = Arc::new(client);
        let about = About::ask(&client, deadline).await?;
        about.check(allow_eviction)?;
        let feed = Feed::new(client.clone(), names.clone());
        let capabilities = about.capabilities();
        let core = Self { client, names, clock, capabilities, feed, tasks: Tasks::default() };
        // Missing rights to write are reported by the writes themselves.
        core.probe(deadline).await?;
        Ok(core)
    }

    /// Makes the request that runs a script on this store, with these names behind the store's
    /// own.
    pub(crate) fn request(
        &self,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Request {
        let identity = Value::from(self.names.identity());
        Request {
            script,
            names: self.names.store().into_iter().chain(names).map(Value::from).collect(),
            arguments: std::iter::once(identity).chain(arguments).collect(),
        }
    }

    /// Runs a script on this store, with these names behind the store's own.
    pub(crate) async fn run(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Result<Answer> {
        let request = self.request(script, names, arguments);
        Ok(self.client.run(safety, deadline, &request).await?.answer)
    }

    /// Runs the script that reads keys, without any key: it succeeds on a server that takes
    /// writes.
    async fn probe(&self, deadline: Deadline) -> Result<()> {
        self.run(RetrySafety::Read, deadline, &script::READ, [], []).await.map(drop)
    }

    /// Sleeps until the moment, or for ever where there is none. Cancel safe.
    pub(crate) async fn sleep_until(&self, moment: Option<Instant>) {
        match moment {
            Some(moment) => self.clock.sleep_until(moment).await,
            None => pending().await,
        }
    }

    /// Returns the health of the server.
    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        // A server that answers this takes writes, also where the user may not call `INFO`.
        self.probe(options.deadline).await?;
        Ok(About::ask(&self.client, options.deadline).await?.health())
    }
}

/// Returns the deadline of one request of a renewal for this TTL. It ends before the renewal is
/// given up, which is after a quarter of the TTL: so the renewal has time to turn from a silent
/// connection to another one.
pub(crate) fn renewal(ttl: Duration, each_request: Duration) -> Deadline {
    Deadline::after(each_request.min(ttl / 5))
}
