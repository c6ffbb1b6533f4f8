//! The life of a lock or lease.

mod log;

pub(crate) use log::Owner;

use super::{Clock, Instant, Outage};
use crate::{
    Error, ErrorKind, Result,
    driver::Deadline,
    observe::{self, Cause, Origin},
};
use log::{About, Log};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;

#[derive(Clone, Debug)]
enum Life {
    Until(Instant),
    Over(Arc<str>, Cause),
}

/// The life of a lock or lease, kept by renewals. By the owner's clock it is over when (start of
/// the last successful renewal + granted TTL - margin) has passed, the margin being a tenth of the
/// TTL; it is over earlier when the server says so.
///
/// Clones share one life; renewing stops with the last of them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::{backend::{Alive, Clock}, Error, ErrorKind};
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let unreachable = || async { Err(Error::new(ErrorKind::Unavailable, "the server is gone")) };
/// let alive = Alive::keep(&clock, Duration::from_secs(10), clock.now(), unreachable);
/// clock.advance(Duration::from_secs(8)); // renewals fail, but its time is not over
/// assert!(alive.is_held());
/// clock.advance(Duration::from_secs(1));
/// assert!(!alive.is_held());
/// assert_eq!(alive.lost().await.kind(), ErrorKind::LockLost);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Alive {
    clock: Clock,
    /// The life that renewals keep; shared by all that hang on one session.
    session: watch::Receiver<Life>,
    /// Renewing stops when the last of these is dropped; `lost` holds none.
    #[expect(dead_code, reason = "it is only ever dropped")]
    keeper: watch::Receiver<()>,
    ttl: Duration,
    /// The end of this life alone, while others on the session go on.
    ended: watch::Sender<Option<(Arc<str>, Cause)>>,
    /// Tells whether this life has an [`Owner`].
    is_owned: Arc<AtomicBool>,
    log: Arc<Log>,
}

