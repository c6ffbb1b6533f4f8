//! Rounds of each kind of cell on a side.

mod calls;
mod locks;
mod swaps;
mod trees;
mod watches;

use crate::{
    cell::{Cell, Op},
    histogram::Histogram,
    side::{Absent, Done, Side},
};
use async_trait::async_trait;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{sync::Mutex, task::JoinSet};

/// The number of puts at once by which a store is filled.
const AT_ONCE: usize = 64;

/// The result of one round of a side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The time in which the calls were made.
    pub(crate) took: Duration,
    pub(crate) latencies: Histogram,
}

impl Sample {
    /// Returns the calls a second; zero when there was none.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.calls() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A cell that is prepared on a side, so that rounds can be run.
#[async_trait]
pub(crate) trait Round: Send {
    /// Prepares the next call, where each needs that.
    async fn ready(&mut self) -> Done<()> {
        Ok(())
    }

    /// Makes calls for about this time.
    async fn run(&mut self, time: Duration) -> Done<Sample>;
}

/// A side that is open, whatever its client is.
#[async_trait]
pub(crate) trait Opened: Send + Sync {
    /// Returns the name of the side: `ours`, `eq`, `raw`, or that of another store.
    fn name(&self) -> &'static str;

    /// Fills the store as the cell needs it, and makes a call; `None` where the side has no such
    /// call.
    async fn prepare(&self, cell: Cell) -> Done<Option<Box<dyn Round>>>;
}

/// A side with its name, and what of its store is filled.
pub(crate) struct Named<S> {
    name: &'static str,
    side: S,
    filled: Mutex<HashSet<(String, usize)>>,
}

/// Makes a side one of the sides of a backend.
pub(crate) fn named<S: Side>(name: &'static str, side: S) -> Box<dyn Opened> {
    Box::new(Named { name, side, filled: Mutex::default() })
}

#[async_trait]
impl<S: Side> Opened for Named<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&self, cell: Cell) -> Done<Option<Box<dyn Round>>> {
        let tried = async {
            match cell.op {
                Op::Get => self.fill("k", cell.keys).await?,
                Op::List => self.fill(&listed(cell), cell.size).await?,
                _ => {}
            }
            let side = self.side.clone();
            let mut round: Box<dyn Round> = match cell.op {
                Op::AtomicPut => Box::new(swaps::Swaps::new(side, cell)),
                Op::Lock => Box::new(locks::Free::new(side, cell)),
                Op::LockContended => Box::new(locks::Contended::new(side, cell).await?),
                Op::Watch => Box::new(watches::Watches::new(side, cell).await?),
                Op::DeleteTree => Box::new(trees::Trees::new(side, cell)),
                _ => Box::new(calls::Calls::new(side, cell)),
            };
            // One round without a duration: each caller makes a call.
            round.run(Duration::ZERO).await?;
            Done::Ok(round)
        };
        match tried.await {
            Ok(round) => Ok(Some(round)),
            Err(e) if e.is::<Absent>() => Ok(None),
            Err(e) => Err(format!("{cell} of {}: {e}", self.name).into()),
        }
    }
}

impl<S: Side> Named<S> {
    /// Puts keys below a directory, unless they were put before.
    async fn fill(&self, directory: &str, keys: usize) -> Done<()> {
        let mut filled = self.filled.lock().await;
        if filled.insert((directory.to_owned(), keys)) {
            fill(&self.side, directory, keys).await?;
        }
        Ok(())
    }
}

/// Returns the directory that a cell lists.
fn listed(cell: Cell) -> String {
    format!("l{}", cell.size)
}

/// Returns the name of a key of a directory.
fn key(directory: &str, n: usize) -> String {
    format!("{directory}/{n:06}")
}

/// Puts keys below a directory, some at once.
async fn fill<S: Side>(side: &S, directory: &str, keys: usize) -> Done<()> {
    let names: Arc<[String]> = (0..keys).map(|n| side.name(&key(directory, n))).collect();
    let mut callers = JoinSet::new();
    for caller in 0..AT_ONCE.min(keys) {
        let (side, names) = (side.clone(), names.clone());
        callers.spawn(async move {
            for name in names.iter().skip(caller).step_by(AT_ONCE) {
                side.put(name).await?;
            }
            Done::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Waits for the callers, and returns all of their latencies.
async fn all(mut callers: JoinSet<Done<Histogram>>) -> Done<Histogram> {
    let mut latencies = Histogram::default();
    while let Some(ended) = callers.join_next().await {
        latencies.add(&ended??);
    }
    Ok(latencies)
}
