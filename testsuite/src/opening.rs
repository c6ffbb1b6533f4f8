//! Checks that all backends open their stores in the same way, that a store which was opened works,
//! and that an opening which cannot succeed is refused at once.

use crate::{Failure, failover::soon};
use kv_core::{Error, ErrorKind, Health, Kv, Result, WatchEvent};
use std::time::{Duration, Instant};

/// The deadline with which a store is opened for [`refused`]: longer than the check takes, so that
/// waiting for the deadline is told from a refusal at once.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// An address at which nobody listens.
pub const NOBODY: &str = "127.0.0.1:1";
/// The latest end of a refusal, on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(15);
/// The TTL of what [`works`] has.
const TTL: Duration = Duration::from_secs(30);

/// Checks that an opening, whose deadline is [`DEADLINE`], is refused with this kind, without
/// waiting for the deadline, and returns the error, which must contain `names`.
///
/// # Errors
/// A store was opened.
///
/// # Panics
/// The error is another one, or came late.
pub async fn refused(
    opening: impl Future<Output = Result<Kv>>,
    kind: ErrorKind,
    names: &str,
) -> Result<Error, Failure> {
    let begun = Instant::now();
    let error = match opening.await {
        Ok(store) => return Err(format!("opened {store:?}").into()),
        Err(e) => e,
    };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(names), "{error} names {names:?}");
    assert!(begun.elapsed() < AT_ONCE, "at once, not after {:?}", begun.elapsed());
    assert!(!error.is_transient(), "{error}");
    Ok(error)
}

/// Checks that an opening, with the address [`NOBODY`] and a short deadline, fails as `Unavailable`
/// and tells what was tried, and for how long.
///
/// # Errors
/// A store was opened.
///
/// # Panics
/// The error is another one.
pub async fn unreachable(opening: impl Future<Output = Result<Kv>>) -> Result<(), Failure> {
    let e = opening.await.err().ok_or("nobody listens there")?;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    for part in [NOBODY, "refused", "tried for"] {
        assert!(e.to_string().contains(part), "{e} tells {part:?}");
    }
    Ok(())
}

/// Opens a store, uses what there is, deletes what lies below the store's prefix, closes the
/// store, and returns what the server said of its health.
///
/// # Errors
/// Something did not work.
///
/// # Panics
/// An answer is wrong.
pub async fn works(opening: impl Future<Output = Result<Kv>>) -> Result<Health, Failure> {
    let kv = opening.await?;
    kv.put("a", "1").ttl(TTL).await?;
    kv.put("d/b", "2").await?;
    assert!(kv.exists("a").await?);
    let mut watch = kv.watch_tree("").await?;
    soon("what is there", async {
        while watch.event().await? != WatchEvent::Synced {}
        Ok::<_, Failure>(())
    })
    .await??;
    kv.delete("a").await?;
    let event = soon("the deletion", watch.event()).await??;
    assert!(matches!(&event, WatchEvent::Delete { key, .. } if key.as_str() == "a"), "{event:?}");
    kv.new_lock("l").acquire().await?.release().await?;
    let lease = kv.lease(TTL).await?;
    kv.put("leased", "").lease(&lease).await?;
    lease.revoke().await?;
    let health = kv.health().await?;
    kv.delete_tree("").await?;
    kv.close().await?;
    Ok(health)
}

/// Asserts, when it is compiled, that a backend's `Config` has the shape that all have: `from_url`
/// and a `prefix`; `build`, which gives the store, and `open`, which gives the
/// [`Kv`](kv_core::Kv); it can be cloned, shown, and sent to another thread; with the feature
/// `serde` it is read and written alike.
///
/// ```
/// kv_testsuite::opens_as_all_do!(kv_memory::Config, kv_memory::Memory);
/// ```
#[macro_export]
macro_rules! opens_as_all_do {
    ($config:ty, $store:ty) => {
        const _: () = {
            fn from_url(url: ::kv_core::StoreUrl) -> ::kv_core::Result<$config> {
                <$config>::from_url(url)
            }
            fn prefix(config: $config) -> $config {
                config.prefix("app").prefix(String::from("app"))
            }
            async fn build(config: $config) -> ::kv_core::Result<$store> {
                config.build().await
            }
            async fn open(config: $config) -> ::kv_core::Result<::kv_core::Kv> {
                config.open().await
            }
            fn is_plain<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
            #[cfg(feature = "serde")]
            fn is_read_and_written<T: ::serde::Serialize + ::serde::de::DeserializeOwned>() {}

            _ = (from_url, prefix, build, open, is_plain::<$config>);
            #[cfg(feature = "serde")]
            {
                _ = is_read_and_written::<$config>;
            }
        };
    };
}
