//! Large trees that are deleted, or may no longer be read, over a link that is far away; tokens
//! that are exchanged.

mod common;

use common::{
    guarded::{Guarded, MINE, ROOT, end_of},
    http_with, single,
};
use kv_consul::Config;
use kv_core::{ErrorKind, Kv, Watch, WatchEvent, driver::async_trait};
use kv_testsuite::{
    Failure, Proxy,
    failover::soon,
    rights::{self, Rights},
};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};

/// Writes so many keys below a directory.
async fn fill(kv: &Kv, directory: &str, count: usize) -> Result<(), Failure> {
    let numbers: Vec<_> = (0..count).collect();
    for some in numbers.chunks(30) {
        let mut together = kv.transact();
        for n in some {
            together = together.then(kv.put(format!("{directory}/{n}"), ""));
        }
        assert!(together.await?.is_committed());
    }
    Ok(())
}

async fn synced(watch: &mut Watch) -> Result<HashSet<String>, Failure> {
    let mut seen = HashSet::new();
    loop {
        match soon("what is there", watch.event()).await?? {
            WatchEvent::Put(entry) => drop(seen.insert(entry.key.to_string())),
            WatchEvent::Synced => return Ok(seen),
            event => return Err(format!("{event:?}").into()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_tree_that_is_deleted_far_away_is_told() -> Result<(), Failure> {
    const KEYS: usize = 4000;
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let far = kv_consul::open(&format!("consul://{}/mine/", proxy.address())).await?;
    let near = kv_consul::open(&format!("consul://{}/mine/", node.address)).await?;
    fill(&near, "d", KEYS).await?;
    let mut watch = far.watch_tree("d").await?;
    let mut there = synced(&mut watch).await?;
    assert_eq!(there.len(), KEYS);
    proxy.delay(Duration::from_millis(50));
    near.delete_tree("d").await?;
    soon("all deletions", async {
        while !there.is_empty() {
            if let WatchEvent::Delete { key, .. } = watch.event().await? {
                assert!(there.remove(key.as_str()), "{key} is told twice");
            }
        }
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    Ok(())
}

/// The key was gone when the server was asked, and is there again when that answer is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_made_anew_behind_an_answer_is_no_outage() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let far = kv_consul::open(&format!("consul://{}/mine/", proxy.address())).await?;
    let near = kv_consul::open(&format!("consul://{}/mine/", node.address)).await?;
    near.put("d/k", "").await?;
    let mut watch = far.watch_tree("d").await?;
    synced(&mut watch).await?;
    proxy.delay(Duration::from_millis(100));
    for round in 0..5 {
        // Requests from before are with the server when this one is answered.
        far.get("other").await?;
        near.delete("d/k").await?;
        // These are some round trips, in which the server answers.
        for _ in 0..10 {
            near.get("other").await?;
        }
        near.put("d/k", "").await?;
        let last = near.put("d/last", round.to_string()).await?.version;
        soon("the last write", async {
            loop {
                match watch.event().await? {
                    WatchEvent::Put(entry) if entry.version == last => return Ok(()),
                    WatchEvent::Synced => {
                        return Err(Failure::from(format!("an outage was told in round {round}")));
                    }
                    _ => {}
                }
            }
        })
        .await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_from_a_large_tree_far_away_end_its_watch() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("mine", MINE).await?;
    let proxy = Proxy::start(guarded.0.address).await;
    let config = Config::new([proxy.address().to_string()]).prefix("mine/").token(token);
    let (far, root) = (config.open().await?, guarded.config(ROOT).open().await?);
    fill(&root, "d", 200).await?;
    root.put("d/open/a", "").await?;
    let mut watch = far.watch_tree("d").await?;
    synced(&mut watch).await?;
    proxy.delay(Duration::from_millis(50));
    let open = r#"key_prefix "mine/d/open/" { policy = "write" }"#;
    guarded.change("mine", &format!(r#"{open} key_prefix "mine/d/" {{ policy = "deny" }} {MINE}"#)).await?;
    let end = end_of(&mut watch).await?;
    assert_eq!(end.kind(), ErrorKind::PermissionDenied, "{end}");
    Ok(())
}

/// The new token is in the file, and the old one may read less before the server is told to forget
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_less_before_it_is_exchanged_deletes_nothing() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let (first, second) = (guarded.token("first", MINE).await?, guarded.token("second", MINE).await?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &first)?;
    let config = Config::new([guarded.0.address.to_string()]).prefix("mine/").token_file(&file);
    let (kv, root) = (config.open().await?, guarded.config(ROOT).open().await?);
    let old = guarded.config(&first).open().await?;
    for key in ["d/a", "d/b", "d/secret/a"] {
        root.put(key, "1").await?;
    }
    let mut watch = kv.watch_tree("d").await?;
    synced(&mut watch).await?;
    std::fs::write(&file, &second)?;
    let less = format!(r#"key_prefix "mine/d/secret/" {{ policy = "deny" }} {MINE}"#);
    guarded.change("first", &less).await?;
    soon("the right to be gone", async { while old.get("d/secret/a").await.is_ok() {} }).await?;
    root.put("d/b", "2").await?;
    root.put("d/secret/a", "2").await?;
    let mut owed = HashSet::from(["d/b", "d/secret/a"]);
    while !owed.is_empty() {
        match soon("what was written", watch.event()).await?? {
            WatchEvent::Put(entry) if entry.text() == Some("2") => drop(owed.remove(entry.key.as_str())),
            WatchEvent::Put(entry) => return Err(format!("{entry:?} again").into()),
            WatchEvent::Synced => {}
            event => return Err(format!("{event:?}").into()),
        }
    }
    Ok(())
}

/// A user who reads slowly lists again, and the listing leaves out what is hidden since.
#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_from_a_slow_reader_are_no_deletions() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("mine", MINE).await?;
    let (kv, root) = (guarded.config(&token).open().await?, guarded.config(ROOT).open().await?);
    root.put("d/secret/a", "").await?;
    let mut watch = kv.watch_tree("d").await?;
    synced(&mut watch).await?;
    // This is more than is kept for a watch that is not read.
    for n in 0..16 {
        root.put(format!("d/open/{n}"), vec![0; 256 << 10]).await?;
    }
    let mut other = kv.watch_tree("d").await?;
    assert_eq!(synced(&mut other).await?.len(), 17);
    guarded.change("mine", &format!(r#"key_prefix "mine/d/secret/" {{ policy = "deny" }} {MINE}"#)).await?;
    soon("the right to be gone", async { while kv.get("d/secret/a").await.is_ok() {} }).await?;
    let end = end_of(&mut watch).await?;
    assert_eq!(end.kind(), ErrorKind::PermissionDenied, "{end}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_seen_is_not_free() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("mine", MINE).await?;
    let (kv, root) = (guarded.config(&token).open().await?, guarded.config(ROOT).open().await?);
    let names = ["plain", "ключ"];
    let mut guards = Vec::new();
    for name in names {
        guards.push(root.new_lock(name).acquire().await?);
        assert!(kv.lock_holder(name).await?.is_some());
    }
    guarded.change("mine", &format!(r#"key_prefix "mine/.kv/lock/" {{ policy = "deny" }} {MINE}"#)).await?;
    soon("the right to be gone", async { while kv.lock_holder("plain").await.is_ok() {} }).await?;
    for name in names {
        let holder = kv.lock_holder(name).await.map_err(|e| e.kind());
        assert_eq!(holder, Err(ErrorKind::PermissionDenied), "{name}");
        let mut watch = kv.lock_holder(name).watch().await?;
        let event = soon("the refusal", watch.event()).await?.map_err(|e| e.kind());
        assert_eq!(event, Err(ErrorKind::PermissionDenied), "{name}");
    }
    Ok(())
}

/// A server, and the token of a store whose rights are withdrawn.
struct Scene {
    guarded: Guarded,
    token: String,
}

impl Scene {
    async fn begin() -> Result<Self, Failure> {
        let guarded = Guarded::start(&json!({})).await?;
        let token = guarded.token("mine", MINE).await?;
        Ok(Self { guarded, token })
    }
}

#[async_trait]
impl Rights for Scene {
    /// The least TTL that a store grants which does not know the server's limits.
    const TTL: Duration = Duration::from_secs(10);
    async fn open(&self) -> Result<Kv, Failure> {
        Ok(self.guarded.config(&self.token).open().await?)
    }
    async fn open_of_another(&self) -> Result<Kv, Failure> {
        Ok(self.guarded.config(ROOT).open().await?)
    }
    async fn two_in_line(&self, lock: &str) -> Result<(), Failure> {
        let line = format!("GET /v1/kv/mine/.kv/lock/1/{lock}/?keys");
        soon("the other to be in line", async {
            let names = async || self.guarded.ask(&line, &Value::Null).await;
            while names().await?.as_array().is_none_or(|names| names.len() < 2) {}
            Ok::<_, Failure>(())
        })
        .await?
    }
    async fn withdraw(&self) -> Result<(), Failure> {
        let less = format!(r#"key_prefix "mine/.kv/lock/1/l/" {{ policy = "read" }} {MINE}"#);
        self.guarded.change("mine", &less).await?;
        // The probe is a name in the same queue.
        let probe = json!([{ "KV": { "Verb": "delete", "Key": "mine/.kv/lock/1/l/probe" } }]);
        let (header, probe) = (format!("X-Consul-Token: {}\r\n", self.token), serde_json::to_vec(&probe)?);
        let address = self.guarded.0.address;
        soon("the right to be gone", async {
            while http_with(address, "PUT /v1/txn", &header, &probe).await?.status == 200 {}
            Ok::<_, Failure>(())
        })
        .await?
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_others_are_waited_for() -> Result<(), Failure> {
    rights::ends_while_others_are_waited_for(&Scene::begin().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_given_back_ends_while_it_is_waited_for() -> Result<(), Failure> {
    rights::ends_while_it_is_waited_for(&Scene::begin().await?).await
}

/// A directory takes longer to read than calls have by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_has_the_time_that_it_was_given() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_consul::open(&format!("consul://{}/mine/", proxy.address())).await?;
    kv.put("d/a", "").await?;
    proxy.delay(Duration::from_millis(2700));
    let mut watch = kv.watch_tree("d").deadline(Duration::from_secs(20)).await?;
    assert_eq!(synced(&mut watch).await?.len(), 1);
    Ok(())
}
