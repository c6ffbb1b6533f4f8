//! Watches that begin while their target changes all the time: an event from before a watch's
//! first read must not be told after what that read found.

use super::{Follower, watching};
use crate::{
    Ended, Failure, Proxy, Trial, Verdict,
    check::{holds, same},
};
use kv_core::{Kv, Version, WatchCall, WatchEvent};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// The time for which things change, and the greatest number of watches that begin meanwhile.
const TIME: Duration = Duration::from_secs(5);
const WATCHES: usize = 150;
/// The greatest number of events that are read of each watch, and the time that this may take.
const EVENTS: usize = 8;
const READING: Duration = Duration::from_millis(400);

/// The lives of versions: the moment at which each was asked for, and the moment until which it
/// was there for certain, unless a newer one replaced it.
#[derive(Default)]
struct Lives(Mutex<HashMap<Version, Life>>);

#[derive(Clone, Copy)]
struct Life {
    sent: Instant,
    until: Instant,
}

impl Lives {
    fn all(&self) -> MutexGuard<'_, HashMap<Version, Life>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `Delete` that was told: the moment, and the version that it ends.
type End = (Instant, Version);

/// Begins watches, one after the other, reads the first events of each, and clears `changing` in
/// the end. Returns the ends that were told.
async fn begin_many(
    t: &Trial,
    what: &str,
    proxy: Option<&Proxy>,
    watch: impl Fn() -> WatchCall,
    changing: &AtomicBool,
) -> Result<Vec<End>, Failure> {
    let (until, mut ends) = (Instant::now() + TIME, Vec::new());
    let mut kept = Follower::new(t, what, watch()).await?;
    for n in 0..WATCHES {
        if Instant::now() > until {
            break;
        }
        let mut follower = Follower::new(t, what, watch()).await?;
        let reading = async {
            for _ in 0..EVENTS {
                look(&mut follower, &mut ends).await?;
            }
            Ok::<_, Failure>(())
        };
        if let Ok(read) = timeout(READING, reading).await {
            read?;
        }
        same(format!("what broke the order of {what} that began"), follower.disorder, Vec::<String>::new())?;
        if let (Some(proxy), 0) = (proxy, n % 10) {
            proxy.reset().await;
        }
        // These are the events that a long-lived watch has to tell by now.
        while let Ok(event) = timeout(Duration::from_millis(1), look(&mut kept, &mut ends)).await {
            event?;
        }
        same(
            format!("what broke the order of {what} that goes on"),
            kept.disorder.clone(),
            Vec::<String>::new(),
        )?;
    }
    changing.store(false, Ordering::Relaxed);
    Ok(ends)
}

/// Reads one event; notes an end that is told, with the moment and the version that it ends.
async fn look(follower: &mut Follower, ends: &mut Vec<End>) -> Result<(), Failure> {
    let event = follower.watch().event().await?;
    if let WatchEvent::Delete { key, .. } = &event
        && let Some(entry) = follower.map.get(key)
    {
        ends.push((Instant::now(), entry.version));
    }
    follower.fold(&event);
    Ok(())
}

/// Checks that nothing was told to be gone while it was there.
fn true_ends(what: &str, ends: Vec<End>, lives: &Lives) -> Result<(), Failure> {
    let lives = lives.all();
    for (told, version) in ends {
        let Some(life) = lives.get(&version).filter(|life| told < life.until) else { continue };
        // The newer version that replaced it may have gone, too, before the end was told.
        let is_replaced = lives.iter().any(|(newer, other)| *newer > version && other.sent < told);
        let early = life.until - told;
        holds(
            format!("{what} {version:?} is told to be gone when it is; it was there for {early:?} more"),
            is_replaced,
        )?;
    }
    Ok(())
}

/// Opens a client, behind a proxy that can reset its connections where there is a network.
async fn unsteady(t: &Trial) -> Result<(Kv, Option<Proxy>), Failure> {
    Ok(match t.open_behind_proxy().await {
        Some(opened) => {
            let (kv, proxy) = opened?;
            (kv.with_deadline(t.patience()), Some(proxy))
        }
        None => (t.open().await?, None),
    })
}

pub(super) async fn holders(t: Trial) -> Verdict {
    if t.capabilities().lock.is_none() {
        return Ended::ignored("no locks");
    }
    watching(t, async |t, kv| {
        let (changing, lives) = (Arc::new(AtomicBool::new(true)), Arc::new(Lives::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let (kv, changing, lives) = (t.open().await?, changing.clone(), lives.clone());
            let lock = kv.new_lock("l");
            tasks.spawn(async move {
                while changing.load(Ordering::Relaxed) {
                    let guard = lock.clone().acquire().await?;
                    let version = Version::new(guard.token(), 0);
                    tokio::task::yield_now().await;
                    let now = Instant::now();
                    lives.all().insert(version, Life { sent: now, until: now });
                    guard.release().await?;
                }
                Ok::<_, kv_core::Error>(())
            });
        }
        let (watcher, proxy) = unsteady(&t).await?;
        let watch = || watcher.lock_holder("l").watch();
        let ends = begin_many(&t, "a watch of a lock's holder", proxy.as_ref(), watch, &changing).await?;
        while let Some(done) = t.soon("the tasks that acquire and release", tasks.join_next()).await? {
            done??;
        }
        true_ends("a holder", ends, &lives)?;
        // A watch that begins in the end tells who holds the lock.
        let guard = t.soon("a free lock", kv.new_lock("l").acquire()).await??;
        let mut follower = Follower::new(&t, "a watch of a lock's holder", watch()).await?;
        follower.told("l", Version::new(guard.token(), 0)).await?;
        holds("it was held until it was released", guard.release().await?)
    })
    .await
}

pub(super) async fn ttls(t: Trial) -> Verdict {
    if t.capabilities().ttl.is_none() {
        return Ended::ignored("no TTLs");
    }
    watching(t, async |t, kv| {
        let (changing, lives) = (Arc::new(AtomicBool::new(true)), Arc::new(Lives::default()));
        let mut tasks = JoinSet::new();
        for n in 0..3 {
            let (kv, changing, lives) = (t.open().await?, changing.clone(), lives.clone());
            let ttl = t.short_ttl(Duration::from_millis([2, 2, 30][n]));
            tasks.spawn(async move {
                while changing.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let written = kv.put("d/k", "").ttl(ttl).await?;
                    // Some servers count in whole milliseconds.
                    let granted =
                        written.ttl.unwrap_or(ttl).mul_f64(0.99).saturating_sub(Duration::from_millis(2));
                    lives.all().insert(written.version, Life { sent, until: sent + granted });
                    while changing.load(Ordering::Relaxed) && kv.exists("d/k").await? {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    // Some backends see by a listing what has ended.
                    kv.list("d").await?;
                }
                Ok::<_, kv_core::Error>(())
            });
        }
        let (watcher, proxy) = unsteady(&t).await?;
        let watch = || watcher.watch_tree("d");
        let ends =
            begin_many(&t, "a watch of a key that ends again and again", proxy.as_ref(), watch, &changing)
                .await?;
        while let Some(done) = t.soon("the tasks that put", tasks.join_next()).await? {
            done??;
        }
        true_ends("a key", ends, &lives)?;
        kv.put("d/k", "stays").await?;
        Follower::new(&t, "a watch in the end", watch()).await?.agrees(&kv, "d").await
    })
    .await
}
