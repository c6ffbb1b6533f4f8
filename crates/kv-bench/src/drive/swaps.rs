//! Compare-and-swaps: each caller has a key, and knows its version from one round to the next.

use super::{Round, Sample, key};
use crate::{
    cell::Cell,
    histogram::Histogram,
    side::{Done, Side},
};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// A key for each caller, with the version that it has, once it was put.
pub(super) struct Swaps<S: Side> {
    side: S,
    keys: Vec<(Arc<str>, Option<S::Version>)>,
}

impl<S: Side> Swaps<S> {
    pub(super) fn new(side: S, cell: Cell) -> Self {
        let keys = (0..cell.callers).map(|n| (side.name(&key("k", n % cell.keys)).into(), None)).collect();
        Self { side, keys }
    }
}

#[async_trait]
impl<S: Side> Round for Swaps<S> {
    async fn run(&mut self, time: Duration) -> Done<Sample> {
        for (name, version) in &mut self.keys {
            if version.is_none() {
                *version = Some(self.side.written(name).await?);
            }
        }
        let (began, mut callers) = (Instant::now(), JoinSet::new());
        for (at, (name, version)) in self.keys.iter_mut().enumerate() {
            let (side, name) = (self.side.clone(), name.clone());
            let mut version = version.take().ok_or("a key that was put has a version")?;
            callers.spawn(async move {
                let mut latencies = Histogram::default();
                let mut last = Instant::now();
                loop {
                    version = side.atomic_put(&name, version).await?;
                    let now = Instant::now();
                    latencies.note(now - last);
                    last = now;
                    if now - began >= time {
                        return Done::Ok((at, version, latencies));
                    }
                }
            });
        }
        let mut latencies = Histogram::default();
        while let Some(ended) = callers.join_next().await {
            let (at, version, more) = ended??;
            self.keys[at].1 = Some(version);
            latencies.add(&more);
        }
        Ok(Sample { took: began.elapsed(), latencies })
    }
}
