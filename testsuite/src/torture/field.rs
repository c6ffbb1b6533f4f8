//! The field of a round: one server, clients behind proxies of their own, and one clock.

use super::{chance::Chance, patience::until_done, plan::Plan, stroke::Stroke};
use crate::{Failure, Harness, Proxy};
use kv_core::{Capabilities, Error, ErrorKind, Kv};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The deadline of a client's calls: short, so that an outage costs little.
pub(super) const DEADLINE: Duration = Duration::from_millis(1500);

/// All that the workloads of a round share.
pub struct Field {
    harness: Arc<dyn Harness>,
    capabilities: Capabilities,
    prefix: String,
    seed: u64,
    workloads: Vec<&'static str>,
    began: Instant,
    is_over: AtomicBool,
    is_calm: watch::Sender<bool>,
    opened: AtomicU32,
    proxies: Mutex<Vec<Arc<Proxy>>>,
    strokes: Mutex<Vec<Blow>>,
    /// From when to when the machine let this process stand still, in microseconds of the run.
    stalls: Arc<Mutex<Vec<(u64, u64)>>>,
    denials: Denials,
    may_lose: bool,
    /// The reason why the round shows nothing, if there is one.
    spoilt: Mutex<Option<String>>,
}

/// The effect of a call that failed: none, or nobody knows; any other error must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The call had no effect.
    Nothing,
    /// Nobody knows whether the call had an effect.
    Unknown,
    /// No trouble of servers and links explains the error.
    Absurd,
}

/// The denials that clients may meet in a round, and in no other: calls then fail without an
/// effect, and watches and waits for locks end by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Denials {
    /// Tells whether rights or credentials are withdrawn, so that clients are denied what they ask
    /// for.
    pub(super) access: bool,
    /// Tells whether records are damaged, so that they cannot be read.
    pub(super) records: bool,
}

impl Denials {
    fn of(strokes: &[Stroke]) -> Self {
        let any = |denies: fn(Stroke) -> bool| strokes.iter().any(|stroke| denies(*stroke));
        Self { access: any(Stroke::denies), records: any(Stroke::damages) }
    }

    /// Tells whether these denials explain the error.
    pub(super) fn explain(self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => self.access,
            ErrorKind::Corrupt => self.records,
            _ => false,
        }
    }
}

/// Tells whether a call of this name may need room on the server.
fn takes_room(operation: &str) -> bool {
    const THESE: [&str; 9] = [
        "put",
        "atomic_put",
        "update",
        "transact",
        "adopt",
        "acquire",
        "try_acquire",
        "acquire_within",
        "lease",
    ];
    THESE.contains(&operation)
}

impl Failed {
    /// Returns the effect of a call that failed with this error, where clients may meet these
    /// denials.
    pub(super) fn of(error: &Error, denials: Denials) -> Self {
        use ErrorKind::*;
        match error.kind() {
            OutcomeUnknown => Self::Unknown,
            // A server that is full can be read, and emptied.
            NoSpace if !error.operation().is_some_and(takes_room) => Self::Absurd,
            Unavailable | Timeout | NoSpace | Other => Self::Nothing,
            _ if denials.explain(error) => Self::Nothing,
            _ => Self::Absurd,
        }
    }
}

/// One stroke of the nemesis, as it fell.
#[derive(Clone, Debug)]
pub struct Blow {
    /// The kind of stroke.
    pub stroke: Stroke,
    /// The name of the stroke, with what it met.
    pub label: String,
    /// The moment at which it began, in microseconds of the run.
    pub began: u64,
    /// The moment at which all was put right again, in microseconds of the run.
    pub ended: u64,
}

