//! Keeps a map of a configuration in step with the store, and prints what changes:
//!
//! ```text
//! cargo run --example config-watch            # on an embedded store, in the file config-watch.redb
//! cargo run --example config-watch -- URL     # on the store of this URL
//! ```
//!
//! An operator, here a task, changes the configuration meanwhile. The program ends when it sees
//! the last change, and fails if its map then differs from what a listing shows.

use kv_core::{Bytes, Error, ErrorKind, Key, Kv, Result, WatchEvent};
use std::{collections::BTreeMap, time::Duration};

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://config-watch.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("config-watch").await?; // removes what an earlier run left
    kv.put("config-watch/level", "info").await?;
    kv.put("config-watch/limits/requests", "100").await?;

    let operator = tokio::spawn(operate(kv.clone()));
    let config = follow(&kv).await?;
    operator.await.map_err(|e| Error::new(ErrorKind::Other, "the operator failed").with_cause(e))??;

    let listed: BTreeMap<_, _> =
        kv.list("config-watch").await?.into_iter().map(|e| (e.key, e.value)).collect();
    if config != listed {
        let why = format!("the map holds {config:?}, the store {listed:?}");
        return Err(Error::new(ErrorKind::Other, why));
    }
    println!("the map is what the store holds: {} keys", config.len());
    kv.close().await
}

/// Follows the configuration until a key `done` appears in it, and returns it.
async fn follow(kv: &Kv) -> Result<BTreeMap<Key, Bytes>> {
    let (mut config, mut in_sync) = (BTreeMap::new(), false);
    let mut changes = kv.watch_tree("config-watch").await?;
    loop {
        match changes.event().await? {
            WatchEvent::Put(entry) => {
                let done = entry.key.name() == "done";
                let what = if in_sync { "changed" } else { "found" };
                println!("{what}: {} = {:?}", entry.key, entry.value);
                config.insert(entry.key, entry.value);
                if done {
                    return Ok(config);
                }
            }
            WatchEvent::Delete { key, .. } => {
                println!("removed: {key}");
                config.remove(&key);
            }
            // From here on the map is complete. After an outage `Synced` comes again, after the
            // changes that were missed.
            WatchEvent::Synced => {
                println!("in sync with {} keys", config.len());
                in_sync = true;
            }
        }
    }
}

/// Changes the configuration as somebody else would.
async fn operate(kv: Kv) -> Result<()> {
    kv.put("config-watch/level", "debug").await?;
    kv.put("config-watch/limits/bytes", "1048576").await?;
    kv.delete("config-watch/limits/requests").await?;

    // The TTL ends this setting, and the watch sees that like any other change.
    kv.put("config-watch/trial", "on").ttl(Duration::from_secs(1)).await?;
    let mut trial = kv.watch("config-watch/trial").await?;
    loop {
        match trial.event().await? {
            WatchEvent::Delete { .. } => break,
            WatchEvent::Synced if !kv.exists("config-watch/trial").await? => break,
            _ => {}
        }
    }
    kv.put("config-watch/done", "yes").await?;
    Ok(())
}
