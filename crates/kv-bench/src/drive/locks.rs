//! Locks, free ones and one that all want.

use super::{Round, Sample, all, key};
use crate::{
    cell::Cell,
    histogram::Histogram,
    side::{Done, Side},
};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Locks that nobody else wants: each caller has one of its own.
pub(super) struct Free<S> {
    side: S,
    names: Vec<Arc<str>>,
}

impl<S: Side> Free<S> {
    pub(super) fn new(side: S, cell: Cell) -> Self {
        let names = (0..cell.callers).map(|n| side.name(&key("free", n)).into()).collect();
        Self { side, names }
    }
}

#[async_trait]
impl<S: Side> Round for Free<S> {
    async fn run(&mut self, time: Duration) -> Done<Sample> {
        let (began, mut callers) = (Instant::now(), JoinSet::new());
        for name in &self.names {
            let (side, name) = (self.side.clone(), name.clone());
            callers.spawn(async move {
                let mut latencies = Histogram::default();
                loop {
                    let asked = Instant::now();
                    let guard = side.lock(&name).await?;
                    side.unlock(guard).await?;
                    latencies.note(asked.elapsed());
                    if began.elapsed() >= time {
                        return Ok(latencies);
                    }
                }
            });
        }
        let latencies = all(callers).await?;
        Ok(Sample { took: began.elapsed(), latencies })
    }
}

/// One lock, and contenders for it with a client each.
pub(super) struct Contended<S> {
    sides: Vec<S>,
    name: Arc<str>,
}

impl<S: Side> Contended<S> {
    pub(super) async fn new(side: S, cell: Cell) -> Done<Self> {
        let name = side.name(&format!("wanted-by-{}", cell.callers)).into();
        let mut sides = Vec::new();
        for _ in 0..cell.callers {
            sides.push(side.another().await?);
        }
        Ok(Self { sides, name })
    }
}

#[async_trait]
impl<S: Side> Round for Contended<S> {
    async fn run(&mut self, time: Duration) -> Done<Sample> {
        let (began, mut callers) = (Instant::now(), JoinSet::new());
        let line = Arc::<Mutex<Line>>::default();
        for side in &self.sides {
            let (side, name, line) = (side.clone(), self.name.clone(), line.clone());
            callers.spawn(async move {
                let mut latencies = Histogram::default();
                loop {
                    let guard = side.lock(&name).await?;
                    let (now, is_over) = (Instant::now(), began.elapsed() >= time);
                    {
                        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(released) = line.released.take() {
                            latencies.note(now - released);
                        }
                        // Those who still wait at the end are let through, and neither they nor
                        // their time is counted.
                        match is_over {
                            true => line.took = line.took.or(Some(now - began)),
                            false => line.released = Some(Instant::now()),
                        }
                    }
                    side.unlock(guard).await?;
                    if is_over {
                        return Ok(latencies);
                    }
                }
            });
        }
        let latencies = all(callers).await?;
        let took = line.lock().unwrap_or_else(PoisonError::into_inner).took;
        Ok(Sample { took: took.unwrap_or_else(|| began.elapsed()), latencies })
    }
}

/// The state of a round that its contenders share.
#[derive(Default)]
struct Line {
    /// The moment at which the last holder began to release.
    released: Option<Instant>,
    /// The time of the round, once it is over.
    took: Option<Duration>,
}
