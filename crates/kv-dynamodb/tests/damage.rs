//! Items in this library's partitions that are damaged, or foreign: they are `Corrupt` or skipped
//! before anything is written, and have no effect on anything else.

mod common;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use common::{
    Node, config,
    front::{Front, Trouble},
    single,
};
use kv_core::{Error, ErrorKind, Kv, Version, WatchEvent};
use kv_testsuite::Failure;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const TABLE: &str = "damage";
const MINUTE: Duration = Duration::from_secs(60);

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn n(number: &str) -> AttributeValue {
    AttributeValue::N(number.into())
}

fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

async fn write(
    node: &Node,
    partition: &str,
    key: &str,
    attributes: &[(&str, AttributeValue)],
) -> Result<(), Failure> {
    let put = node.sdk().put_item().table_name(TABLE).item("p", s(partition)).item("k", s(key));
    let put = attributes.iter().fold(put, |put, (name, value)| put.item(*name, value.clone()));
    put.send().await?;
    Ok(())
}

async fn item(
    node: &Node,
    partition: &str,
    key: &str,
) -> Result<Option<HashMap<String, AttributeValue>>, Failure> {
    let get = node.sdk().get_item().table_name(TABLE).key("p", s(partition)).key("k", s(key));
    Ok(get.consistent_read(true).send().await?.item)
}

async fn open(node: &Node, prefix: &str) -> Result<Kv, Failure> {
    Ok(node.config(TABLE).prefix(prefix).create(true).open().await?)
}

fn corrupt(e: &Error, names: &str) {
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    assert!(e.to_string().contains(names), "{e} names {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_version_poisons_nothing() -> Result<(), Failure> {
    let node = single().await?;
    let (damaged, other) = (open(&node, "po1/").await?, open(&node, "po2/").await?);
    other.put("k", "before").await?;
    write(&node, "kv:po1/", "d/a", &[("v", b(b"x")), ("ver", b(&[0xff; 16]))]).await?;
    corrupt(&damaged.get("d/a").await.unwrap_err(), "ver");
    corrupt(&damaged.list("d").await.unwrap_err(), "d/a");
    let mut watch = damaged.watch_tree("d").await?;
    corrupt(&watch.event().await.unwrap_err(), "ver");
    for n in 0..40 {
        let written = other.put("k", n.to_string()).await?;
        assert!(written.version.parts().0 < u64::MAX / 2, "{:?}", written.version);
    }
    // The store of the damaged item goes on too, and deleting the item mends it.
    damaged.put("e", "").await?;
    corrupt(&damaged.put("d/a", "y").await.unwrap_err(), "ver");
    corrupt(&damaged.atomic_put("d/a", "y", None).await.unwrap_err(), "ver");
    let steps = damaged.transact().then(damaged.put("d/a", "y")).then(damaged.put("f", ""));
    corrupt(&steps.await.unwrap_err(), "ver");
    assert!(!damaged.exists("f").await?);
    let found = item(&node, "kv:po1/", "d/a").await?.ok_or("it is there")?;
    assert_eq!(found["v"], b(b"x"), "nothing was written");
    damaged.delete("d/a").await?;
    assert!(damaged.list("d").await?.is_empty());
    damaged.put("d/a", "z").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_ends_of_other_types_are_corrupt_and_soon_said() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "t/").await?;
    for (name, value) in [
        ("ver", b(&[1; 15])),
        ("ver", b(&[0; 16])),
        ("ver", n("7")),
        ("ver", s("words")),
        ("ends", s("tomorrow")),
        ("ends", n("-5")),
        ("ends", n("1.5")),
        ("ends", n("1e30")),
        ("ends", n("18446744073709551615")),
    ] {
        let what = format!("{name} {value:?}");
        write(&node, "kv:t/", "a", &[("v", b(b"x")), (name, value.clone())]).await?;
        corrupt(&kv.get("a").await.expect_err(&what), name);
        let began = Instant::now();
        // An end in 1970 has passed, whatever else is wrong with it.
        if ![n("-5"), n("1.5")].contains(&value) {
            corrupt(&kv.atomic_put("a", "y", None).deadline(MINUTE).await.expect_err(&what), name);
            assert!(item(&node, "kv:t/", "a").await?.is_some_and(|found| found["v"] == b(b"x")), "{what}");
        }
        // A put writes the item anew, or does not: it tells which.
        let put = kv.put("a", "y").deadline(MINUTE).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: after {:?}", began.elapsed());
        let left: &[u8] = if put.is_ok() { b"y" } else { b"x" };
        assert!(item(&node, "kv:t/", "a").await?.is_some_and(|found| found["v"] == b(left)), "{what}");
        if let Err(e) = put {
            corrupt(&e, name);
        }
        kv.delete("a").await?;
        kv.put("a", "y").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_caller_made_up_poisons_nothing() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "c/").await?;
    kv.put("k", "").await?;
    for made_up in [Version::new(u64::MAX, 1), Version::new(u64::MAX - 1, u64::MAX)] {
        let e = kv.atomic_put("k", "x", made_up).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::KeyModified, "{e}");
        assert!(!kv.transact().when_version("k", made_up).then(kv.put("k", "x")).await?.is_committed());
    }
    for _ in 0..20 {
        assert!(kv.put("k", "y").await?.version.parts().0 < u64::MAX / 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_a_lock_is_corrupt_before_anything_is_written() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "l/").await?;
    let held = [("owner", s("somebody")), ("ends", n("99999999999999")), ("token", n("7"))];
    for (name, value) in [
        ("owner", Some(n("5"))),
        ("owner", Some(b(b"x"))),
        ("ends", Some(s("never"))),
        ("ends", Some(n("1e30"))),
        ("ends", None),
        ("token", Some(s("seven"))),
        ("token", Some(n("-5"))),
        ("token", Some(n("1e30"))),
        ("token", Some(n("18446744073709551615"))),
        ("token", Some(n("99999999999999999"))),
        ("token", None),
    ] {
        let what = format!("{name} {value:?}");
        let mut attributes: Vec<_> = held.iter().filter(|(of, _)| *of != name).cloned().collect();
        // The record ends in an hour.
        attributes.iter_mut().filter(|(of, _)| *of == "ends").for_each(|(_, ends)| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            *ends = n(&(now.as_millis() + 3_600_000).to_string());
        });
        attributes.extend(value.map(|value| (name, value)));
        write(&node, "kv-lock:l/", "L", &attributes).await?;
        let before = item(&node, "kv-lock:l/", "L").await?;
        corrupt(&kv.lock_holder("L").await.expect_err(&what), name);
        corrupt(&kv.new_lock("L").try_acquire().await.expect_err(&what), name);
        corrupt(&kv.new_lock("L").acquire().await.expect_err(&what), name);
        let mut watch = kv.lock_holder("L").watch().await?;
        corrupt(&watch.event().await.expect_err(&what), name);
        assert_eq!(item(&node, "kv-lock:l/", "L").await?, before, "{what}");
    }
    // Without an owner nobody holds the lock, but its token still counts.
    for token in [s("seven"), n("-5"), n("1e30"), n("18446744073709551615")] {
        let what = format!("{token:?}");
        write(&node, "kv-lock:l/", "L", &[("token", token)]).await?;
        let before = item(&node, "kv-lock:l/", "L").await?;
        corrupt(&kv.new_lock("L").try_acquire().await.expect_err(&what), "token");
        assert_eq!(item(&node, "kv-lock:l/", "L").await?, before, "{what}");
    }
    // An item that says nothing of a lock at all is in nobody's way.
    write(&node, "kv-lock:l/", "L", &[("v", b(b"a note"))]).await?;
    assert!(kv.lock_holder("L").await?.is_none());
    let guard = kv.new_lock("L").acquire().await?;
    assert!(guard.release().await?);
    Ok(())
}

