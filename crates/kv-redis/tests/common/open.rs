//! Helpers of the tests of opening.

use kv_core::{Error, ErrorKind, WatchEvent};
use kv_redis::Config;
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

/// Checks that opening is refused with this kind, without waiting for the deadline, and returns
/// the error, which must contain `names`.
pub async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    let begun = Instant::now();
    let error = match config.deadline(Duration::from_secs(30)).open().await {
        Ok(store) => return Err(format!("opened {store:?}").into()),
        Err(e) => e,
    };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(names), "{error} names {names:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "at once, not after {:?}", begun.elapsed());
    assert!(!error.is_transient(), "{error}");
    Ok(error)
}

pub async fn works(config: Config) -> Result<(), Failure> {
    let kv = config.open().await?;
    kv.put("a", "1").ttl(Duration::from_secs(60)).await?;
    assert!(kv.exists("a").await?);
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    watch.event().await?;
    kv.delete("a").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Delete { .. }));
    kv.new_lock("l").acquire().await?.release().await?;
    kv.lease(Duration::from_secs(60)).await?.revoke().await?;
    assert!(!kv.health().await?.version.is_empty());
    kv.close().await?;
    Ok(())
}
