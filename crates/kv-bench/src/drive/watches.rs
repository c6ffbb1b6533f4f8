//! Watches: the time from a put to its event.

use super::{Round, Sample, all, key};
use crate::{
    cell::Cell,
    histogram::Histogram,
    side::{Changes, Done, Side},
};
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// The pause before each put, in which the watch is idle.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest time for which an event is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watch and a key for each caller.
pub(super) struct Watches<S: Side> {
    side: S,
    watches: Vec<(Arc<str>, Option<S::Changes>)>,
}

impl<S: Side> Watches<S> {
    pub(super) async fn new(side: S, cell: Cell) -> Done<Self> {
        let mut watches = Vec::new();
        for n in 0..cell.callers {
            let name = Arc::from(side.name(&key("w", n)));
            // A client may have no watch of what is not there.
            side.put(&name).await?;
            let watch = side.watch(&name).await?;
            watches.push((name, Some(watch)));
        }
        Ok(Self { side, watches })
    }
}

#[async_trait]
impl<S: Side> Round for Watches<S> {
    async fn run(&mut self, time: Duration) -> Done<Sample> {
        let (began, mut callers) = (Instant::now(), JoinSet::new());
        let (back, mut given) = tokio::sync::mpsc::unbounded_channel();
        for (at, (name, watch)) in self.watches.iter_mut().enumerate() {
            let (side, name, back) = (self.side.clone(), name.clone(), back.clone());
            let mut watch = watch.take().ok_or("a round of watches failed before")?;
            callers.spawn(async move {
                let mut latencies = Histogram::default();
                loop {
                    sleep(PAUSE).await;
                    let asked = Instant::now();
                    side.put(&name).await?;
                    timeout(PATIENCE, watch.next()).await.map_err(|_| "a change is not told")??;
                    latencies.note(asked.elapsed());
                    if began.elapsed() >= time {
                        break;
                    }
                }
                let _ = back.send((at, watch));
                Ok(latencies)
            });
        }
        let latencies = all(callers).await?;
        drop(back);
        while let Some((at, watch)) = given.recv().await {
            self.watches[at].1 = Some(watch);
        }
        Ok(Sample { took: began.elapsed(), latencies })
    }
}
