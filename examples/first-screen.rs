//! The program on the first screen of the README, word for word from here on.

use kv_core::{Result, WatchEvent};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let kv = kv_redb::open("redb://app.redb").await?; // another backend: only this line

    let seen = kv.put("app/color", "red").await?.version;
    kv.put("app/color", "blue").if_version(seen).await?; // compare-and-swap; a stale writer loses:
    let late = kv.put("app/color", "green").if_version(seen).await;
    println!("{}: somebody wrote the key meanwhile", late.unwrap_err().kind());

    let leader = kv.new_lock("leader").acquire().await?; // one holder, kept alive in the background
    kv.put("app/plan", "v2").fenced(&leader).await?; // refused by the store once another leads
    kv.put("app/nodes/1", "up").ttl(Duration::from_secs(5)).await?; // gone by itself

    let mut changes = kv.watch_tree("app").await?; // what is there, then every change, outages included
    loop {
        match changes.event().await? {
            WatchEvent::Put(e) => println!("{} = {:?}", e.key, e.value),
            WatchEvent::Synced => println!("in sync; waiting for changes"),
            WatchEvent::Delete { key, .. } => break println!("{key} has expired"),
        }
    }
    kv.close().await // releases the lock
}
