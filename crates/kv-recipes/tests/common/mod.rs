//! The pieces that the tests share: two processes on one store in memory, on the runtime's clock,
//! and futures that are dropped half way.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod layer;

use kv_core::{Kv, backend::Clock};
use kv_memory::{Config, Faults, Memory};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// Two handles on one store, as two processes have them, with the faults of the first. The second
/// meets none.
pub(crate) struct Pair {
    pub(crate) kv: Kv,
    pub(crate) faults: Faults,
    pub(crate) other: Kv,
    pub(crate) memory: Memory,
}

/// Makes a pair for a test under tokio's paused time.
pub(crate) async fn pair() -> Pair {
    let memory = Config::new().clock(Clock::tokio()).build().await.unwrap();
    let (kv, other) = (Kv::new(memory.clone()), Kv::new(memory.with_prefix("")));
    Pair { kv, faults: memory.faults(), other, memory }
}

impl Pair {
    /// Waits until nothing is left in the store but keys of these names.
    pub(crate) async fn only_left(&self, names: &[&str]) {
        let mut seen = Vec::new();
        for _ in 0..1000 {
            seen = self.memory.leftovers();
            let entries = self.other.list("").await.unwrap();
            seen.extend(entries.iter().map(|e| e.key.to_string()).filter(|key| !names.contains(&&**key)));
            if seen.is_empty() {
                return;
            }
            tokio::time::sleep(MS).await; // what was dropped is given back in the background
        }
        panic!("this is left: {seen:?}");
    }
}

/// Runs the work until it was polled so often; `None` when it was not done by then, and was dropped
/// where it stood.
pub(crate) async fn polled<F: Future>(work: F, times: usize) -> Option<F::Output> {
    let (mut work, mut left) = (pin!(work), times);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits until this is true.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(MS).await;
    }
    panic!("it never came: {what}");
}
