//! Instances: registrations in processes that die, and the set of them that others watch.

mod judge;

use super::{
    field::Field,
    patience::until_done,
    stroke::Stroke,
    workload::{Seen, Workload},
};
use crate::{Failure, another::Process};
use judge::{Life, Presence, Promises};
use kv_core::{Capabilities, Error, Kv, Linearizable, Watching, driver::async_trait};
use kv_recipes::{Registration, Service};
use std::time::{Duration, Instant};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The shortest TTL that is asked for: longer than servers are away.
const TTL: Duration = Duration::from_secs(10);
/// The time that the set may be behind, beyond the TTL and its lateness.
const SOON: Duration = Duration::from_secs(2);
/// The number of instances of one process.
const OF_ONE: usize = 4;
const DIRECTORY: &str = "services/web";

/// Processes with some instances each, of which a third dies, and two readers of the set.
#[derive(Debug)]
pub(super) struct Instances {
    count: usize,
}

impl Instances {
    /// Makes the workload with so many instances.
    pub(super) fn new(count: usize) -> Self {
        Self { count }
    }
}

/// Returns why what is kept for a process cannot be judged while these strokes fall.
pub(super) fn unsuited(capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
    if capabilities.lease.is_none() || capabilities.watch == Watching::Unsupported {
        return Some("no leases, or no watches".into());
    }
    if capabilities.linearizable != Linearizable::Always {
        return Some("reads are not always linearizable".into());
    }
    let is_beyond = |stroke: &Stroke| {
        let is_refused = stroke.denies() || stroke.damages();
        is_refused || stroke.moves_time() || stroke.may_lose(capabilities.durability)
    };
    strokes.iter().any(is_beyond).then(|| "what is refused or lost is not there".into())
}

#[async_trait]
impl Workload for Instances {
    fn name(&self) -> &'static str {
        "instances"
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        unsuited(capabilities, strokes)
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let range = field.capabilities().lease.clone().ok_or("there are no leases")?;
        let ttl = range.grant(TTL.max(range.least).min(range.greatest))?;
        let within = ttl + range.lateness(ttl) + SOON;
        let (observer, (reader, linked)) =
            (field.observer(self.name()).await?, field.client(self.name()).await?);
        let open =
            async |kv: &Kv| until_done("opening the set", || Service::<usize>::open(kv, DIRECTORY)).await;
        let (near, far) = (open(&observer).await?, open(&linked).await?);
        let (mut near_saw, mut far_saw) = (Presence::default(), Presence::default());
        let mut work = Work { field, name: self.name(), ttl, lives: Vec::new(), ones: Vec::new() };
        let works = async {
            for _ in 0..self.count.div_ceil(OF_ONE) {
                work.start().await?;
            }
            work.deaths().await?;
            field.calm().await;
            // What died last has its time, and what the last stroke met.
            let end = Instant::now() + within;
            while Instant::now() < end && !(work.is_true(&near) && work.is_true(&far)) {
                sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, Failure>(())
        };
        tokio::select! {
            done = works => done?,
            why = follow(field, &near, &mut near_saw) => return Err(why.into()),
            why = follow(field, &far, &mut far_saw) => return Err(why.into()),
        }
        let promises = Promises::new(field, ttl, within);
        let mut seen = Seen { answered: near_saw.changes + far_saw.changes, ..Seen::default() };
        seen.violations.extend(judge::set("an observer", &work.lives, &near_saw, &promises));
        seen.violations.extend(judge::never_empty(&reader, &far_saw, &promises));
        if !work.is_true(&far) {
            seen.violations.push(judge::violation(
                &reader,
                "the set is not that of the living at the end",
                field.now(),
            ));
        }
        work.end().await;
        let _ = (observer.close().await, linked.close().await);
        Ok(seen)
    }
}

/// Notes what the set has, at each change; returns the error that ends it.
async fn follow(field: &Field, service: &Service<usize>, saw: &mut Presence) -> Error {
    let mut changes = service.changes();
    loop {
        saw.note(field.now(), service.instances().iter().map(|instance| instance.value).collect());
        if let Err(e) = changes.next().await {
            return e;
        }
    }
}

/// One process, with the numbers of its instances.
struct One {
    process: Process,
    work: JoinHandle<Result<(), Failure>>,
    over: watch::Sender<bool>,
    lives: Vec<usize>,
}

struct Work<'a> {
    field: &'a Field,
    name: &'static str,
    ttl: Duration,
    lives: Vec<Life>,
    ones: Vec<One>,
}

impl Work<'_> {
    /// Starts a process, and returns when its instances are registered.
    async fn start(&mut self) -> Result<(), Failure> {
        let (process, (over, mut is_over)) = (Process::start()?, watch::channel(false));
        let (tell, mut told) = mpsc::unbounded_channel();
        let (harness, prefix, ttl) = (self.field.harness().clone(), self.field.under(self.name), self.ttl);
        let first = self.lives.len();
        let lives: Vec<usize> = (first..first + OF_ONE).collect();
        let work = process.run({
            let lives = lives.clone();
            async move {
                let kv = until_done("opening a store", || harness.open(&prefix)).await?;
                let mut all = Vec::new();
                for life in lives {
                    let key = format!("{DIRECTORY}/{life}");
                    all.push(Registration::new(&kv, key).json(&life).ttl(ttl).register().await?);
                    // Nobody listens when the round has failed.
                    let _ = tell.send(());
                }
                let _ = is_over.wait_for(|is_over| *is_over).await;
                Ok(kv.close().await?)
            }
        });
        for _ in &lives {
            told.recv().await.ok_or("a process could not register its instances")?;
            self.lives.push(Life { registered: self.field.now(), died: None });
        }
        self.ones.push(One { process, work, over, lives });
        Ok(())
    }

    /// Kills a third of the processes, one after the other, and waits until the round is over.
    async fn deaths(&mut self) -> Result<(), Failure> {
        let mut chance = self.field.chance(self.name);
        for _ in 0..self.ones.len().div_ceil(3) {
            sleep(chance.millis(200, 2000)).await;
            let one = self.ones.swap_remove(chance.below(self.ones.len()));
            one.process.kill().await?;
            for life in one.lives {
                self.lives[life].died = Some(self.field.now());
            }
        }
        while !self.field.is_over() {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Tells whether the set is that of the living.
    fn is_true(&self, service: &Service<usize>) -> bool {
        let mut set: Vec<usize> = service.instances().iter().map(|instance| instance.value).collect();
        set.sort_unstable();
        let living = self.lives.iter().enumerate().filter(|(_, life)| life.died.is_none());
        set.into_iter().eq(living.map(|(number, _)| number))
    }

    /// Ends the processes that live.
    async fn end(self) {
        for one in self.ones {
            one.over.send_replace(true);
            let _ = timeout(Duration::from_secs(30), one.work).await;
            let _ = one.process.kill().await;
        }
    }
}
