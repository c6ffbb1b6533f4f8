//! A server that cannot save its data, and takes no writes until it can.

mod common;

use common::{Reply, Resp, change, with};
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::{fs, time::Duration};

/// Has the server save its data, and returns when it says that this ended so.
async fn saves(resp: &mut Resp, outcome: &str) -> Result<(), Failure> {
    let begun = resp.say("BGSAVE").await?;
    assert!(!matches!(begun, Reply::Error(_)), "{begun:?}");
    soon("the outcome", async {
        loop {
            let said = resp.say("INFO persistence").await?.text();
            let has = |line: &str| said.lines().any(|said| said == line);
            if has("rdb_bgsave_in_progress:0") && has(&format!("rdb_last_bgsave_status:{outcome}")) {
                return Ok(());
            }
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_save_takes_no_writes_and_says_why() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = with(kind, &["--dbfilename", "saved.rdb", "--appendonly", "no"]).await?;
        let mut resp = node.resp().await?;
        assert_eq!(resp.ask(&[b"CONFIG", b"SET", b"save", b"3600 1"]).await?, Reply::Text(b"OK".into()));
        let url = format!("redis://{}/disk/", node.address);
        let kv = kv_redis::open(&url).await?.with_deadline(Duration::from_secs(2));
        let ttl = Duration::from_secs(60);
        let version = kv.put("a", "1").await?.version;
        let (lease, guard) = (kv.lease(ttl).await?, kv.new_lock("l").ttl(ttl).acquire().await?);
        let waits = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire().into_future());
        soon("the wait to begin", async {
            while resp.ask(&[b"ZCARD", b"disk/.kv/lock/l"]).await? != Reply::Number(2) {}
            Ok::<_, Failure>(())
        })
        .await??;
        let mut watch = kv.watch_tree("").await?;
        while watch.event().await? != WatchEvent::Synced {}
        // The file's place is taken, which keeps root out too.
        let place = node.folder().join("saved.rdb");
        fs::create_dir(&place)?;
        saves(&mut resp, "err").await?;

        for (call, refused) in [
            ("put", kv.put("new", "").await.map(drop)),
            ("delete", kv.delete("a").await.map(drop)),
            ("delete_tree", kv.delete_tree("").await.map(drop)),
            ("swap", kv.put("a", "2").if_version(version).await.map(drop)),
            ("transact", kv.transact().then(kv.delete("a")).then(kv.put("new", "")).await.map(drop)),
            ("lease", kv.lease(ttl).await.map(drop)),
            ("try_acquire", kv.new_lock("new").try_acquire().await.map(drop)),
        ] {
            let e = refused.err().ok_or_else(|| format!("{kind}: {call} is done"))?;
            assert_eq!(e.kind(), ErrorKind::NoSpace, "{kind}: {call}: {e}");
            assert!(e.to_string().contains("cannot write to its disk"), "{kind}: {call}: {e}");
        }
        let again = kv_redis::open(&url).await?;
        for kv in [&kv, &again] {
            let found = kv.get("a").await?.ok_or("a")?;
            assert_eq!((found.text(), found.version), (Some("1"), version));
            assert_eq!(kv.list("").await?.len(), 1);
            assert_eq!(kv.lock_holder("l").await?.map(|holder| holder.token), Some(guard.token()));
        }
        assert!(guard.is_held() && lease.is_held() && !waits.is_finished());

        fs::remove_dir(&place)?;
        saves(&mut resp, "ok").await?;
        let written = kv.put("a", "2").if_version(version).await?.version;
        let told = change(&mut watch).await?;
        assert!(matches!(&told, WatchEvent::Put(entry) if entry.version == written), "{told:?}");
        assert!(lease.revoke().await? && guard.release().await?);
        assert!(soon("the lock", waits).await???.is_held());
    }
    Ok(())
}
