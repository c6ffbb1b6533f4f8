//! Shards: members that die and come, and the resource that each shard guards.

mod account;

use super::{
    field::Field,
    instances::unsuited,
    patience::until_done,
    stroke::Stroke,
    workload::{Seen, Workload},
};
use crate::{Failure, another::Process};
use account::Account;
use kv_core::{Capabilities, ErrorKind, Kv, driver::async_trait};
use kv_recipes::{Shard, Shards};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The shortest TTL that is asked for.
const TTL: Duration = Duration::from_secs(3);
/// The time that all shards may be without their new owners, beyond the TTL and the lateness: many
/// locks are taken, and the machine may be busy.
const SETTLES: Duration = Duration::from_secs(30);
/// The pause between the writes of an owner.
const PAUSE: Duration = Duration::from_millis(500);

/// Members, each a process, that share shards.
#[derive(Debug)]
pub(super) struct Members {
    shards: usize,
    members: usize,
}

impl Members {
    /// Makes the workload of so many shards and members.
    pub(super) fn new(shards: usize, members: usize) -> Self {
        Self { shards, members }
    }
}

#[async_trait]
impl Workload for Members {
    fn name(&self) -> &'static str {
        "shards"
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        let locking = capabilities.lock.as_ref().filter(|locking| locking.fenced_writes);
        if locking.is_none() || capabilities.max_txn_ops < 3 {
            return Some("no writes that depend on a lock".into());
        }
        unsuited(capabilities, strokes)
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let (ttl, account, living) = (times(field)?.0, Account::default(), BTreeMap::new());
        let mut run = Run { field, name: self.name(), of: self, ttl, account, living, next: 0 };
        for _ in 0..self.members {
            run.start()?;
        }
        let deaths = run.all().await?;
        run.end().await;
        let seen = run.account.seen();
        if deaths == 0 && seen.violations.is_empty() {
            return Err("no member died behind which all was owned again, which shows nothing".into());
        }
        Ok(seen)
    }
}

/// Returns the TTL, and the time within which what the dead had is another's.
fn times(field: &Field) -> Result<(Duration, Duration), Failure> {
    let capabilities = field.capabilities();
    let ranges = [capabilities.lease.as_ref(), capabilities.lock.as_ref().map(|locking| &locking.ttl)];
    let (mut ttl, ranges) = (TTL, ranges.into_iter().flatten());
    // What is granted for one of them may be less than the other's least.
    for range in ranges.clone().chain(ranges.clone()) {
        ttl = range.grant(ttl.max(range.least).min(range.greatest))?;
    }
    let late = ranges.map(|range| range.lateness(ttl)).max().unwrap_or_default();
    Ok((ttl, ttl + late + SETTLES))
}

struct One {
    process: Process,
    work: JoinHandle<Result<(), Failure>>,
    over: watch::Sender<bool>,
}

struct Run<'a> {
    field: &'a Field,
    name: &'static str,
    of: &'a Members,
    ttl: Duration,
    account: Account,
    /// The members that live, by their numbers.
    living: BTreeMap<usize, One>,
    next: usize,
}

impl Run<'_> {
    fn start(&mut self) -> Result<(), Failure> {
        let (number, process, (over, mut is_over)) = (self.next, Process::start()?, watch::channel(false));
        self.next += 1;
        let (harness, prefix) = (self.field.harness().clone(), self.field.under(self.name));
        let (account, ttl, shards) = (self.account.clone(), self.ttl, self.of.shards);
        let work = process.run(async move {
            let kv = until_done("opening a store", || harness.open(&prefix)).await?;
            let all = Shards::new(&kv, "all", shards).member(number.to_string()).ttl(ttl);
            let there = kv.clone();
            let work = move |shard: Shard| owns(there.clone(), shard, number, account.clone());
            tokio::select! {
                e = all.run(work) => return Err(e.into()),
                _ = is_over.wait_for(|is_over| *is_over) => {}
            }
            Ok(kv.close().await?)
        });
        self.living.insert(number, One { process, work, over });
        Ok(())
    }

    /// Kills a member and starts another, again and again, each time when all shards are owned as
    /// they should be; returns the number of deaths behind which they were again.
    async fn all(&mut self) -> Result<usize, Failure> {
        let (mut chance, mut deaths) = (self.field.chance(self.name), 0);
        if !self.settled().await? {
            return Ok(deaths);
        }
        loop {
            sleep(chance.millis(0, 500)).await;
            let (before, troubles) = (self.account.owners(), self.field.troubles().len());
            let members = self.living.len();
            let dies = *chance.pick(&self.living.keys().copied().collect::<Vec<_>>());
            let Some(one) = self.living.remove(&dies) else { continue };
            one.process.kill().await?;
            let is_settled = self.settled().await?;
            // Where servers are in trouble meanwhile, others lose what they have, too.
            if is_settled && self.field.troubles().len() == troubles {
                let most = self.of.shards.div_ceil(members) + 1;
                self.account.moved(&before, dies, most, self.field.now());
            }
            deaths += usize::from(is_settled);
            if !is_settled || self.field.is_over() {
                return Ok(deaths);
            }
            self.start()?;
            if !self.settled().await? {
                return Ok(deaths);
            }
        }
    }

    /// Waits until each shard has an owner and each member its share; notes a violation and returns
    /// `false` when that is not so in time.
    async fn settled(&self) -> Result<bool, Failure> {
        let (within, mut since, mut troubles) = (times(self.field)?.1, Instant::now(), usize::MAX);
        let living: Vec<usize> = self.living.keys().copied().collect();
        loop {
            if self.account.is_shared(self.of.shards, &living) {
                return Ok(true);
            }
            if let Some((number, _)) = self.living.iter().find(|(_, one)| one.work.is_finished()) {
                self.account.wrong(format!("member {number} has ended by itself"), self.field.now());
                return Ok(false);
            }
            let now = self.field.troubles().len();
            if now != troubles {
                (since, troubles) = (Instant::now(), now);
            }
            if since.elapsed() > within {
                let what = format!(
                    "the shards are not shared by {living:?} for {within:?}: {:?}",
                    self.account.owners()
                );
                self.account.wrong(what, self.field.now());
                return Ok(false);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&mut self) {
        for (_, one) in std::mem::take(&mut self.living) {
            one.over.send_replace(true);
            let _ = timeout(Duration::from_secs(30), one.work).await;
            let _ = one.process.kill().await;
        }
    }
}

/// Owns a shard: writes its token all the time, and tells the account.
async fn owns(kv: Kv, shard: Shard, member: usize, account: Account) {
    let (id, token, told) = (shard.id(), shard.token(), account.clone());
    let _owns = account.begin(id, member, token);
    let mut writes = pin!(writes(kv, shard, member, account));
    poll_fn(|cx| {
        told.polls(id, member, token);
        writes.as_mut().poll(cx)
    })
    .await
}

async fn writes(kv: Kv, shard: Shard, member: usize, account: Account) {
    let (id, token) = (shard.id(), shard.token());
    loop {
        // Whoever begins behind this moment is another matter.
        let newest = account.newest(id);
        match kv.put(format!("owner/{id}"), token.to_string()).fenced(&shard).await {
            Ok(_) => account.wrote(id, member, token, newest),
            Err(e) => account.failed(e.kind() == ErrorKind::OutcomeUnknown),
        }
        sleep(PAUSE).await;
    }
}
