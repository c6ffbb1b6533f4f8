//! Cases, each of which tries one promise, and is named after the contract's clause.

use crate::{Harness, Proxy, Server, check::Failure, sites::Turn};
use futures::future::BoxFuture;
use kv_core::{Capabilities, Kv};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// One promise, and the function that tries it. The name is the clause's, or the clause's with `/`
/// and the part of it that is tried: `watch.gapless/startup`.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// The promise in one sentence, as the matrix and the docs show it.
    pub promise: &'static str,
    /// True for a case that takes the server away ([`Trial::server`]), and therefore runs alone on one.
    pub takes_server: bool,
    /// Tries the promise; panics, or returns an error, when it is broken.
    pub run: fn(Trial) -> BoxFuture<'static, Verdict>,
}

impl Case {
    /// Returns the clause that the case belongs to.
    pub fn clause(&self) -> &'static str {
        self.name.split('/').next().unwrap_or(self.name)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The end of a case whose promise was not broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The promise held.
    Kept,
    /// The promise could not be tried, for this reason: a capability that rules it out (the
    /// refused call was seen to give `Unsupported`), or a hook that the harness does not have.
    Ignored(String),
}

impl Ended {
    /// Returns the verdict of a case that was not tried, for this reason.
    pub fn ignored(reason: impl Into<String>) -> Verdict {
        Ok(Self::Ignored(reason.into()))
    }
}

/// The result of a case: an error says that the promise is broken, as a panic does.
pub type Verdict = Result<Ended, Failure>;

/// One run of a case: has the backend under test, and a prefix that nobody else uses.
#[derive(Clone)]
pub struct Trial(Arc<Inner>);

struct Inner {
    harness: Arc<dyn Harness>,
    prefix: String,
    capabilities: Arc<Capabilities>,
    patience: Duration,
    elsewhere: AtomicU32,
    /// The step that the case is at, for the report of a case that gets stuck.
    waits_for: Mutex<String>,
    since: Instant,
    turn: Mutex<Option<Turn>>,
}

impl Trial {
    /// Makes the trial of one run of one case, which has its turn on this harness. `prefix` ends with a slash.
    pub(crate) fn new(
        (harness, turn): (Arc<dyn Harness>, Turn),
        prefix: String,
        capabilities: Arc<Capabilities>,
        patience: Duration,
    ) -> Self {
        let (waits_for, turn) = (Mutex::new("its first answer".into()), Mutex::new(Some(turn)));
        let (since, elsewhere) = (Instant::now(), AtomicU32::default());
        Self(Arc::new(Inner { harness, prefix, capabilities, patience, elsewhere, waits_for, since, turn }))
    }

    /// Returns the backend under test.
    pub fn harness(&self) -> &Arc<dyn Harness> {
        &self.0.harness
    }

    /// Returns what the backend under test can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Returns the prefix of this run of the case.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Opens a new client under the case's prefix; each client has connections of its own. Its
    /// deadline is [`patience`](Self::patience): no case is about the speed of a machine.
    pub async fn open(&self) -> kv_core::Result<Kv> {
        self.open_under(&self.0.prefix).await
    }

    /// Opens a new client under another prefix, which is unique and beside the case's own.
    pub async fn open_elsewhere(&self) -> kv_core::Result<Kv> {
        let n = self.0.elsewhere.fetch_add(1, Ordering::Relaxed);
        self.open_under(&self.beside(n)).await
    }

    pub(crate) async fn open_under(&self, prefix: &str) -> kv_core::Result<Kv> {
        Ok(self.0.harness.open(prefix).await?.with_deadline(self.0.patience))
    }

    fn beside(&self, n: u32) -> String {
        format!("{}-{n}/", self.0.prefix.trim_end_matches('/'))
    }

    /// Returns the prefixes that this run has used so far.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        let elsewhere = self.0.elsewhere.load(Ordering::Relaxed);
        std::iter::once(self.0.prefix.clone()).chain((0..elsewhere).map(|n| self.beside(n))).collect()
    }

    /// Opens a client behind a new proxy; `None` for a backend without a network.
    pub async fn open_behind_proxy(&self) -> Option<kv_core::Result<(Kv, Proxy)>> {
        let proxy = Proxy::start(self.0.harness.address()?).await;
        let kv = self.0.harness.open_through(&proxy, &self.0.prefix).await?;
        Some(kv.map(|kv| (kv, proxy)))
    }

    /// Returns the server, to be taken away and given back: no other case runs on it until this one has
    /// ended. A server that the case leaves stopped or frozen is put right after the case. `None` where the
    /// harness has no such hook. A case never calls the harness's own hook.
    ///
    /// # Panics
    /// The case does not say that it takes the server ([`Case::takes_server`]).
    pub fn server(&self) -> Option<Arc<dyn Server>> {
        self.0.harness.server()?;
        let server = self.turn().as_ref().and_then(Turn::server).cloned();
        Some(server.expect("only a case that says so takes the server away, and until it has ended"))
    }

    /// Puts the server right.
    pub(crate) async fn restore(&self) {
        let server = self.turn().as_ref().and_then(Turn::server).cloned();
        if let Some(server) = server {
            server.restore().await;
        }
    }

    /// Lets other cases have their turn.
    pub(crate) fn end(&self) {
        *self.turn() = None;
    }

    /// Returns how long a case waits for something that must come, before it calls the promise
    /// broken.
    pub fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Returns the least TTL that the server has for keys, or `at_least`, where that is longer.
    pub fn short_ttl(&self, at_least: Duration) -> Duration {
        let least = self.0.capabilities.ttl.as_ref().map_or(Duration::ZERO, |range| range.least);
        at_least.max(least)
    }

    /// Notes what the case waits for, for the report if it gets stuck.
    pub fn note(&self, waits_for: impl Into<String>) {
        *self.waits_for() = waits_for.into();
    }

    /// Returns since when the case has had its turn, and what it noted last.
    pub(crate) fn noted(&self) -> (Instant, String) {
        (self.0.since, self.waits_for().clone())
    }

    /// Waits for what must come, as long as [`patience`](Self::patience) lasts.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn soon<T>(&self, what: &str, coming: impl Future<Output = T>) -> Result<T, Failure> {
        self.within(self.patience(), what, coming).await
    }

    /// Waits for what must come within this time.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn within<T>(
        &self,
        time: Duration,
        what: &str,
        coming: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        self.note(what);
        let came = tokio::time::timeout(time, coming).await;
        came.map_err(|_| format!("waited {time:?} in vain for {what}").into())
    }

    /// Asks again and again until the answer is true, as long as [`patience`](Self::patience)
    /// lasts.
    ///
    /// # Errors
    /// The answer did not become true in time, or the asking failed: its first error.
    pub async fn until<F>(&self, what: &str, ask: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output = kv_core::Result<bool>>,
    {
        self.until_within(self.patience(), what, ask).await
    }

    /// Asks again and again until the answer is true, for this time.
    ///
    /// # Errors
    /// Those of [`until`](Self::until).
    pub async fn until_within<F>(
        &self,
        time: Duration,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = kv_core::Result<bool>>,
    {
        let asking = async {
            while !ask().await? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        self.within(time, what, asking).await?
    }

    fn waits_for(&self) -> MutexGuard<'_, String> {
        self.0.waits_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({} under {:?})", self.0.harness.name(), self.0.prefix)
    }
}
