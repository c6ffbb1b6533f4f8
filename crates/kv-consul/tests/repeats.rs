//! Requests that are done while their answers are lost, and what their repeats hear.

mod common;

use common::guarded::{Guarded, MINE, ROOT};
use kv_consul::Config;
use kv_core::{ErrorKind, Kv};
use kv_testsuite::{Failure, Proxy, failover::soon};
use serde_json::json;
use std::time::Duration;

/// Longer than all of it takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(120);
/// Time for the rights to go before a request is taken for lost.
const DEADLINE: Duration = Duration::from_secs(40);

/// The repeat is refused, the token is exchanged for it, and the next one finds nothing: the first one may have released the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_repeated_with_another_token_says_that_it_does_not_know() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let (first, second) = (guarded.token("first", MINE).await?, guarded.token("second", MINE).await?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &first)?;
    let proxy = Proxy::start(guarded.0.address).await;
    let config = Config::new([proxy.address().to_string()]).prefix("mine/").token_file(&file);
    let kv = Kv::new(config.open().await?).with_deadline(DEADLINE);
    let root = Kv::new(guarded.config(ROOT).open().await?);
    let old = Kv::new(guarded.config(&first).open().await?);
    // The session of both goes on.
    let other = kv.new_lock("other").ttl(TTL).acquire().await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    proxy.hold_answer_to("delete");
    let releases = tokio::spawn(guard.release());
    soon("the release", async {
        while root.lock_holder("l").await?.is_some() {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    soon("its answer to be held", proxy.trapped()).await?;
    guarded
        .change("first", r#"key_prefix "mine/" { policy = "read" } session_prefix "" { policy = "write" }"#)
        .await?;
    soon("the right to write to be gone", async { while old.put("k", "").await.is_ok() {} }).await?;
    std::fs::write(&file, &second)?;
    proxy.reset().await;
    proxy.heal().await;
    let released = soon("what is known", releases).await??;
    assert_eq!(released.map_err(|e| e.kind()), Err(ErrorKind::OutcomeUnknown));
    assert!(other.release().await?);
    Ok(())
}