impl Field {
    /// Makes the field of a round on this server.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn new(harness: Arc<dyn Harness>, prefix: String, plan: &Plan) -> Result<Self, Failure> {
        let kv = until_done("opening the store", || harness.open(&prefix)).await?;
        let capabilities = kv.capabilities().clone();
        kv.close().await?;
        let may_lose = plan.strokes.iter().any(|stroke| stroke.may_lose(capabilities.durability));
        let began = Instant::now();
        Ok(Self {
            harness,
            capabilities,
            prefix,
            seed: plan.seed,
            workloads: plan.workloads.clone(),
            began,
            is_over: AtomicBool::new(false),
            is_calm: watch::Sender::new(false),
            opened: AtomicU32::new(0),
            proxies: Mutex::default(),
            strokes: Mutex::default(),
            stalls: stalls(began),
            denials: Denials::of(&plan.strokes),
            may_lose,
            spoilt: Mutex::default(),
        })
    }

    /// Returns the harness of the backend under fire.
    pub fn harness(&self) -> &Arc<dyn Harness> {
        &self.harness
    }

    /// Returns the store's capabilities.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Returns the prefix of the round.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the names of the workloads of the round.
    pub fn workloads(&self) -> Vec<&'static str> {
        self.workloads.clone()
    }

    /// Returns the random numbers of the round's seed for this user.
    pub fn chance(&self, user: &str) -> Chance {
        Chance::new(self.seed, user)
    }

    /// Returns the microseconds since the beginning of the run.
    pub fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// Tells whether workloads are to end.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until the strokes of the round are over too, and all is put right.
    pub async fn calm(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.is_calm.subscribe().wait_for(|is_calm| *is_calm).await;
    }

    pub(super) fn calmed(&self) {
        self.is_calm.send_replace(true);
    }

    /// Opens a client of this workload under fire, behind a proxy of its own where the backend has
    /// a network; returns its name too.
    ///
    /// # Errors
    /// The store cannot be opened for a minute.
    pub async fn client(&self, workload: &str) -> Result<(String, Kv), Failure> {
        until_done("opening a client", || self.try_client(workload)).await
    }

    async fn try_client(&self, workload: &str) -> Result<(String, Kv), Failure> {
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let name = format!("{workload}-{opened}");
        let prefix = self.under(workload);
        let Some(address) = self.harness.address() else { return Ok((name, self.open(workload).await?)) };
        let mut ways = self.harness.other_addresses();
        ways.push(address);
        let proxy = Arc::new(Proxy::start(ways[opened as usize % ways.len()]).await);
        let kv = match self.harness.open_through(&proxy, &prefix).await {
            Some(kv) => kv?,
            None => self.harness.open(&prefix).await?,
        };
        lock(&self.proxies).push(proxy);
        Ok((name, kv.with_deadline(DEADLINE)))
    }

    /// Opens a client of this workload under fire, without a proxy.
    ///
    /// # Errors
    /// The store cannot be opened for a minute.
    pub async fn observer(&self, workload: &str) -> Result<Kv, Failure> {
        until_done("opening a client", || self.open(workload)).await
    }

    /// Opens a client of this workload without a proxy, by one try.
    ///
    /// # Errors
    /// The store cannot be opened now.
    pub(super) async fn open(&self, workload: &str) -> Result<Kv, Failure> {
        Ok(self.harness.open(&self.under(workload)).await?.with_deadline(DEADLINE))
    }

    /// Returns the prefix of this workload.
    pub fn under(&self, workload: &str) -> String {
        format!("{}{workload}/", self.prefix)
    }

    /// Returns the proxies of the clients.
    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        lock(&self.proxies).clone()
    }

    /// Returns the denials that clients may meet in this round.
    pub(super) fn denials(&self) -> Denials {
        self.denials
    }

    /// Tells whether acknowledged writes may be lost in this round.
    pub(super) fn may_lose(&self) -> bool {
        self.may_lose
    }

    /// Tells whether the error is a denial that clients may meet in this round.
    pub(super) fn denies(&self, error: &Error) -> bool {
        self.denials.explain(error)
    }

    /// Returns the effect of a call that failed with this error in this round.
    pub(super) fn failed(&self, error: &Error) -> Failed {
        Failed::of(error, self.denials)
    }

    /// Notes the reason why the round shows nothing; the first one counts.
    pub(super) fn spoil(&self, why: String) {
        lock(&self.spoilt).get_or_insert(why);
    }

    pub(super) fn spoilt(&self) -> Option<String> {
        lock(&self.spoilt).clone()
    }

    /// Returns when servers were in trouble, in order, and when the machine let this process stand
    /// still: what is to come in time comes later then.
    pub(super) fn troubles(&self) -> Vec<(u64, u64)> {
        let on_servers = self.blows().into_iter().filter(|blow| blow.stroke.is_on_server());
        let mut all: Vec<_> = on_servers.map(|blow| (blow.began, blow.ended)).collect();
        all.extend(lock(&self.stalls).iter());
        all.sort_unstable();
        all
    }

    /// Returns when the machine let this process stand still.
    pub(super) fn stalls(&self) -> Vec<(u64, u64)> {
        lock(&self.stalls).clone()
    }

    /// Notes a stroke.
    pub(super) fn struck(&self, blow: Blow) {
        lock(&self.strokes).push(blow);
    }

    /// Returns the strokes so far.
    pub fn blows(&self) -> Vec<Blow> {
        lock(&self.strokes).clone()
    }
}

/// The pause of the thread that sees the machine stand still, and the least that it notes.
const PAUSE: Duration = Duration::from_millis(50);
const STALL: Duration = Duration::from_millis(500);

/// Notes, by a thread of its own, when this process stood still, as on a machine that is too busy; the
/// thread ends when nobody has the list any more.
fn stalls(began: Instant) -> Arc<Mutex<Vec<(u64, u64)>>> {
    let stalls = Arc::<Mutex<Vec<_>>>::default();
    let noted = Arc::downgrade(&stalls);
    thread::spawn(move || {
        let mut last = began.elapsed();
        loop {
            thread::sleep(PAUSE);
            let (now, Some(noted)) = (began.elapsed(), noted.upgrade()) else { return };
            if now - last > STALL {
                lock(&noted).push((micros(last), micros(now)));
            }
            last = now;
        }
    });
    stalls
}

/// Returns the microseconds of a time.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Field({} under {:?}, seed {})", self.harness.name(), self.prefix, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_is_read_and_emptied() {
        let full = |operation| Error::new(ErrorKind::NoSpace, "full").in_call(operation, "any", None);
        for operation in ["put", "atomic_put", "update", "transact", "adopt", "try_acquire", "lease"] {
            assert_eq!(Failed::of(&full(operation), Denials::default()), Failed::Nothing, "{operation}");
        }
        for operation in
            ["get", "list", "watch", "delete", "atomic_delete", "delete_tree", "release", "revoke"]
        {
            assert_eq!(Failed::of(&full(operation), Denials::default()), Failed::Absurd, "{operation}");
        }
    }
}
