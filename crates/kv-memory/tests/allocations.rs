//! Counts the allocations of calls through the handle, and keeps them below ceilings. A program of
//! its own: it runs itself under divan, which counts, and reads what that prints.

use divan::{AllocProfiler, Bencher, black_box};
use kv_core::{
    Bytes, Directory, Key, Kv,
    driver::{ListOptions, ReadOptions, Store},
    observe::Observer,
};
use kv_memory::Memory;
use std::{collections::HashMap, env, future::Future, process::Command, sync::Arc};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// The most allocations of each call. The handle has one of its own, its future; a name that is
/// given as text has one more, its key. The others are the store's: its future, and what it found.
/// Nobody listens, neither to spans nor as an observer, but where the name says so.
const CEILINGS: [(&str, f64); 10] = [
    ("store_get", 1.0),
    ("get_by_key", 2.0),
    ("get_by_text", 3.0),
    ("exists_by_key", 2.0),
    ("put_by_key", 2.0),
    // An observer is told by reference: what it is told costs no allocation.
    ("observed_get_by_key", 2.0),
    ("observed_put_by_key", 2.0),
    ("get_many_of_100", 9.0),
    // The handle's own, whatever the number of entries: its future, and the directory's name.
    ("list_of_100_beyond_the_store", 3.0),
    ("list_of_900_beyond_the_store", 3.0),
];

const MEASURES: &str = "KV_MEASURES_ALLOCATIONS";

fn main() {
    if env::var_os(MEASURES).is_some() {
        return divan::Divan::default().sample_count(20).sample_size(50).run_benches();
    }
    if env::args().any(|arg| arg == "--list") {
        return;
    }
    let itself = env::current_exe().expect("its own path");
    let ran = Command::new(itself).env(MEASURES, "1").output().expect("it can be started");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    let mut counted = counts(&printed);
    for of in ["100", "900"] {
        let [ours, theirs] = ["list", "store_list"].map(|name| counted[&format!("{name}_of_{of}")]);
        counted.insert(format!("list_of_{of}_beyond_the_store"), ours - theirs);
    }
    for (name, most) in CEILINGS {
        let found = *counted.get(name).unwrap_or_else(|| panic!("{name} is not among\n{printed}"));
        assert!(found <= most, "{name} allocates {found} times, and may do so {most} times");
        println!("{name}: {found} allocations, at most {most}");
    }
}

/// Returns how often each call allocated, by the medians of the tables that divan prints.
fn counts(printed: &str) -> HashMap<String, f64> {
    let (mut counted, mut name, mut is_next) = (HashMap::new(), String::new(), false);
    for line in printed.lines() {
        let begins = line.trim_start_matches(['│', ' ']);
        if let Some(begun) = begins.strip_prefix(['├', '╰']) {
            name = begun.trim_start_matches(['─', ' ']).split(' ').next().unwrap_or_default().to_owned();
            // A call that allocates nothing has no table.
            counted.insert(name.clone(), 0.0);
        } else if std::mem::take(&mut is_next) {
            let median = begins.split('│').nth(2).and_then(|column| column.trim().parse().ok());
            counted.insert(name.clone(), median.unwrap_or_else(|| panic!("no number in {line:?}")));
        } else {
            is_next = begins.starts_with("alloc:");
        }
    }
    counted
}

/// Makes a runtime, and a store with this number of entries below one directory.
fn filled(entries: usize) -> (Runtime, Arc<dyn Store>) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    runtime.block_on(async {
        let kv = Kv::from(store.clone());
        for n in 0..entries {
            kv.put(format!("app/config/key{n:03}"), vec![7; 100]).await.expect("a put");
        }
    });
    (runtime, store)
}

/// Nothing in memory waits: each call is ready at the first poll.
fn measure<F: Future<Output: Send>>(bencher: Bencher<'_, '_>, runtime: &Runtime, call: impl Fn() -> F) {
    let _within = runtime.enter();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    bencher.bench_local(|| {
        let call = std::pin::pin!(call());
        assert!(black_box(call.poll(&mut cx)).is_ready());
    });
}

fn key() -> Key {
    Key::parse("app/config/key050").expect("a key")
}

#[divan::bench]
fn store_get(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key, options) = (filled(100), key(), ReadOptions::default());
    measure(bencher, &runtime, || store.as_ref().get(black_box(&key), &options));
}

#[divan::bench]
fn get_by_key(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.get(black_box(&key)).into_future());
}

#[divan::bench]
fn get_by_text(bencher: Bencher<'_, '_>) {
    let (runtime, store) = filled(100);
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.get(black_box("app/config/key050")).into_future());
}

#[divan::bench]
fn exists_by_key(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.exists(black_box(&key)).into_future());
}

#[divan::bench]
fn put_by_key(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let (kv, value) = (Kv::from(store), Bytes::from_static(b"value"));
    measure(bencher, &runtime, || kv.put(black_box(&key), value.clone()).into_future());
}

/// An observer that hears nothing.
struct Deaf;

impl Observer for Deaf {}

#[divan::bench]
fn observed_get_by_key(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let kv = Kv::from(store).with_observer(Deaf);
    measure(bencher, &runtime, || kv.get(black_box(&key)).into_future());
}

#[divan::bench]
fn observed_put_by_key(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let (kv, value) = (Kv::from(store).with_observer(Deaf), Bytes::from_static(b"value"));
    measure(bencher, &runtime, || kv.put(black_box(&key), value.clone()).into_future());
}

#[divan::bench]
fn get_many_of_100(bencher: Bencher<'_, '_>) {
    let ((runtime, store), key) = (filled(100), key());
    let kv = Kv::from(store);
    let keys = vec![key; 100];
    measure(bencher, &runtime, || kv.get_many(black_box(&keys)).into_future());
}

fn store_list(bencher: Bencher<'_, '_>, entries: usize) {
    let (runtime, store) = filled(entries);
    let (directory, options) = (Directory::parse("app/config").expect("a directory"), ListOptions::default());
    measure(bencher, &runtime, || store.as_ref().list(black_box(&directory), None, &options));
}

fn list(bencher: Bencher<'_, '_>, entries: usize) {
    let (runtime, store) = filled(entries);
    let kv = Kv::from(store);
    measure(bencher, &runtime, || kv.list(black_box("app/config")).into_future());
}

#[divan::bench]
fn store_list_of_100(bencher: Bencher<'_, '_>) {
    store_list(bencher, 100);
}

#[divan::bench]
fn store_list_of_900(bencher: Bencher<'_, '_>) {
    store_list(bencher, 900);
}

#[divan::bench]
fn list_of_100(bencher: Bencher<'_, '_>) {
    list(bencher, 100);
}

#[divan::bench]
fn list_of_900(bencher: Bencher<'_, '_>) {
    list(bencher, 900);
}
