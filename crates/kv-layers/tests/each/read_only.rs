//! `ReadOnly` refuses all that writes.

use kv_core::{
    Error, ErrorKind, Key, Kv, Result,
    driver::{Deadline, Expect, LeaseOptions, LockOptions, PutOptions, Transaction, WriteOptions},
};
use kv_layers::ReadOnly;
use std::time::Duration;

async fn reader() -> Result<(Kv, Kv)> {
    let kv = kv_memory::open("memory://").await?;
    kv.put("d/a", "1").await?;
    Ok((kv.clone(), kv.layer(ReadOnly)))
}

fn kind<T>(answer: Result<T>) -> Option<ErrorKind> {
    answer.err().map(|e: Error| e.kind())
}

#[tokio::test]
async fn nothing_writes_through_the_handle() -> Result<()> {
    let (kv, reader) = reader().await?;
    let denied = Some(ErrorKind::PermissionDenied);
    assert_eq!(kind(reader.put("d/a", "2").await), denied);
    assert_eq!(kind(reader.put("d/b", "2").if_missing().await), denied);
    assert_eq!(kind(reader.put("d/b", "2").ttl(Duration::from_secs(9)).await), denied);
    assert_eq!(kind(reader.delete("d/a").await), denied);
    assert_eq!(kind(reader.delete_tree("").await), denied);
    assert_eq!(kind(reader.adopt("").await), denied);
    let unsupported = Some(ErrorKind::Unsupported);
    assert_eq!(kind(reader.transact().then(reader.put("d/a", "2")).await), unsupported);
    assert_eq!(kind(reader.lease(Duration::from_secs(9)).await), unsupported);
    assert_eq!(kind(reader.new_lock("l").try_acquire().await), unsupported);
    assert_eq!(kind(reader.lock_holder("l").await), unsupported);
    let refused = reader.new_lock("l").acquire().await.unwrap_err();
    assert!(refused.to_string().contains("`ReadOnly`"), "{refused}");
    assert_eq!(kv.list("").await?.len(), 1);
    assert_eq!(kv.get("d/a").await?.unwrap().text(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn nor_through_the_store_that_it_is() -> Result<()> {
    let (kv, reader) = reader().await?;
    let (store, key) = (reader.store().as_ref(), Key::parse("d/a")?);
    let write = WriteOptions::default().deadline(Deadline::default());
    assert!(store.put(&key, "2".into(), Expect::Anything, &PutOptions::default()).await.is_err());
    assert!(store.delete(&key, Expect::Anything, &write).await.is_err());
    assert!(store.delete_tree(&key.parent(), None, &write).await.is_err());
    assert!(store.transact(Transaction::default(), &write).await.is_err());
    assert!(store.lease(Duration::from_secs(9), &LeaseOptions::default()).await.is_err());
    assert!(store.lock(&key, &LockOptions::default()).await.is_err());
    assert_eq!(kv.get("d/a").await?.unwrap().text(), Some("1"));
    Ok(())
}