/// A damaged record of a holder is no deletion to those who watch the holder.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_damaged_under_a_watch_is_no_deletion() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "w/").await?;
    let _guard = kv.new_lock("L").ttl(MINUTE).acquire().await?;
    kv.put("a", "1").await?;
    let (mut holder, mut key) = (kv.lock_holder("L").watch().await?, kv.watch("a").await?);
    for watch in [&mut holder, &mut key] {
        assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
        assert_eq!(watch.event().await?, WatchEvent::Synced);
    }
    let set = |partition: &str, key: &str, name: &str, value: AttributeValue| {
        let update = node.sdk().update_item().table_name(TABLE).key("p", s(partition)).key("k", s(key));
        let update = update.update_expression("SET #a = :v").expression_attribute_names("#a", name);
        update.expression_attribute_values(":v", value).send()
    };
    set("kv-lock:w/", "L", "owner", n("5")).await?;
    set("kv:w/", "a", "ver", b(&[0xff; 16])).await?;
    corrupt(&holder.event().await.unwrap_err(), "owner");
    corrupt(&key.event().await.unwrap_err(), "ver");
    Ok(())
}

/// Stores on two tables, or on two services, have nothing to do with each other, whatever the
/// prefix.
#[tokio::test(flavor = "multi_thread")]
async fn stores_of_two_tables_do_not_wait_for_each_other() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let slow = config(front.address, "slow").prefix("app/").create(true).open().await?;
    let other = node.config("other").prefix("app/").create(true).open().await?;
    // Each deletion would wait for two seconds.
    let (mut took, mut puts) = (Duration::ZERO, Vec::new());
    for n in 0..6 {
        let (slow, key) = (slow.clone(), format!("k/{n}"));
        front.trouble("PutItem", Trouble::Late(Duration::from_secs(4)), 1);
        puts.push(tokio::spawn(slow.put(&key, "1").deadline(MINUTE).into_future()));
        while !front.counted().iter().any(|(operation, _)| operation == "PutItem") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let began = Instant::now();
        other.delete(&key).deadline(MINUTE).await?;
        took += began.elapsed();
    }
    assert!(took < Duration::from_secs(8), "they waited {took:?} for another table");
    for put in puts {
        put.await??;
    }
    Ok(())
}

