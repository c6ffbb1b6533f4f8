//! `Encrypt` hides values, and opens them under their names alone.

use kv_core::{ErrorKind, Kv, Outcome, Result, WatchEvent};
use kv_layers::{Encrypt, Keyring};

async fn sealed() -> Result<(Kv, Kv, Keyring)> {
    let (store, keys) = (kv_memory::open("memory://").await?, Keyring::new(1, [1; 32]));
    let kv = store.clone().layer(Encrypt::new(&keys));
    Ok((store, kv, keys))
}

/// A value that nobody may see on the server.
const MARKED: &str = "marked-as-secret";

fn shows(bytes: &[u8]) -> bool {
    bytes.windows(MARKED.len()).any(|part| part == MARKED.as_bytes())
}

#[tokio::test]
async fn no_way_of_writing_shows_a_value_to_the_server() -> Result<()> {
    let (store, kv, _) = sealed().await?;
    let version = kv.put("put", MARKED).await?.version;
    kv.put("put", MARKED).if_version(version).await?;
    kv.put("created", MARKED).if_missing().await?;
    let guard = kv.new_lock("l").value(MARKED).acquire().await?;
    kv.put("fenced", MARKED).fenced(&guard).await?;
    let both = kv.transact().then(kv.put("one", MARKED)).then(kv.put("other", MARKED)).await?;
    assert!(both.is_committed());
    kv.update("updated", |_| Ok(MARKED)).await?;
    let stored = store.list("").await?;
    assert_eq!(stored.len(), 6);
    for entry in stored {
        assert!(!shows(&entry.value), "{} is in the clear", entry.key);
        assert_eq!(Encrypt::key_of(&entry.value), Some(1), "{}", entry.key);
        assert_eq!(kv.get(&entry.key).await?.unwrap().text(), Some(MARKED));
    }
    let holder = store.lock_holder("l").await?.unwrap();
    assert!(!shows(&holder.value), "the holder's value is in the clear");
    assert_eq!(kv.lock_holder("l").await?.unwrap().value, MARKED);
    let mut watch = kv.lock_holder("l").watch().await?;
    let first = watch.event().await?;
    assert!(matches!(&first, WatchEvent::Put(entry) if entry.value == MARKED), "{first:?}");
    assert!(!format!("{kv:?} {guard:?}").contains(MARKED));
    Ok(())
}

#[tokio::test]
async fn conditions_look_at_versions_which_are_those_of_the_store() -> Result<()> {
    let (store, kv, _) = sealed().await?;
    let version = kv.put("a", "1").await?.version;
    assert_eq!(store.get("a").await?.unwrap().version, version);
    let done = kv.transact().when_version("a", version).then(kv.put("b", "2")).await?;
    assert!(done.is_committed());
    let done = store.transact().when_version("a", version).then(store.delete("a")).await?;
    assert!(matches!(done, Outcome::Committed(_)));
    assert_eq!(kv.put("a", "2").if_version(version).await.unwrap_err().kind(), ErrorKind::KeyModified);
    Ok(())
}

#[tokio::test]
async fn a_value_that_was_moved_changed_or_not_sealed_is_corrupt_everywhere() -> Result<()> {
    let (store, kv, _) = sealed().await?;
    kv.put("d/fine", "1").await?;
    let moved = store.get("d/fine").await?.unwrap().value;
    let mut changed = moved.to_vec();
    changed[30] ^= 1;
    let cases = [("moved", moved.to_vec()), ("changed", changed), ("plain", b"plain".to_vec())];
    for (name, value) in cases {
        store.put(format!("d/{name}"), value).await?;
        let refused = kv.get(format!("d/{name}")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert!(refused.to_string().contains(&format!("d/{name}")), "{refused}");
        assert_eq!(kv.list("d").await.unwrap_err().kind(), ErrorKind::Corrupt);
        let many = kv.get_many(["d/fine".to_owned(), format!("d/{name}")]).await;
        assert_eq!(many.unwrap_err().kind(), ErrorKind::Corrupt);
        let mut watch = kv.watch_tree("d").await?;
        let ended = loop {
            match watch.event().await {
                Ok(WatchEvent::Synced) => panic!("{name}: it was told to be fine"),
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert_eq!(ended.kind(), ErrorKind::Corrupt, "{ended}");
        assert!(kv.exists(format!("d/{name}")).await?, "it is there");
        assert_eq!(kv.list("d").keys().await?.len(), 2, "names need no key");
        assert!(kv.delete(format!("d/{name}")).await?);
    }
    assert_eq!(kv.list("d").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn keys_are_exchanged_while_handles_are_open() -> Result<()> {
    let (store, kv, keys) = sealed().await?;
    // Another process, which is a step behind.
    let behind = Keyring::new(1, [1; 32]);
    let other = store.clone().layer(Encrypt::new(&behind));
    kv.put("a", "old").await?;
    keys.add(2, [2; 32])?;
    assert_eq!(Encrypt::key_of(&store.get("a").await?.unwrap().value), Some(1));
    keys.write_with(2)?;
    kv.put("b", "new").await?;
    assert_eq!((keys.numbers(), keys.writes_with()), (vec![1, 2], 2));
    let refused = other.get("b").await.unwrap_err();
    assert!(refused.to_string().contains("the key 2, which the keyring does not have"), "{refused}");
    behind.add(2, [2; 32])?;
    assert_eq!(other.get("b").await?.unwrap().text(), Some("new"));
    assert_eq!(keys.remove(2).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(keys.add(1, [9; 32]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(keys.write_with(3).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let old = kv.get("a").await?.unwrap();
    kv.put("a", old.value).if_version(old.version).await?;
    assert!(keys.remove(1)? && !keys.remove(1)?);
    assert_eq!(kv.get("a").await?.unwrap().text(), Some("old"));
    assert_eq!(format!("{keys:?}"), "Keyring { keys: [2], writes_with: 2 }");
    Ok(())
}

#[tokio::test]
async fn the_greatest_value_has_room_in_a_transaction() -> Result<()> {
    let (store, kv, _) = sealed().await?;
    let (below, above) = (store.capabilities().clone(), kv.capabilities().clone());
    let one = kv.transact().then(kv.put("k".repeat(512), vec![b'x'; above.max_value])).await?;
    assert!(one.is_committed());
    assert_eq!(kv.put("k", vec![b'x'; above.max_value + 1]).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(above.max_txn_bytes + 36 * below.max_txn_ops <= below.max_txn_bytes);
    Ok(())
}
