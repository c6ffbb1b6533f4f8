//! Checks that everything goes on while a member of a cluster is taken away.

pub use crate::wait::{soon, written};

use crate::{Failure, mirror::Mirror};
use kv_core::{ErrorKind, Kv, Linearizable, Result, Version, WatchEvent};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// The deadline of calls that begin or end a check: an election in between is not what it is about.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);
/// The number of reads that are compared with what another client has written.
const READS: u32 = 20;

/// A task that writes a growing number all the time.
struct Writer {
    task: tokio::task::JoinHandle<Result<Vec<u64>, Failure>>,
    end: Arc<AtomicBool>,
    sure: watch::Receiver<Sure>,
}

/// The writes that were acknowledged.
#[derive(Clone, Copy, Default)]
struct Sure {
    count: u64,
    /// The number that was written last, and its version.
    newest: u64,
    version: Option<Version>,
}

impl Writer {
    fn start(kv: Kv, key: String) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let (told, sure) = watch::channel(Sure::default());
        let task = tokio::spawn(async move {
            let mut unknown = Vec::new();
            for n in 0_u64.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                match kv.put(&key, n.to_string()).await {
                    Ok(written) => {
                        let Sure { count, version: last, .. } = *told.borrow();
                        let version = Some(written.version);
                        assert!(version > last, "versions only grow");
                        told.send_replace(Sure { count: count + 1, newest: n, version });
                    }
                    Err(e) => {
                        use ErrorKind::{OutcomeUnknown, Timeout, Unavailable};
                        assert!(matches!(e.kind(), OutcomeUnknown | Timeout | Unavailable), "{e:?}");
                        unknown.extend((e.kind() == OutcomeUnknown).then_some(n));
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(unknown)
        });
        Self { task, end, sure }
    }

    /// Waits until so many more writes were acknowledged, and returns the version of the last one.
    async fn acknowledged(&mut self, more: u64) -> Result<Option<Version>, Failure> {
        let wanted = self.sure.borrow().count + more;
        let sure = *soon("acknowledged writes", self.sure.wait_for(|sure| sure.count >= wanted)).await??;
        Ok(sure.version)
    }

    /// Ends the task. Returns the numbers that may be there in the end: the last that was
    /// acknowledged, and those of which nobody knows, which may arrive as late as the link or the
    /// member comes back.
    async fn end(self) -> Result<Vec<u64>, Failure> {
        self.end.store(true, Ordering::Relaxed);
        let mut possible = self.task.await??;
        possible.push(self.sure.borrow().newest);
        Ok(possible)
    }
}

/// Asks until there is an answer: while a leader is chosen a call may fail, and must not be wrong.
async fn answered<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: IntoFuture<Output = kv_core::Result<T>>,
{
    soon("an answer", async {
        loop {
            match ask().await {
                Ok(answer) => break answer,
                Err(e) => assert!(e.is_transient(), "{e:?}"),
            }
        }
    })
    .await
}

/// Checks that everything goes on while a member is taken away, and when it is back: reads see
/// what was written, by other clients too; a watch misses nothing, a lease and a lock are kept, a
/// fenced write is taken, nobody else gets the lock; a client that asks the other members notices
/// no more than a pause. `open` opens a store with a short deadline, with connections of its own.
/// The keys of a run are apart from those of any other, whose writes may still be on their way.
///
/// # Errors
/// Something did not go on in time.
///
/// # Panics
/// A promise was broken.
pub async fn goes_on(
    open: impl AsyncFn() -> Result<Kv, Failure>,
    away: impl AsyncFnOnce() -> Result<(), Failure>,
    back: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = format!("run{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let at = |name: &str| format!("{run}/{name}");
    let (kv, other) = (Box::pin(open()).await?, Box::pin(open()).await?);
    let mut changes = Mirror::new(answered(|| kv.watch_tree(&run)).await?);
    assert_eq!(changes.event().await?, WatchEvent::Synced);
    let ttl = Duration::from_secs(20);
    let guard = kv.new_lock(at("l")).ttl(ttl).deadline(PATIENT).acquire().await?;
    let lease = kv.lease(ttl).deadline(PATIENT).await?;
    kv.put(at("leased"), "").lease(&lease).deadline(PATIENT).await?;
    let mut waiting = tokio::spawn(kv.new_lock(at("l")).ttl(ttl).acquire());
    let mut writer = Writer::start(other.clone(), at("w/n"));
    writer.acknowledged(4).await?;

    away().await?;
    written(&kv, &at("w/while-away")).await?;
    assert!(answered(|| kv.get(at("w/while-away"))).await?.is_some(), "a read after a write sees it");
    if kv.capabilities().linearizable == Linearizable::Always {
        for _ in 0..READS {
            let sure = writer.acknowledged(1).await?;
            let found = answered(|| kv.get(at("w/n"))).await?.map(|entry| entry.version);
            assert!(found >= sure, "{found:?} is read, though {sure:?} was acknowledged before");
        }
    }
    let began = Instant::now();
    soon("a fenced write", async {
        while let Err(e) = kv.put(at("fenced"), "").fenced(&guard).await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await?;
    assert!(guard.is_held() && lease.is_held(), "renewed by another member, {:?} later", began.elapsed());
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nobody else gets the lock");
    writer.acknowledged(4).await?;
    let second = answered(|| other.new_lock(at("l")).ttl(ttl).try_acquire()).await?;
    assert!(second.is_none(), "two hold the lock");
    back().await?;

    let possible = writer.end().await?;
    written(&kv, &at("w/end")).await?;
    // A write whose answer was lost may still be on its way.
    changes.agrees(&kv, &run, &at("w/end")).await?;
    let told = &changes.entries;
    assert!(told.keys().eq(&["fenced", "leased", "w/end", "w/n", "w/while-away"].map(at)), "{told:?}");
    let last: u64 = told[&at("w/n")].text().ok_or("a number")?.parse()?;
    assert!(possible.contains(&last), "{last} is there, and could be one of {possible:?}");

    let token = guard.token();
    guard.release().await?;
    let next = soon("the lock", waiting).await???;
    assert!(next.token() > token);
    assert!(answered(|| kv.exists(at("leased"))).await?, "the lease was kept alive");
    kv.close().await?;
    Ok(other.close().await?)
}