async fn set(
    node: &Node,
    (partition, key): (&str, &str),
    name: &str,
    value: AttributeValue,
    instead_of: Option<AttributeValue>,
) -> Result<AttributeValue, Failure> {
    let before = item(node, partition, key).await?.and_then(|mut item| item.remove(name));
    let update = node.sdk().update_item().table_name(TABLE).key("p", s(partition)).key("k", s(key));
    let mut update = update.update_expression("SET #a = :v").expression_attribute_names("#a", name);
    if let Some(old) = instead_of {
        update = update.condition_expression("#a = :old").expression_attribute_values(":old", old);
    }
    match update.expression_attribute_values(":v", value).send().await {
        // A value that was written meanwhile stays.
        Err(e) if e.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {}
        set => drop(set?),
    }
    Ok(before.ok_or("it was there")?)
}

/// A leased key whose end was damaged for a while lives on with its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_leased_key_that_was_damaged_for_a_while_is_kept() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "le/").await?;
    let (ttl, began) = (Duration::from_secs(12), Instant::now());
    let lease = kv.lease(ttl).await?;
    kv.put("a", "1").lease(&lease).await?;
    let odd = AttributeValue::Bool(true);
    let was = set(&node, ("kv:le/", "a"), "ends", odd.clone(), None).await?;
    tokio::time::sleep_until((began + Duration::from_secs(9)).into()).await;
    set(&node, ("kv:le/", "a"), "ends", was, Some(odd)).await?;
    while began.elapsed() < ttl * 2 {
        assert!(kv.exists("a").await?, "it ended after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(lease.is_held() && lease.revoke().await?);
    assert!(!kv.exists("a").await?);
    Ok(())
}

/// A revocation that meets a damaged end of the lease's record deletes neither it nor a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_a_lease_is_corrupt_before_anything_is_deleted() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "lr/").await?;
    for odd in [AttributeValue::Bool(true), s("never"), n("-5"), n("1e30"), n("99999999999999999")] {
        let what = format!("{odd:?}");
        let lease = kv.lease(MINUTE).await?;
        kv.put("a", "1").lease(&lease).await?;
        let id = lease.id().as_str().to_owned();
        set(&node, ("kv-lease:lr/", &id), "ends", odd, None).await?;
        let before = item(&node, "kv-lease:lr/", &id).await?;
        corrupt(&lease.revoke().await.expect_err(&what), "ends");
        assert!(kv.exists("a").await?, "{what}");
        assert_eq!(item(&node, "kv-lease:lr/", &id).await?, before, "{what}");
    }
    let lease = kv.lease(MINUTE).await?;
    kv.put("a", "1").lease(&lease).await?;
    assert!(lease.revoke().await? && !kv.exists("a").await?);
    Ok(())
}

/// A put under a lease whose record was deleted is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_under_a_lease_whose_record_was_deleted() -> Result<(), Failure> {
    let node = single().await?;
    let kv = open(&node, "ld/").await?;
    let lease = kv.lease(Duration::from_secs(9)).await?;
    kv.put("a", "1").lease(&lease).await?;
    let delete = node.sdk().delete_item().table_name(TABLE).key("p", s("kv-lease:ld/"));
    delete.key("k", s(lease.id().as_str())).send().await?;
    let lost = tokio::time::timeout(Duration::from_secs(5), lease.lost()).await?;
    assert!(lost.to_string().contains("deleted"), "{lost}");
    let e = kv.put("b", "1").lease(&lease).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LeaseLost, "{e}");
    Ok(())
}

/// A lock whose owner was damaged for a while is kept by its holder. A lock that cannot be given
/// back is not said to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_owner_was_damaged_for_a_while_is_kept_and_given_back() -> Result<(), Failure> {
    let node = single().await?;
    let (kv, other) = (open(&node, "lo/").await?, open(&node, "lo/").await?);
    let (ttl, odd) = (Duration::from_secs(12), AttributeValue::Bool(true));
    let place = ("kv-lock:lo/", "L");
    let guard = kv.new_lock("L").ttl(ttl).acquire().await?;
    let was = set(&node, place, "owner", odd.clone(), None).await?;
    // At least one renewal comes meanwhile.
    tokio::time::sleep(ttl / 2).await;
    assert!(guard.is_held(), "nobody else has it");
    corrupt(&other.new_lock("L").try_acquire().await.unwrap_err(), "owner");
    set(&node, place, "owner", was.clone(), Some(odd.clone())).await?;
    tokio::time::sleep(ttl).await;
    assert!(guard.is_held() && other.new_lock("L").try_acquire().await?.is_none());
    set(&node, place, "owner", odd.clone(), None).await?;
    corrupt(&guard.release().await.unwrap_err(), "owner");
    set(&node, place, "owner", was, Some(odd)).await?;
    // The lock is given back as soon as that can be done.
    let began = Instant::now();
    while other.lock_holder("L").await?.is_some() {
        assert!(began.elapsed() < ttl / 2, "it is held by who gave it back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
