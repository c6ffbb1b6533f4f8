//! Exchange with the bare SDK in both directions, byte for byte, and what the service itself does
//! with items.

mod common;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use common::single;
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

const TABLE: &str = "tools";

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).chain([0, b'\n', b'\r', 0xff]).collect()
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_the_sdk_reads() -> Result<(), Failure> {
    let node = single().await?;
    let kv = node.config(TABLE).prefix("app/").create(true).open().await?;
    let keys = [("a/b", all_bytes()), ("empty", Vec::new()), ("ключ/🔑 *?#%", b"\n".to_vec())];
    for (key, value) in &keys {
        kv.put(*key, value.clone()).await?;
        let get = node.sdk().get_item().table_name(TABLE).key("p", s("kv:app/")).key("k", s(key));
        let item = get.send().await?.item.ok_or("it was put")?;
        assert_eq!(item["v"], AttributeValue::B(Blob::new(value.clone())), "{key}");
    }
    let query = node.sdk().query().table_name(TABLE).key_condition_expression("p = :p");
    let found = query.expression_attribute_values(":p", s("kv:app/")).send().await?;
    let found: Vec<_> = found.items().iter().map(|item| item["k"].clone()).collect();
    assert_eq!(found, keys.map(|(key, _)| s(key)), "in the order of a listing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sdk_wrote_we_read_list_and_watch() -> Result<(), Failure> {
    let node = single().await?;
    let kv = node.config(TABLE).prefix("app/").create(true).open().await?;
    let put = |key: &'static str, value: Vec<u8>| {
        let put = node.sdk().put_item().table_name(TABLE).item("p", s("kv:app/")).item("k", s(key));
        put.item("v", AttributeValue::B(Blob::new(value))).send()
    };
    put("a/b", all_bytes()).await?;
    put("c d/🔑", b"plain".to_vec()).await?;
    let found = kv.get("a/b").await?.ok_or("the SDK put it")?;
    assert_eq!(found.value, all_bytes());
    assert_eq!(kv.list("").await?.len(), 2);

    // The version of a foreign item serves as a precondition: it is equal for equal bytes, and
    // another for others.
    put("a/b", b"theirs".to_vec()).await?;
    assert_eq!(kv.atomic_put("a/b", "ours", found.version).await.unwrap_err().kind(), ErrorKind::KeyModified);
    let found = kv.get("a/b").await?.ok_or("it is there")?;
    let children = kv.list("a").child_keys().next().await.transpose()?;
    assert_eq!(children, Some(kv_core::Item::Key(found.key.clone(), found.version)));
    let steps = kv.transact().when_version("a/b", found.version).then(kv.put("a/c", ""));
    assert!(steps.await?.is_committed());
    let ours = kv.atomic_put("a/b", "ours", found.version).await?;

    let mut watch = kv.watch_tree("a").await?;
    while watch.event().await? != WatchEvent::Synced {}
    // The SDK writes over this library's item, so that the version goes back: the newest state is
    // told all the same.
    put("a/b", b"theirs again".to_vec()).await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(e) if e.text() == Some("theirs again")));
    assert_eq!(kv.atomic_put("a/b", "", ours.version).await.unwrap_err().kind(), ErrorKind::KeyModified);
    node.sdk().delete_item().table_name(TABLE).key("p", s("kv:app/")).key("k", s("a/b")).send().await?;
    assert!(matches!(watch.event().await?, WatchEvent::Delete { key, .. } if key.as_str() == "a/b"));
    assert!(!kv.exists("a/b").await?);
    Ok(())
}

/// The service deletes later what has ended, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_deleted_by_the_service() -> Result<(), Failure> {
    let node = single().await?;
    let kv = node.config(TABLE).slack(Duration::ZERO).create(true).open().await?;
    let mut watch = kv.watch_tree("d").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    kv.put("d/a", "1").ttl(Duration::from_secs(3)).await?;
    kv.new_lock("l").acquire().await?.release().await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    assert!(matches!(watch.event().await?, WatchEvent::Delete { .. }));
    let began = Instant::now();
    while node.sdk().scan().table_name(TABLE).send().await?.count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "what has ended stays in the table");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The deletion itself is not told.
    kv.put("d/b", "").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(e) if e.key.as_str() == "d/b"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_versions_survive_kill_and_restart() -> Result<(), Failure> {
    let node = single().await?;
    let kv = node.open(TABLE).await?;
    let version = kv.put("a", "1").await?.version;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    let token = guard.token();
    node.daemon.kill();
    node.start().await?;
    let other = node.open(TABLE).await?;
    assert_eq!(other.get("a").await?.map(|e| e.version), Some(version));
    assert!(other.new_lock("l").try_acquire().await?.is_none());
    assert!(guard.is_held() && guard.release().await?);
    assert!(other.new_lock("l").acquire().await?.token() > token);
    Ok(())
}
