//! probe
use std::time::Instant;
#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap();
    let t = Instant::now();
    let kv = kv_dynamodb::open(&url).await.unwrap();
    println!("open {:?}", t.elapsed());
    for n in 0..5 { let t = Instant::now(); let _k = kv_dynamodb::open(&url).await.unwrap(); println!("open{n} {:?}", t.elapsed()); }
    let t = Instant::now();
    for n in 0..500 { kv.put(format!("d/{n}"), "x").await.unwrap(); }
    println!("put {:?}", t.elapsed() / 500);
    let t = Instant::now();
    for n in 0..500 { kv.get(format!("d/{n}")).await.unwrap(); }
    println!("get {:?}", t.elapsed() / 500);
    let t = Instant::now();
    println!("{}", kv.list("d").await.unwrap().len());
    println!("list {:?}", t.elapsed());
    let mut w = kv.watch_tree("d").await.unwrap();
    let t = Instant::now();
    while !matches!(w.event().await.unwrap(), kv_core::WatchEvent::Synced) {}
    println!("watch {:?}", t.elapsed());
    let t = Instant::now();
    for n in 0..100 { kv.put(format!("d/{n}"), "x").await.unwrap(); }
    println!("put while watched {:?}", t.elapsed() / 100);
    let t = Instant::now();
    for _ in 0..100 { w.event().await.unwrap(); }
    println!("events {:?}", t.elapsed());
}
