//! Locks: contenders in this process and in others, which are killed and stopped, and what the
//! locks promise them.

mod child;
mod contender;
mod event;
mod history;
mod judge;
#[cfg(test)]
mod proof;
mod watcher;

pub(super) use child::{CHILD, main as child_main};

use super::{
    field::Field,
    patience,
    stroke::Stroke,
    workload::{Seen, Workload},
};
use crate::Failure;
use child::Children;
use contender::{Contender, LOCKS, RESOURCES, Tell};
use event::{Event, wall};
use history::{END, History, LAST};
use judge::Promises;
use kv_core::{Capabilities, Guard, Kv, Linearizable, Locking, driver::async_trait};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use watcher::Watches;

/// The number of handles in this process.
const CLIENTS: usize = 2;
/// The number of handles that make up for processes, where there can be none.
const WITHOUT_CHILDREN: usize = 2;
/// The shortest TTL that is asked for.
const TTL: Duration = Duration::from_secs(2);
/// The time that getting a lock may take beyond its TTL and the lateness: the machine may be busy.
const SLACK: Duration = Duration::from_secs(10);
/// The time within which a watch arrives at what is there.
const ARRIVES: Duration = Duration::from_secs(30);

/// The workload's name.
pub(super) const NAME: &str = "locks";

/// Returns the names of the locks.
pub(super) fn names() -> impl Iterator<Item = String> {
    (0..LOCKS).map(contender::name)
}

/// Clients that want a few locks all the time, and write under them.
#[derive(Debug, Default)]
pub struct Locks {
    children: usize,
}

impl Locks {
    /// Makes the workload with so many processes besides, where several processes can reach the
    /// server. It needs a program whose `main` is `torture::main`.
    #[must_use]
    pub fn with_children(children: usize) -> Self {
        Self { children }
    }
}

#[async_trait]
impl Workload for Locks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        if capabilities.lock.is_none() {
            return Some("there are no locks".into());
        }
        if strokes.iter().any(|stroke| stroke.moves_time()) {
            return Some("sessions end by a clock that jumps".into());
        }
        let lost = strokes.iter().find(|stroke| stroke.may_lose(capabilities.durability))?;
        let durability = capabilities.durability;
        Some(format!(
            "`{}` may lose what was acknowledged ({durability:?}): no lock is exclusive then",
            lost.name()
        ))
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let locking = field.capabilities().lock.clone().ok_or("there are no locks")?;
        Run::new(field, &locking, self)?.all().await
    }
}

struct Run<'a> {
    field: &'a Field,
    workload: &'static str,
    ttl: Duration,
    /// The time within which the lock of a dead holder is got.
    within: Duration,
    is_fenced: bool,
    children: usize,
    url: Option<String>,
    log: Arc<Mutex<Vec<(String, u64, Event)>>>,
    watches: Watches,
    over: watch::Sender<bool>,
    zero: u64,
}

/// Returns the wall clock at the beginning of the run. The time between the looks at the two
/// clocks makes it too little, never too much, so that the greatest of several counts.
fn zero(field: &Field) -> u64 {
    let looks = (0..9).map(|_| wall().saturating_sub(field.now()));
    looks.max().unwrap_or_default()
}

impl<'a> Run<'a> {
    fn new(field: &'a Field, locking: &Locking, locks: &Locks) -> Result<Self, Failure> {
        let ttl = locking.ttl.grant(TTL)?;
        // Several processes can reach only a server that has an address.
        let harness = field.harness();
        let is_reached = harness.address().is_some() || harness.troubles().is_some();
        let url = harness.url(&field.under(locks.name())).filter(|_| is_reached);
        Ok(Self {
            field,
            workload: locks.name(),
            ttl,
            within: ttl + locking.ttl.lateness(ttl) + SLACK,
            is_fenced: locking.fenced_writes && field.capabilities().max_txn_ops > 1,
            children: if url.is_some() { locks.children } else { 0 },
            url,
            log: Arc::default(),
            watches: Watches::default(),
            over: watch::Sender::new(false),
            zero: zero(field),
        })
    }

