//! The store in memory. It is the reference that keeps every clause of the contract, and a
//! program's own unit tests run on it: fast, without a server, and on a clock that they can move.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use kv_core::{Kv, backend::Clock};
//! use std::time::Duration;
//!
//! let clock = Clock::manual();
//! let kv = kv_memory::Config::new().clock(clock.clone()).open().await?;
//! kv.put("session/7", "alice").ttl(Duration::from_secs(3600)).await?;
//! clock.advance(Duration::from_secs(3600)); // an hour, in no time
//! assert_eq!(kv.get("session/7").await?, None);
//! # Ok(()) }
//! ```
//!
//! # Which store
//! `memory://` is a store of its own; `memory://NAME/prefix` is one that all share who open that
//! name in this process, as long as one of them is left. [`Memory::new`] and
//! [`Memory::with_prefix`] give the same without a name.
//!
//! # What maps onto what
//! | here | is |
//! |---|---|
//! | data | one map by whole name, prefix and key, under one mutex that no wait ever holds |
//! | version | a counter of the process, which every write, deletion and acquisition moves |
//! | TTL, lease, lock | a moment on the store's [`Clock`](kv_core::backend::Clock); what is past it is removed before anyone looks, and by one task for each runtime that watches or waits, so that idle watches see it |
//! | watch | a [`Hub`](kv_core::backend::Hub) for each prefix, told of a change under the mutex, so in order |
//! | lock | a queue for each name, apart from the data; the token is the version counter at the acquisition |
//!
//! # Differences
//! There are none from the contract: every call is offered, and foreign names are seen at once. A
//! value has at most 16 MiB, a transaction 20 MiB and 4,096 conditions and writes. TTLs count in
//! milliseconds; those of leases and locks are at least 250 ms. A listing of more than one page
//! (1,000 items, or values of 1 MiB) is not of one moment. Nothing outlives the process.
//!
//! # Tests that move the clock
//! When a test moves the clock, time passes at once for the store and for the guards and leases on
//! it. A lock or lease is kept alive by a renewal at each third of its TTL: a test that moves the
//! clock by less, and then lets other tasks run, keeps it; one that moves the clock by the whole
//! TTL loses it, as a suspended process does. [`Memory::evict_lock`] takes a lock away from its
//! holder at once, [`Memory::raw_put`] writes as a tool does that does not know this library. To
//! kill a process in a test, drop its runtime. Under `#[tokio::test(start_paused = true)]` take
//! [`Clock::tokio`](kv_core::backend::Clock::tokio), or `memory://?clock=tokio`: the machine's
//! clock goes on while the runtime's stands still.
//!
//! # Tests of failures
//! [`Faults`], which any handle gives, makes calls fail, loses answers, freezes the store and cuts
//! watches. The guide `docs/testing.md` of the repository shows how programs are tested with it.

mod admin;
mod config;
mod core;
mod data;
mod error;
mod faults;
mod lease;
mod list;
mod lock;
mod store;
mod watch;
mod write;

pub use config::{Config, from_url, open};
pub use faults::{Calls, Faults};
pub use store::Memory;
