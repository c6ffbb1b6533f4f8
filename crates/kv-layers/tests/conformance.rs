//! The whole conformance suite on each layer, and on all of them at once, over the store in memory
//! and over the embedded one: a layer keeps every promise that its capabilities do not take back.
//! The backends with servers do the same by their `tests/layers.rs`.

use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_memory::Memory;
use kv_testsuite::{
    Failure, Foreign, Harness,
    towers::{self, Tower},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;

/// The cases that are tried on a store without a server and without hooks are more than these.
const LEAST: usize = 180;

struct OnMemory {
    /// The name by which clients open the store.
    name: String,
    /// A client that keeps it.
    kept: Memory,
}

impl OnMemory {
    async fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("layers-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let kept = kv_memory::Config::new().name(&name).build().await?;
        Ok(Self { name, kept })
    }
}

#[async_trait]
impl Harness for OnMemory {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_memory::Config::new().name(&self.name).prefix(prefix).open().await
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.kept.clone())))
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

struct OnRedb {
    folder: TempDir,
    /// A client that keeps the file open.
    _kept: Kv,
}

impl OnRedb {
    async fn new() -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let kept = Self::file(&folder).open().await?;
        Ok(Self { folder, _kept: kept })
    }

    fn file(folder: &TempDir) -> kv_redb::Config {
        kv_redb::Config::new(folder.path().join("layers.redb"))
    }
}

#[async_trait]
impl Harness for OnRedb {
    fn name(&self) -> String {
        "redb".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Self::file(&self.folder).prefix(prefix).open().await
    }
}

fn main() {
    let mut trials = towers::trials("on_memory", &Tower::EACH, LEAST, OnMemory::new);
    trials.extend(towers::trials("on_redb", &Tower::EACH, LEAST, OnRedb::new));
    towers::main(6, trials)
}
