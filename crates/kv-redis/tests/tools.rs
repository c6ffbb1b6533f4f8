//! Reads and writes by the servers' own tool, in both directions, byte for byte.

mod common;

use common::{Reply, change, single};
use kv_core::{Capabilities, ErrorKind, ForeignKeys, Item, Kv, Watch, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon, process::run};
use std::collections::BTreeMap;

const KINDS: [&str; 3] = ["redis", "redis8", "valkey"];

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_redis_cli_reads() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        for (key, value) in [("a/b", all_bytes()), ("empty", Vec::new()), ("ключ/🔑 *?#%", b"\n".to_vec())]
        {
            kv.put(key, value.clone()).await?;
            let mut get = node.cli();
            get.args(["--raw", "get", &format!("tools/{key}")]);
            let mut read = run(get, b"")?;
            assert_eq!(read.pop(), Some(b'\n'), "redis-cli ends what it prints with a line's end");
            assert_eq!(read, value, "{key} on {kind}");
        }
        let mut ttl = node.cli();
        ttl.args(["pttl", "tools/a/b"]);
        assert_eq!(run(ttl, b"")?, b"-1\n");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_cli_wrote_we_read() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        let capabilities: &Capabilities = kv.capabilities();
        assert_eq!(capabilities.foreign_keys, ForeignKeys::AfterAdoption);
        for (key, value) in [("a/b", all_bytes()), ("c d/🔑", b"plain".to_vec())] {
            let mut set = node.cli();
            set.args(["-x", "set", &format!("tools/{key}")]);
            run(set, &value)?;
            let found = kv.get(key).await?.ok_or("redis-cli set it")?;
            assert_eq!(found.value, value, "{key} on {kind}");
        }
        // Only adopted keys are listed.
        assert_eq!(kv.adopt("").await?, 2);
        assert_eq!(kv.list("").await?.len(), 2);
        let found = kv.get("a/b").await?.ok_or("it is there")?;
        let mut again = node.cli();
        again.args(["set", "tools/a/b", "changed"]);
        run(again, b"")?;
        let refused = kv.put("a/b", "mine").if_version(found.version).await;
        assert!(refused.unwrap_err().is_conflict(), "what redis-cli changed has another version");
        let found = kv.get("a/b").await?.ok_or("it is there")?;
        kv.put("a/b", "mine").if_version(found.version).await?;
        let mut delete = node.cli();
        delete.args(["del", "tools/a/b"]);
        run(delete, b"")?;
        assert!(!kv.exists("a/b").await?);
        assert_eq!(kv.list("").await?.len(), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_another_type_is_left_alone() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
    let mut resp = node.resp().await?;
    resp.say("RPUSH tools/list 1 2").await?;
    let e = kv.put("list", "mine").await.unwrap_err();
    assert!(e.to_string().contains("list") && e.to_string().contains("tools/list"), "{e}");
    assert!(kv.transact().then(kv.put("a", "")).then(kv.put("list", "")).await.is_err());
    assert!(!kv.exists("a").await?, "all or nothing");
    assert!(!kv.delete("list").await?);
    assert_eq!(resp.say("LLEN tools/list").await?, Reply::Number(2));
    Ok(())
}

/// Reads events until their fold equals the listing.
async fn folds(kv: &Kv, watch: &mut Watch, map: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let entries = kv.list("d").await?;
    let there: BTreeMap<_, _> =
        entries.iter().map(|e| (e.key.to_string(), e.text().unwrap_or_default().to_owned())).collect();
    let told = async {
        while *map != there {
            match watch.event().await? {
                WatchEvent::Put(e) => {
                    drop(map.insert(e.key.to_string(), e.text().unwrap_or_default().to_owned()))
                }
                WatchEvent::Delete { key, .. } => drop(map.remove(key.as_str())),
                WatchEvent::Synced => {}
            }
        }
        Ok::<_, kv_core::Error>(())
    };
    match soon("the fold to be the listing", told).await {
        Ok(told) => Ok(told?),
        Err(e) => Err(format!("{e}: told {map:?}, there is {there:?}").into()),
    }
}

