//! Layers over the stores of `kv`: each is a [`Store`](kv_core::driver::Store) over a `Store`, put
//! there by [`Kv::layer`](kv_core::Kv::layer), and works on every backend.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use kv_layers::{Coalesce, Encrypt, Keyring, Limit, Metrics, Prefix};
//!
//! # let key = [7; 32];
//! let kv = kv_memory::open("memory://").await?
//!     .layer(Encrypt::new(&Keyring::new(1, key)))
//!     .layer(Coalesce)
//!     .layer(Limit::new().reads(64).writes(16))
//!     .layer(Prefix::new("app")?) // added last: a call goes through it first
//!     .with_observer(Metrics::new());
//! kv.put("color", "red").await?;
//! assert_eq!(kv.get("color").await?.unwrap().text(), Some("red"));
//! println!("{kv:?}"); // Kv { store: Prefix("app/") > Limit(reads: 64, writes: 16) > …
//! # Ok(()) }
//! ```
//!
//! | layer | does |
//! |---|---|
//! | [`Prefix`] | makes a store of one directory of a store |
//! | [`Limit`] | lets so many reads, writes and watches be under way at once |
//! | [`Coalesce`] | has all watches of one thing share a watch of the server |
//! | [`Encrypt`] | encrypts values, with keys that can be exchanged |
//! | [`Tee`] | copies what is written into another store, for a migration |
//! | [`ReadOnly`] | refuses writes |
//! | [`Chaos`] | makes calls fail and loses answers, for tests |
//!
//! [`Metrics`] is no layer but an observer, since a layer would not see what only the inside of a
//! handle knows. With the feature `opentelemetry` there is `OpenTelemetry` too, which tells the same
//! to a meter.
//!
//! # What holds for all of them
//! A layer keeps every promise of the store below, but for what its section *Capabilities* takes
//! back: the conformance suite runs on each of them, and on all of them at once. None tries a call
//! again, logs or measures calls, or ends them by time: the handle and the backends do all of that
//! once. Fences, versions and leases are those of the store below, so that a guard of a handle
//! with layers fences a write of one without.
//!
//! # Which order
//! A call goes through the layer that was added last first. `Encrypt` belongs below `Prefix` where
//! whole names are to be bound to the values, above it where the values may be moved with the
//! directory; once there are values, the order stays. `Tee` above `Encrypt` copies plain values
//! into the other store, which may have an `Encrypt` of its own; below it, it copies what is
//! sealed. `Limit` above `Coalesce` counts readers, below it watches of the server. `Chaos`
//! belongs directly over the store, where an outage would be.

mod chaos;
mod coalesce;
mod encrypt;
mod events;
mod limit;
mod prefix;
mod read_only;
mod tee;
mod telemetry;

pub use chaos::{Chaos, Counts};
pub use coalesce::Coalesce;
pub use encrypt::{Encrypt, Keyring};
pub use limit::Limit;
pub use prefix::Prefix;
pub use read_only::ReadOnly;
pub use tee::{Difference, Tee};
pub use telemetry::Metrics;
#[cfg(feature = "opentelemetry")]
pub use telemetry::OpenTelemetry;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
