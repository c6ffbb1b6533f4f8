//! The program of the guide's page "Start in three minutes".

use kv_core::{Result, WatchEvent};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let kv = kv_memory::open("memory://").await?; // another store: only this line

    // A put answers the version that it made. A later write can depend on it.
    let seen = kv.put("app/color", "red").await?.version;
    kv.put("app/color", "blue").if_version(seen).await?;
    let late = kv.put("app/color", "green").if_version(seen).await;
    println!("{}: somebody wrote the key meanwhile", late.unwrap_err().kind());

    // A key with a TTL goes by itself.
    kv.put("app/nodes/1", "up").ttl(Duration::from_secs(2)).await?;

    // A watch tells what is there, says `Synced`, and then tells every change.
    let mut changes = kv.watch_tree("app").await?;
    loop {
        match changes.event().await? {
            WatchEvent::Put(entry) => println!("{} = {}", entry.key, entry.text().unwrap_or("?")),
            WatchEvent::Synced => println!("that is all; now come the changes"),
            WatchEvent::Delete { key, .. } => break println!("{key} is gone"),
        }
    }

    // A lock has one holder, and is kept alive in the background.
    let guard = kv.new_lock("app/leader").value("me").acquire().await?;
    kv.put("app/plan", "v2").fenced(&guard).await?; // refused once another holds the lock
    kv.close().await // gives the lock back, and waits until that is done
}
