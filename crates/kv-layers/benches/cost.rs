//! Measures what each layer adds to a call, in time and allocations, over the store in memory:
//! `cargo bench -p kv-layers`. All lines have the cost of `block_on`; that of `none` has no layer.

use divan::{AllocProfiler, Bencher, black_box};
use kv_core::{Kv, observe::Observer};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Metrics, Prefix, ReadOnly, Tee};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// An observer that hears nothing: what it costs to be told.
struct Deaf;

impl Observer for Deaf {}

const KEY: &str = "config/key050";
const VALUE: &[u8] = &[7; 100];

fn main() {
    divan::Divan::default().sample_size(1000).config_with_args().main();
}

fn open() -> Kv {
    Kv::new(kv_memory::Memory::new())
}

/// Makes a runtime, and a handle with this layer, on a store with 100 entries of 100 bytes.
fn filled(layer: &str) -> (Runtime, Kv) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let plain = open();
    let kv = match layer {
        "none" => plain.clone(),
        "ReadOnly" => plain.clone().layer(ReadOnly),
        "Prefix" => plain.clone().layer(Prefix::new("app").expect("a directory")),
        "Limit" => plain.clone().layer(Limit::new().reads(64).writes(64)),
        "Coalesce" => plain.clone().layer(Coalesce),
        "Encrypt" => plain.clone().layer(Encrypt::new(&Keyring::new(1, [7; 32]))),
        "Tee" => plain.clone().layer(Tee::to(open().store().clone())),
        "Chaos" => plain.clone().layer(Chaos::new(1)),
        "an observer" => plain.clone().with_observer(Deaf),
        "Metrics" => plain.clone().with_observer(Metrics::new()),
        other => panic!("there is no layer {other}"),
    };
    runtime.block_on(async {
        let fills = if layer == "ReadOnly" { &plain } else { &kv };
        for n in 0..100 {
            fills.put(format!("config/key{n:03}"), VALUE).await.expect("a put");
        }
    });
    (runtime, kv)
}

#[divan::bench(args = ["none", "ReadOnly", "Prefix", "Limit", "Coalesce", "Encrypt", "Tee", "Chaos", "an observer", "Metrics"])]
fn get(bencher: Bencher<'_, '_>, layer: &str) {
    let (runtime, kv) = filled(layer);
    bencher.bench_local(|| black_box(runtime.block_on(kv.get(black_box(KEY)).into_future())));
}

#[divan::bench(args = ["none", "Prefix", "Limit", "Coalesce", "Encrypt", "Tee", "Chaos", "an observer", "Metrics"])]
fn put(bencher: Bencher<'_, '_>, layer: &str) {
    let (runtime, kv) = filled(layer);
    bencher.bench_local(|| black_box(runtime.block_on(kv.put(black_box(KEY), VALUE).into_future())));
}
