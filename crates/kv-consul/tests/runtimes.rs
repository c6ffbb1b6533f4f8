//! One handle in several runtimes, at an agent that takes as many connections as agents do by
//! default.

mod common;

use common::with;
use kv_core::{Kv, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use serde_json::json;
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const TTL: Duration = Duration::from_secs(15);
const RUNTIMES: usize = 3;
const WATCHES: usize = 60;
const CALLS: usize = 24;

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Watches, holds a lock and a lease, and makes calls all the time, for longer than the lock and
/// the lease live without renewals.
async fn works(kv: Kv, own: usize) -> Result<(), Failure> {
    let mut watches = Vec::new();
    for n in 0..WATCHES {
        watches.push(kv.watch_tree(format!("{own}/d{n}")).await?);
    }
    for watch in &mut watches {
        assert_eq!(soon("what is there", watch.event()).await??, WatchEvent::Synced);
    }
    let guard = kv.new_lock(format!("l{own}")).ttl(TTL).acquire().await?;
    let lease = kv.lease(TTL).await?;
    let (mut calls, began) = (JoinSet::new(), Instant::now());
    for n in 0..CALLS {
        let kv = kv.clone();
        calls.spawn(async move {
            while began.elapsed() < TTL * 6 / 5 {
                let key = format!("{own}/call{n}");
                let version = kv.put(&key, "").await?.version;
                assert_eq!(kv.get(&key).await?.map(|entry| entry.version), Some(version));
            }
            Ok::<_, kv_core::Error>(())
        });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    assert!(guard.is_held() && lease.is_held(), "in runtime {own}");
    for n in 0..WATCHES {
        kv.put(format!("{own}/d{n}/k"), "").await?;
    }
    for watch in &mut watches {
        let told = soon("the put", watch.event()).await??;
        assert!(matches!(told, WatchEvent::Put(_)), "{told:?}");
    }
    kv.put(format!("{own}/fenced"), "").fenced(&guard).await?;
    assert!(guard.release().await? && lease.revoke().await?);
    Ok(())
}

#[test]
fn three_runtimes_use_one_handle_at_once() -> Result<(), Failure> {
    let servers = runtime()?;
    let node = servers.block_on(with(&json!({ "limits": { "http_max_conns_per_client": 200 } })))?;
    let kv = servers.block_on(kv_consul::open(&format!("consul://{}/runtimes/", node.address)))?;
    let each = (0..RUNTIMES).map(|own| {
        let kv = kv.clone();
        thread::spawn(move || runtime().and_then(|runtime| runtime.block_on(works(kv, own))))
    });
    for one in each.collect::<Vec<_>>() {
        one.join().map_err(|_| "a runtime panicked")??;
    }
    servers.block_on(kv.close())?;
    Ok(())
}
