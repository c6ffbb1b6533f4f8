//! A server whose disk is full: it takes no writes, says so, and goes on when there is room.

mod common;

use common::with;
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use serde_json::json;
use std::{env, fs, path::PathBuf, process::Command, time::Duration};

/// Names the variable that says where the small disk is.
const DISK: &str = "KV_CONSUL_SMALL_DISK";
const TTL: Duration = Duration::from_secs(60);

/// Tells whether a write may fail in this way that a full server did not take. The server does not
/// lead any more then, until it is elected again.
fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::*;
    matches!(kind, NoSpace | Unavailable | Timeout | OutcomeUnknown)
}

#[test]
#[ignore = "mounts a file system: needs root, or the right to make user namespaces"]
fn a_full_disk_is_told_and_nothing_is_lost() -> Result<(), Failure> {
    let disk = tempfile::tempdir()?;
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs -o size=16m none \"$0\" && exec \"$@\""])
        .arg(disk.path())
        .arg(env::current_exe()?)
        .args(["--exact", "on_a_small_disk", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(DISK, disk.path())
        .status()?;
    status.success().then_some(()).ok_or_else(|| format!("on a small disk: {status}").into())
}

/// Runs on a disk of its own, when another test starts it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test, as a process of its own"]
async fn on_a_small_disk() -> Result<(), Failure> {
    let Some(disk) = env::var_os(DISK).map(PathBuf::from) else { return Ok(()) };
    let node = with(&json!({ "data_dir": disk.join("data") })).await?;
    let kv = kv_consul::open(&format!("consul://{}/full/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(3));
    for key in ["d/a", "e"] {
        kv.put(key, "before").await?;
    }
    let version = kv.put("d/b", "before").await?.version;
    let (guard, lease) = (kv.new_lock("l").ttl(TTL).acquire().await?, kv.lease(TTL).await?);
    kv.put("leased", "").lease(&lease).await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}

    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 32 << 20]).expect_err("the disk is small");
    let told = soon("a write to be refused for the disk", async {
        // The room that the server's file has in itself is taken first.
        for n in 0.. {
            match kv.put(format!("filler/{n}"), vec![b'x'; 50_000]).await {
                Err(e) if e.kind() == ErrorKind::NoSpace => return Ok(e),
                Err(e) if !is_refusal(e.kind()) => return Err(e),
                _ => {}
            }
        }
        unreachable!("there is an end to it")
    });
    let told = told.await??;
    assert!(told.to_string().contains("disk is full"), "{told}");
    // A server that cannot write that it leads does not lead; reads that any member answers are
    // answered.
    assert!(kv.get("d/a").stale().await?.is_some());
    // A small write may still find room in the server's file: then it is done, and otherwise it is
    // not.
    let answers = [
        ("new/put", kv.put("new/put", "").await.map(drop)),
        ("new/ttl", kv.put("new/ttl", "").ttl(TTL).await.map(drop)),
        ("new/swap", kv.atomic_put("new/swap", "", None).await.map(drop)),
        ("new/txn", kv.transact().then(kv.put("new/txn", "")).then(kv.delete("new/none")).await.map(drop)),
    ];
    let deleted = kv.atomic_delete("d/b", version).await.map(drop);
    for answer in [
        kv.lease(TTL).await.map(drop),
        kv.new_lock("other").ttl(TTL).try_acquire().await.map(drop),
        kv.delete_tree("filler").await.map(drop),
        deleted.clone(),
    ]
    .into_iter()
    .chain(answers.iter().map(|(_, answer)| answer.clone()))
    {
        assert!(
            answer.as_ref().is_ok() || answer.as_ref().is_err_and(|e| is_refusal(e.kind())),
            "{answer:?}"
        );
    }
    assert!(guard.is_held() && lease.is_held());

    fs::remove_file(ballast)?;
    soon("a write to be taken", async { while kv.put("d/after", "").await.is_err() {} }).await?;
    let told = soon("the watch to tell it", async {
        loop {
            match watch.event().await? {
                WatchEvent::Put(entry) if entry.key.as_str() == "d/after" => return Ok(()),
                WatchEvent::Delete { key, .. } if key.as_str() != "d/b" => {
                    return Err(Failure::from(format!("{key} was not deleted")));
                }
                _ => {}
            }
        }
    });
    told.await??;
    let keys: Vec<_> = kv.list("").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    let is_there = |key: &str| keys.iter().any(|there| there == key);
    for key in ["d/a", "d/after", "e", "leased"] {
        assert!(is_there(key), "{key} is there: {keys:?}");
    }
    let is_known = |answer: &kv_core::Result<()>| {
        answer.as_ref().err().is_none_or(|e| e.kind() != ErrorKind::OutcomeUnknown)
    };
    assert!(!is_known(&deleted) || is_there("d/b") == deleted.is_err(), "{deleted:?}");
    for (key, answer) in answers.iter().filter(|(_, answer)| is_known(answer)) {
        assert_eq!(is_there(key), answer.is_ok(), "{key}: {answer:?}");
    }
    kv.put("e", "fenced").fenced(&guard).await?;
    assert!(guard.release().await? && lease.revoke().await?);
    Ok(kv.close().await?)
}
