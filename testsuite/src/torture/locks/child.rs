//! Contenders in processes of their own, which are killed and stopped.

use super::{
    contender::{CLOSE, Contender, Tell, name},
    event::{self, Event, wall},
    had::{Kind, attempt_of},
    vacancy::THRONE,
};
use crate::{
    Failure, Proxy,
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
    sync::{Mutex, watch},
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
    kind: Kind,
    seed: u64,
    ttl: Duration,
    is_fenced: bool,
    denials: Denials,
    url: String,
}

impl Order {
    fn text(&self) -> String {
        let Self { client, kind, seed, ttl, is_fenced, denials, url } = self;
        let (ttl, Denials { access, records }) = (ttl.as_millis(), denials);
        format!("{client} {kind} {seed} {ttl} {is_fenced} {access} {records} {url}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(8, ' ');
        Some(Self {
            client: words.next()?.into(),
            kind: words.next()?.parse().ok()?,
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
    let Order { client, kind, seed, ttl, is_fenced, denials, url } = order;
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
    Contender { client, kv, kind, ttl, is_fenced, denials, tell, is_over: &is_over, attempts }
        .work(&mut chance)
        .await;
}

/// The processes of a run.
pub(super) struct Children<'a> {
    pub(super) field: &'a Field,
    pub(super) workload: &'static str,
    pub(super) kind: Kind,
    pub(super) ttl: Duration,
    pub(super) is_fenced: bool,
    pub(super) url: String,
    /// The folder into which they write what they tell.
    pub(super) folder: PathBuf,
    /// The turns of what strikes, where one stroke falls at a time.
    pub(super) turns: Option<Turns>,
}

/// The turns of strokes that fall one at a time, mostly on who leads.
pub(super) struct Turns {
    pub(super) turn: Mutex<()>,
    /// A client that nothing strikes.
    pub(super) observer: Kv,
    /// The time within which the next one is there.
    pub(super) next: Duration,
}

/// One process, as it is struck.
struct Struck<'a> {
    client: &'a str,
    daemon: &'a Daemon,
    /// Its link to the server, where it has one of its own.
    link: Option<&'a Proxy>,
    told: &'a (dyn Fn(&str, u64, Event) + Send + Sync),
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
            let (link, url) = self.link(chance.below(usize::MAX)).await;
            let order = Order {
                client: client.clone(),
                kind: self.kind,
                seed: chance.below(usize::MAX) as u64,
                ttl: self.ttl,
                is_fenced: self.is_fenced,
                denials: self.field.denials(),
                url,
            };
            let mut command = Command::new(std::env::current_exe()?);
            command.env(CHILD, order.text());
            let daemon = Daemon::new(command, log.clone());
            let input = daemon.spawn_with_input()?;
            let struck = Struck { client: &client, daemon: &daemon, link: link.as_ref(), told };
            match self.strike(&struck, &mut chance).await {
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

    /// Returns the link of a process of its own, where it is to have one, and the URL that leads
    /// through it.
    async fn link(&self, number: usize) -> (Option<Proxy>, String) {
        let harness = self.field.harness();
        let mut ways = harness.other_addresses();
        ways.extend(harness.address());
        if self.turns.is_some() && !ways.is_empty() {
            let link = Proxy::start(ways[number % ways.len()]).await;
            if let Some(url) = harness.url_through(&link, &self.field.under(self.workload)) {
                return (Some(link), url);
            }
        }
        (None, self.url.clone())
    }

    /// Stops the process now and then, until its time is over. After that it runs, or is gone.
    async fn strike(&self, struck: &Struck<'_>, chance: &mut Chance) -> End {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX / 4);
        loop {
            sleep(chance.millis(400, 3000)).await;
            let _turn = match &self.turns {
                Some(turns) => {
                    let turn = turns.turn.lock().await;
                    self.until_leads(turns, struck.client).await;
                    Some(turn)
                }
                None => None,
            };
            // Some are killed at the end of the round, too.
            let kind = chance.below(6);
            if self.field.is_over() && kind > 2 {
                return End::Asked;
            }
            let (began, at, away) = (self.field.now(), wall(), chance.millis(50, 2 * ttl));
            let stroke = match (kind, struck.link) {
                (0 | 1, _) => {
                    struck.daemon.kill();
                    Stroke::KillClient
                }
                (2, Some(link)) => {
                    link.freeze();
                    sleep(away).await;
                    link.reset().await;
                    link.heal().await;
                    Stroke::Freeze
                }
                (3, Some(link)) => {
                    link.cut().await;
                    sleep(away).await;
                    link.heal().await;
                    Stroke::Cut
                }
                (2..5, _) => {
                    struck.daemon.pause();
                    sleep(away).await;
                    struck.daemon.resume();
                    Stroke::PauseClient
                }
                _ => return End::Asked,
            };
            let label = format!("{} ({})", stroke.name(), struck.client);
            self.field.struck(Blow { stroke, label, began, ended: self.field.now() });
            (struck.told)(struck.client, wall(), Event::Struck { began: at });
            self.rest(chance).await;
            if stroke == Stroke::KillClient {
                sleep(chance.millis(0, 1000)).await;
                return End::Killed;
            }
        }
    }

    /// Waits until this process leads, but not long.
    async fn until_leads(&self, turns: &Turns, client: &str) {
        let (end, attempts) = (Instant::now() + Duration::from_secs(3), format!("{client}/"));
        while !self.field.is_over() && Instant::now() < end {
            let holder = turns.observer.lock_holder(name(THRONE)).await;
            if holder.is_ok_and(|held| held.is_some_and(|h| attempt_of(&h.value).starts_with(&attempts))) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Leaves the time, mostly, for the next one to be there, where strokes fall one at a time.
    async fn rest(&self, chance: &mut Chance) {
        let Some(turns) = &self.turns else { return };
        let most = u64::try_from(turns.next.as_millis()).unwrap_or(u64::MAX / 4);
        let end = Instant::now() + chance.millis(0, 2 * most);
        while !self.field.is_over() && Instant::now() < end {
            sleep(Duration::from_millis(50)).await;
        }
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
            kind: Kind::Office,
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
