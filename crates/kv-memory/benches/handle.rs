//! Measures the cost of the handle: time and allocations of calls through [`Kv`] over the store in
//! memory, beside those of the store alone. `cargo bench -p kv-memory`.

use divan::{AllocProfiler, Bencher, black_box};
use kv_core::{
    Directory, Key, Kv,
    driver::{Expect, ListOptions, PutOptions, ReadOptions, Store},
};
use kv_memory::Memory;
use std::{future::Future, sync::Arc};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const KEY: &str = "app/config/key050";

fn main() {
    divan::Divan::default().sample_size(2000).config_with_args().main();
}

/// Makes a runtime, and a store with 100 entries of 100 bytes below one directory.
fn filled() -> (Runtime, Arc<dyn Store>) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    runtime.block_on(async {
        let kv = Kv::from(store.clone());
        for n in 0..100 {
            kv.put(format!("app/config/key{n:03}"), vec![7; 100]).await.expect("a put");
        }
    });
    (runtime, store)
}

/// Measures the call alone, since a `block_on` around it would cost more than the call.
fn measure<F: Future<Output: Send>>(bencher: Bencher<'_, '_>, runtime: &Runtime, call: impl Fn() -> F) {
    let _within = runtime.enter();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    // Nothing in memory waits: each call is ready at the first poll.
    bencher.bench_local(|| {
        let call = std::pin::pin!(call());
        assert!(black_box(call.poll(&mut cx)).is_ready());
    });
}

#[divan::bench]
fn key_parse(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Key::parse(black_box(KEY)));
}

#[divan::bench]
fn store_get(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let (key, options) = (Key::parse(KEY).expect("a key"), ReadOptions::default());
    measure(bencher, &runtime, || store.as_ref().get(black_box(&key), &options));
}

#[divan::bench]
fn kv_get(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.get(black_box(KEY)).into_future());
}

#[divan::bench]
fn kv_get_by_key(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let (kv, key) = (Kv::from(store), Key::parse(KEY).expect("a key"));
    measure(bencher, &runtime, || kv.get(black_box(&key)).into_future());
}

#[divan::bench]
fn store_put(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let (key, options) = (Key::parse(KEY).expect("a key"), PutOptions::default());
    let value = kv_core::Bytes::from_static(b"value");
    measure(bencher, &runtime, || {
        store.as_ref().put(black_box(&key), value.clone(), Expect::Anything, &options)
    });
}

#[divan::bench]
fn kv_put(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.put(black_box(KEY), "value").into_future());
}

#[divan::bench]
fn store_list_100(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let (directory, options) = (Directory::parse("app/config").expect("a directory"), ListOptions::default());
    measure(bencher, &runtime, || store.as_ref().list(black_box(&directory), None, &options));
}

#[divan::bench]
fn kv_list_100(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled();
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.list(black_box("app/config")).into_future());
}
