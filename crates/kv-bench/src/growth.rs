//! Growth: the same call in larger stores, beside more watches, and with more waiters.

use crate::{
    backends::Backend,
    cell::{Cell, Op},
    histogram::Histogram,
    side::{Changes, Done, VALUE},
};
use kv_core::{Kv, WatchEvent};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The kinds of growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A get, by the number of keys.
    Get,
    /// A listing of a hundred keys, by the number of keys beside them.
    List,
    /// The time from a put to its event, by the number of watches.
    Watches,
    /// The time from a release to the next holder, by the number of those who wait.
    Waiters,
}

impl Of {
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::List, Self::Watches, Self::Waiters];

    /// Returns what is measured, and by which number.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Get => "get, by the number of keys",
            Self::List => "list of 100, by the number of keys",
            Self::Watches => "put to event, by the number of watches",
            Self::Waiters => "release to next holder, by the number of waiters",
        }
    }

    /// Returns the numbers of a run.
    pub(crate) fn numbers(self, is_full: bool) -> &'static [usize] {
        match (self, is_full) {
            (Self::Get | Self::List, true) => &[1_000, 10_000, 100_000],
            (Self::Get | Self::List, false) => &[1_000, 10_000],
            (_, true) => &[2, 10, 100, 1_000],
            (_, false) => &[2, 10, 100],
        }
    }

    /// Returns the kind of call by which `--only` selects it.
    pub(crate) fn op(self) -> Op {
        match self {
            Self::Get => Op::Get,
            Self::List => Op::List,
            Self::Watches => Op::Watch,
            Self::Waiters => Op::LockContended,
        }
    }
}

/// The latencies at one number.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) of: Of,
    pub(crate) number: usize,
    pub(crate) latencies: Histogram,
}

/// Measures all kinds of growth of our side.
///
/// # Errors
/// A call failed.
pub(crate) async fn measure(
    backend: &Backend,
    ops: &[Op],
    is_full: bool,
    time: Duration,
) -> Done<Vec<Point>> {
    let mut points = Vec::new();
    for of in Of::ALL.into_iter().filter(|of| ops.contains(&of.op())) {
        let most = backend.largest.saturating_mul(10);
        for &number in of.numbers(is_full).iter().filter(|number| **number <= most) {
            let latencies = match of {
                Of::Get => {
                    keys(backend, Cell { keys: number, ..Cell::new(Op::Get, 1) }, number, time).await?
                }
                Of::List => keys(backend, Cell::of_size(Op::List, 100, 1), number, time).await?,
                Of::Watches => watches(&backend.kv, number, time).await?,
                Of::Waiters => waiters(&backend.kv, number, time).await?,
            };
            points.push(Point { of, number, latencies });
        }
    }
    Ok(points)
}

/// Makes a call in a store of so many keys.
async fn keys(backend: &Backend, cell: Cell, number: usize, time: Duration) -> Done<Histogram> {
    let ours = backend.sides.first().ok_or("a backend has sides")?;
    // That fills the store.
    ours.prepare(Cell { keys: number, ..Cell::new(Op::Get, 1) }).await?;
    let mut round = ours.prepare(cell).await?.ok_or("our side has every call")?;
    Ok(round.run(time).await?.latencies)
}

/// Changes one key after another of many that are watched.
async fn watches(kv: &Kv, number: usize, time: Duration) -> Done<Histogram> {
    let (mut opening, mut watches) = (JoinSet::new(), Vec::new());
    for n in 0..number {
        let kv = kv.clone();
        opening.spawn(async move {
            let mut watch = kv.watch(name(n)).await?;
            while watch.event().await? != WatchEvent::Synced {}
            Done::Ok((n, watch))
        });
    }
    while let Some(opened) = opening.join_next().await {
        watches.push(opened??);
    }
    let (began, mut latencies) = (Instant::now(), Histogram::default());
    for turn in 0.. {
        let (n, watch) = &mut watches[turn % number];
        let asked = Instant::now();
        kv.put(name(*n), VALUE).await?;
        watch.next().await?;
        latencies.note(asked.elapsed());
        if began.elapsed() >= time {
            break;
        }
    }
    Ok(latencies)
}

fn name(n: usize) -> String {
    format!("watched/{n:06}")
}

/// Hands a lock from one waiter to the next.
async fn waiters(kv: &Kv, number: usize, time: Duration) -> Done<Histogram> {
    #[derive(Default)]
    struct Seen {
        released: Option<Instant>,
        latencies: Histogram,
    }
    let seen = Arc::<Mutex<Seen>>::default();
    let (began, mut waiters) = (Instant::now(), JoinSet::new());
    for _ in 0..number {
        let (kv, seen, lock) = (kv.clone(), seen.clone(), format!("crowd-of-{number}"));
        waiters.spawn(async move {
            while began.elapsed() < time {
                let guard = kv.new_lock(&*lock).acquire().await?;
                let now = Instant::now();
                {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(released) = seen.released.take() {
                        seen.latencies.note(now - released);
                    }
                    seen.released = Some(Instant::now());
                }
                guard.release().await?;
            }
            Done::Ok(())
        });
    }
    // The first whose time is over ends the round; the others leave the line.
    if let Some(ended) = waiters.join_next().await {
        ended??;
    }
    waiters.shutdown().await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(seen.latencies.clone())
}
