//! Counts the allocations of calls through the handle over the store in memory, beside those of the
//! store alone, and prints the sizes of their futures. It is a program of its own, since an allocator
//! that counts would slow down what `kv-bench` measures.

use kv_core::{
    Directory, Key, Kv,
    driver::{Expect, ListOptions, PutOptions, ReadOptions, Store},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    hint::black_box,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The number of calls that are averaged.
const CALLS: u32 = 20_000;
const KEY: &str = "app/config/key050";

fn main() -> kv_core::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let kv = runtime.block_on(kv_memory::open("memory://"))?;
    runtime.block_on(async {
        for n in 0..100 {
            kv.put(format!("app/config/key{n:03}"), vec![7; 256]).await?;
        }
        kv_core::Result::Ok(())
    })?;
    calls(&runtime, &kv, kv.store().as_ref())
}

/// Prints a line for each call: its name, nanoseconds, allocations, bytes, and the size of its
/// future, between tabs.
fn calls(runtime: &Runtime, kv: &Kv, store: &dyn Store) -> kv_core::Result<()> {
    let (key, directory) = (Key::parse(KEY)?, Directory::parse("app/config")?);
    let keys: Vec<_> =
        (0..100).map(|n| Key::parse(&format!("app/config/key{n:03}"))).collect::<Result<_, _>>()?;
    let (read, put, list) = (ReadOptions::default(), PutOptions::default(), ListOptions::default());
    let value = kv_core::Bytes::from_static(&[7; 256]);

    line("store: get", || store.get(&key, &read), now);
    line("get by &Key", || kv.get(&key).into_future(), now);
    line("get by &str", || kv.get(KEY).into_future(), now);
    line("store: exists", || store.exists(&key, &read), now);
    line("exists by &Key", || kv.exists(&key).into_future(), now);
    line("store: put", || store.put(&key, value.clone(), Expect::Anything, &put), now);
    line("put by &Key", || kv.put(&key, value.clone()).into_future(), now);
    line("put by &str", || kv.put(KEY, value.clone()).into_future(), now);
    line("store: get_many of 100", || store.get_many(&keys, &read), now);
    line("get_many of 100 by &Key", || kv.get_many(&keys).into_future(), now);
    line("store: list of 100", || store.list(&directory, None, &list), now);
    line("list of 100", || kv.list("app/config").into_future(), now);
    // A release is done by a task of the runtime.
    let lock = || {
        let lock = kv.new_lock("lock");
        Box::pin(async move { lock.acquire().await?.release().await })
    };
    line("lock and release", lock, |call| drop(black_box(runtime.block_on(call))));
    Ok(())
}

/// Makes a call again and again, each ended by `end`, and prints its line.
fn line<F: ?Sized>(name: &str, call: impl Fn() -> Pin<Box<F>>, end: impl Fn(Pin<Box<F>>)) {
    for _ in 0..CALLS / 10 {
        end(call());
    }
    let region = Region::new(ALLOCATOR);
    let began = Instant::now();
    for _ in 0..CALLS {
        end(call());
    }
    let (took, change) = (began.elapsed(), region.change());
    let each = |count: usize| count as f64 / f64::from(CALLS);
    let nanos = took.as_nanos() as f64 / f64::from(CALLS);
    let size = size_of_val(&*call());
    let (allocations, bytes) = (each(change.allocations), each(change.bytes_allocated));
    println!("{name}\t{nanos:.0}\t{allocations:.2}\t{bytes:.0}\t{size}");
}

/// Polls a call that is ready at once, as all of single keys and directories are in memory: a
/// runtime around it would cost more than the call.
fn now<F: Future + ?Sized>(mut call: Pin<Box<F>>) {
    let mut cx = Context::from_waker(Waker::noop());
    match call.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => drop(black_box(answer)),
        Poll::Pending => panic!("a call in memory waits"),
    }
}
