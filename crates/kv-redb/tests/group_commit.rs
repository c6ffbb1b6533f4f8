//! Callers that write at the same time share a commit, and none of them blocks its executor.

use kv_core::{Kv, Result, backend::Clock};
use kv_redb::{Config, Redb};
use kv_testsuite::failover::soon;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

async fn open(file: &std::path::Path) -> Result<(Kv, Arc<Redb>)> {
    let store = Arc::new(Config::new(file).build().await?);
    Ok((Kv::new(store.clone()), store))
}

/// Has the callers put keys at the same time; returns how many puts they made together, and in how
/// many commits.
async fn load(kv: &Kv, store: &Redb, callers: u64, each: u64) -> Result<(u64, u64)> {
    let before = store.stats()?;
    let mut tasks = Vec::new();
    for caller in 0..callers {
        let kv = kv.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..each {
                kv.put(format!("c/{caller}"), n.to_string()).await?;
            }
            Ok::<_, kv_core::Error>(())
        }));
    }
    for task in tasks {
        task.await.unwrap()?;
    }
    let after = store.stats()?;
    Ok((after.writes - before.writes, after.commits - before.commits))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_share_commits() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (kv, store) = open(&folder.path().join("a.redb")).await?;
    let (puts, commits) = load(&kv, &store, 64, 50).await?;
    assert_eq!(puts, 64 * 50);
    assert!(commits * 5 <= puts, "{commits} commits for {puts} puts");
    // Alone there is nobody to share with: each put is committed before it returns.
    assert_eq!(load(&kv, &store, 1, 20).await?, (20, 20));
    kv.close().await
}

#[tokio::test]
async fn refused_writes_and_renewals_cost_no_commit() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let config = Config::new(folder.path().join("a.redb")).clock(clock.clone());
    let store = Arc::new(config.build().await?);
    let kv = Kv::new(store.clone());
    kv.put("a", "1").await?;
    let ttl = Duration::from_secs(9);
    let lease = kv.lease(ttl).await?;
    let before = store.stats()?;
    assert!(kv.put("a", "2").if_missing().await.unwrap_err().is_conflict());
    assert!(!kv.delete("b").await?);
    // This is longer than the TTL: the lease lives by renewals, of which each step has one.
    for _ in 0..9 {
        clock.advance(ttl / 3);
        soon("a renewal", async {
            while lease.remaining() < ttl * 3 / 4 {
                assert!(lease.is_held());
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
    assert_eq!(store.stats()?, before);
    assert!(lease.revoke().await?);
    kv.close().await
}

/// On one thread, a task that only ticks would stand still for each commit that ran on it.
#[tokio::test]
async fn no_executor_thread_is_blocked() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (kv, store) = open(&folder.path().join("a.redb")).await?;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let heart = tokio::spawn(async move {
        let (mut beats, mut last, mut longest) = (0_u64, Instant::now(), Duration::ZERO);
        while stopped.try_recv().is_err() {
            tokio::task::yield_now().await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            beats += 1;
        }
        (beats, longest)
    });
    let began = Instant::now();
    let (puts, commits) = load(&kv, &store, 64, 40).await?;
    let took = began.elapsed();
    stop.send(()).unwrap();
    let (beats, longest) = heart.await.unwrap();
    // Were the executor blocked, it would beat once a commit or put; free, it beats all the time
    // between.
    assert!(beats > 4 * commits, "{beats} beats in {commits} commits of {puts} puts");
    eprintln!("{puts} puts, {commits} commits in {took:?}; {beats} beats, the longest pause {longest:?}");
    kv.close().await
}
