//! The code that the examples share: it opens any backend that was compiled in, by the scheme of
//! its URL.

use kv_core::{Kv, Registry, Result};

/// Opens any URL of the backends that this crate's features link.
///
/// # Errors
/// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a scheme that no feature links;
/// the error names those that are linked. Otherwise the errors of the backend.
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

// The programs of every README are compiled, and run where they need no server.
#[cfg(all(doctest, feature = "redb"))]
#[doc = include_str!("../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct ReadmeOfExamples;
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../crates/kv-core/README.md")]
#[doc = include_str!("../crates/kv-memory/README.md")]
struct ReadmeOfMemory;
#[cfg(all(doctest, feature = "redb"))]
#[doc = include_str!("../crates/kv-redb/README.md")]
struct ReadmeOfRedb;
#[cfg(all(doctest, feature = "etcd"))]
#[doc = include_str!("../crates/kv-etcd/README.md")]
struct ReadmeOfEtcd;
#[cfg(all(doctest, feature = "consul"))]
#[doc = include_str!("../crates/kv-consul/README.md")]
struct ReadmeOfConsul;
#[cfg(all(doctest, feature = "zookeeper"))]
#[doc = include_str!("../crates/kv-zookeeper/README.md")]
struct ReadmeOfZooKeeper;
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../crates/kv-redis/README.md")]
struct ReadmeOfRedis;
#[cfg(all(doctest, feature = "dynamodb"))]
#[doc = include_str!("../crates/kv-dynamodb/README.md")]
struct ReadmeOfDynamo;

// The programs of the guide are compiled and run. `ci/guide` fails for a page that is missing here.
#[cfg(all(doctest, feature = "memory"))]
mod guide {
    #[doc = include_str!("../docs/guide/src/start.md")]
    struct Start;
    #[doc = include_str!("../docs/guide/src/choose.md")]
    struct Choose;
    #[doc = include_str!("../docs/guide/src/locks.md")]
    struct Locks;
    #[doc = include_str!("../docs/guide/src/watches.md")]
    struct Watches;
    #[doc = include_str!("../docs/guide/src/leases.md")]
    struct Leases;
    #[doc = include_str!("../docs/guide/src/transactions.md")]
    struct Transactions;
    #[doc = include_str!("../docs/guide/src/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../docs/guide/src/layers.md")]
    struct Layers;
    #[doc = include_str!("../docs/guide/src/recipes/election.md")]
    struct RecipesElection;
    #[doc = include_str!("../docs/guide/src/recipes/registration.md")]
    struct RecipesRegistration;
    #[doc = include_str!("../docs/guide/src/recipes/service.md")]
    struct RecipesService;
    #[doc = include_str!("../docs/guide/src/recipes/group.md")]
    struct RecipesGroup;
    #[doc = include_str!("../docs/guide/src/recipes/view.md")]
    struct RecipesView;
    #[doc = include_str!("../docs/guide/src/recipes/counter.md")]
    struct RecipesCounter;
    #[doc = include_str!("../docs/guide/src/recipes/ids.md")]
    struct RecipesIds;
    #[doc = include_str!("../docs/guide/src/recipes/semaphore.md")]
    struct RecipesSemaphore;
    #[doc = include_str!("../docs/guide/src/recipes/rwlock.md")]
    struct RecipesRwlock;
    #[doc = include_str!("../docs/guide/src/recipes/lock-all.md")]
    struct RecipesLockAll;
    #[doc = include_str!("../docs/guide/src/recipes/barrier.md")]
    struct RecipesBarrier;
    #[doc = include_str!("../docs/guide/src/recipes/double-barrier.md")]
    struct RecipesDoubleBarrier;
    #[doc = include_str!("../docs/guide/src/recipes/once.md")]
    struct RecipesOnce;
    #[doc = include_str!("../docs/guide/src/recipes/ticks.md")]
    struct RecipesTicks;
    #[doc = include_str!("../docs/guide/src/recipes/shards.md")]
    struct RecipesShards;
    #[doc = include_str!("../docs/guide/src/recipes/typed.md")]
    struct RecipesTyped;
    #[doc = include_str!("../docs/guide/src/operating.md")]
    struct Operating;
    #[doc = include_str!("../docs/guide/src/security.md")]
    struct Security;
    #[doc = include_str!("../docs/guide/src/migrating.md")]
    struct Migrating;
}
