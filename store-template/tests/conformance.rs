//! The conformance suite on this backend: `cargo test -p store-template --test conformance`.
//! Behind `--`, a part of a case's name selects the cases to run.

use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::Harness;

kv_testsuite::opens_as_all_do!(store_template::Config, store_template::Template);

/// One server for the whole run; the suite gives each case a prefix of its own.
// DECIDE: how the suite gets a server. Start one here on a free port of loopback, hold its process
// in the harness and end it in `Drop`; take a running one by an environment variable too. Then
// give the hooks that the cases about outages and foreign tools need: `server`, `address`,
// `open_through`, `foreign`, `leftovers`.
struct Template;

#[async_trait]
impl Harness for Template {
    fn name(&self) -> String {
        "template".into()
    }

    // DECIDE: leave this out once the suite runs on your server. What it finds there belongs into the
    // tables of docs/compatibility.md and README.md; what a map did does not.
    fn is_documented(&self) -> bool {
        false
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        store_template::Config::new("conformance").prefix(prefix).open().await
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(format!("template://conformance/{prefix}"))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(store_template::open(url).await)
    }
}

fn main() {
    kv_testsuite::main(|| async { Ok(Template) })
}
