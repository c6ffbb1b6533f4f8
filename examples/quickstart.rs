//! The main job in one program, on any backend, with the same output on each:
//!
//! ```text
//! cargo run --example quickstart                # on an embedded store, in the file quickstart.redb
//! cargo run --example quickstart -- memory://   # on the store of this URL
//! cargo run --example quickstart --features etcd -- etcd://127.0.0.1:2379/demo/
//! ```

use kv_core::{Condition, Result, Watch, WatchEvent};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://quickstart.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("quickstart").await?; // removes what an earlier run left

    println!("# put, get, list");
    kv.put("quickstart/color", "red").await?;
    kv.put("quickstart/nodes/1", "10.0.0.1").await?;
    kv.put("quickstart/nodes/2", "10.0.0.2").await?;
    if let Some(color) = kv.get("quickstart/color").await? {
        println!("{} = {}", color.key, color.text().unwrap_or("no text"));
        for node in kv.list("quickstart/nodes").await? {
            println!("{} = {}", node.key, node.text().unwrap_or("no text"));
        }

        println!("\n# compare-and-swap: two writers have seen the same version");
        kv.put("quickstart/color", "blue").if_version(color.version).await?;
        println!("the first writes blue");
        match kv.put("quickstart/color", "green").if_version(color.version).await {
            Ok(_) => println!("the second overwrites it"),
            Err(e) => println!("the second gets {:?}: it reads again, and decides again", e.kind()),
        }
    }

    println!("\n# a watch: what is there, then every change");
    let mut changes = kv.watch_tree("quickstart/config").await?;
    tell(&mut changes).await?;
    kv.put("quickstart/config/level", "info").await?;
    tell(&mut changes).await?;
    kv.put("quickstart/config/level", "debug").await?;
    tell(&mut changes).await?;
    kv.delete("quickstart/config/level").await?;
    tell(&mut changes).await?;

    println!("\n# a TTL: the key goes by itself");
    kv.put("quickstart/config/trial", "on").ttl(Duration::from_secs(1)).await?;
    tell(&mut changes).await?;
    tell(&mut changes).await?;

    println!("\n# a lock, and writes that depend on it");
    let first = kv.new_lock("quickstart").value("host-1").acquire().await?;
    kv.put("quickstart/plan", "by host-1").fenced(&first).await?;
    println!("host-1 leads and writes");
    if kv.new_lock("quickstart").try_acquire().await?.is_none() {
        println!("host-2 does not get the lock");
    }
    let proof_of_first = first.fence().clone();
    first.release().await?;
    let second = kv.new_lock("quickstart").value("host-2").acquire().await?;
    kv.put("quickstart/plan", "by host-2").fenced(&second).await?;
    println!("host-1 gives it up: host-2 leads and writes");
    // A leader that does not know yet that it was replaced writes late.
    let late = kv
        .transact()
        .when(Condition::Held(proof_of_first))
        .then(kv.put("quickstart/plan", "by host-1 again"))
        .await?;
    println!(
        "a late write of host-1 is {}",
        if late.is_committed() { "taken" } else { "refused by the store" }
    );
    if let Some(plan) = kv.get("quickstart/plan").await? {
        println!("{} = {}", plan.key, plan.text().unwrap_or("no text"));
    }

    kv.close().await // releases what is still held
}

/// Waits for the next event and prints it.
async fn tell(changes: &mut Watch) -> Result<()> {
    match changes.event().await? {
        WatchEvent::Put(entry) => println!("{} is now {}", entry.key, entry.text().unwrap_or("no text")),
        WatchEvent::Delete { key, .. } => println!("{key} is gone"),
        WatchEvent::Synced => println!("in sync"),
    }
    Ok(())
}
