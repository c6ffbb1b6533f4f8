//! The ends of what is watched, which the stream does not tell: the reader looks when their time
//! has come.

mod common;

use aws_sdk_dynamodb::types::AttributeValue;
use common::{
    Node, config,
    front::{Front, Trouble},
    single,
};
use kv_core::{Kv, Watch, WatchEvent};
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

const TABLE: &str = "ends";
const TTL: Duration = Duration::from_secs(8);

struct World {
    _node: Node,
    front: Front,
    kv: Kv,
    other: Kv,
    key: Watch,
    /// Makes the reader look at the record of the lock.
    _holder: Watch,
}

/// Makes a key, and the record of a holder that died, which end at the same time; watches both.
async fn world() -> Result<World, Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, TABLE).create(true).open().await?;
    let other = node.config(TABLE).open().await?;
    other.put("a", "1").ttl(TTL).await?;
    let s = |text: &str| AttributeValue::S(text.into());
    let get = node.sdk().get_item().table_name(TABLE).key("p", s("kv:")).key("k", s("a"));
    let ends = get.send().await?.item.ok_or("it was put")?["ends"].clone();
    let put = node.sdk().put_item().table_name(TABLE).item("p", s("kv-lock:")).item("k", s("l"));
    let put = put.item("owner", s("the dead")).item("token", AttributeValue::N("7".into()));
    put.item("ends", ends).send().await?;
    let (mut key, mut holder) = (kv.watch("a").await?, kv.lock_holder("l").watch().await?);
    for watch in [&mut key, &mut holder] {
        assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
        assert_eq!(watch.event().await?, WatchEvent::Synced);
    }
    Ok(World { _node: node, front, kv, other, key, _holder: holder })
}

impl World {
    /// Waits until the reader has looked so many times: first at the keys, then at the locks.
    async fn looked(&self, times: u64, seen: &mut u64) {
        while *seen < times {
            let counted = self.front.counted();
            *seen += counted.iter().filter(|(of, _)| of == "BatchGetItem").map(|(_, n)| n).sum::<u64>();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn event(&mut self) -> Result<WatchEvent, Failure> {
        let late = TTL + self.kv.capabilities().lateness(TTL) + Duration::from_secs(1);
        Ok(tokio::time::timeout(late, self.key.event()).await.map_err(|_| "nothing was told")??)
    }
}

fn is_put(event: &WatchEvent, value: &str) -> bool {
    matches!(event, WatchEvent::Put(entry) if entry.text() == Some(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_put_off_while_it_is_looked_at_is_told_later() -> Result<(), Failure> {
    let (mut world, mut seen) = (world().await?, 0);
    world.front.trouble("BatchGetItem", Trouble::Late(Duration::ZERO), 1);
    world.front.trouble("BatchGetItem", Trouble::Late(Duration::from_secs(4)), 1);
    world.looked(2, &mut seen).await;
    let put = Instant::now();
    world.other.put("a", "2").ttl(TTL).await?;
    let event = world.event().await?;
    assert!(is_put(&event, "2"), "{event:?}");
    let event = world.event().await?;
    assert!(matches!(event, WatchEvent::Delete { .. }) && put.elapsed() >= TTL.mul_f64(0.98), "{event:?}");
    assert!(!world.kv.exists("a").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_its_end_is_looked_at_does_not_come_back() -> Result<(), Failure> {
    let (mut world, mut seen) = (world().await?, 0);
    world.front.trouble("BatchGetItem", Trouble::Late(Duration::from_millis(1500)), 1);
    world.front.trouble("BatchGetItem", Trouble::Late(Duration::from_secs(2)), 1);
    world.looked(1, &mut seen).await;
    world.other.put("a", "2").await?;
    let event = world.event().await?;
    assert!(is_put(&event, "2"), "{event:?}");
    world.looked(2, &mut seen).await;
    let began = Instant::now();
    world.other.delete("a").await?;
    let event = world.event().await?;
    assert!(matches!(event, WatchEvent::Delete { .. }), "{event:?}");
    tokio::time::sleep_until((began + Duration::from_millis(2500)).into()).await;
    world.other.put("a", "3").await?;
    let event = world.event().await?;
    assert!(is_put(&event, "3"), "{event:?}");
    Ok(())
}
