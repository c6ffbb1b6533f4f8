//! The whole conformance suite on each layer, and on all of them at once, over the store in memory
//! and over the embedded one: a layer keeps every promise that its capabilities do not take back.

mod split;

use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Prefix, Tee};
use kv_memory::Memory;
use kv_testsuite::{Foreign, Harness, Options, Outcome, cases};
use split::ReadsThroughReadOnly;
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

/// The cases that are tried on a store without a server and without hooks are more than these.
const LEAST: usize = 180;

/// The store below the layers.
#[derive(Clone)]
enum Ground {
    /// The name by which clients open the store, and a client that keeps it.
    Memory { name: String, kept: Memory },
    /// The folder of the file, and a client that keeps it open.
    Redb { folder: Arc<TempDir>, _kept: Kv },
}

impl Ground {
    async fn memory(name: &str) -> Self {
        let name = format!("layers-{name}");
        let kept = kv_memory::Config::new().name(&name).build().await.expect("a store in memory");
        Self::Memory { name, kept }
    }

    async fn redb() -> Self {
        let folder = Arc::new(TempDir::new().expect("a folder"));
        let kept = Self::file(&folder).open().await.expect("a new file");
        Self::Redb { folder, _kept: kept }
    }

    fn file(folder: &TempDir) -> kv_redb::Config {
        kv_redb::Config::new(folder.path().join("layers.redb"))
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        match self {
            Self::Memory { name, .. } => kv_memory::Config::new().name(name).prefix(prefix).open().await,
            Self::Redb { folder, .. } => Self::file(folder).prefix(prefix).open().await,
        }
    }
}

/// What stands on the ground.
#[derive(Clone, Copy)]
enum Tower {
    ReadOnly,
    Prefix,
    Limit,
    Encrypt,
    Chaos,
    Coalesce,
    Tee,
    All,
}

fn limit() -> Limit {
    Limit::new().reads(8).writes(8).watches(4096)
}

fn encrypt() -> Encrypt {
    Encrypt::new(&Keyring::new(1, [7; 32]))
}

/// Holds calls and events back: what fails by chance would break promises, as it is meant to.
fn chaos() -> Chaos {
    Chaos::new(17).delays(0.2, Duration::from_millis(2))
}

struct Layered {
    tower: Tower,
    ground: Ground,
    /// The store to which a [`Tee`] copies.
    other: Ground,
}

#[async_trait]
impl Harness for Layered {
    fn name(&self) -> String {
        "layers".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        let kv = match self.tower {
            // The prefix is a layer's, or the directory of a part: stores of different prefixes would
            // seal one value under different names.
            Tower::Prefix | Tower::Encrypt | Tower::All => self.ground.open("").await?,
            _ => self.ground.open(prefix).await?,
        };
        Ok(match self.tower {
            Tower::ReadOnly => kv.layer(ReadsThroughReadOnly),
            Tower::Prefix => kv.layer(Prefix::new(prefix)?),
            Tower::Limit => kv.layer(limit()),
            Tower::Encrypt => kv.layer(encrypt()).within(prefix)?,
            Tower::Chaos => kv.layer(chaos()),
            Tower::Coalesce => kv.layer(Coalesce),
            Tower::Tee => kv.layer(Tee::to(self.other.open(prefix).await?.store().clone())),
            Tower::All => {
                let tee = Tee::to(self.other.open("").await?.store().clone());
                let kv = kv.layer(chaos()).layer(tee).layer(encrypt()).layer(Coalesce);
                kv.layer(ReadsThroughReadOnly).layer(limit()).layer(Prefix::new(prefix)?)
            }
        })
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        match &self.ground {
            // Other tools cannot seal.
            _ if matches!(self.tower, Tower::Encrypt | Tower::All) => None,
            Ground::Memory { kept, .. } => Some(Arc::new(Tool(kept.clone()))),
            Ground::Redb { .. } => None,
        }
    }

    fn is_documented(&self) -> bool {
        false
    }
}

struct Tool(Memory);

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        self.0.raw_put(name, value);
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        self.0.raw_get(name)
    }

    async fn delete(&self, name: &str) {
        self.0.raw_delete(name);
    }
}

/// Runs the suite, and checks that no promise is broken, and that most were tried.
async fn keeps_every_promise(tower: Tower, ground: Ground, other: Ground) {
    let harness = Arc::new(Layered { tower, ground, other });
    let report = kv_testsuite::run(harness, &cases::all(), &Options::default()).await;
    let report = report.expect("the store can be opened");
    let broken: Vec<_> = report.broken().map(|(case, why)| format!("{case}: {why}")).collect();
    assert!(broken.is_empty(), "{} promises are broken:\n{}", broken.len(), broken.join("\n"));
    let kept = report.results.iter().filter(|(_, outcome)| *outcome == Outcome::Kept).count();
    assert!(kept >= LEAST, "{kept} cases were tried");
}

macro_rules! towers {
    ($($name:ident: $tower:ident,)*) => {
        mod on_memory {
            use super::{Ground, Tower, keeps_every_promise};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let ground = Ground::memory(stringify!($name)).await;
                    let other = Ground::memory(concat!(stringify!($name), "-other")).await;
                    keeps_every_promise(Tower::$tower, ground, other).await;
                }
            )*
        }

        mod on_redb {
            use super::{Ground, Tower, keeps_every_promise};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let other = Ground::memory(concat!(stringify!($name), "-beside-redb")).await;
                    keeps_every_promise(Tower::$tower, Ground::redb().await, other).await;
                }
            )*
        }
    };
}

towers! {
    read_only: ReadOnly,
    prefix: Prefix,
    limit: Limit,
    encrypt: Encrypt,
    chaos: Chaos,
    coalesce: Coalesce,
    tee: Tee,
    all: All,
}
