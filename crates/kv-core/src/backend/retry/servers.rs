//! The servers that a call may go to, and the loop over them.

use super::{
    Answered, Attempt, Effect, RequestError, RetrySafety,
    call::{Call, Step},
    times::Times,
};
use crate::{Error, ErrorKind, Result, backend::Backoff, driver::Deadline, observe::Origin};
use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The servers that a call may go to: the members of a cluster, or the only one.
///
/// The one that answered last is asked first, by all calls. Calls may run at the same time: all
/// that they share is one atomic number.
#[derive(Debug)]
pub struct Servers<S> {
    /// At least one.
    servers: Box<[S]>,
    /// The one that is asked first.
    preferred: AtomicUsize,
    pauses: Backoff,
}

impl<S> Servers<S> {
    /// Makes the list of these servers, the first of which is asked first.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where there is no server.
    pub fn new(servers: impl IntoIterator<Item = S>) -> Result<Self> {
        let servers: Box<[S]> = servers.into_iter().collect();
        if servers.is_empty() {
            let why = "no server is given; name one host and its port at least";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        Ok(Self::of(servers))
    }

    /// Makes the list of a single server, or of a client that finds its server itself.
    pub fn one(server: S) -> Self {
        Self::of(Box::new([server]))
    }

    fn of(servers: Box<[S]>) -> Self {
        let pauses = Backoff::new(Duration::from_millis(40), Duration::from_millis(640));
        Self { servers, preferred: AtomicUsize::new(0), pauses }
    }

    /// Sets the pauses between the rounds of a call. Each call begins with the ceiling of
    /// `pauses`. Unless set, the ceilings go from 40 ms to 640 ms.
    #[must_use]
    pub fn with_backoff(self, pauses: Backoff) -> Self {
        Self { pauses, ..self }
    }

    /// Returns the server that is asked first now.
    pub fn preferred(&self) -> &S {
        &self.servers[self.first()]
    }

    /// Returns all servers, in their order.
    pub fn all(&self) -> &[S] {
        &self.servers
    }

    /// Makes attempts at one request until one is answered, or until the rules of [this
    /// module](super) end it.
    ///
    /// `attempt` makes one: it asks the server that it is given, ends by itself at
    /// [`Attempt::patience`], and says what its failure did. Calls may run at the same time.
    /// Cancel safe: a future that is dropped drops the attempt under way and leaves nothing
    /// running; whether that attempt took effect is not known then.
    ///
    /// # Errors
    /// * [`OutcomeUnknown`](ErrorKind::OutcomeUnknown): an attempt may have taken effect, unless
    ///   the request is a read.
    /// * [`Timeout`](ErrorKind::Timeout): there was no time to send anything, or nothing but
    ///   silence was heard, and the request took no effect.
    /// * The error of the attempts that tells the most; the request took no effect.
    pub async fn run<'a, T, F>(
        &'a self,
        safety: RetrySafety,
        deadline: Deadline,
        mut attempt: impl FnMut(Attempt<'a, S>) -> F,
    ) -> Result<Answered<T>>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let times = Times::new(deadline);
        let mut call = Call::new(safety, self.servers.len());
        let (mut at, mut turns, mut pauses) = (self.first(), 0_usize, self.pauses.clone());
        let (observed, mut number) = (Origin::current(), 0);
        let mut has_time = !times.attempts.has_passed();
        while has_time {
            let is_repeat = call.maybe_done;
            let asked = Attempt { server: &self.servers[at], deadline: times.attempts, is_repeat, safety };
            let began = observed.as_ref().map(|observed| (observed, Instant::now()));
            let answered = times.cut.limit(attempt(asked)).await;
            let answered = answered.unwrap_or_else(|| Err(no_answer(deadline)));
            number += 1;
            if let Some((observed, began)) = began {
                let error = answered.as_ref().err().map(|failed| &failed.error);
                observed.attempted(number, error, began.elapsed());
            }
            let failed = match answered {
                Ok(answer) => {
                    self.prefer(at);
                    return Ok(Answered { answer, is_repeat });
                }
                Err(failed) => failed,
            };
            tracing::debug!(error = %failed.error, effect = ?failed.effect, ?safety, "an attempt failed");
            match call.note(failed) {
                Step::SameServer => {}
                Step::NextServer => {
                    at = self.pass_over(at);
                    turns += 1;
                    if turns.is_multiple_of(self.servers.len()) {
                        pause(&mut pauses, times.left()).await;
                    }
                }
                Step::EndRefused => {
                    self.prefer(at);
                    break;
                }
                // Otherwise a program that only writes would stay with a server that hangs.
                Step::EndUnknown => {
                    self.pass_over(at);
                    break;
                }
            }
            has_time = !times.left().is_zero();
        }
        Err(call.error(|| not_sent(deadline)))
    }

    fn first(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// Notes that this server has answered.
    fn prefer(&self, at: usize) {
        // It is written only where it changes, since all calls read it.
        if self.first() != at {
            self.preferred.store(at, Ordering::Relaxed);
        }
    }

    /// Notes that this server has failed, so that the one behind it is asked first, unless another
    /// call has found a server that answers. Returns the one behind it.
    fn pass_over(&self, at: usize) -> usize {
        let next = (at + 1) % self.servers.len();
        let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        next
    }
}

/// Waits between two rounds, and leaves time for another one.
async fn pause(pauses: &mut Backoff, left: Duration) {
    // Once the time is over there is no pause, not even of zero: it would end with the next tick
    // of the timer.
    if !left.is_zero() {
        tokio::time::sleep(pauses.delay_within(left / 2)).await;
    }
}

/// Returns the failure of an attempt that did not end by itself, so that nobody knows what it did.
#[cold]
fn no_answer(deadline: Deadline) -> RequestError {
    let why = format!("no answer within {deadline}");
    RequestError::new(Effect::Unknown, Error::new(ErrorKind::Timeout, why))
}

#[cold]
fn not_sent(deadline: Deadline) -> Error {
    let why = match deadline.within() {
        Duration::ZERO => "the call sent nothing: it was given no time".to_owned(),
        within => format!("the call sent nothing: no time was left of {within:?}"),
    };
    Error::new(ErrorKind::Timeout, format!("{why}; give it more"))
}
