//! Mechanics for authors of backends, which each of them would write again.
//!
//! | for | there is |
//! |---|---|
//! | a time that counts suspend, and that tests can move | [`Clock`] |
//! | the life of a lock or lease, renewed until its deadline | [`Alive`] |
//! | what must be undone once, also when a future is dropped | [`Undo`] |
//! | what still runs in the background when the store is closed | [`Tasks`] |
//! | what may be sent again, to which server, and what is said when no answer came | [`retry`] |
//! | work that goes on while its caller polls something else; what one caller makes for many | [`apart`](apart()), [`InTurn`] |
//! | pauses between attempts, and what is logged of an outage | [`Backoff`], [`Outage`] |
//! | a mutex without poison, ids that nobody else has | [`Mutex`], [`unique`](unique()) |
//! | what each runtime has for itself, such as a connection; whether a runtime has ended | [`ByRuntime`], [`Home`] |
//! | how much is under way at once, in each runtime | [`Permits`] |
//! | a runtime that stood still, which hears of ended connections before it writes | [`catch_up`](catch_up()) |
//! | a stream made of an async block, without a task | [`stream`] |
//! | a whole watch, out of what a server can list and tell | [`watch`] |
//! | what waits for a slow reader, bounded; when each of many things ends | [`Inbox`], [`ExpiryQueue`] |
//! | one source of changes for many watches of one process | [`Hub`] |
//! | what runs as long as somebody uses it, such as the source of a hub | [`WhileUsed`] |
//! | sessions that locks share, one for each runtime and TTL; a session that is to end although others wait under it | [`Sessions`], [`LetGo`] |
//! | the files of [`Tls`](crate::Tls), a login, addresses, a prefix, as a configuration gives them | [`tls`], [`login`], [`addresses`], [`whole_prefix`] |
//! | which call and backend an error of opening comes from, and for how long it was tried | [`opening`](opening()), [`in_open`] |
//! | a fair lock on a server that keeps a queue | [`queue`] |
//! | a lock out of put-if-missing, TTL and watch | [`fallback`] |
//!
//! More helpers are with their types: [`Page::select`](crate::driver::Page::select), for servers
//! that list whole, [`Page::seek`](crate::driver::Page::seek), for those that seek by name, and
//! [`Expect::check`](crate::driver::Expect::check).

mod abort;
mod alive;
mod apart;
mod backoff;
mod by_runtime;
mod catch_up;
mod clock;
mod expiry;
pub mod fallback;
mod here;
mod home;
mod hub;
mod in_turn;
mod inbox;
mod let_go;
mod mutex;
mod opening;
mod outage;
mod permits;
pub mod queue;
pub mod retry;
mod sessions;
mod settings;
mod stream;
mod tasks;
pub mod tls;
mod undo;
mod unique;
pub mod watch;
mod while_used;

pub use abort::AbortOnDrop;
pub use alive::Alive;
pub(crate) use alive::Owner;
pub use apart::apart;
pub use backoff::Backoff;
pub use by_runtime::ByRuntime;
pub use catch_up::catch_up;
pub use clock::{Clock, Instant};
pub use expiry::ExpiryQueue;
pub(crate) use here::Here;
pub use home::Home;
pub use hub::{Change, Hub, Subscription};
pub use in_turn::InTurn;
pub use inbox::Inbox;
pub use let_go::LetGo;
pub use mutex::Mutex;
pub use opening::{in_open, opening};
pub use outage::Outage;
pub use permits::Permits;
pub use sessions::{Session, Sessions, Use};
pub use settings::{addresses, directory_prefix, half, login, whole_prefix};
pub use stream::{Emit, stream};
pub use tasks::Tasks;
pub use undo::Undo;
pub(crate) use undo::Undoing;
pub use unique::unique;
pub use while_used::WhileUsed;

use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a panic of a thread that held it: the values that these mutexes guard
/// are changed in one step.
pub(crate) fn lock<T: ?Sized>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
