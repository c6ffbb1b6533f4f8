//! A table that went back to an older copy of itself.

mod common;

use common::single;
use kv_core::{Watch, WatchEvent};
use kv_testsuite::Failure;
use std::time::Duration;

const TABLE: &str = "restored";
const TTL: Duration = Duration::from_secs(6);

async fn comes_to(watch: &mut Watch, value: Option<&str>) -> Result<(), Failure> {
    let mut now = None;
    let coming = async {
        loop {
            match watch.event().await? {
                WatchEvent::Put(e) => now = e.text().map(str::to_owned),
                WatchEvent::Delete { .. } => now = None,
                WatchEvent::Synced => {}
            }
            if now.as_deref() == value {
                return Ok::<_, Failure>(());
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), coming).await {
        Ok(came) => came,
        Err(_) => Err(format!("the watch shows {now:?}, not {value:?}").into()),
    }
}

/// A lock that is acquired after the older copy was put back has a token of its own, and watches
/// show its holder.
#[tokio::test(flavor = "multi_thread")]
async fn the_leader_after_an_older_copy_is_shown() -> Result<(), Failure> {
    for at_once in [true, false] {
        let node = single().await?;
        let kv = node.open(TABLE).await?;
        let lock = |value: &'static str| kv.new_lock("l").ttl(TTL).value(value).acquire();
        assert!(lock("before").await?.release().await?);
        node.copy("data", "saved").await?;
        let mut holder = kv.lock_holder("l").watch().await?;
        let old = lock("old").await?;
        comes_to(&mut holder, Some("old")).await?;
        node.copy("saved", "data").await?;
        if !at_once {
            comes_to(&mut holder, None).await?;
        }
        let new = lock("new").await?;
        comes_to(&mut holder, Some("new")).await?;
        assert!(new.token() > old.token(), "{} after {}", new.token(), old.token());
        assert!(new.is_held() && new.release().await?);
        comes_to(&mut holder, None).await?;
    }
    Ok(())
}
