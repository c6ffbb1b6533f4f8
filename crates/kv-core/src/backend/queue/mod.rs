//! The fair lock of servers that keep a queue, out of a few requests.
//!
//! A backend implements [`Queue`] for one call of [`Store::lock`](crate::driver::Store::lock) and
//! calls [`lock()`]. The engine does the rest, the same on every server:
//!
//! | step | what the engine takes care of |
//! |---|---|
//! | enter | The cleanup is made before the first request is sent. It is disarmed only when the request certainly did nothing. A dropped future leaves nobody in the queue. |
//! | wait | A waiter looks only at its predecessor. Contenders of one handle stand in a local [`Line`], whose foremost alone asks the server, where the backend keeps [`Lines`]. Outages are ridden out while the session lives; a lasting error ([`Error::is_lasting`](crate::Error::is_lasting)) ends the wait. A lost place or session is taken anew. |
//! | grant | The session is looked at before every grant: a lock whose session is lost is never given. |
//! | hold | A holder hears when its session is lost, or its contender is gone from the queue. The contender is looked at from 20 ms behind the grant on: a lock that is given back before costs no look. |
//! | leave | A contender that could not leave is taken out again and again as long as the server may have it, and nobody new gets its session. [`Tasks::finish`] tries once more and tells what is left. A contender of a runtime that ended goes with its session, which is that runtime's own. |
//!
//! An uncontended lock whose session is open costs the requests that [`Queue::enter`] sends, one
//! [`Queue::position`] unless the answer to `enter` told the position, and one [`Queue::leave`] to
//! release it. A handover costs one `position` of one waiter, however many there are.
//!
//! # Example
//!
//! A queue in memory. Where it locks the mutex, a backend sends a request.
//!
//! ```
//! use kv_core::backend::queue::{self, Entered, Left, Position, Queue, Sent};
//! use kv_core::backend::{Alive, Clock, Session, Sessions, Tasks, Undo, Use};
//! use kv_core::{Fence, Key, Result};
//! use std::{borrow::Cow, collections::BTreeMap, sync::{Arc, Mutex}, time::Duration};
//! use tokio::sync::watch;
//!
//! const TTL: Duration = Duration::from_secs(10);
//!
//! /// The sessions and tasks of the store, and the "server": contenders by their tokens.
//! struct Store {
//!     sessions: Sessions<u64>,
//!     tasks: Tasks,
//!     clock: Clock,
//!     server: watch::Sender<BTreeMap<u64, String>>,
//! }
//!
//! /// The lock's queue, as one call sees it.
//! struct MemoryQueue(Arc<Store>, Key);
//!
//! /// A contender has a name that nobody else uses, known before anything is sent.
//! struct Contender(String);
//!
//! impl MemoryQueue {
//!     async fn until_gone(&self, token: u64) {
//!         let mut seen = self.0.server.subscribe();
//!         let _ = seen.wait_for(|server| !server.contains_key(&token)).await;
//!     }
//! }
//!
//! impl Queue for MemoryQueue {
//!     type Session = u64;
//!     type Contender = Contender;
//!     type Predecessor = u64;
//!
//!     fn tasks(&self) -> &Tasks {
//!         &self.0.tasks
//!     }
//!     fn clock(&self) -> &Clock {
//!         &self.0.clock
//!     }
//!     fn kept_after_end(&self, ttl: Duration) -> Duration {
//!         ttl
//!     }
//!     async fn session(&self) -> Result<Use<u64>> {
//!         let clock = &self.0.clock;
//!         let grant = || async {
//!             let alive = Alive::keep(clock, TTL, clock.now(), || async { Ok(()) });
//!             Ok(Session { session: 7, alive, end: Undo::nothing() })
//!         };
//!         self.0.sessions.get(TTL, grant).await
//!     }
//!     fn forget(&self, used: &Use<u64>) {
//!         self.0.sessions.forget(used);
//!     }
//!     fn contender(&self, session: &u64) -> Result<Contender> {
//!         Ok(Contender(format!("{session}-{:?}", std::time::Instant::now())))
//!     }
//!     async fn enter(&self, contender: &Contender, sent: &Sent) -> Result<Entered<u64>> {
//!         let mut token = 1;
//!         self.0.server.send_modify(|server| {
//!             token += server.last_key_value().map_or(0, |(last, _)| *last);
//!             server.insert(token, contender.0.clone());
//!         });
//!         sent.answered(true, false); // one attempt, whose answer came
//!         Ok(Entered::Queued { token, position: None })
//!     }
//!     async fn position(&self, contender: &Contender, token: u64) -> Result<Position<u64>> {
//!         let server = self.0.server.borrow();
//!         if server.get(&token) != Some(&contender.0) {
//!             return Ok(Position::Lost);
//!         }
//!         let before = server.range(..token).next_back();
//!         Ok(before.map_or(Position::First, |(before, _)| Position::Behind(*before)))
//!     }
//!     async fn predecessor_gone(&self, _: &Contender, before: &u64) -> Result<bool> {
//!         self.until_gone(*before).await;
//!         Ok(true)
//!     }
//!     async fn own_gone(&self, _: &Contender, token: u64) -> Cow<'static, str> {
//!         self.until_gone(token).await;
//!         "its contender was deleted on the server".into()
//!     }
//!     async fn leave(&self, contender: &Contender) -> Result<Left> {
//!         let mut left = Left::NotThere;
//!         self.0.server.send_modify(|server| {
//!             server.retain(|_, name| {
//!                 let is_own = *name == contender.0;
//!                 left = if is_own { Left::Gone } else { left };
//!                 !is_own
//!             });
//!         });
//!         Ok(left)
//!     }
//!     async fn cancel(&self, contender: &Contender) -> Result<Left> {
//!         // A server whose requests can arrive late also needs to be told to refuse them.
//!         self.leave(contender).await
//!     }
//!     fn fence(&self, contender: &Contender, token: u64) -> Fence {
//!         Fence::new(self.1.clone(), token, contender.0.clone())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let clock = Clock::system();
//! let sessions = Sessions::new(clock.clone());
//! let server = watch::Sender::default();
//! let store = Arc::new(Store { sessions, tasks: Tasks::default(), clock, server });
//! let queue = Arc::new(MemoryQueue(store.clone(), Key::parse("leader")?));
//!
//! let first = queue::lock(&queue, true).await?.expect("nobody else wants it");
//! assert!(queue::lock(&queue, false).await?.is_none(), "it is taken");
//! let waits = tokio::spawn(async move { queue::lock(&queue, true).await });
//! assert!(first.release.run().await?);
//! let second = waits.await.expect("it ended").map(|got| got.expect("it waited"))?;
//! assert!(second.fence.token() > first.fence.token() && second.alive.is_held());
//! drop(second.release); // in the background
//! store.tasks.finish().await?;
//! assert!(store.server.borrow().is_empty());
//! # Ok(()) }
//! ```

