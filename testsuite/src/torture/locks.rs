//! Locks: contenders in this process and in others, which are killed and stopped, and what the
//! locks promise them.

mod child;
mod contender;
mod event;
mod had;
mod history;
mod judge;
#[cfg(test)]
mod proof;
mod turns;
mod vacancy;
mod watcher;

pub(super) use child::{CHILD, main as child_main};

use super::{
    field::Field,
    stroke::Stroke,
    workload::{Seen, Workload},
};
use crate::Failure;
use child::{Children, Turns};
use contender::{Contender, LOCKS, Tell};
use event::{Event, wall};
use had::Kind;
use history::{END, History, LAST};
use judge::Promises;
use kv_core::{Capabilities, Durability, Kv, Linearizable, Locking, driver::async_trait};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
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
/// The time that the next one may take beyond the TTL and the lateness of the one before.
const SOON: Duration = Duration::from_secs(2);
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
    kind: Kind,
    only_clients: bool,
}

impl Locks {
    /// Makes the workload with so many processes besides, where several processes can reach the
    /// server. It needs a program whose `main` is `torture::main`.
    #[must_use]
    pub fn with_children(children: usize) -> Self {
        Self { children, ..Self::default() }
    }

    /// Makes the workload of elections, with candidates in place of contenders.
    #[must_use]
    pub fn elections(children: usize) -> Self {
        Self { children, kind: Kind::Office, only_clients: false }
    }

    /// Has processes be struck one at a time, mostly those that lead, and also be cut off.
    #[must_use]
    pub fn only_clients(self) -> Self {
        Self { only_clients: true, ..self }
    }
}

#[async_trait]
impl Workload for Locks {
    fn name(&self) -> &'static str {
        if self.kind == Kind::Lock { NAME } else { "election" }
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        let Some(locking) = &capabilities.lock else { return Some("there are no locks".into()) };
        if self.kind == Kind::Office {
            // The store refuses late writes, whatever else a failover loses.
            if !locking.fenced_writes || capabilities.max_txn_ops < 3 {
                return Some("no writes that depend on a lock".into());
            }
            let is_beyond = |stroke: &Stroke| *stroke == Stroke::Restore || stroke.moves_time();
            if capabilities.durability == Durability::MayLose && !strokes.iter().any(is_beyond) {
                return None;
            }
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
    kind: Kind,
    only_clients: bool,
    ttl: Duration,
    /// The time within which the lock of a dead holder is got.
    within: Duration,
    /// The time within which the next one has what somebody waits for.
    next: Duration,
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
            kind: locks.kind,
            only_clients: locks.only_clients,
            ttl,
            within: ttl + locking.ttl.lateness(ttl) + SLACK,
            next: ttl + locking.ttl.lateness(ttl) + SOON,
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
            let (open, looked, children, inherited) = tokio::join!(
                futures::future::join_all(contenders),
                looks,
                self.all_children(),
                self.inherit()
            );
            self.field.calm().await;
            let ended = async {
                looked.and(children).and(inherited)?;
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
        let kind = self.kind;
        Contender { client, kv, kind, ttl, is_fenced, denials, tell, is_over, attempts }
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
        let turns = match self.only_clients {
            true => Some(Turns {
                turn: tokio::sync::Mutex::default(),
                observer: self.observer().await?,
                next: self.next,
            }),
            false => None,
        };
        let &Self { field, workload, kind, ttl, is_fenced, .. } = self;
        let children = Children { field, workload, kind, ttl, is_fenced, url, folder: folder.clone(), turns };
        let told = |client: &str, at: u64, event: Event| note(&self.log, client, at, event);
        let each = (0..self.children).map(|number| children.one(number, &told));
        let done = futures::future::try_join_all(each).await;
        std::fs::remove_dir_all(&folder)?;
        done.map(drop)
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
        // Those of processes were told by whoever struck them.
        let troubles =
            self.field.blows().into_iter().filter(|blow| !is_of_process(blow.stroke, self.only_clients));
        let troubles = troubles.map(|blow| (blow.began, blow.ended)).chain(self.field.stalls());
        history.struck.extend(troubles.map(|(began, ended)| (String::new(), began, ended)));
        let promises = Promises {
            locks: LOCKS,
            within: self.within,
            is_lossy: self.field.may_lose(),
            ttl: self.ttl,
            arrives: ARRIVES,
            is_linearizable: field_is_linearizable(self.field),
        };
        let mut violations = judge::judge(&history, &promises);
        if !promises.is_lossy {
            violations.extend(vacancy::vacancies(&history, self.next));
        }
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

/// Tells whether a stroke met a process of the workload, and nobody else.
fn is_of_process(stroke: Stroke, only_clients: bool) -> bool {
    only_clients || matches!(stroke, Stroke::KillClient | Stroke::PauseClient)
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