    async fn all(self) -> Result<Seen, Failure> {
        let (watching, watching_too) = (self.field.client(self.workload).await?, self.observer().await?);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS + if self.children == 0 { WITHOUT_CHILDREN } else { 0 } {
            clients.push(self.field.client(self.workload).await?);
        }
        let over = self.over.subscribe();
        let work = async {
            let is_over = || self.field.is_over();
            let contenders = clients.into_iter().enumerate().map(|(number, (client, kv))| {
                let (contender, mut chance) =
                    (self.contender(&client, kv, &is_over), self.field.chance(&client));
                async move {
                    let kept = contender.contend(&mut chance).await;
                    // Every second one ends under fire, and has its guards given back by `close`.
                    // The others stay open.
                    if number % 2 == 1 {
                        contender.leave(kept).await;
                        return None;
                    }
                    contender.give_back(kept).await;
                    Some(contender)
                }
            });
            let looks = self.looks();
            let (open, looked, children) =
                tokio::join!(futures::future::join_all(contenders), looks, self.all_children());
            self.field.calm().await;
            let ended = async {
                looked.and(children)?;
                let open: Vec<_> = open.into_iter().flatten().collect();
                self.last_turns(&open).await;
                for contender in open {
                    contender.close().await;
                }
                self.end().await
            };
            let ended = ended.await;
            self.over.send_replace(true);
            ended
        };
        let (ended, (), ()) = tokio::join!(
            work,
            self.watches.by(&watching.0, &watching.1, &over, self.field.denials()),
            self.watches.by("an observer", &watching_too, &over, self.field.denials())
        );
        ended?;
        // These handles hold nothing that could be left.
        let _ = (watching.1.close().await, watching_too.close().await);
        self.seen()
    }

    async fn observer(&self) -> Result<Kv, Failure> {
        self.field.observer(self.workload).await
    }

    fn tell(&self, client: &str) -> Tell {
        let (log, client) = (self.log.clone(), client.to_owned());
        Arc::new(move |at, event| note(&log, &client, at, event))
    }

