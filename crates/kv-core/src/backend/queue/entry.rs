//! The entry of one contender, on the server and in the line of its handle, and how it is taken away.

use super::{Left, Queue, Sent, lines::Standing};
use crate::{
    ErrorKind, Result,
    backend::{AbortOnDrop, Backoff},
    observe::Cause,
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Limits how long the next of a line waits for the answer to a release, before it asks the server
/// by itself.
const MOMENT: Duration = Duration::from_millis(100);

/// Sets from when on a holder's contender is looked at: most locks are given back before, and cost no
/// look at all.
const BRIEF: Duration = Duration::from_millis(20);

/// The part of a contender that is needed to take it out of the queue. It does not keep the
/// session alive.
pub(super) struct Entry<Q: Queue> {
    pub(super) queue: Arc<Q>,
    pub(super) contender: Q::Contender,
    pub(super) sent: Sent,
    /// The place in the line of its handle; there once it has entered.
    pub(super) standing: OnceLock<Standing<Q::Predecessor>>,
    pub(super) is_given_back: AtomicBool,
    /// The task that watches over a holder's contender; there once the lock was granted.
    pub(super) watch: Mutex<Option<AbortOnDrop>>,
}

impl<Q: Queue> Entry<Q> {
    pub(super) fn new(queue: Arc<Q>, contender: Q::Contender) -> Self {
        Self {
            queue,
            contender,
            sent: Sent::default(),
            standing: OnceLock::new(),
            is_given_back: AtomicBool::new(false),
            watch: Mutex::default(),
        }
    }

    /// Returns whether nobody of its line is before it.
    pub(super) fn is_foremost(&self) -> bool {
        self.standing.get().is_none_or(Standing::is_foremost)
    }

    /// Waits until it shall ask the server where it stands.
    pub(super) async fn turn(&self) {
        let Some(standing) = self.standing.get() else { return };
        tokio::select! {
            biased;
            () = standing.turn() => {}
            () = self.queue.displaced(&self.contender) => {}
        }
    }

    /// Leaves the line, whose next asks the server by itself.
    pub(super) fn step_aside(&self) {
        self.standing.get().inspect(|standing| standing.leave());
    }

    /// Takes the contender out of the queue, and then out of its line, whose next asks the server
    /// at once. Where the answer takes long, the next does not wait for it.
    pub(super) async fn take_out_for_next(&self) -> Result<Left> {
        let mut taking = pin!(self.take_out());
        let taken = timeout(MOMENT, taking.as_mut()).await;
        self.step_aside();
        match taken {
            Ok(left) => left,
            Err(_) => taking.await,
        }
    }

    pub(super) async fn take_out(&self) -> Result<Left> {
        let left = match self.sent.may_still_enter() {
            true => self.queue.cancel(&self.contender).await,
            false => self.queue.leave(&self.contender).await,
        };
        match left {
            // A contender that entered goes with the session, and none can enter any more.
            Err(e) if e.kind() == ErrorKind::LeaseLost => Ok(Left::NotThere),
            left => left,
        }
    }

    pub(super) async fn until_out(&self) {
        let mut backoff = Backoff::default();
        loop {
            backoff.pause().await;
            match self.take_out().await {
                Err(e) if e.kind() != ErrorKind::Closed => {}
                _ => return,
            }
        }
    }

    /// Ends a guard whose contender is gone, or which nobody looks after any more.
    pub(super) async fn watch_own(
        self: Arc<Self>,
        token: u64,
        end: EndOnDrop<impl Fn(&str, Option<Cause>) + Send>,
    ) {
        // The future lives until the holder was told: what it keeps from ending ends behind that.
        let mut gone = pin!(self.queue.own_gone(&self.contender, token));
        sleep(BRIEF).await;
        let why = gone.as_mut().await;
        self.step_aside();
        // A holder that gives the lock back takes its contender out itself.
        if !self.is_given_back.load(Ordering::Acquire) {
            (end.0)(&why, None);
        }
    }
}

/// Says that nobody looks after a guard any more, unless another reason was given before.
pub(super) struct EndOnDrop<E: Fn(&str, Option<Cause>)>(pub(super) E);

impl<E: Fn(&str, Option<Cause>)> Drop for EndOnDrop<E> {
    fn drop(&mut self) {
        let why = "it was given back, or the runtime in which it was acquired has ended";
        (self.0)(why, Some(Cause::RuntimeEnded));
    }
}
