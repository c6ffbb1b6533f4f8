//! The whole conformance suite on each layer, and on all of them at once, over the store in memory
//! and over the embedded one: a layer keeps every promise that its capabilities do not take back.

mod split;

use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Prefix, Tee};
use kv_memory::Memory;
use kv_testsuite::{Foreign, Harness, Options, Outcome, cases};
use libtest_mimic::{Arguments, Failed, Trial};
use split::{LittleRoom, ReadsThroughReadOnly};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::runtime::Builder;

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

/// The layer over the ground, or all layers at once.
#[derive(Clone, Copy)]
enum Tower {
    ReadOnly,
    Prefix,
    Limit,
    Encrypt,
    /// [`Encrypt`], over a store whose transactions have little room.
    EncryptInLittleRoom,
    Chaos,
    Coalesce,
    Tee,
    All,
}

fn limit() -> Limit {
    Limit::new().reads(8).writes(8).watches(4096)
}

/// Has all reads, and of the writes those that do not come alone, be tasks.
fn little_limit() -> Limit {
    Limit::new().reads(1).writes(2).watches(4096)
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
            Tower::Prefix | Tower::Encrypt | Tower::EncryptInLittleRoom | Tower::All => {
                self.ground.open("").await?
            }
            _ => self.ground.open(prefix).await?,
        };
        Ok(match self.tower {
            Tower::ReadOnly => kv.layer(ReadsThroughReadOnly),
            Tower::Prefix => kv.layer(Prefix::new(prefix)?),
            Tower::Limit => kv.layer(little_limit()),
            Tower::Encrypt => kv.layer(encrypt()).within(prefix)?,
            Tower::EncryptInLittleRoom => kv.layer(LittleRoom).layer(encrypt()).within(prefix)?,
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
            _ if matches!(self.tower, Tower::Encrypt | Tower::EncryptInLittleRoom | Tower::All) => None,
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
async fn keeps_every_promise(tower: Tower, ground: Ground, other: Ground) -> Result<(), Failed> {
    let harness = Arc::new(Layered { tower, ground, other });
    let report = kv_testsuite::run(harness, &cases::all(), &Options::default()).await?;
    let broken: Vec<_> = report.broken().map(|(case, why)| format!("{case}: {why}")).collect();
    if !broken.is_empty() {
        return Err(format!("{} promises are broken:\n{}", broken.len(), broken.join("\n")).into());
    }
    let kept = report.results.iter().filter(|(_, outcome)| *outcome == Outcome::Kept).count();
    if kept < LEAST {
        return Err(format!("{kept} cases were tried").into());
    }
    Ok(())
}

const TOWERS: [(&str, Tower); 9] = [
    ("read_only", Tower::ReadOnly),
    ("prefix", Tower::Prefix),
    ("limit", Tower::Limit),
    ("encrypt", Tower::Encrypt),
    ("encrypt_in_little_room", Tower::EncryptInLittleRoom),
    ("chaos", Tower::Chaos),
    ("coalesce", Tower::Coalesce),
    ("tee", Tower::Tee),
    ("all", Tower::All),
];

/// Makes the test of a tower on one of the grounds, with a runtime of its own.
fn trial(name: &'static str, tower: Tower, is_on_redb: bool) -> Trial {
    let ground = if is_on_redb { "on_redb" } else { "on_memory" };
    Trial::test(format!("{ground}::{name}"), move || {
        let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        let done = runtime.block_on(async {
            let other = Ground::memory(&format!("{name}-beside-{ground}")).await;
            let ground = if is_on_redb { Ground::redb().await } else { Ground::memory(name).await };
            keeps_every_promise(tower, ground, other).await
        });
        runtime.shutdown_background();
        done
    })
}

fn main() {
    let mut arguments = Arguments::from_args();
    // The cases mostly wait for a TTL to pass.
    arguments.test_threads.get_or_insert(6);
    let all = TOWERS.into_iter().flat_map(|(name, tower)| [false, true].map(|on| trial(name, tower, on)));
    libtest_mimic::run(&arguments, all.collect()).exit();
}
