//! The harness of this backend: a store by its name.

use kv_core::{Bytes, Kv, Result, driver::async_trait};
use kv_memory::{Config, Memory};
use kv_testsuite::{Failure, Foreign, Harness};
use std::sync::Arc;

const NAME: &str = "conformance";

/// A client that keeps the data alive as long as the run; the cases open the store by its name.
#[derive(Clone)]
pub(crate) struct Process(Memory);

#[async_trait]
impl Harness for Process {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Config::new().name(NAME).prefix(prefix).open().await
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(format!("memory://{NAME}/{prefix}"))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(kv_memory::open(url).await)
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(self.clone()))
    }

    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        vec![("name", Config::new().name("conformance-beside").prefix(prefix).open().await)]
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        self.0.with_prefix(prefix).leftovers()
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(self.leftovers(prefix).await)
    }
}

#[async_trait]
impl Foreign for Process {
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

pub(crate) async fn suite() -> Result<Process, Failure> {
    Ok(Process(Config::new().name(NAME).build().await?))
}
