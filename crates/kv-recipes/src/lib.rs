//! Recipes that programs build on a store: elections, discovery, views, counters, semaphores,
//! barriers.
//!
//! The recipes know [`kv_core`] alone, and run on every store whose
//! [`Capabilities`](kv_core::Capabilities) allow it; a store that cannot keep a promise of a recipe
//! is refused with [`Unsupported`](kv_core::ErrorKind::Unsupported), before any I/O.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use kv_recipes::{Election, Registration, Service};
//!
//! let kv = kv_memory::open("memory://").await?; // another backend: only this line
//!
//! // Here I am, for as long as I live.
//! let me = Registration::new(&kv, "services/web/host-7").json(&"10.0.0.7:80").register().await?;
//! let web: Service<String> = Service::open(&kv, "services/web").await?;
//! assert_eq!(web.pick().unwrap().value, "10.0.0.7:80");
//!
//! // One of us does it; the store refuses what a leader of before writes.
//! let leads = Election::new(&kv, "app/leader").candidate("host-7");
//! let plan = leads.lead(|term| {
//!     let put = kv.put("app/plan", "v2").fenced(&term);
//!     async move { put.await }
//! });
//! plan.await?;
//! me.deregister().await?;
//! # Ok(()) }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | one of several candidates leads | [`Election`] |
//! | a key that is there as long as its owner is | [`Registration`] |
//! | the living instances of a service | [`Service`] |
//! | who is there, and being there oneself | [`Group`] |
//! | a directory in memory, read without I/O | [`View`] |
//! | a number that many change, each change once | [`Counter`] |
//! | ids that nobody else has | [`IdBlocks`] |
//! | so many at once, and no more | [`Semaphore`] |
//! | many readers, or one writer | [`RwLock`] |
//! | several locks, all or none | [`lock_all`] |
//! | a barrier that is raised and lifted | [`Barrier`] |
//! | several that go in together, and come out together | [`DoubleBarrier`] |
//! | something that happens once | [`Once`] |
//! | work that one of us does, each period | [`Ticks`] |
//! | shards of work among members, each with one owner at most | [`Shards`] |
//! | a directory whose values are of one type | [`Typed`] |
//!
//! # What all of them keep to
//! - Each says in one table what becomes of it when its process is paused, killed or cut off, when
//!   the server restarts, when an answer is lost, and when its future is dropped.
//! - What is held is lost by its owner's own clock a tenth of the TTL before another can have it,
//!   and work that depends on it is dropped then. But a process that stands still between a look at
//!   the clock and a write can always be too late. So a write that must not happen then is made to
//!   depend on what is held ([`fenced`](kv_core::Put::fenced), [`Permit::condition`],
//!   [`Locks::transact`]): the store decides it in the same step. Whoever deletes the key of what is
//!   held takes it from its holder; that is told by what waits for the loss, as
//!   [`Permit::while_held`] does, and watches the key meanwhile.
//! - A dropped future leaves nothing behind: places in line, keys and leases are given back in the
//!   background, as far as the runtime goes on; else they end by their TTL.
//! - Outages are ridden out where one waits anyway. What ends a wait is what
//!   [`Error::is_lasting`](kv_core::Error::is_lasting) names.
//! - Nothing is written below a name but what its page lists. Names, and the records under them,
//!   are the same on every store, so that programs in other languages can take part. A record is a
//!   line of JSON with the number of its format, `"v":1`, a line feed, and, where the recipe
//!   carries one, the user's value as it was given. Whoever reads a record skips fields that it
//!   does not know, and refuses other formats.

mod barrier;
mod counter;
mod double_barrier;
mod election;
mod group;
mod ids;
mod json;
mod lock_all;
mod names;
mod needs;
mod once;
mod own_key;
mod patience;
mod permit;
mod record;
mod registration;
mod rwlock;
mod semaphore;
mod service;
mod shards;
mod ticks;
mod typed;
mod view;

pub use barrier::Barrier;
pub use counter::Counter;
pub use double_barrier::{DoubleBarrier, Inside};
pub use election::{Election, Leader, Leaders, Leadership, Term};
pub use group::{Group, Membership};
pub use ids::IdBlocks;
pub use lock_all::{LockAll, Locks, lock_all};
pub use once::{Effects, Once, Ran};
pub use permit::Permit;
pub use registration::{Registered, Registration, RegistrationState};
pub use rwlock::RwLock;
pub use semaphore::Semaphore;
pub use service::{Instance, Service};
pub use shards::{Shard, Shards};
pub use ticks::{Tick, Ticks};
pub use typed::{Typed, TypedEntry, TypedEvent, TypedNext, TypedWatch};
pub use view::{Change, Changes, OpenView, View, ViewEntry};

// The program of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
