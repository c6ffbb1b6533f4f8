//! A server over its quota: what it still allows works, by handles that are open and by new ones.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{ErrorKind, Kv};
use kv_testsuite::Failure;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const TTL: Duration = Duration::from_secs(10);

async fn small(kind: &str) -> Result<Node, Failure> {
    let setup = Setup { more: vec!["--quota-backend-bytes=4194304".into()], ..Setup::single(kind) };
    let node = nodes(&setup, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_deletions_and_ends_go_on() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        let node = &small(kind).await?;
        let url = format!("etcd://{}/full/", node.address);
        let kv: Kv = kv_etcd::open(&url).await?;
        let lease = kv.lease(TTL).await?;
        let old = kv.put("leased", "v").lease(&lease).await?.version;
        for key in ["a", "b", "c", "d/a", "d/b", "ttl"] {
            kv.put(key, "v").await?;
        }
        kv.put("ttl", "v").ttl(60 * TTL).await?;
        let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
        let waiting = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire());
        let mut watch = kv.watch_tree("d").await?;
        let value = vec![b'x'; 50_000];
        let full = loop {
            match kv.put("filler", value.clone()).await {
                Ok(_) => {}
                // The write that makes the server full is done, and refused all the same.
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {}
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), ErrorKind::NoSpace, "{full}");
        assert!(full.to_string().contains("quota"), "{full}");

        let late = kv_etcd::open(&url).await?;
        for kv in [&kv, &late] {
            for refused in [
                kv.put("x", "v").await.map(drop),
                kv.put("x", "v").ttl(TTL).await.map(drop),
                kv.put("x", "v").if_missing().await.map(drop),
                kv.transact().then(kv.put("x", "v")).await.map(drop),
                kv.lease(TTL).await.map(drop),
                kv.new_lock("other").ttl(TTL).try_acquire().await.map(drop),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSpace);
            }
            assert!(!kv.exists("x").await?);
        }
        assert!(late.exists("a").await? && late.lock_holder("l").await?.is_some());
        assert!(late.lock_holder("other").await?.is_none());
        assert_eq!(late.list("d").await?.len(), 2);
        assert!(late.delete("a").await?);
        assert!(kv.transact().when_exists("b").then(kv.delete("b")).await?.is_committed());
        late.atomic_delete("leased", old).await?;
        assert_eq!(late.delete_tree("d").await?, Some(2));
        watch.event().await?;
        let mut fresh = late.watch_tree("").await?;
        fresh.event().await?;
        assert!(late.delete("ttl").await?);
        tokio::time::sleep(TTL).await; // renewals go on
        assert!(guard.is_held() && lease.is_held());
        assert!(lease.revoke().await?);
        assert!(guard.release().await?);
        waiting.abort();
        kv.close().await?;
        late.close().await?;
    }
    Ok(())
}

/// Checks that the write with which a server becomes full is not told to have had no effect when
/// it had one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_not_there() -> Result<(), Failure> {
    let node = &small("etcd").await?;
    let url = format!("etcd://{}/full/", node.address);
    let mut writers = Vec::new();
    for writer in 0..8 {
        let kv = kv_etcd::open(&url).await?;
        writers.push(tokio::spawn(async move {
            let value = vec![b'x'; 10_000];
            for n in 0.. {
                let key = format!("{writer}/{n}");
                let Err(e) = kv.put(&key, value.clone()).await else { continue };
                match e.kind() {
                    ErrorKind::NoSpace => {
                        assert!(!kv.exists(&key).await?, "{key} was refused, and is there");
                        if n > 0 {
                            return Ok::<_, Failure>(());
                        }
                    }
                    ErrorKind::OutcomeUnknown => {}
                    _ => return Err(e.into()),
                }
            }
            Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// Checks the same where somebody else has deleted the key before we look.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_was_not_there() -> Result<(), Failure> {
    let node = &small("etcd").await?;
    let url = format!("etcd://{}/full/", node.address);
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (kv, other) = (kv_etcd::open(&url).await?, kv_etcd::open(&url).await?);
        writers.push(tokio::spawn(async move {
            let value = vec![b'x'; 10_000];
            for n in 0.. {
                let (key, is_answered) = (format!("{writer}/{n}"), AtomicBool::new(false));
                let put = async {
                    let put = kv.put(&key, value.clone()).await;
                    is_answered.store(true, Ordering::Relaxed);
                    put
                };
                let deletes = async {
                    loop {
                        let is_last = is_answered.load(Ordering::Relaxed);
                        let was_there = other.delete(&key).await?;
                        if was_there || is_last {
                            return Ok::<_, Failure>(was_there);
                        }
                    }
                };
                let (put, was_there) = tokio::join!(put, deletes);
                let was_there = was_there?;
                let Err(e) = put else { continue };
                match e.kind() {
                    ErrorKind::NoSpace => {
                        assert!(!was_there, "{key} was refused, and was there");
                        return Ok::<_, Failure>(());
                    }
                    ErrorKind::OutcomeUnknown => {}
                    _ => return Err(e.into()),
                }
            }
            Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// Checks the same of the value of a lock's holder.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_value_of_a_holder_is_not_there() -> Result<(), Failure> {
    let node = &small("etcd").await?;
    let url = format!("etcd://{}/full/", node.address);
    let mut holders = Vec::new();
    for holder in 0..8 {
        let kv = kv_etcd::open(&url).await?;
        let guard = kv.new_lock(format!("l{holder}")).acquire().await?;
        holders.push(tokio::spawn(async move {
            for n in 0.. {
                let value = format!("{n:010000}");
                let Err(e) = guard.set_value(value.clone()).await else { continue };
                match e.kind() {
                    ErrorKind::NoSpace => {
                        let there = kv.lock_holder(format!("l{holder}")).await?.ok_or("it is held")?;
                        assert_ne!(there.value, value.as_bytes(), "{n} was refused, and is there");
                        if n > 0 {
                            return Ok::<_, Failure>(());
                        }
                    }
                    ErrorKind::OutcomeUnknown => {}
                    _ => return Err(e.into()),
                }
            }
            Ok(())
        }));
    }
    for holder in holders {
        holder.await??;
    }
    Ok(())
}
