//! The conformance suite on this backend: `cargo test -p kv-memory --test conformance`, with a part of a case's name
//! behind `--` for some of it.

use kv_core::{Kv, Result, async_trait};
use kv_memory::Memory;
use kv_testsuite::Harness;

/// All clients share the data of this one, whose name the cases about opening use; it lives as long as the run.
struct Process(#[expect(dead_code, reason = "it keeps the store alive")] Memory);

const NAME: &str = "conformance";

#[async_trait]
impl Harness for Process {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_memory::Config::new().name(NAME).prefix(prefix).open().await
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(format!("memory://{NAME}/{prefix}"))
    }
}

fn main() {
    kv_testsuite::main(|| async { Ok(Process(kv_memory::Config::new().name(NAME).build()?)) })
}
