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
    /// Learns what the server can do, and whether its user may ask at all.
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
        // What the user may not write, those calls tell.
        core.probe(deadline).await?;
        Ok(core)
    }

    /// Makes the request to run a script on this store, about these names besides the store's own.
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

    /// Runs a script on this store, about these names besides the store's own.
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

    /// Asks for nothing, as every call asks.
    async fn probe(&self, deadline: Deadline) -> Result<()> {
        self.run(RetrySafety::Read, deadline, &script::READ, [], []).await.map(drop)
    }

    /// Sleeps until the moment; for ever where there is none. Cancel safe.
    pub(crate) async fn sleep_until(&self, moment: Option<Instant>) {
        match moment {
            Some(moment) => self.clock.sleep_until(moment).await,
            None => pending().await,
        }
    }

    /// Returns how the server is.
    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        // Who answers this takes writes, also where it may not say how it is.
        self.probe(options.deadline).await?;
        Ok(About::ask(&self.client, options.deadline).await?.health())
    }
}

/// Returns the deadline of a renewal of what has this TTL. It ends before it is given up after a quarter of the TTL, so that it
/// turns from a connection that is silent to another one.
pub(crate) fn renewal(ttl: Duration, each_request: Duration) -> Deadline {
    Deadline::after(each_request.min(ttl / 5))
}
