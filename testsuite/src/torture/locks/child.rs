//! Contenders in processes of their own, which are killed and stopped.

use super::{
    contender::{CLOSE, Contender, Tell},
    event::{self, Event, wall},
};
use crate::{
    Failure,
    process::Daemon,
    torture::{
        chance::Chance,
        field::{Blow, Denials, Field},
        stroke::Stroke,
    },
};
use kv_core::{Kv, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The name of the variable that makes a process such a contender, and tells what it works with.
pub(crate) const CHILD: &str = "KV_TORTURE_CHILD";
/// The time that a process that is to end may take beside the close.
const ENDS: Duration = Duration::from_secs(60);

/// The settings that a process works with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    client: String,
    seed: u64,
    ttl: Duration,
    is_fenced: bool,
    denials: Denials,
    url: String,
}

impl Order {
    fn text(&self) -> String {
        let Self { client, seed, ttl, is_fenced, denials, url } = self;
        let (ttl, Denials { access, records }) = (ttl.as_millis(), denials);
        format!("{client} {seed} {ttl} {is_fenced} {access} {records} {url}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(7, ' ');
        Some(Self {
            client: words.next()?.into(),
            seed: words.next()?.parse().ok()?,
            ttl: Duration::from_millis(words.next()?.parse().ok()?),
            is_fenced: words.next()?.parse().ok()?,
            denials: Denials { access: words.next()?.parse().ok()?, records: words.next()?.parse().ok()? },
            url: words.next()?.into(),
        })
    }
}

/// Runs such a process: opens the store, and contends until its input ends.
///
/// # Errors
/// The order makes no sense, or the runtime cannot be made.
pub(crate) fn main<F>(order: &str, open: impl Fn(String) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<Kv>>,
{
    let order = Order::parse(order).ok_or("no order of a contender")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (ends, over) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        ends.send_replace(true);
    });
    let tell: Tell = Arc::new(|at, event| println!("{}", event::line(at, &event)));
    runtime.block_on(contend(order, over, open, tell.clone()));
    tell(wall(), Event::Ends);
    Ok(())
}

async fn contend<F>(order: Order, over: watch::Receiver<bool>, open: impl Fn(String) -> F, tell: Tell)
where
    F: Future<Output = Result<Kv>>,
{
    let Order { client, seed, ttl, is_fenced, denials, url } = order;
    let mut until_over = over.clone();
    let open = async {
        loop {
            match open(url.clone()).await {
                Ok(kv) => return kv,
                // The server may be away.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let kv = tokio::select! {
        kv = open => kv,
        _ = until_over.wait_for(|is_over| *is_over) => return,
    };
    let kv = kv.with_deadline(crate::torture::field::DEADLINE);
    let mut chance = Chance::new(seed, &client);
    let attempts = AtomicU32::new(0);
    let is_over = || *over.borrow();
    Contender { client, kv, ttl, is_fenced, denials, tell, is_over: &is_over, attempts }
        .work(&mut chance)
        .await;
}

/// The processes of a run.
pub(super) struct Children<'a> {
    pub(super) field: &'a Field,
    pub(super) workload: &'static str,
    pub(super) ttl: Duration,
    pub(super) is_fenced: bool,
    pub(super) url: String,
    /// The folder into which they write what they tell.
    pub(super) folder: PathBuf,
}

/// The way in which the life of one ended.
enum End {
    Killed,
    /// The process is to end by itself.
    Asked,
}

impl Children<'_> {
    /// Has one child contend, in one process after another, and strikes it until the round is
    /// over; hands on what each process told.
    ///
    /// # Errors
    /// A process cannot be started.
    pub(super) async fn one(
        &self,
        number: usize,
        told: &(dyn Fn(&str, u64, Event) + Send + Sync),
    ) -> Result<(), Failure> {
        let mut chance = self.field.chance(&format!("{}-child-{number}", self.workload));
        let mut life = 0;
        while !self.field.is_over() {
            let client = format!("{}-child-{number}.{life}", self.workload);
            life += 1;
            let log = self.folder.join(format!("{number}.{life}"));
            let order = Order {
                client: client.clone(),
                seed: chance.below(usize::MAX) as u64,
                ttl: self.ttl,
                is_fenced: self.is_fenced,
                denials: self.field.denials(),
                url: self.url.clone(),
            };
            let mut command = Command::new(std::env::current_exe()?);
            command.env(CHILD, order.text());
            let daemon = Daemon::new(command, log.clone());
            let input = daemon.spawn_with_input()?;
            match self.strike(&daemon, &client, &mut chance).await {
                End::Killed => {}
                End::Asked => {
                    let began = wall();
                    drop(input);
                    if !has_ended(&log).await? {
                        told(&client, wall(), Event::Closed { began, is_ok: None });
                    }
                    daemon.kill();
                }
            }
            event::read(&fs::read_to_string(&log)?)
                .into_iter()
                .for_each(|(at, event)| told(&client, at, event));
        }
        Ok(())
    }

    /// Stops the process now and then, until its time is over. After that it runs, or is gone.
    async fn strike(&self, daemon: &Daemon, client: &str, chance: &mut Chance) -> End {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX / 4);
        loop {
            sleep(chance.millis(400, 3000)).await;
            // Some are killed at the end of the round, too.
            let kind = chance.below(6);
            if self.field.is_over() && kind > 2 {
                return End::Asked;
            }
            let began = self.field.now();
            match kind {
                0 | 1 => {
                    daemon.kill();
                    self.struck(Stroke::KillClient, client, began);
                    sleep(chance.millis(0, 1000)).await;
                    return End::Killed;
                }
                2..5 => {
                    daemon.pause();
                    sleep(chance.millis(50, 2 * ttl)).await;
                    daemon.resume();
                    self.struck(Stroke::PauseClient, client, began);
                }
                _ => return End::Asked,
            }
        }
    }

    fn struck(&self, stroke: Stroke, client: &str, began: u64) {
        let label = format!("{} ({client})", stroke.name());
        self.field.struck(Blow { stroke, label, began, ended: self.field.now() });
    }
}

/// Tells whether the process says in time that it ends.
async fn has_ended(log: &Path) -> Result<bool, Failure> {
    let deadline = Instant::now() + ENDS + CLOSE;
    loop {
        let told = event::read(&fs::read_to_string(log)?);
        if matches!(told.last(), Some((_, Event::Ends))) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = Order {
            client: "locks-child-0.1".into(),
            seed: 7,
            ttl: Duration::from_millis(2500),
            is_fenced: true,
            denials: Denials { access: false, records: true },
            url: "etcd://127.0.0.1:1/a b/".into(),
        };
        assert_eq!(Order::parse(&order.text()), Some(order));
        assert_eq!(Order::parse("a b"), None);
    }
}
