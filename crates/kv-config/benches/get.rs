//! Measures what it costs to look at live settings: `cargo bench -p kv-config`.

use divan::{Bencher, black_box};
use kv_config::{Live, live};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

#[derive(Deserialize)]
struct Settings {
    limit: u32,
}

fn main() {
    divan::Divan::default().sample_size(2000).config_with_args().main();
}

fn opened() -> (Runtime, Live<Settings>) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let settings = runtime.block_on(async {
        let kv = kv_memory::open("memory://").await.expect("a store");
        kv.put("app/config", r#"{"limit":5}"#).await.expect("a put");
        live::<Settings>(&kv, "app/config").json().await.expect("settings")
    });
    (runtime, settings)
}

#[divan::bench(threads = [1, 2])]
fn get(bencher: Bencher<'_, '_>) {
    let (_runtime, settings) = opened();
    bencher.bench(|| black_box(settings.get().limit));
}
