//! What the examples share: the backends that were compiled in, by the schemes of their URLs.

use kv_core::{Kv, Registry, Result};

/// Opens any URL of the backends that this crate's features link.
///
/// # Errors
/// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a scheme that no feature links, naming those that are;
/// else the backend's own.
pub async fn open(url: &str) -> Result<Kv> {
    let registry = Registry::new();
    #[cfg(feature = "memory")]
    let registry = registry.with("memory", kv_memory::from_url);
    #[cfg(feature = "redb")]
    let registry = registry.with("redb", kv_redb::from_url);
    #[cfg(feature = "etcd")]
    let registry = registry.with("etcd", kv_etcd::from_url);
    #[cfg(feature = "consul")]
    let registry = registry.with("consul", kv_consul::from_url);
    #[cfg(feature = "zookeeper")]
    let registry = registry.with("zookeeper", kv_zookeeper::from_url);
    #[cfg(feature = "redis")]
    let registry = ["redis", "rediss", "redis-cluster", "redis-sentinel"]
        .into_iter()
        .fold(registry, |registry, scheme| registry.with(scheme, kv_redis::from_url));
    #[cfg(feature = "dynamodb")]
    let registry = registry.with("dynamodb", kv_dynamodb::from_url);
    registry.open(url).await
}

/// The programs of the README are compiled.
#[cfg(all(doctest, feature = "redb"))]
#[doc = include_str!("../README.md")]
struct Readme;
