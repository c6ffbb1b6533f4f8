//! One contender of a queue: how it enters, waits, is granted the lock, and is taken out again.

use super::{
    Entered, Left, Line, Position, Queue,
    entry::{EndOnDrop, Entry},
};
use crate::{
    Error, ErrorKind, Result,
    backend::{AbortOnDrop, Backoff, Undo, Use, lock},
    driver::Acquired,
};
use std::sync::{Arc, atomic::Ordering};
use tokio::runtime::Handle;

/// The result of one contender's attempt.
pub(super) enum Outcome {
    Granted(Acquired),
    /// Another one has the lock or is before us, and the caller does not wait.
    Taken,
    /// The place in the queue is lost, or was never taken.
    Lost,
}

/// A contender, and the session on which it hangs.
struct Attempt<Q: Queue> {
    entry: Arc<Entry<Q>>,
    used: Use<Q::Session>,
}

/// Puts one contender in the queue, and waits until it is first.
///
/// # Errors
/// Those of the requests. A contender that may have entered is taken out in the background.
pub(super) async fn attempt<Q: Queue>(queue: &Arc<Q>, wait: bool) -> Result<Outcome> {
    if !wait && queue.is_taken().await? {
        return Ok(Outcome::Taken);
    }
    let attempt = Attempt::new(queue, queue.session().await?)?;
    // The cleanup is made before anything is sent, so that a dropped future leaves nothing behind.
    let cleanup = attempt.cleanup();
    let entry = &attempt.entry;
    // One that does not wait stands in no line: it looks at the server once.
    let line = queue.line().filter(|_| wait);
    let entering = line.map(Line::entering);
    let (token, position) = match queue.enter(&entry.contender, &entry.sent).await {
        Ok(Entered::Queued { token, position }) => (token, position),
        Ok(Entered::Taken) => return Ok(attempt.is_outside(cleanup, Outcome::Taken)),
        Ok(Entered::Lost) => return Ok(attempt.is_outside(cleanup, Outcome::Lost)),
        Err(e) => return attempt.is_refused(cleanup, e),
    };
    if let Some(line) = line {
        let _ = entry.standing.set(line.join(token));
    }
    drop(entering);
    match attempt.until_first(token, position, wait).await? {
        Wait::First => {}
        Wait::Behind => return cleanup.run().await.map(|_| Outcome::Taken),
        Wait::Lost => return Ok(attempt.is_lost()),
    }
    // The server may keep the place for longer than the session is sure to live by our clock.
    if !attempt.used.alive().is_held() {
        return Ok(attempt.is_lost());
    }
    Ok(Outcome::Granted(attempt.grant(token, cleanup)))
}

/// The end of a wait in the queue.
enum Wait {
    First,
    Behind,
    Lost,
}

impl<Q: Queue> Attempt<Q> {
    fn new(queue: &Arc<Q>, used: Use<Q::Session>) -> Result<Arc<Self>> {
        let entry = Entry::new(queue.clone(), queue.contender(used.session())?);
        Ok(Arc::new(Self { entry: Arc::new(entry), used }))
    }

    /// Ends an attempt of which the server says that the contender is not in the queue.
    fn is_outside(&self, cleanup: Undo, outcome: Outcome) -> Outcome {
        match self.entry.sent.may_have_entered() {
            true => drop(cleanup),
            false => cleanup.forget(),
        }
        outcome
    }

    /// Ends an attempt whose place in the queue is lost.
    fn is_lost(&self) -> Outcome {
        self.entry.step_aside();
        Outcome::Lost
    }

    /// Ends an attempt whose request to enter failed.
    fn is_refused(&self, cleanup: Undo, error: Error) -> Result<Outcome> {
        match error.kind() {
            ErrorKind::LeaseLost => {
                // A contender that entered goes with the session, and none can enter any more.
                cleanup.forget();
                self.entry.queue.forget(&self.used);
                return Ok(Outcome::Lost);
            }
            // A request is on its way, or was done, whatever was noted before.
            ErrorKind::OutcomeUnknown => self.entry.sent.sending(),
            kind if did_nothing(kind) && self.entry.sent.is_unanswered() => {
                cleanup.forget();
                return Err(error);
            }
            _ => {}
        }
        drop(cleanup);
        Err(error)
    }

