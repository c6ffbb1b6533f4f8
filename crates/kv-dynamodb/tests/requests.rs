//! The number of requests that each call takes, counted in front of the emulator, and the end of
//! calls whose requests fail.

mod common;

use aws_sdk_dynamodb::types::AttributeValue;
use common::{
    Node, config,
    front::{Front, Trouble},
    single,
};
use kv_core::{ErrorKind, Kv, Outcome, WatchEvent};
use kv_testsuite::{Failure, failover::soon};
use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

const TABLE: &str = "requests";

async fn behind_front() -> Result<(Node, Front, Kv), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, TABLE).prefix("app/").create(true).open().await?;
    front.counted();
    Ok((node, front, kv))
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(operation, count)| ((*operation).to_owned(), *count)).collect()
}

/// Checks that the call takes these requests and no others; gives its answer.
macro_rules! costs {
    ($front:expr, $call:expr, $expected:expr) => {{
        let answer = $call.into_future().await?;
        assert_eq!($front.counted(), counts(&$expected), "{}", stringify!($call));
        answer
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_take_the_requests_that_the_contract_allows() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    let ttl = Duration::from_secs(60);
    let version = costs!(front, kv.put("d/a", "1"), [("PutItem", 1)]).version;
    let version = costs!(front, kv.put("d/a", "2").if_version(version), [("PutItem", 1)]).version;
    costs!(front, kv.put("d/a", "3"), [("PutItem", 1)]);
    costs!(front, kv.put("d/t", "").ttl(ttl), [("PutItem", 1)]);
    let other = costs!(front, kv.atomic_put("d/b", "1", None), [("PutItem", 1)]).version;
    costs!(front, kv.atomic_delete("d/b", other), [("DeleteItem", 1)]);
    costs!(front, kv.get("d/a"), [("GetItem", 1)]);
    costs!(front, kv.get("d/none"), [("GetItem", 1)]);
    costs!(front, kv.exists("d/a"), [("GetItem", 1)]);
    costs!(front, kv.get_many(["d/a", "d/t", "d/none"]), [("BatchGetItem", 1)]);
    costs!(front, kv.delete("d/t"), [("DeleteItem", 1)]);
    costs!(front, kv.delete("d/none"), [("DeleteItem", 1)]);
    let steps = kv.transact().when_missing("d/x").then(kv.put("d/y", "").ttl(ttl)).then(kv.delete("d/z"));
    assert!(costs!(front, steps, [("TransactWriteItems", 1)]).is_committed());
    let refused = kv.transact().when_version("d/a", version).then(kv.put("d/y", ""));
    let refused = costs!(front, refused, [("TransactWriteItems", 1)]);
    assert_eq!(refused.refusal().map(|refusal| refusal.index), Some(0));
    assert_eq!(costs!(front, kv.list("d"), [("Query", 1)]).len(), 2);
    costs!(front, kv.delete_tree("d"), [("BatchWriteItem", 1), ("Query", 1)]);
    costs!(front, kv.health(), [("GetItem", 1)]);

    // No renewal is counted.
    let lock = || kv.new_lock("l").ttl(10 * ttl);
    let guard = costs!(front, lock().acquire(), [("UpdateItem", 1)]);
    costs!(front, kv.put("d/a", "").fenced(&guard), [("TransactWriteItems", 1)]);
    costs!(front, guard.set_value("changed"), [("UpdateItem", 1)]);
    costs!(front, kv.lock_holder("l"), [("GetItem", 1)]);
    assert_eq!(costs!(front, kv.locks(""), [("Query", 1)]).len(), 1);
    assert!(costs!(front, kv.new_lock("l").try_acquire(), [("UpdateItem", 1)]).is_none());
    assert!(costs!(front, guard.release(), [("UpdateItem", 1)]));
    let guard = lock().acquire().await?;
    front.counted();
    assert!(costs!(front, kv.break_lock("l").token(guard.token()), [("UpdateItem", 1)]));
    let lease = costs!(front, kv.lease(10 * ttl), [("PutItem", 1)]);
    costs!(front, kv.put("d/leased", "").lease(&lease), [("PutItem", 1)]);
    assert!(costs!(front, lease.revoke(), [("DeleteItem", 2)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_beside_costs_nothing() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    let puts: Vec<_> = (0..600)
        .map(|n| {
            kv.put(format!("big/{n:04}"), "x".repeat(200)).deadline(Duration::from_secs(60)).into_future()
        })
        .collect();
    futures::future::try_join_all(puts).await?;
    kv.put("small/a", "").await?;
    kv.put("z", "").await?;
    front.counted();
    assert_eq!(costs!(front, kv.list("small"), [("Query", 1)]).len(), 1);
    // The listing of the root's children jumps over what lies deeper.
    let mut children = kv.list("").child_keys();
    let mut found = Vec::new();
    while let Some(item) = children.next().await {
        found.push(item?.position().start());
    }
    assert_eq!(found, ["big/", "small/", "z"]);
    assert_eq!(front.counted(), counts(&[("Query", 2)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_holder_died_is_taken_by_one_request() -> Result<(), Failure> {
    let (node, front, kv) = behind_front().await?;
    let put = node.sdk().put_item().table_name(TABLE).item("p", AttributeValue::S("kv-lock:app/".into()));
    let put =
        put.item("k", AttributeValue::S("l".into())).item("owner", AttributeValue::S("the dead".into()));
    put.item("token", AttributeValue::N("7".into()))
        .item("ends", AttributeValue::N("1000".into()))
        .send()
        .await?;
    assert!(kv.lock_holder("l").await?.is_none());
    front.counted();
    let guard = costs!(front, kv.new_lock("l").acquire(), [("UpdateItem", 1)]);
    assert!(guard.token() > 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_ridden_out_within_the_deadline() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    let throttled = Trouble::Refused(400, "ProvisionedThroughputExceededException");
    front.trouble("PutItem", throttled.clone(), 3);
    let version = costs!(front, kv.put("a", "1"), [("PutItem", 4)]).version;
    front.trouble("GetItem", Trouble::Refused(400, "ThrottlingException"), 2);
    assert_eq!(costs!(front, kv.get("a"), [("GetItem", 3)]).map(|e| e.version), Some(version));
    front.trouble("TransactWriteItems", Trouble::Refused(400, "RequestLimitExceeded"), 2);
    let transact = kv.transact().then(kv.put("b", ""));
    assert!(costs!(front, transact, [("TransactWriteItems", 3)]).is_committed());

    front.trouble("PutItem", throttled, 1000);
    let began = Instant::now();
    let e = kv.put("a", "2").deadline(Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.is_transient() && began.elapsed() < Duration::from_secs(2), "{e}");
    front.no_more_trouble();
    assert_eq!(kv.get("a").await?.map(|e| e.version), Some(version), "nothing was written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_sent_once_and_looked_for() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    front.trouble("PutItem", Trouble::Lost, 1);
    let version = costs!(front, kv.put("a", "1"), [("GetItem", 1), ("PutItem", 1)]).version;
    assert_eq!(kv.get("a").await?.map(|e| e.version), Some(version));
    front.trouble("PutItem", Trouble::Lost, 1);
    let version = kv.atomic_put("a", "2", version).await?.version;
    front.counted();

    // The deletion may have happened, and no read can tell that it was this one.
    front.trouble("DeleteItem", Trouble::Lost, 1);
    let e = kv.delete("a").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert_eq!(front.counted(), counts(&[("DeleteItem", 1)]));
    assert!(!kv.exists("a").await?);
    assert_eq!(kv.atomic_put("a", "3", version).await.unwrap_err().kind(), ErrorKind::KeyModified);
    front.counted();

    // The service reports an error of its own, which tells nothing of the effect.
    front.trouble("PutItem", Trouble::Refused(500, "InternalServerError"), 1);
    let e = kv.put("b", "1").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert_eq!(front.counted(), counts(&[("GetItem", 1), ("PutItem", 1)]));
    assert!(!kv.exists("b").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_answer_is_lost_is_repeated_and_happens_once() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    front.trouble("TransactWriteItems", Trouble::Lost, 1);
    let transact = kv.transact().when_missing("a").then(kv.put("a", "1"));
    let Outcome::Committed(written) = costs!(front, transact, [("TransactWriteItems", 2)]) else {
        return Err("our own transaction hindered itself".into());
    };
    let version = kv.get("a").await?.map(|e| e.version);
    assert_eq!(written[0].map(|w| w.version), version);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_requests_whose_answers_are_lost_are_known_as_ours() -> Result<(), Failure> {
    let (_node, front, kv) = behind_front().await?;
    let first = kv.new_lock("l").acquire().await?;
    let token = first.token();
    first.release().await?;
    front.counted();
    front.trouble("UpdateItem", Trouble::Lost, 1);
    let guard = costs!(front, kv.new_lock("l").try_acquire(), [("UpdateItem", 2)]).ok_or("it is free")?;
    assert!(guard.token() > token);
    let holder = costs!(front, kv.lock_holder("l"), [("GetItem", 1)]);
    assert_eq!(holder.map(|holder| holder.token), Some(guard.token()), "it was taken once");
    front.trouble("UpdateItem", Trouble::Lost, 1);
    assert!(costs!(front, guard.release(), [("UpdateItem", 2)]), "it was held until it was released");
    assert!(kv.lock_holder("l").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_watches_and_waits_share_their_polls() -> Result<(), Failure> {
    let (node, front, kv) = behind_front().await?;
    let other = config(node.address, TABLE).prefix("app/").open().await?;
    let mut watches = Vec::new();
    for n in 0..20 {
        let mut watch = kv.watch_tree(format!("d/{n}")).await?;
        while watch.event().await? != WatchEvent::Synced {}
        watches.push(watch);
    }
    let mut waits = Vec::new();
    let mut guards = Vec::new();
    front.counted();
    for n in 0..20 {
        guards.push(other.new_lock(format!("l/{n}")).ttl(Duration::from_secs(600)).acquire().await?);
        waits.push(tokio::spawn(kv.new_lock(format!("l/{n}")).ttl(Duration::from_secs(600)).acquire()));
    }
    // Each contender asks once.
    let mut asked = 0;
    soon("all contenders", async {
        while asked < 20 {
            let counted = front.counted();
            asked += counted.iter().filter(|(of, _)| of == "UpdateItem").map(|(_, n)| n).sum::<u64>();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    front.counted();
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (seconds, counted) = (began.elapsed().as_secs_f64(), front.counted());
    for (operation, count) in &counted {
        let most = match operation.as_str() {
            "GetRecords" | "BatchGetItem" => 6.0 * seconds,
            // The table is looked at every five seconds.
            "DescribeTable" => 1.0,
            _ => 0.0,
        };
        assert!(*count as f64 <= most, "{counted:?} in {seconds} s");
    }
    assert!(counted.len() >= 2, "{counted:?}");
    drop(guards);
    for wait in waits {
        drop(wait.await??);
    }
    Ok(())
}

/// The service's clock is an hour ahead: nothing depends on this machine's own date.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_date_decides_and_no_clients() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    front.ahead(Duration::from_secs(3600));
    let open = || async { Ok::<_, Failure>(config(front.address, TABLE).create(true).open().await?) };
    let (kv, other) = (open().await?, open().await?);
    let ttl = Duration::from_secs(8);
    let before = Instant::now();
    kv.put("a", "").ttl(ttl).await?;
    let put = Instant::now();
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let latest = ttl + kv.capabilities().lateness(ttl) + Duration::from_secs(1);
    loop {
        let asked = put.elapsed();
        if !other.exists("a").await? {
            break;
        }
        assert!(asked <= latest, "it is there after {asked:?}");
        assert!(other.new_lock("l").ttl(ttl).try_acquire().await?.is_none());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lived = before.elapsed();
    assert!(lived >= ttl.mul_f64(0.98), "{lived:?}");
    assert!(guard.is_held() && guard.release().await?);
    let item = node.sdk().get_item().table_name(TABLE).key("p", AttributeValue::S("kv:".into()));
    let item = item.key("k", AttributeValue::S("a".into())).send().await?.item.ok_or("it stays for a day")?;
    let ends: u64 = item["ends"].as_n().map_err(|_| "no number")?.parse()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    assert!(u128::from(ends) > now + 3_500_000, "it ends by the service's time");
    Ok(())
}