mod answers;
mod attempt;
mod entry;
mod lines;
mod sent;

pub use answers::{Entered, Left, Position};
pub use lines::{Line, Lines};
pub use sent::Sent;

use super::{Backoff, Clock, Tasks, Use};
use crate::{Fence, Result, driver::Acquired};
use attempt::{Outcome, attempt};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// The queue of one lock on a server, as one call of [`Store::lock`](crate::driver::Store::lock)
/// sees it: it knows the name, the TTL as granted, the value, and the time that each request has.
/// The [module](self) has an example.
///
/// Every method sends one request (or what the server needs for one step) with a deadline of its
/// own; only the two that wait have none. Dropping any future must be safe: the engine drops them
/// when the caller gives up or the session is lost.
///
/// Any method that sends a request may answer [`LeaseLost`](crate::ErrorKind::LeaseLost). It says
/// that the server has ended the session, that everything of the session is gone, and that
/// nothing of it can arrive any more.
pub trait Queue: Send + Sync + 'static {
    /// The value by which the backend knows a session.
    type Session: Clone + Send + Sync + 'static;
    /// The value by which the backend knows a contender. It must not hold the [`Use`] of the
    /// session, which would keep alive a contender that could not be taken out.
    type Contender: Send + Sync + 'static;
    /// The value by which the backend knows the contender directly before another one.
    type Predecessor: Send + Sync + 'static;

    /// Returns the background work of the store, which `close` awaits.
    fn tasks(&self) -> &Tasks;

    /// Returns the clock that measures the lives of sessions.
    fn clock(&self) -> &Clock;

    /// Returns how long the server may keep a contender after the life of its session is over on
    /// this side: at least the TTL, and more on a server that ends sessions late.
    fn kept_after_end(&self, ttl: Duration) -> Duration;

    /// Returns the line in which the contenders of this handle on this lock stand, usually one of
    /// the store's [`Lines`]. Provided: `None`, with which each contender asks the server.
    fn line(&self) -> Option<&Arc<Line<Self::Predecessor>>> {
        None
    }

    /// Waits until a contender shall give up its place and take another one, under another
    /// session: [`position`](Self::position) then says that it is lost. It is asked of contenders
    /// that wait in a line. Provided: never.
    fn displaced(&self, contender: &Self::Contender) -> impl Future<Output = ()> + Send {
        let _ = contender;
        std::future::pending()
    }

    /// Returns the session that the contender hangs on, usually by
    /// [`Sessions::get`](super::Sessions::get), which gives none whose life is over.
    ///
    /// # Errors
    /// Those of the grant.
    fn session(&self) -> impl Future<Output = Result<Use<Self::Session>>> + Send;

    /// Gives this session to nobody new, usually by [`Sessions::forget`](super::Sessions::forget).
    fn forget(&self, used: &Use<Self::Session>);

    /// Makes a contender under a name that nobody else uses, and sends nothing.
    ///
    /// # Errors
    /// Those for a name that the server cannot have.
    fn contender(&self, session: &Self::Session) -> Result<Self::Contender>;

    /// Returns whether somebody is in the queue, for servers where one request cannot both look
    /// and enter. It is asked for callers that do not wait, before there is a session. Provided:
    /// `false`, without a request.
    ///
    /// # Errors
    /// Those of the request.
    fn is_taken(&self) -> impl Future<Output = Result<bool>> + Send {
        async { Ok(false) }
    }

    /// Puts the contender at the end of the queue. The request may be sent again, since a repeat
    /// finds the contender that an earlier attempt made. Notes in `sent` what is known of the
    /// request: [`Sent::answered`] with the answer, and where the backend can tell when a request
    /// leaves, [`Sent::nothing_yet`] first and [`Sent::sending`] before each attempt.
    ///
    /// # Errors
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) whenever any attempt may have entered
    /// or may still enter. Any error after an answer that was noted as entered is safe too: the
    /// contender is taken out.
    ///
    /// # Cancel safety
    /// When the future is dropped, the engine calls [`cancel`](Self::cancel), unless `sent` says
    /// that nothing was sent.
    fn enter(
        &self,
        contender: &Self::Contender,
        sent: &Sent,
    ) -> impl Future<Output = Result<Entered<Self::Predecessor>>> + Send;

    /// Returns the position of the contender. The answer must not be older than the request that
    /// entered, and should be as small with a thousand waiters as with one.
    ///
    /// # Errors
    /// Those of the request. A waiter keeps its place over all but lasting ones.
    fn position(
        &self,
        contender: &Self::Contender,
        token: u64,
    ) -> impl Future<Output = Result<Position<Self::Predecessor>>> + Send;

    /// Waits until the predecessor is gone: `true` when the position is to be looked at at once,
    /// `false` when it is to be looked at after a pause, because the wait could not go on. It may
    /// return early, and must not wait for what was gone before it was called.
    ///
    /// # Errors
    /// Those of the request. All but lasting ones count as `false`.
    fn predecessor_gone(
        &self,
        contender: &Self::Contender,
        predecessor: &Self::Predecessor,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until the contender of a holder is gone from the queue, over all outages, and returns
    /// the reason for the holder. It never returns early.
    ///
    /// The future is dropped once the holder was told, or has given the lock back. What the future
    /// holds can keep the server's side of a lost session from ending before that.
    fn own_gone(
        &self,
        contender: &Self::Contender,
        token: u64,
    ) -> impl Future<Output = Cow<'static, str>> + Send;

    /// Takes out a contender whose requests to enter are all answered.
    ///
    /// # Errors
    /// Those of the request; the contender may be in the queue still, and the engine tries again.
    fn leave(&self, contender: &Self::Contender) -> impl Future<Output = Result<Left>> + Send;

    /// Takes out a contender whose request to enter may still be on its way, and has that request
    /// do nothing should it arrive later.
    ///
    /// # Errors
    /// Those of the request; the contender may be in the queue or enter it still, and the engine
    /// tries again.
    fn cancel(&self, contender: &Self::Contender) -> impl Future<Output = Result<Left>> + Send;

    /// Returns the proof that the lock is held, for transactions.
    fn fence(&self, contender: &Self::Contender, token: u64) -> Fence;
}

/// Acquires the lock of this queue. With `wait` it waits until the lock is held; without, it
/// returns `None` when another contender holds the lock or waits for it. A lock whose session is
/// lost is never given, and a lost place is taken anew.
///
/// # Errors
/// Those of [`Queue::session`] and [`Queue::enter`], and the lasting ones of the other requests;
/// without `wait` also the others. A contender that may have entered is taken out in the
/// background.
///
/// # Cancel safety
/// Dropping the future at any point leaves nobody in the queue: the contender is taken out in the
/// background, counted by [`Queue::tasks`].
pub async fn lock<Q: Queue>(queue: &Arc<Q>, wait: bool) -> Result<Option<Acquired>> {
    let mut backoff = Backoff::default();
    loop {
        match attempt(queue, wait).await? {
            Outcome::Granted(acquired) => return Ok(Some(acquired)),
            Outcome::Taken => return Ok(None),
            // The pause is random, so that many that lost one session do not come back together.
            Outcome::Lost => backoff.pause().await,
        }
    }
}