    /// Waits until the contender is first or its session is lost; without `wait` looks once.
    async fn until_first(
        &self,
        token: u64,
        position: Option<Position<Q::Predecessor>>,
        wait: bool,
    ) -> Result<Wait> {
        let waited = tokio::select! {
            biased;
            _ = self.used.alive().lost() => Ok(Wait::Lost),
            waited = self.in_queue(token, position, wait) => waited,
        };
        match waited {
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                self.entry.queue.forget(&self.used);
                Ok(Wait::Lost)
            }
            waited => waited,
        }
    }

    async fn in_queue(
        &self,
        token: u64,
        mut position: Option<Position<Q::Predecessor>>,
        wait: bool,
    ) -> Result<Wait> {
        let (queue, contender) = (&self.entry.queue, &self.entry.contender);
        let mut backoff = Backoff::default();
        if matches!(position, Some(Position::Behind(_))) && !self.entry.is_foremost() {
            position = None;
        }
        loop {
            let looked = match position.take() {
                Some(position) => Ok(position),
                None => {
                    self.entry.turn().await;
                    queue.position(contender, token).await
                }
            };
            let gone = match looked {
                Ok(Position::First) => return Ok(Wait::First),
                Ok(Position::Lost) => return Ok(Wait::Lost),
                Ok(Position::Behind(_)) if !wait => return Ok(Wait::Behind),
                Ok(Position::Behind(before)) => queue.predecessor_gone(contender, &before).await,
                Err(e) if !wait => return Err(e),
                Err(e) => Err(e),
            };
            match gone {
                Ok(true) => {
                    backoff.reset();
                    continue;
                }
                Ok(false) => {}
                Err(e) if e.is_lasting() || e.kind() == ErrorKind::LeaseLost => return Err(e),
                // The session keeps the place, whatever the connection does meanwhile.
                Err(_) => {}
            }
            // Whatever happened to the server, what it told before may not be so any more.
            queue.line().inspect(|line| line.forget());
            backoff.pause().await;
        }
    }

    /// Grants the lock: the cleanup of the contender becomes the release of the lock.
    fn grant(&self, token: u64, release: Undo) -> Acquired {
        let (entry, alive) = (&self.entry, self.used.alive().another());
        entry.standing.get().inspect(|standing| standing.is_first());
        // It is made outside of the task, since a task can end with its runtime before it is
        // polled.
        let end = EndOnDrop(alive.ending_by());
        let watch = tokio::spawn(entry.clone().watch_own(token, end));
        *lock(&entry.watch) = Some(AbortOnDrop::new(watch.abort_handle()));
        Acquired { fence: entry.queue.fence(&entry.contender, token), alive, release }
    }

    /// Makes the work that takes the contender out: `true` when it was still in the queue.
    fn cleanup(self: &Arc<Self>) -> Undo {
        let attempt = self.clone();
        self.entry.queue.tasks().undo_repeatable(move || attempt.clone().give_back())
    }

    async fn give_back(self: Arc<Self>) -> Result<bool> {
        let entry = self.entry.clone();
        entry.is_given_back.store(true, Ordering::Release);
        if !entry.sent.may_have_entered() {
            return Ok(false);
        }
        let was_held = self.used.alive().is_held();
        let left = entry.take_out_for_next().await;
        let watch = lock(&entry.watch).take();
        match left {
            Ok(Left::Maybe) if watch.is_some() && was_held => Err(released_before()),
            // Its session was lost before, and so was the lock.
            Ok(Left::Maybe) if watch.is_some() => Ok(false),
            Ok(left) => Ok(left != Left::NotThere),
            Err(e) => {
                if e.kind() != ErrorKind::Closed {
                    self.take_out_later();
                }
                Err(e)
            }
        }
    }

    /// Goes on taking the contender out, in the background, as long as the server may still have
    /// it. Nobody new gets the session, which keeps the contender alive. Those who use the session
    /// already go on, and nothing here keeps the session from its end.
    fn take_out_later(self: Arc<Self>) {
        let queue = self.entry.queue.clone();
        queue.forget(&self.used);
        let (lost, ttl) = (self.used.alive().lost(), self.used.alive().ttl());
        let entry = self.entry.clone();
        drop(self);
        let left = Arc::downgrade(&entry);
        queue.tasks().left(move || {
            let entry = left.upgrade()?;
            Some(async move { entry.take_out().await.map(drop) })
        });
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let over = async {
                lost.await;
                queue.clock().sleep(queue.kept_after_end(ttl)).await;
            };
            tokio::select! { biased; () = over => {} () = entry.until_out() => {} }
        });
    }
}

/// Tells whether an error of this kind says that the request did nothing. `NoSpace` does not: a
/// server may have done what it has no room for. Nor do the other kinds: a server may have done
/// half of a request that it stopped.
fn did_nothing(kind: ErrorKind) -> bool {
    use ErrorKind::{
        InvalidArgument, InvalidKey, PermissionDenied, Timeout, TooLarge, Unauthenticated, Unavailable,
        Unsupported,
    };
    matches!(
        kind,
        InvalidArgument
            | InvalidKey
            | PermissionDenied
            | Timeout
            | TooLarge
            | Unauthenticated
            | Unavailable
            | Unsupported
    )
}

#[cold]
fn released_before() -> Error {
    let why = "the lock is free, but whether it was held until now is not known: the answer to the \
               release was lost, and a second one found nothing; whoever must know compares the \
               fencing token with that of the next holder";
    Error::new(ErrorKind::OutcomeUnknown, why)
}
