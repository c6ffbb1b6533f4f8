//! Helpers that the tests share: two processes on one store in memory, on the runtime's clock, and
//! settings of two values that belong together.

#![allow(dead_code, reason = "each test program uses a part")]

use kv_core::{Kv, backend::Clock};
use kv_memory::{Config, Faults, Memory};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) requests: u32,
    pub(crate) burst: u32,
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { requests, burst } = self;
        if *burst == 2 * requests { Ok(()) } else { Err(format!("{burst} is not twice {requests}")) }
    }
}

pub(crate) fn limits(requests: u32) -> Limits {
    Limits { requests, burst: 2 * requests }
}

/// Puts both values at once.
pub(crate) async fn put_limits(kv: &Kv, limits: Limits) {
    let requests = kv.put("app/limits/requests", limits.requests.to_string());
    let burst = kv.put("app/limits/burst", limits.burst.to_string());
    assert!(kv.transact().then(requests).then(burst).await.unwrap().is_committed());
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
