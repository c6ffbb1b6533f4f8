//! Cases: one promise each, by the name of the contract's clause.

use crate::{Harness, Proxy};
use futures::future::BoxFuture;
use kv_core::{Capabilities, Kv};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// One promise, tried. Its name is the clause's, or the clause's with `/` and what of it is tried:
/// `watch.gapless/startup`.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// What must hold, in one sentence, for the matrix and the docs.
    pub promise: &'static str,
    /// What tries it: panics, or gives an error, when the promise is broken.
    pub run: fn(Trial) -> BoxFuture<'static, Verdict>,
}

impl Case {
    /// The clause that the case belongs to.
    pub fn clause(&self) -> &'static str {
        self.name.split('/').next().unwrap_or(self.name)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How a case ended, when its promise was not broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The promise held.
    Kept,
    /// It could not be tried, for this reason: a capability that rules it out (the refused call was seen to give
    /// `Unsupported`), or a hook that the harness does not have.
    Ignored(String),
}

/// What a case gives: an error is a broken promise, as a panic is.
pub type Verdict = Result<Ended, Box<dyn std::error::Error + Send + Sync>>;

/// What a case works with: the backend under test, and a prefix that nobody else uses.
#[derive(Clone)]
pub struct Trial {
    harness: Arc<dyn Harness>,
    prefix: String,
    capabilities: Arc<Capabilities>,
    next: Arc<AtomicU32>,
}

impl Trial {
    /// For one run of one case. `prefix` ends with a slash.
    pub fn new(harness: Arc<dyn Harness>, prefix: String, capabilities: Arc<Capabilities>) -> Self {
        Self { harness, prefix, capabilities, next: Arc::default() }
    }

    /// The backend under test.
    pub fn harness(&self) -> &Arc<dyn Harness> {
        &self.harness
    }

    /// What it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The prefix of this run of the case.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A new client under the case's prefix; every call gives one with connections of its own.
    pub async fn open(&self) -> kv_core::Result<Kv> {
        self.harness.open(&self.prefix).await
    }

    /// A new client under another prefix, unique and beside the case's own.
    pub async fn open_elsewhere(&self) -> kv_core::Result<Kv> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}-{n}/", self.prefix.trim_end_matches('/'));
        self.harness.open(&prefix).await
    }

    /// A client behind a new proxy; `None` for a backend without a network.
    pub async fn open_behind_proxy(&self) -> Option<kv_core::Result<(Kv, Proxy)>> {
        let proxy = Proxy::start(self.harness.address()?).await;
        let kv = self.harness.open_through(&proxy, &self.prefix).await?;
        Some(kv.map(|kv| (kv, proxy)))
    }

    /// How long a case waits for something that must come, before it calls the promise broken.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// A TTL that the server grants, short, and at least this long.
    pub fn short_ttl(&self, at_least: Duration) -> Duration {
        let least = self.capabilities.ttl.as_ref().map_or(Duration::ZERO, |range| range.least);
        at_least.max(least)
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({} under {:?})", self.harness.name(), self.prefix)
    }
}
