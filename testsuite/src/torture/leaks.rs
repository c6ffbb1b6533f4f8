//! Leaks: everything is begun and ended again and again, and nothing of it stays, in the process
//! or on the server.

mod measure;

use super::{
    field::Field,
    stroke::Stroke,
    workload::{Seen, Violation, Workload},
};
use crate::Failure;
use kv_core::{Capabilities, Kv, Result, Watching, driver::async_trait};
use measure::Measure;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The number of cycles that run side by side.
const LINES: usize = 4;
/// The number of cycles, or the time, after which everything that is made only once has been made.
const WARM: u64 = 100;
const WARMING: Duration = Duration::from_secs(5);
/// The least number of cycles that shows anything.
const LEAST: u64 = 20;
/// The time that whatever ends in the background may take.
const SETTLES: Duration = Duration::from_secs(30);

/// Clients that are opened, used in every way, and closed.
#[derive(Debug, Default)]
pub struct Leaks(());

#[async_trait]
impl Workload for Leaks {
    fn name(&self) -> &'static str {
        "leaks"
    }

    fn unsuited(&self, _: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        (!strokes.is_empty()).then(|| "what is counted must be its own".into())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let warm =
            cycles(field, &Mutex::default(), 0, |done, time| done < LEAST || done < WARM && time < WARMING)
                .await?;
        let (before, memory) = (settled().await, Mutex::default());
        let count = cycles(field, &memory, warm, |done, _| done < LEAST || !field.is_over()).await?;
        let after = Measure::until(SETTLES, |now| now.is_back_at(&before)).await;
        println!("  leaks: {warm} cycles to warm up: {before}; {count} more: {after}");
        let mut seen = Seen { answered: count, ..Seen::default() };
        let mut wrong = after.grown(&before, count);
        wrong.extend(measure::crept(&memory.into_inner().unwrap_or_else(PoisonError::into_inner)));
        wrong.extend(left(field, self.name()).await?);
        let violation = |what| Violation { what, at: field.now(), calls: Vec::new() };
        seen.violations.extend(wrong.into_iter().map(violation));
        Ok(seen)
    }
}

/// Returns what the process has when nothing ends any more.
async fn settled() -> Measure {
    let (mut last, mut same) = (Measure::now(), 0);
    let end = Instant::now() + SETTLES;
    while same < 10 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = Measure::now();
        same = if now.is_back_at(&last) && last.is_back_at(&now) { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Runs cycles, side by side, as long as their number and time allow, and notes the memory after
/// each; returns their number.
async fn cycles(
    field: &Field,
    memory: &Mutex<Vec<u64>>,
    first: u64,
    go_on: impl Fn(u64, Duration) -> bool + Sync,
) -> Result<u64, Failure> {
    let (began, done) = (Instant::now(), AtomicU64::new(0));
    let lines = (0..LINES).map(async |line| {
        while go_on(done.load(Ordering::Relaxed), began.elapsed()) {
            let number = first + done.fetch_add(1, Ordering::Relaxed);
            cycle(field, line, number).await.map_err(|e| format!("the cycle {number}: {e}"))?;
            memory.lock().unwrap_or_else(PoisonError::into_inner).push(Measure::now().memory);
        }
        Ok::<_, Failure>(())
    });
    futures::future::try_join_all(lines).await?;
    Ok(done.into_inner())
}

/// Does everything once, with a client of its own.
async fn cycle(field: &Field, line: usize, number: u64) -> Result<(), Failure> {
    let kv = field.open("leaks").await?;
    let (capabilities, place) = (kv.capabilities().clone(), format!("line{line}"));
    let key = format!("{place}/a");
    kv.put(&key, number.to_string()).await?;
    kv.get(&key).await?;
    kv.list(&place).await?;
    if let Some(range) = &capabilities.ttl {
        kv.put(format!("{place}/brief"), "").ttl(range.least).await?;
        kv.delete(format!("{place}/brief")).await?;
    }
    if capabilities.max_txn_ops >= 2 {
        let _ = kv.transact().when_exists(&key).then(kv.put(&key, "1")).await?;
    }
    if capabilities.watch != Watching::Unsupported {
        watch(&kv, &place, &key, number).await?;
    }
    if capabilities.lock.is_some() {
        lock(&kv, &place, number).await?;
    }
    if let Some(range) = &capabilities.lease {
        let lease = kv.lease(range.least.max(Duration::from_secs(5))).await?;
        kv.put(format!("{place}/leased"), "").lease(&lease).await?;
        if number.is_multiple_of(2) {
            lease.revoke().await?;
        }
    }
    // Some handles are dropped instead.
    if !number.is_multiple_of(3) {
        kv.close().await?;
    }
    Ok(())
}

async fn watch(kv: &Kv, place: &str, key: &str, number: u64) -> Result<()> {
    let mut one = kv.watch(key).await?;
    let mut tree = kv.watch_tree(place).await?;
    if number.is_multiple_of(2) {
        // The others are dropped before their first event.
        one.event().await?;
        tree.event().await?;
    }
    if number.is_multiple_of(4) {
        kv.put(key, "2").await?;
        one.event().await?;
    }
    Ok(())
}

async fn lock(kv: &Kv, place: &str, number: u64) -> Result<()> {
    let guard = kv.new_lock(place).acquire().await?;
    let (half, rest) = (number % 5, number % 2);
    // This acquisition is dropped half-way, at one moment or another.
    let _ = tokio::time::timeout(Duration::from_millis(half), kv.new_lock(place).acquire()).await;
    if rest == 0 {
        guard.release().await?;
    } else {
        drop(guard);
    }
    // This acquisition may wait for a release in the background.
    drop(kv.new_lock(place).acquire().await?);
    Ok(())
}

/// Returns what all of that left on the server, once the keys are deleted.
async fn left(field: &Field, name: &str) -> Result<Vec<String>, Failure> {
    let (kv, prefix) = (field.observer(name).await?, field.under(name));
    kv.delete_tree("").await?;
    kv.close().await?;
    let end = Instant::now() + SETTLES;
    loop {
        let left = field.harness().leftovers(&prefix).await;
        if left.is_empty() || Instant::now() > end {
            return Ok(left.into_iter().map(|what| format!("left on the server: {what}")).collect());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
