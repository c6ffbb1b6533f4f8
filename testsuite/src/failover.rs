//! Checks that everything goes on while a member of a cluster is taken away.

use crate::Failure;
use kv_core::{ErrorKind, Kv, Result, WatchEvent};
use std::{
    collections::BTreeMap,
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

/// The longest wait for something that must come.
const SOON: Duration = Duration::from_secs(30);

/// Waits for what must come soon.
///
/// # Errors
/// It did not come within half a minute.
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(SOON, coming).await.map_err(|_| format!("waited {SOON:?} in vain for {what}").into())
}

/// A task that writes a growing number all the time.
struct Writer {
    task: tokio::task::JoinHandle<Result<Vec<u64>, Failure>>,
    end: Arc<AtomicBool>,
    /// The number that was acknowledged last, and the count of those that were.
    sure: watch::Receiver<(u64, u64)>,
}

impl Writer {
    fn start(kv: Kv, key: String) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let (told, sure) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            let (mut last, mut unknown) = (None, Vec::new());
            for n in 0_u64.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                match kv.put(&key, n.to_string()).await {
                    Ok(written) => {
                        assert!(Some(written.version) > last, "versions only grow");
                        last = Some(written.version);
                        told.send_modify(|(newest, count)| (*newest, *count) = (n, *count + 1));
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

    /// Waits until some more writes were acknowledged.
    async fn some_more(&mut self) -> Result<(), Failure> {
        let before = self.sure.borrow().1;
        soon("acknowledged writes", self.sure.wait_for(|(_, count)| *count > before + 3)).await??;
        Ok(())
    }

    /// Ends the task. Returns the numbers that may be there in the end: the last that was
    /// acknowledged, and those of which nobody knows, which may arrive as late as the link or the
    /// member comes back.
    async fn end(self) -> Result<Vec<u64>, Failure> {
        self.end.store(true, Ordering::Relaxed);
        let mut possible = self.task.await??;
        possible.push(self.sure.borrow().0);
        Ok(possible)
    }
}

/// Writes the key again and again until a write is done.
///
/// # Errors
/// None was done within half a minute.
///
/// # Panics
/// A write was refused.
pub async fn written(kv: &Kv, key: &str) -> Result<(), Failure> {
    soon("a write", async {
        while let Err(e) = kv.put(key, "").await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await
}

/// Reads until there is an answer: while a leader is chosen a read may fail, and must not be
/// wrong.
async fn read<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: IntoFuture<Output = kv_core::Result<T>>,
{
    soon("a read", async {
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
/// what was written, a watch misses nothing, a lease and a lock are kept, a fenced write is taken,
/// nobody else gets the lock; a client that asks the other members notices no more than a pause.
/// `kv` has a short deadline. The keys of a run are apart from those of any other, whose writes
/// may still be on their way.
///
/// # Errors
/// Something did not go on in time.
///
/// # Panics
/// A promise was broken.
pub async fn goes_on(
    kv: &Kv,
    away: impl AsyncFnOnce() -> Result<(), Failure>,
    back: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let at = |name: &str| format!("run{run}/{name}");
    let mut changes = kv.watch_tree(at("w")).await?;
    assert_eq!(changes.event().await?, WatchEvent::Synced);
    let ttl = Duration::from_secs(20);
    let guard = kv.new_lock(at("l")).ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    kv.put(at("leased"), "").lease(&lease).await?;
    let mut waiting = tokio::spawn(kv.new_lock(at("l")).ttl(ttl).acquire());
    let mut writer = Writer::start(kv.clone(), at("w/n"));
    writer.some_more().await?;

    away().await?;
    written(kv, &at("w/while-away")).await?;
    assert!(read(|| kv.get(at("w/while-away"))).await?.is_some(), "a read after a write sees it");
    let began = Instant::now();
    soon("a fenced write", async {
        while let Err(e) = kv.put(at("fenced"), "").fenced(&guard).await {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{e:?}");
        }
    })
    .await?;
    assert!(guard.is_held() && lease.is_held(), "renewed by another member, {:?} later", began.elapsed());
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nobody else gets the lock");
    writer.some_more().await?;
    back().await?;

    let possible = writer.end().await?;
    written(kv, &at("w/end")).await?;
    let listed = async || -> Result<BTreeMap<_, _>> {
        Ok(kv.list(at("w")).await?.into_iter().map(|entry| (entry.key.to_string(), entry)).collect())
    };
    let mut mirror = BTreeMap::new();
    soon("what a listing shows", async {
        // A write whose answer was lost may still be on its way.
        while mirror != listed().await? || !mirror.contains_key(&at("w/end")) {
            match changes.event().await? {
                WatchEvent::Put(entry) => drop(mirror.insert(entry.key.to_string(), entry)),
                WatchEvent::Delete { key, .. } => drop(mirror.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    assert!(mirror.keys().eq(&["w/end", "w/n", "w/while-away"].map(at)), "{mirror:?}");
    let last: u64 = mirror[&at("w/n")].text().ok_or("a number")?.parse()?;
    assert!(possible.contains(&last), "{last} is there, and could be one of {possible:?}");

    let token = guard.token();
    guard.release().await?;
    let next = soon("the lock", waiting).await???;
    assert!(next.token() > token);
    assert!(read(|| kv.exists(at("leased"))).await?, "the lease was kept alive");
    Ok(())
}
