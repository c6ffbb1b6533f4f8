//! Expiry: keys with a TTL and keys under leases, which are there as long as promised, and gone in
//! time.

mod judge;
mod owner;

use super::{
    field::{Failed, Field},
    stroke::Stroke,
    workload::{Seen, Violation, Workload},
};
use crate::Failure;
use judge::{Found, History, Lease, Life, Look, Times, Write};
use kv_core::{Capabilities, Entry, Error, Kv, Linearizable, driver::async_trait};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const OWNERS: usize = 3;
/// The number of keys that are read: the newest ones.
const READ: usize = 24;
/// The least number of answered calls that shows anything.
const LEAST: u64 = 50;
/// The time within which a request without an answer is done, once all is calm.
const SETTLES: Duration = Duration::from_secs(2);
/// The time after which the last reading gives up, when keys stay beyond their end.
const GIVES_UP: Duration = Duration::from_secs(180);

/// Clients that put and read keys of their own that end, and one that reads all of them.
#[derive(Debug, Default)]
pub struct Expiry(());

#[derive(Default)]
struct Log {
    keys: BTreeMap<String, History>,
    /// The same keys in the order in which they were begun.
    newest: Vec<String>,
    leases: Vec<Lease>,
    seen: Seen,
}

struct Work<'a> {
    field: &'a Field,
    log: Mutex<Log>,
    next: AtomicU32,
}

#[async_trait]
impl Workload for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        if capabilities.ttl.is_none() && capabilities.lease.is_none() {
            return Some("nothing expires".into());
        }
        if capabilities.linearizable != Linearizable::Always {
            return Some("reads are not always linearizable".into());
        }
        if strokes.iter().any(|stroke| stroke.moves_time()) {
            return Some("what expires does so by a clock that jumps".into());
        }
        let is_lossy = strokes.iter().any(|stroke| stroke.may_lose(capabilities.durability));
        is_lossy.then(|| "what is lost is not there".into())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let work = Work { field, log: Mutex::default(), next: AtomicU32::new(1) };
        let observer = field.observer(self.name()).await?;
        let mut owners = Vec::new();
        for number in 0..OWNERS {
            let (name, kv) = field.client(self.name()).await?;
            owners.push(work.owner(number, name, kv));
        }
        let (name, kv) = field.client(self.name()).await?;
        tokio::join!(futures::future::join_all(owners), work.reader(name, kv));
        field.calm().await;
        tokio::time::sleep(SETTLES).await;
        let times = work.times();
        work.read_all(&observer, &times).await?;
        observer.close().await?;
        verdict(work.log.into_inner().unwrap_or_else(PoisonError::into_inner), &times)
    }
}

/// Judges all keys.
fn verdict(log: Log, times: &Times) -> Result<Seen, Failure> {
    let Log { keys, leases, mut seen, .. } = log;
    let has_ended = |history: &&History| {
        let ends = history.writes.iter().any(|write| matches!(write.life, Life::For(_) | Life::Under(_)));
        ends && history.looks.iter().any(|look| look.found == Found::Nothing)
    };
    let ended = keys.values().filter(has_ended).count();
    if seen.answered < LEAST || ended == 0 {
        return Err(
            format!("only {} calls were answered, and {ended} keys seen to end", seen.answered).into()
        );
    }
    for (key, history) in &keys {
        seen.violations.extend(judge::judge(key, history, &leases, times));
    }
    seen.violations.extend(judge::revocations(&leases, times));
    Ok(seen)
}

/// Returns the directory of an owner's keys.
fn directory(number: usize) -> String {
    format!("owner{number}")
}