    fn contender<'b>(
        &self,
        client: &str,
        kv: Kv,
        is_over: &'b (dyn Fn() -> bool + Send + Sync),
    ) -> Contender<'b> {
        let (tell, attempts) = (self.tell(client), AtomicU32::new(0));
        let (client, ttl, is_fenced) = (client.to_owned(), self.ttl, self.is_fenced);
        let denials = self.field.denials();
        Contender { client, kv, ttl, is_fenced, denials, tell, is_over, attempts }
    }

    /// Looks at the holders and at what they wrote, all the time.
    async fn looks(&self) -> Result<(), Failure> {
        let is_over = || self.field.is_over();
        let client = format!("{}-reader", self.workload);
        let mut chance = self.field.chance(&client);
        let reader = self.contender(&client, self.observer().await?, &is_over);
        while !is_over() {
            let lock = chance.below(LOCKS);
            if chance.one_in(2) {
                reader.look(lock).await;
            } else {
                reader.read(lock).await;
            }
            sleep(chance.millis(2, 20)).await;
        }
        reader.close().await;
        Ok(())
    }

    async fn all_children(&self) -> Result<(), Failure> {
        let Some(url) = self.url.clone().filter(|_| self.children > 0) else { return Ok(()) };
        let folder = folder();
        std::fs::create_dir_all(&folder)?;
        let (field, workload, ttl, is_fenced) = (self.field, self.workload, self.ttl, self.is_fenced);
        let children = Children { field, workload, ttl, is_fenced, url, folder: folder.clone() };
        let told = |client: &str, at: u64, event: Event| note(&self.log, client, at, event);
        let each = (0..self.children).map(|number| children.one(number, &told));
        let done = futures::future::try_join_all(each).await;
        std::fs::remove_dir_all(&folder)?;
        done.map(drop)
    }

    /// Gets the lock in time, or notes that this client did not get it. Transient errors may still
    /// meet the first tries.
    async fn get(&self, client: &str, wanted: &kv_core::Lock) -> Option<Guard> {
        let until = Instant::now() + self.within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match wanted.clone().acquire_within(left).await {
                Ok(guard) => return guard,
                Err(e) if !e.is_lasting() && !left.is_zero() => {}
                Err(e) => {
                    note(&self.log, client, wall(), Event::Wrong { what: e.to_string() });
                    return None;
                }
            }
        }
    }

    /// Has each of these contenders, whose handles are open, get every lock and give it back, when
    /// all troubles are over: what a handle has left behind in a queue is in the way of the others,
    /// or of its own.
    async fn last_turns(&self, open: &[Contender<'_>]) {
        let is_over = || true;
        for contender in open {
            let client = format!("{LAST}{}", contender.client);
            let last = self.contender(&client, contender.kv.clone(), &is_over);
            let turns = (0..LOCKS).map(|lock| {
                let (last, client) = (&last, &client);
                async move {
                    let (attempt, wanted) = last.asks(lock);
                    let Some(guard) = self.get(client, &wanted).await else { return };
                    let granted = Event::Granted { attempt: attempt.clone(), token: guard.token() };
                    note(&self.log, client, wall(), granted);
                    last.asks_guard(&attempt, &guard);
                    last.release(&attempt, guard).await;
                }
            });
            futures::future::join_all(turns).await;
        }
    }

    /// Gets every lock when all troubles are over, has the watches see it, gives it back, and
    /// looks whether all is free.
    async fn end(&self) -> Result<(), Failure> {
        let is_over = || true;
        let contender = self.contender(END, self.observer().await?, &is_over);
        let got = futures::future::join_all((0..LOCKS).map(|lock| {
            let contender = &contender;
            async move {
                let (attempt, wanted) = contender.asks(lock);
                let guard = self.get(END, &wanted).await?;
                let granted = Event::Granted { attempt: attempt.clone(), token: guard.token() };
                note(&self.log, END, wall(), granted);
                if self.is_fenced {
                    contender.write(lock, &attempt, &guard).await;
                }
                contender.read(lock).await;
                contender.look(lock).await;
                contender.asks_guard(&attempt, &guard);
                Some((attempt, guard))
            }
        }));
        let got = got.await;
        let tokens: Vec<_> = got.iter().map(|got| got.as_ref().map(|(_, guard)| guard.token())).collect();
        self.watches.all_say(ARRIVES, &tokens).await;
        for (attempt, guard) in got.into_iter().flatten() {
            contender.asks_guard(&attempt, &guard);
            contender.release(&attempt, guard).await;
        }
        contender.close().await;
        // What was closed and killed before has had its time.
        let last = self.contender(END, self.observer().await?, &is_over);
        for lock in 0..LOCKS {
            let free = async { while last.look(lock).await != Some(false) {} };
            let _ = tokio::time::timeout(self.within, free).await;
        }
        self.watches.all_say(ARRIVES, &[None; LOCKS]).await;
        patience::until_done("clearing up", || last.kv.delete_tree(RESOURCES).into_future()).await?;
        let _ = last.kv.close().await;
        Ok(())
    }

    /// Returns what was told, and what is wrong with it.
    fn seen(self) -> Result<Seen, Failure> {
        let zero_now = zero(self.field);
        if zero_now.abs_diff(self.zero) > 5_000 {
            return Err("the wall clock was set meanwhile, so that nobody knows what was first".into());
        }
        let mut history =
            History { zero: self.zero, watches: self.watches.told(self.zero), ..History::default() };
        let log = std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner));
        log.into_iter().for_each(|(client, at, event)| history.add(&client, at, event));
        let promises = Promises {
            locks: LOCKS,
            within: self.within,
            ttl: self.ttl,
            arrives: ARRIVES,
            is_linearizable: field_is_linearizable(self.field),
        };
        let violations = judge::judge(&history, &promises);
        for lock in 0..LOCKS {
            let is_of_contender = |client: &str| client != END && !client.starts_with(LAST);
            let grants = history
                .grants()
                .filter(|(attempt, ..)| attempt.lock == lock && is_of_contender(&attempt.client));
            if grants.count() < 2 && violations.is_empty() {
                return Err(format!("l{lock} was hardly ever granted, which shows nothing").into());
            }
        }
        let of_child = format!("{}-child-", self.workload);
        let is_of_child = history.grants().any(|(attempt, ..)| attempt.client.starts_with(&of_child));
        if self.children > 0 && !is_of_child && violations.is_empty() {
            return Err("no lock was granted to another process, which shows nothing of such".into());
        }
        let History { answered, unknown, failed, .. } = history;
        Ok(Seen { answered, unknown, failed, undecided: 0, violations })
    }
}

fn field_is_linearizable(field: &Field) -> bool {
    field.capabilities().linearizable == Linearizable::Always
}

fn note(log: &Mutex<Vec<(String, u64, Event)>>, client: &str, at: u64, event: Event) {
    log.lock().unwrap_or_else(PoisonError::into_inner).push((client.to_owned(), at, event));
}

/// Returns the path of a folder of this run's own, which is not made yet.
fn folder() -> PathBuf {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("kv-torture-{}-{run}", std::process::id()))
}
