//! The core of a store in one slot: the way to its server, its names, its clock, its limits, and
//! what lives as long as it.

use crate::{
    client::{
        Client,
        about::About,
        answer::{Answer, next},
        packed::Packed,
        request::Request,
        script::{self, Script},
    },
    names::Names,
    version::Latest,
    watch::feed::Feed,
};
use fred::types::Value;
use kv_core::{
    Bytes, Capabilities, Health, Key, Result,
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
    /// The names of the records that every script is given, and the argument that tells it the
    /// store; and the prefix.
    records: [Value; 4],
    identity: Value,
    prefix: Value,
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
        let records = names.store().map(|name| shared(&name));
        let (identity, prefix) = (shared(&names.identity()), shared(names.prefix()));
        let tasks = Tasks::default();
        let core = Self { client, names, records, identity, prefix, clock, capabilities, feed, tasks };
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
        let records = self.records.iter().cloned();
        Request {
            script,
            names: records.chain(names.into_iter().map(Value::from)).collect(),
            arguments: std::iter::once(self.identity.clone()).chain(arguments).collect(),
        }
    }

    /// Makes the request that runs a short script, which is given one key and the prefix.
    pub(crate) fn short(&self, script: &'static Script, key: &Key) -> Request {
        let name = self.names.key(key.as_str()).into();
        Request { script, names: vec![name], arguments: vec![self.prefix.clone()] }
    }

    /// Runs the script that reads keys. Returns values and notes in turn, and the greatest number
    /// that a note may have, which the connection remembers.
    pub(crate) async fn read(
        &self,
        deadline: Deadline,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Result<(Packed, Latest)> {
        let request = &self.request(&script::READ, names, arguments);
        let answered = self.client.ask(RetrySafety::Read, deadline, |link| async move {
            request.send(&link).await.map(|answer| (answer, link))
        });
        let (answer, link) = answered.await?.answer;
        let mut answer = Answer(answer).list()?;
        let (packed, latest) = (Packed::of(next(&mut answer)?)?, next(&mut answer)?.latest()?);
        link.believe(latest);
        Ok((packed, latest))
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
        self.read(deadline, [], []).await.map(drop)
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

/// Returns an argument of many requests, whose clones share its bytes.
fn shared(text: &str) -> Value {
    Value::Bytes(Bytes::from(text.to_owned()))
}

/// Returns the deadline of one request of a renewal for this TTL. It ends before the renewal is
/// given up, which is after a quarter of the TTL: so the renewal has time to turn from a silent
/// connection to another one.
pub(crate) fn renewal(ttl: Duration) -> Deadline {
    Deadline::after(ttl / 5)
}