/// Changes by other tools (keys that they set, delete, end or flush away) are told after the next
/// `adopt`.
#[tokio::test(flavor = "multi_thread")]
async fn adopting_goes_both_ways() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        let mut resp = node.resp().await?;
        for n in 0..5 {
            kv.put(format!("d/{n}"), "ours").await?;
        }
        kv.put("elsewhere", "ours").await?;
        let (mut watch, mut map) = (kv.watch_tree("d").await?, BTreeMap::new());
        let mut one = kv.watch("d/4").await?;
        while one.event().await? != WatchEvent::Synced {}
        folds(&kv, &mut watch, &mut map).await?;
        for (tool, adopted) in [
            ("SET tools/d/0 theirs", 1),
            ("DEL tools/d/1", 0),
            ("PEXPIRE tools/d/2 1", 0),
            ("SET tools/d/1 again", 1),
            ("RENAME tools/d/3 tools/d/5", 1),
        ] {
            resp.say(tool).await?;
            soon("what is to expire", async {
                while resp.say("EXISTS tools/d/2").await? == Reply::Number(1) && tool.starts_with("PEXPIRE") {
                }
                Ok::<_, Failure>(())
            })
            .await??;
            assert_eq!(kv.adopt("d").await?, adopted, "{tool}");
            folds(&kv, &mut watch, &mut map).await.map_err(|e| format!("{tool}: {e}"))?;
        }
        resp.say("FLUSHDB").await?;
        assert_eq!(kv.adopt("d").await?, 0);
        folds(&kv, &mut watch, &mut map).await.map_err(|e| format!("flushed: {e}"))?;
        assert!(map.is_empty());
        let gone = change(&mut one).await?;
        assert!(matches!(gone, WatchEvent::Delete { .. }), "{gone:?}");
        // This also holds where keys were written since.
        for n in 0..3 {
            kv.put(format!("d/{n}"), "ours").await?;
        }
        folds(&kv, &mut watch, &mut map).await?;
        resp.say("FLUSHALL").await?;
        kv.put("d/0", "ours").await?;
        kv.adopt("").await?;
        folds(&kv, &mut watch, &mut map).await.map_err(|e| format!("flushed again: {e}"))?;
    }
    Ok(())
}

/// A listing of names gives the versions of the last writes through the library. Where another tool
/// has written over a value since, a conditional write by that version conflicts.
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_name_has_the_version_of_our_last_write() -> Result<(), Failure> {
    for kind in KINDS {
        let node = single(kind).await?;
        let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
        for key in ["d/ours", "d/theirs"] {
            kv.put(key, "1").await?;
        }
        node.resp().await?.say("SET tools/d/theirs 2").await?;
        let mut names = kv.list("d").child_keys();
        while let Some(item) = names.next().await {
            let Item::Key(key, version) = item? else { return Err("a key".into()) };
            let is_ours = key.as_str() == "d/ours";
            let found = kv.get(&key).await?.ok_or("it is there")?;
            assert_eq!(found.version == version, is_ours, "{key} on {kind}");
            let deleted = kv.delete(&key).if_version(version).await;
            assert_eq!(
                deleted.map_err(|e| e.kind()),
                if is_ours { Ok(true) } else { Err(ErrorKind::KeyModified) }
            );
        }
        let left = kv.list("d").await?;
        assert_eq!(left.len(), 1);
        assert!(kv.delete("d/theirs").if_version(left[0].version).await?, "a listing of values has it");
    }
    Ok(())
}

/// Values that another tool writes over its own, or over ours and back, are no deletion.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_overwrite_again_is_not_told_as_deleted() -> Result<(), Failure> {
    let node = single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_redis::open(&format!("redis://{}/tools/", proxy.address())).await?;
    kv.put("d/k", "ours").await?;
    let mut resp = node.resp().await?;
    resp.say("SET tools/d/k theirs").await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let theirs = (0..10).map(|n| format!("theirs {n}"));
    for value in theirs.chain(["ours".to_owned()]) {
        resp.ask(&[b"SET", b"tools/d/k", value.as_bytes()]).await?;
        // The watch lists again.
        proxy.reset().await;
        soon("the value", async {
            loop {
                match watch.event().await? {
                    WatchEvent::Put(entry) if entry.text() == Some(&value) => break Ok::<_, Failure>(()),
                    WatchEvent::Synced => {}
                    event => break Err(format!("{event:?} before {value:?}").into()),
                }
            }
        })
        .await??;
    }
    Ok(())
}

/// That a contender was given up is noted for a while, by a name of ours.
#[tokio::test(flavor = "multi_thread")]
async fn notes_of_contenders_that_were_given_up_are_not_taken_for_foreign_names() -> Result<(), Failure> {
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/tools/", node.address)).await?;
    let guard = kv.new_lock("l").acquire().await?;
    assert!(kv.break_lock("l").token(guard.token()).await?);
    let mut names = kv.list("").tell_left_out().keys();
    while names.next().await.transpose()?.is_some() {}
    let marks = node.resp().await?.say("KEYS tools/.kv/gone/*").await?.list();
    assert_eq!((marks.len(), names.left_out().count), (1, 0), "{:?}", names.left_out());
    Ok(())
}
