//! Code as a newcomer first types it compiles, and does what it says.

#![expect(clippy::needless_borrows_for_generic_args, reason = "it is what people write")]

use kv_core::{Bytes, Directory, Error, ErrorKind, Key, Kv, Registry, Result, StoreUrl, Version};
use std::{borrow::Cow, sync::Arc, time::Duration};

async fn memory() -> Kv {
    kv_memory::open("memory://").await.unwrap()
}

/// An error of a program's own, as `anyhow::Error` is one.
#[derive(Debug)]
struct Own(String);

impl From<Error> for Own {
    fn from(e: Error) -> Self {
        Self(e.to_string())
    }
}

#[tokio::test]
async fn values_are_text_and_bytes_owned_and_borrowed() -> Result<()> {
    let kv = memory().await;
    async fn register(kv: &Kv, address: &str) -> Result<()> {
        kv.put("n", address).await.map(drop)
    }
    register(&kv, &String::from("10.0.0.1")).await?;
    let (text, bytes, list) = (String::from("v"), Bytes::from("v"), vec![b'v']);
    for put in [
        kv.put("a", &text),
        kv.put("a", text.as_str()),
        kv.put("a", &text.as_str()),
        kv.put("a", &bytes),
        kv.put("a", &bytes[..]),
        kv.put("a", &list),
        kv.put("a", [b'v']),
        kv.put("a", b"v"),
        kv.put("a", Cow::Borrowed("v")),
        kv.put("a", Cow::from(vec![b'v'])),
        kv.put("a", Box::<str>::from("v")),
        kv.put("a", Arc::<str>::from("v")),
        kv.put("a", text.clone()),
        kv.put("a", list.clone()),
        kv.atomic_put("a", &text, None),
    ] {
        kv.delete("a").await?;
        put.await?;
        assert_eq!(kv.get("a").await?.unwrap().text(), Some("v"));
    }
    kv.new_lock("l").value(&text).acquire().await?.release().await?;
    Ok(())
}

#[tokio::test]
async fn names_are_text_of_every_kind() -> Result<()> {
    let kv = memory().await;
    kv.put(Cow::from("a"), "1").await?;
    kv.put(&Arc::<str>::from("b"), "2").await?;
    let both = kv.get_many(&["a", "b"]).await?;
    assert!(both.iter().all(Option::is_some));
    let (key, directory): (Key, Directory) = ("/a//b/".try_into()?, String::from("a").try_into()?);
    assert_eq!((String::from(key), String::from(directory)), ("a/b".into(), "a".into()));
    assert_eq!(Version::try_from("7")?.to_string(), "7");
    assert_eq!(kv.list("").keys().await?.len(), 2);
    assert_eq!(kv.list("").child_keys().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_leader_fails_with_its_own_error_and_writes_by_its_fence() -> Result<(), Own> {
    let kv = memory().await;
    let guard = kv.new_lock("leader").ttl(Duration::from_secs(10)).acquire().await?;
    assert!(guard.ttl() == Duration::from_secs(10) && guard.remaining() > Duration::from_secs(8));
    let failed: Result<(), Own> = guard.while_held(async { Err(Own("mine".into())) }).await;
    assert_eq!(failed.unwrap_err().0, "mine");
    let fence = guard.fence().clone();
    kv.put("a", "1").fenced(&fence).await?;
    assert!(kv.transact().when_held(&fence).then(kv.put("a", "2")).await?.is_committed());
    kv.delete("a").fenced(&guard).await?;
    guard.release().await?;
    let late = kv.put("a", "3").fenced(fence).await.unwrap_err();
    assert_eq!((late.kind(), late.kind().as_str()), (ErrorKind::LockLost, "lock_lost"));
    Ok(())
}

#[tokio::test]
async fn of_two_conditions_neither_is_dropped_in_silence() -> Result<()> {
    let kv = memory().await;
    let (one, other) = (kv.new_lock("one").acquire().await?, kv.new_lock("other").acquire().await?);
    let seen = kv.put("a", "1").await?.version;
    let later = kv.put("a", "2").await?.version;
    for (what, refused) in [
        ("missing, and at a version", kv.put("a", "3").if_missing().if_version(later).await.map(drop)),
        ("at two versions", kv.put("a", "3").if_version(seen).if_version(later).await.map(drop)),
        ("compared, and missing", kv.atomic_put("a", "3", Some(later)).if_missing().await.map(drop)),
        ("by two locks", kv.put("a", "3").fenced(&one).fenced(&other).await.map(drop)),
        ("deleted at two versions", kv.delete("a").if_version(seen).if_version(later).await.map(drop)),
        ("deleted by two locks", kv.delete("a").fenced(&one).fenced(&other).await.map(drop)),
        ("a step", kv.transact().then(kv.put("a", "3").if_missing().if_version(later)).await.map(drop)),
    ] {
        let e = refused.expect_err(what);
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{what}: {e}");
    }
    assert_eq!(kv.get("a").await?.map(|entry| entry.version), Some(later));
    // The same twice is no contradiction.
    kv.put("a", "3").if_version(later).if_version(later).fenced(&one).fenced(&one).await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_opens_text_and_urls() -> Result<()> {
    let registry = Registry::new().with("memory", kv_memory::from_url);
    registry.open("memory://").await?;
    registry.open(String::from("memory://")).await?;
    registry.open(StoreUrl::parse("memory://")?).await?;
    for refused in ["memory", "nosuch://h/app"] {
        let e = registry.open(refused).await.expect_err(refused);
        assert_eq!((e.operation(), e.backend()), (Some("open"), None), "no backend was asked");
        assert!(e.to_string().starts_with("open: "), "{e}");
    }
    let e = registry.open("memory://?no-such=1").await.expect_err("an unknown parameter");
    assert_eq!((e.operation(), e.backend()), (Some("open"), Some("memory")));
    Ok(())
}

#[test]
fn what_holds_a_stream_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<(kv_core::Watch, kv_core::Listing<Key>, Error, kv_core::Guard, kv_core::Lease)>();
    fn copied<T: Clone>() {}
    copied::<Error>();
}