impl Work<'_> {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known now of the ends of keys and leases: all of it, when all is settled.
    fn times(&self) -> Times {
        Times {
            of_keys: self.field.capabilities().ttl.clone(),
            of_leases: self.field.capabilities().lease.clone(),
            blows: self.field.blows(),
            settled: self.field.now(),
        }
    }

    fn id(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns one of the newest keys, if there are any.
    fn some_key(&self, nth: usize) -> Option<String> {
        let log = self.log();
        let newest = &log.newest[log.newest.len().saturating_sub(READ)..];
        newest.get(nth % newest.len().max(1)).cloned()
    }

    async fn reader(&self, name: String, kv: Kv) {
        let mut chance = self.field.chance(&name);
        while !self.field.is_over() {
            match chance.below(8) {
                0 => self.list(&name, &kv, chance.below(OWNERS)).await,
                way => {
                    if let Some(key) = self.some_key(chance.below(READ)) {
                        self.look(&name, &kv, &key, way == 1, None).await;
                    }
                }
            }
            tokio::time::sleep(chance.millis(0, 10)).await;
        }
        let _ = kv.close().await;
    }

    /// Reads a key, or asks whether it is there; returns what was found, or `None` when the call
    /// failed.
    async fn look(
        &self,
        client: &str,
        kv: &Kv,
        key: &str,
        only_whether: bool,
        after: Option<usize>,
    ) -> Option<Found> {
        let began = self.field.now();
        let (by, answer) = match only_whether {
            true => {
                let found = |is_there| if is_there { Found::Something } else { Found::Nothing };
                ("exists", kv.exists(key).await.map(found))
            }
            false => ("get", kv.get(key).await.map(|entry| self.found(entry))),
        };
        match answer {
            Ok(found) => {
                self.log().seen.answered += 1;
                self.note(
                    key,
                    Look { client: client.into(), by, began, ended: self.field.now(), found, after },
                );
                Some(found)
            }
            Err(e) => {
                self.failed(&e);
                None
            }
        }
    }

    /// Lists the keys of one owner.
    async fn list(&self, client: &str, kv: &Kv, owner: usize) {
        let directory = directory(owner);
        let asked: Vec<String> = {
            let (log, inside) = (self.log(), format!("{directory}/"));
            let newest = &log.newest[log.newest.len().saturating_sub(READ)..];
            newest.iter().filter(|key| key.starts_with(&inside)).cloned().collect()
        };
        let began = self.field.now();
        match kv.list(directory).await {
            Ok(entries) => {
                let ended = self.field.now();
                let mut there: BTreeMap<_, _> =
                    entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect();
                self.log().seen.answered += 1;
                for key in asked {
                    let found = self.found(there.remove(&key));
                    let client = client.to_owned();
                    self.note(&key, Look { client, by: "list", began, ended, found, after: None });
                }
            }
            Err(e) => self.failed(&e),
        }
    }

    /// Reads every key until it will not change any more.
    async fn read_all(&self, observer: &Kv, times: &Times) -> Result<(), Failure> {
        let mut open: BTreeSet<String> = self.log().keys.keys().cloned().collect();
        let end = Instant::now() + GIVES_UP;
        while !open.is_empty() {
            if Instant::now() > end {
                return Err(format!("{} keys cannot be read to their end", open.len()).into());
            }
            for key in open.clone() {
                let began = self.field.now();
                let Some(found) = self.look("the end", observer, &key, false, None).await else { continue };
                let log = self.log();
                let history = log.keys.get(&key);
                if history.is_none_or(|history| times.is_final(history, &log.leases, found, began)) {
                    open.remove(&key);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn found(&self, entry: Option<Entry>) -> Found {
        let Some(entry) = entry else { return Found::Nothing };
        let id = entry.text().and_then(|text| text.parse().ok());
        id.map_or_else(
            || {
                self.absurd(format!("{entry:?} was read, which nobody wrote"));
                Found::Something
            },
            Found::Value,
        )
    }

    fn note(&self, key: &str, look: Look) {
        if let Some(history) = self.log().keys.get_mut(key) {
            history.looks.push(look);
        }
    }

    fn wrote(&self, key: &str, write: Write) {
        if let Some(history) = self.log().keys.get_mut(key) {
            history.writes.push(write);
        }
    }

    fn lease(&self, number: usize, seen: impl FnOnce(&mut Lease)) {
        if let Some(lease) = self.log().leases.get_mut(number) {
            seen(lease);
        }
    }

    /// Returns the keys that were put last under the lease of this number.
    fn keys_under(&self, lease: usize) -> Vec<String> {
        let is_under =
            |history: &History| history.writes.last().is_some_and(|write| write.life == Life::Under(lease));
        let log = self.log();
        log.keys.iter().filter(|(_, history)| is_under(history)).map(|(key, _)| key.clone()).collect()
    }

    fn failed(&self, error: &Error) {
        match self.field.failed(error) {
            Failed::Nothing => self.log().seen.failed += 1,
            Failed::Unknown => self.log().seen.unknown += 1,
            Failed::Absurd => self.absurd(error.to_string()),
        }
    }

    fn absurd(&self, what: String) {
        let violation = Violation { what, at: self.field.now(), calls: Vec::new() };
        self.log().seen.violations.push(violation);
    }
}