impl Alive {
    /// Renews at a third of the TTL, again and again until the life is over. `granted` is the
    /// moment *before* the request that was granted was sent. `renew` answers
    /// [`LockLost`](ErrorKind::LockLost) or [`LeaseLost`](ErrorKind::LeaseLost) when the server
    /// says that the life is over; after any other error it is tried again. A renewal is dropped
    /// after a quarter of the TTL, or when the life is over meanwhile: one whose request has a
    /// deadline of its own is better kept by [`keep_by`](Self::keep_by).
    pub fn keep<F, R>(clock: &Clock, ttl: Duration, granted: Instant, mut renew: R) -> Self
    where
        R: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        Self::keep_by(clock, ttl, granted, move |_| renew())
    }

    /// Renews as [`keep`](Self::keep) does, and gives each renewal the deadline by which its
    /// request has to be answered: a fifth of the TTL, or what is left of the life if that is
    /// less. So a request that hangs turns to another connection before the renewal is dropped,
    /// and none is under way when the life is over.
    pub fn keep_by<F, R>(clock: &Clock, ttl: Duration, granted: Instant, mut renew: R) -> Self
    where
        R: FnMut(Deadline) -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let life = ttl - ttl / 10;
        let (session, watched) = watch::channel(Life::Until(granted + life));
        let (kept, keeper) = watch::channel(());
        let (ended, own_clock) = (watch::Sender::new(None), clock.clone());
        let observed = Origin::current().map(|life| (life.renamed("renew"), life));
        let (log, is_owned) = (Arc::<Log>::default(), Arc::default());
        let alive =
            Self { clock: own_clock, session: watched, keeper, ttl, ended, is_owned, log: log.clone() };
        let clock = clock.clone();
        tokio::spawn(async move {
            let (mut until, mut next) = (granted + life, granted + ttl / 3);
            let (mut pause, mut failed) = (ttl / 50, None);
            let mut outage: Option<Outage> = None;
            let (why, cause): (Arc<str>, Cause) = loop {
                tokio::select! {
                    biased;
                    () = kept.closed() => return,
                    () = clock.sleep_until(until.min(next)) => {}
                }
                let began = clock.now();
                if began >= until {
                    let failure = failed.map(|e| format!("; the last renewal failed: {e}"));
                    let why = format!("it was not renewed within {life:?}{}", failure.unwrap_or_default());
                    break (why.into(), log.by_time());
                }
                // A renewal that hangs must leave time for another one, perhaps over another
                // connection.
                let deadline = Deadline::after((ttl / 5).min(until.since(began)));
                let answer = {
                    let mut renewal = pin!(renew(deadline));
                    let origin = observed.as_ref().map(|(requests, _)| requests);
                    tokio::select! {
                        biased;
                        () = kept.closed() => return,
                        answer = poll_fn(|cx| observe::poll(origin, renewal.as_mut(), cx)) => Some(answer),
                        () = clock.sleep_until(until.min(began + ttl / 4)) => None,
                    }
                };
                if let Some((_, life)) = &observed {
                    let slack = until.since(clock.now());
                    let error = answer.as_ref().map_or_else(|| Some(silent()), |answer| answer.clone().err());
                    life.renewed(ttl, slack, error.as_ref());
                }
                match answer {
                    // The owner may have seen meanwhile that the life is over, as after a suspend.
                    Some(Ok(())) if clock.now() >= until => {
                        break ("the answer to its renewal came after its time".into(), log.by_time());
                    }
                    Some(Ok(())) => {
                        (until, next, pause) = (began + life, began + ttl / 3, ttl / 50);
                        failed = None;
                        log.renewed(true);
                        if let Some(mut outage) = outage.take() {
                            outage.over();
                        }
                        session.send_replace(Life::Until(until));
                    }
                    Some(Err(e)) if matches!(e.kind(), ErrorKind::LockLost | ErrorKind::LeaseLost) => {
                        break (e.message().into(), Cause::EndedThere);
                    }
                    failure => {
                        log.renewed(false);
                        if let Some(About { backend, .. }) = log.about() {
                            let error = failure.as_ref().and_then(|answer| answer.as_ref().err()).cloned();
                            let outage = outage.get_or_insert_with(|| Outage::new("renewal", backend));
                            outage.failed(&error.unwrap_or_else(silent));
                        }
                        failed = failure.and_then(Result::err).or(failed);
                        next = clock.now() + pause.max(Duration::from_millis(5));
                        pause = (pause * 2).min(ttl / 10);
                    }
                }
            };
            log.over(&why, cause);
            session.send_replace(Life::Over(why, cause));
        });
        alive
    }

    /// Has failed renewals and the loss logged as long as the answer lives, unless `is_shut` says
    /// that all is being given back: `what` is `lock` or `lease`.
    pub(crate) fn owned(
        &self,
        what: &'static str,
        backend: &'static str,
        is_shut: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Owner {
        self.log.owned(&self.is_owned, About { what, backend, is_shut: Box::new(is_shut) })
    }

    /// Returns another life that hangs on the same session, with an [`end`](Self::end) of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { ended: watch::Sender::new(None), is_owned: Arc::default(), ..self.clone() }
    }

    /// Ends this life and its clones at once, because its owner saw on the server that it is over.
    pub fn end(&self, why: impl Into<Arc<str>>) {
        let cause = cause_of_end(&self.session, &self.clock, &self.log);
        self.log.end(&self.ended, &self.is_owned, why.into(), cause);
    }

    /// Returns a function that does the same as [`end`](Self::end) and keeps nothing alive, for
    /// the side that sees the lock or lease on the server and must not be what keeps it.
    pub fn ending(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let end = self.ending_by();
        move |why| end(why, None)
    }

    /// Does the same as [`ending`](Self::ending), by this cause where it is known.
    pub(crate) fn ending_by(&self) -> impl Fn(&str, Option<Cause>) + Send + Sync + use<> {
        let (ended, is_owned, log) = (self.ended.clone(), self.is_owned.clone(), self.log.clone());
        let (session, clock) = (self.session.clone(), self.clock.clone());
        move |why, cause| {
            let cause = cause.unwrap_or_else(|| cause_of_end(&session, &clock, &log));
            log.end(&ended, &is_owned, why.into(), cause);
        }
    }

    /// Tells whether the life is not over, by the owner's clock, and is still renewed. No I/O.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Returns the TTL as granted.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long it lives at least if no further renewal succeeds, by the owner's clock;
    /// zero when it is over.
    pub fn remaining(&self) -> Duration {
        // Without a keeper (its runtime has ended) nobody knows what the server did meanwhile.
        if self.session.has_changed().is_err() || self.ended.borrow().is_some() {
            return Duration::ZERO;
        }
        match &*self.session.borrow() {
            Life::Until(until) => self.clock.until(*until),
            Life::Over(..) => Duration::ZERO,
        }
    }

    /// Waits until the life is over, and returns the reason, as a
    /// [`LockLost`](ErrorKind::LockLost). The future keeps nothing alive.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = self.lost_by();
        async move { lost.await.0 }
    }

    /// Does the same as [`lost`](Self::lost), and tells the cause too.
    pub(crate) fn lost_by(&self) -> impl Future<Output = (Error, Cause)> + Send + 'static {
        let (mut session, mut ended) = (self.session.clone(), self.ended.subscribe());
        let (seen, clock, log) = (self.session.clone(), self.clock.clone(), self.log.clone());
        // A `keeper` would have the life renewed for as long as somebody waits: this holds none.
        // Boxed, for the futures of all who wait for a loss hold this one several times over.
        Box::pin(async move {
            let by_time = async {
                match session.wait_for(|life| matches!(life, Life::Over(..))).await.as_deref() {
                    Ok(Life::Over(why, cause)) => (why.clone(), *cause),
                    _ => {
                        let why = "it was given back, or the runtime that renewed it has ended";
                        (why.into(), Cause::RuntimeEnded)
                    }
                }
            };
            let by_hand = async {
                match ended.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(end)) => end.clone(),
                    _ => ("it was given back".into(), cause_of_end(&seen, &clock, &log)),
                }
            };
            let (why, cause) = tokio::select! {
                biased;
                end = by_hand => end,
                lost = by_time => lost,
            };
            (Error::new(ErrorKind::LockLost, format!("no longer held: {why}")), cause)
        })
    }

    /// Returns the cause of a loss by time that nobody has told yet.
    pub(crate) fn by_time(&self) -> Cause {
        self.log.by_time()
    }
}

#[cold]
fn silent() -> Error {
    Error::new(ErrorKind::Timeout, "the renewal was not answered in time")
}

/// Returns the cause of an end that the server tells: it may have come because this side was late.
fn cause_of_end(session: &watch::Receiver<Life>, clock: &Clock, log: &Log) -> Cause {
    match &*session.borrow() {
        Life::Over(_, cause) => *cause,
        Life::Until(until) if clock.until(*until).is_zero() => log.by_time(),
        Life::Until(_) => Cause::EndedThere,
    }
}
