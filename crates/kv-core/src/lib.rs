//! One small API over key/value stores: the successor of libkv and valkeyrie in Rust.
//!
//! It is for metadata, configuration, discovery and locks, in programs that must run on whichever
//! store their operator has. This crate defines the API and does no network I/O; a backend's crate
//! opens a store:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use std::time::Duration;
//!
//! let kv = kv_memory::open("memory://").await?; // another backend: only this line
//!
//! let seen = kv.put("app/color", "red").await?.version;
//! kv.put("app/color", "blue").if_version(seen).await?; // compare-and-swap
//! kv.put("app/nodes/1", "up").ttl(Duration::from_secs(30)).await?; // gone by itself
//!
//! let leader = kv.new_lock("leader").acquire().await?; // one holder, kept alive in the background
//! kv.put("app/plan", "v2").fenced(&leader).await?; // refused by the store once another leads
//! kv.close().await // releases the lock
//! # }
//! ```
//!
//! # Two sides
//! * [`Kv`] is what a user holds: a handle, cheap to clone. It checks names and options before any
//!   I/O, keeps deadlines, opens the tracing span, and says in every [`Error`] which call failed
//!   on which key of which backend.
//! * [`Store`](crate::driver::Store) is what a backend's author writes: object-safe and small,
//!   every option explicit. Six methods make a backend; [`backend`] has the mechanics that each
//!   would write again.
//!
//! Every promise of an operation stands at its method on [`Kv`]. A backend's own crate says where
//! its server cannot keep one, and [`Capabilities`] say it to programs: a call that they rule out
//! is refused with [`Unsupported`](ErrorKind::Unsupported), never half done.
//!
//! # A watcher that keeps a map
//! ```
//! use kv_core::{Bytes, Key, Kv, Result, WatchEvent};
//! use std::collections::BTreeMap;
//!
//! async fn mirror(kv: Kv, mut changed: impl FnMut(&BTreeMap<Key, Bytes>)) -> Result<()> {
//!     let (mut map, mut synced) = (BTreeMap::new(), false);
//!     let mut changes = kv.watch_tree("config").await?;
//!     loop {
//!         match changes.event().await? {
//!             WatchEvent::Put(entry) => drop(map.insert(entry.key, entry.value)),
//!             WatchEvent::Delete { key, .. } => drop(map.remove(&key)),
//!             WatchEvent::Synced => synced = true,
//!         }
//!         if synced {
//!             changed(&map); // always what a listing would show, outages included
//!         }
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let kv = kv_memory::open("memory://").await?;
//! # kv.put("config/a", "1").await?;
//! # let (told, seen) = tokio::sync::oneshot::channel();
//! # let mut told = Some(told);
//! # tokio::spawn(mirror(kv, move |map| drop(told.take().map(|t| t.send(map.len())))));
//! # assert_eq!(seen.await.unwrap(), 1);
//! # Ok(()) }
//! ```
//!
//! # A leader that writes under its fencing token
//! ```
//! use kv_core::{Kv, Result};
//! use std::time::Duration;
//!
//! async fn lead(kv: &Kv, me: &'static str) -> Result<()> {
//!     let guard = kv.new_lock("leader").ttl(Duration::from_secs(10)).value(me).acquire().await?;
//!     let work = async {
//!         for step in 0..3 {
//!             // The store refuses it in the same step once another leads, whatever this side believes.
//!             kv.put("state", format!("{me} at {step}")).fenced(&guard).await?;
//!         }
//!         Ok(())
//!     };
//!     guard.while_held(work).await?; // ends with `LockLost` as soon as the loss is known
//!     guard.release().await?;
//!     Ok(())
//! }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let kv = kv_memory::open("memory://").await?;
//! # lead(&kv, "host-1").await?;
//! # assert_eq!(kv.get("state").await?.unwrap().text(), Some("host-1 at 2"));
//! # Ok(()) }
//! ```
//!
//! # Backends
//! A backend's crate gives `open(url)`, a `Config` with the same settings for code, and `from_url`
//! for a [`Registry`], which opens any URL of the backends that a program links. `store-template`
//! in the repository is a whole backend to copy, and the suite in `testsuite` says when it is
//! done.
//!
//! # Metrics
//! [`Kv::with_observer`] has a program told what a handle does; [`observe`] says what. Each call
//! opens a span of `tracing`, at the level `DEBUG`; [`Kv::with_keys_in_spans`] says what is in it.
//!
//! # Cost
//! A `get` through the handle costs at most two allocations and one dynamic call more than the
//! store's own work. Cloning a handle, a key or a value copies a pointer.

pub mod backend;
mod capabilities;
mod consistency;
pub mod driver;
mod entry;
mod error;
mod key;
mod kv;
mod lease_id;
mod left_out;
mod list;
pub mod observe;
mod registry;
mod secret;
#[cfg(feature = "serde")]
mod serial;
mod tls;
mod txn;
mod url;
mod value;
mod watch;

pub use bytes::Bytes;
pub use capabilities::{Capabilities, Durability, ForeignKeys, Linearizable, Locking, TtlRange, Watching};
pub use consistency::Consistency;
pub use entry::{Entry, Health, HeldLock, Holder, Version, Written};
pub use error::{Error, ErrorKind, Result};
pub use key::{Directory, IntoKey, Key};
pub use kv::{
    Adopt, BreakLock, Delete, DeleteTree, Exists, Get, GetMany, Guard, HealthCall, Kv, Lease, LeaseCall,
    List, Listing, Lock, LockHolder, Locks, Next, Put, Step, Txn, Update, Updated, Watch, WatchCall,
};
pub use lease_id::LeaseId;
pub use left_out::LeftOut;
pub use list::{Item, Position};
pub use registry::Registry;
pub use secret::Secret;
pub use tls::Tls;
pub use txn::{Condition, Fence, Outcome, Refusal};
pub use url::{IntoStoreUrl, StoreUrl};
pub use value::IntoValue;
pub use watch::WatchEvent;
