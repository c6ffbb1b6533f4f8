//! Measures reading from, listing and deleting a tree of 10,000 nodes: `cargo bench -p
//! kv-zookeeper`, on a server of its own or on the one that `KV_ZOOKEEPER_URL` names. The aim is a
//! listing in less than two seconds on two cores.

#[path = "../tests/common/mod.rs"]
mod common;

use futures::{StreamExt, TryStreamExt, stream};
use kv_core::Kv;
use kv_testsuite::{Base, Failure};
use std::time::Instant;

const DIRECTORIES: usize = 99;
const KEYS: usize = 100;
const READS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (node, base) = match Base::live(common::LIVE)? {
        Some(base) => (None, base),
        None => {
            let node = common::single("zookeeper").await?;
            let base = Base::new(format!("zookeeper://{}/", node.address))?;
            (Some(node), base)
        }
    };
    let kv = kv_zookeeper::open(&base.with_prefix("kv-bench-tree/")).await?;
    let begun = Instant::now();
    let puts = (0..DIRECTORIES * KEYS).map(|n| put(&kv, n));
    stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(64).try_for_each(|()| async { Ok(()) }).await?;
    let count = DIRECTORIES * KEYS;
    println!("put {count} keys in {DIRECTORIES} directories, 64 at once: {:?}", begun.elapsed());
    for (at_once, is_stale) in [(1, false), (64, false), (1, true), (64, true)] {
        let begun = Instant::now();
        let gets = (0..READS).map(|n| get(&kv, n, is_stale));
        let gets = stream::iter(gets.collect::<Vec<_>>()).buffer_unordered(at_once);
        gets.try_for_each(|()| async { Ok(()) }).await?;
        let (took, which) = (begun.elapsed(), if is_stale { "stale reads" } else { "reads" });
        println!(
            "{READS} {which}, {at_once} at once: {took:?}, {:.0} a second",
            READS as f64 / took.as_secs_f64()
        );
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let found = kv.list("").await?.len();
        assert_eq!(found, count);
        times.push(begun.elapsed());
    }
    times.sort();
    println!("list {} nodes: {:?} (median of {}, all {times:?})", count + DIRECTORIES, times[2], times.len());
    let begun = Instant::now();
    let names = kv.list("").keys();
    assert_eq!(names.count().await, count);
    println!("list their names: {:?}", begun.elapsed());
    let begun = Instant::now();
    kv.delete_tree("").await?;
    println!("delete_tree: {:?}", begun.elapsed());
    kv.close().await?;
    drop(node);
    Ok(())
}

fn key(n: usize) -> String {
    format!("d{}/k{}", n % DIRECTORIES, n / DIRECTORIES)
}

async fn put(kv: &Kv, n: usize) -> Result<(), Failure> {
    kv.put(key(n), vec![b'x'; 100]).await?;
    Ok(())
}

async fn get(kv: &Kv, n: usize, is_stale: bool) -> Result<(), Failure> {
    let get = kv.get(key(n));
    let found = if is_stale { get.stale().await? } else { get.await? };
    found.map(drop).ok_or_else(|| "it was put".into())
}
