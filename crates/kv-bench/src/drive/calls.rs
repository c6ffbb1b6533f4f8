//! Calls that are made one after another by each caller.

use super::{Round, Sample, all, key, listed};
use crate::{
    cell::{Cell, Op},
    histogram::Histogram,
    side::{Done, Side, absent},
};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Calls of single keys, or of a directory.
pub(super) struct Calls<S> {
    side: S,
    cell: Cell,
    names: Arc<[String]>,
    /// The number of rounds so far, so that each takes other keys.
    rounds: usize,
}

impl<S: Side> Calls<S> {
    pub(super) fn new(side: S, cell: Cell) -> Self {
        let names = match cell.op {
            Op::List => [side.directory(&listed(cell))].into(),
            // Keys with a TTL have names of their own, so that no other cell meets them.
            Op::PutTtl => (0..cell.keys).map(|n| side.name(&key("e", n))).collect(),
            _ => (0..cell.keys).map(|n| side.name(&key("k", n))).collect(),
        };
        Self { side, cell, names, rounds: 0 }
    }
}

#[async_trait]
impl<S: Side> Round for Calls<S> {
    async fn run(&mut self, time: Duration) -> Done<Sample> {
        self.rounds += 1;
        let (began, mut callers) = (Instant::now(), JoinSet::new());
        for caller in 0..self.cell.callers {
            let (side, names, cell) = (self.side.clone(), self.names.clone(), self.cell);
            let seed = (self.rounds * 1_000 + caller) as u64;
            callers.spawn(async move { calls(&side, cell, &names, seed, (began, time)).await });
        }
        let latencies = all(callers).await?;
        Ok(Sample { took: began.elapsed(), latencies })
    }
}

/// Makes calls until this time has passed since that moment, one at the least. The moment is that of
/// the round: callers that never wait come one after another, and the last ones come late.
async fn calls<S: Side>(
    side: &S,
    cell: Cell,
    names: &[String],
    seed: u64,
    (began, time): (Instant, Duration),
) -> Done<Histogram> {
    let (mut latencies, mut chance) = (Histogram::default(), seed);
    let mut last = Instant::now();
    loop {
        // Knuth's linear congruential numbers, of which the upper bits are good.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = &names[(chance >> 33) as usize % names.len()];
        match cell.op {
            Op::Get => check("the length of a value", side.get(name).await?, crate::side::VALUE.len())?,
            Op::Put => side.put(name).await?,
            Op::PutTtl => side.put_ttl(name).await?,
            Op::List => check("the number of keys", side.list(name).await?, cell.size)?,
            _ => return absent(),
        }
        let now = Instant::now();
        latencies.note(now - last);
        last = now;
        if now - began >= time {
            return Ok(latencies);
        }
    }
}

/// Checks what a call answered: a side that does not do the job is not to be measured.
fn check(what: &str, found: usize, expected: usize) -> Done<()> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what} is {found}, not {expected}").into()),
    }
}
