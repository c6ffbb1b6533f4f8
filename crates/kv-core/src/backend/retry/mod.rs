//! One loop for every request to a server. It decides what may be sent again, where and when, and
//! which error a call ends with.
//!
//! A backend says two things and nothing else: what repeating a request would do
//! ([`RetrySafety`]), and what became of an attempt that failed ([`Effect`]). [`Servers::run`]
//! does the rest, by these rules:
//!
//! | effect | `Read` | `Repeatable` | `Write` |
//! |---|---|---|---|
//! | [`None`](Effect::None) | next server | next server | next server |
//! | [`RefusedHere`](Effect::RefusedHere) | next server | next server | next server |
//! | [`Refused`](Effect::Refused) | ends | ends | ends |
//! | [`Unknown`](Effect::Unknown) | next server | next server | ends |
//!
//! * The server that answered last is asked first. Every server has its turn without a wait; then
//!   the call pauses, by a [`Backoff`](crate::backend::Backoff) with full jitter, before the next
//!   round.
//! * Where the client mended the cause ([`RequestError::mended`]), the same server is asked again
//!   at once, whatever the effect was, except for a write that may have been done. Mended causes
//!   count as such twice in a row at the most; then the effect counts.
//! * A refusal by every server in succession, each with an error that is not
//!   [`is_transient`](crate::Error::is_transient), ends the call: no server would take it.
//! * The call ends a moment before its deadline, so that its answer still reaches the caller. The
//!   moment is a fiftieth of its time; 25 ms at least, and a quarter of its time at most. Nothing
//!   is begun anew with less than a tenth of its time left.
//! * Of several errors, one that a server answered is told rather than one that says that none was
//!   reached, and any cause rather than mere silence; of equals, the newest.
//! * A call that may have taken effect, and ends without an answer, fails with
//!   [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), also where only an attempt before the
//!   last one may have done it. A read never does.
//!
//! # How a backend uses it
//! A backend classifies its client's errors, and calls [`Servers::run`] with a closure that makes
//! one attempt:
//!
//! ```
//! use kv_core::backend::retry::{
//!     Answered, Attempt, Effect, RequestError, RetrySafety, Servers, before,
//! };
//! use kv_core::{Error, ErrorKind, Result, driver::Deadline};
//! use std::time::Duration;
//! # /// Stands for a client of a server.
//! # struct Member { name: &'static str, answers: std::sync::Mutex<Vec<Result<u64, ClientError>>> }
//! # impl Member {
//! #     async fn delete(&self, _id: u64) -> Result<u64, ClientError> {
//! #         self.answers.lock().unwrap().pop().unwrap_or(Err(ClientError::NotConnected))
//! #     }
//! # }
//!
//! /// The errors of this server's client.
//! enum ClientError {
//!     NotConnected,
//!     ConnectionLost,
//!     NotLeader,
//!     Denied,
//! }
//!
//! /// The one place that knows the server's errors.
//! fn classify(server: &str, error: &ClientError) -> RequestError {
//!     use {Effect as Did, ErrorKind as Kind};
//!     let (effect, kind, why) = match error {
//!         // Nothing was sent.
//!         ClientError::NotConnected => (Did::None, Kind::Unavailable, "cannot be reached"),
//!         // It was sent, and nobody knows how far it came.
//!         ClientError::ConnectionLost => (Did::Unknown, Kind::Unavailable, "hung up"),
//!         // The server answered that it did nothing, and another one would.
//!         ClientError::NotLeader => (Did::RefusedHere, Kind::Unavailable, "is not the leader"),
//!         // The cluster answered, and would answer so again.
//!         ClientError::Denied => (Did::Refused, Kind::PermissionDenied, "refuses it"),
//!     };
//!     RequestError::new(effect, Error::new(kind, format!("{server}: {why}")))
//! }
//!
//! /// One attempt. It ends by itself, since only it knows whether anything was sent.
//! async fn delete(attempt: Attempt<'_, Member>, id: u64) -> Result<u64, RequestError> {
//!     let (member, patience) = (attempt.server, attempt.patience());
//!     match before(patience, member.delete(id)).await {
//!         Some(answer) => answer.map_err(|error| classify(member.name, &error)),
//!         None => {
//!             let why = format!("{}: no answer within {patience}", member.name);
//!             Err(RequestError::new(Effect::Unknown, Error::new(ErrorKind::Timeout, why)))
//!         }
//!     }
//! }
//!
//! /// Gives a lock back, whose id is ours alone, so that a second deletion does nothing more.
//! /// Returns whether it was held.
//! async fn release(members: &Servers<Member>, id: u64, deadline: Deadline) -> Result<bool> {
//!     let attempt = |attempt| delete(attempt, id);
//!     match members.run(RetrySafety::Repeatable, deadline, attempt).await? {
//!         Answered { answer: 0, is_repeat: true } => {
//!             let why = "the lock is free, and whether it was held until now is not known";
//!             Err(Error::new(ErrorKind::OutcomeUnknown, why))
//!         }
//!         Answered { answer: deleted, .. } => Ok(deleted > 0),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # use ClientError::{ConnectionLost, Denied, NotLeader};
//! # let member = |name, mut answers: Vec<_>| {
//! #     answers.reverse();
//! #     Member { name, answers: answers.into() }
//! # };
//! # let soon = || Deadline::after(Duration::from_secs(5));
//! // The first member is not the leader, the second one is.
//! # let members = [member("a:1", vec![Err(NotLeader)]), member("b:1", vec![Ok(1)])];
//! # let members = Servers::new(members)?;
//! assert!(release(&members, 7, soon()).await?);
//!
//! // The answer was lost, and the repeat is refused: the caller hears that it may have been done.
//! # let members = Servers::one(member("a:1", vec![Err(ConnectionLost), Err(Denied)]));
//! let error = release(&members, 7, soon()).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
//! assert!(error.to_string().ends_with("read before writing again: a:1: refuses it"));
//! # Ok(()) }
//! ```
//!
//! * What the server says of the *data* (no such key, another version, the session is gone) is an
//!   answer, and the attempt returns it as `Ok`: it settles what earlier attempts did, or the
//!   caller decides that by [`Answered::is_repeat`].
//! * An error that ends the call whatever its effect was is an answer as well: `Ok(Err(error))`.
//!   Where the request may have been done, wrap the error by [`outcome_unknown`].
//! * A closed store is [`Refused`](Effect::Refused), with [`Closed`](crate::ErrorKind::Closed).
//! * A refusal that passes by itself (of a token that the server does not know yet) is
//!   [`None`](Effect::None) for as long as the backend expects it to pass, and
//!   [`Refused`](Effect::Refused) from then on.
//! * An attempt that makes a connection gives that up at [`Attempt::connect_patience`]: nothing
//!   has been sent by then, so that another server may be asked, also for a write.
//! * A request that may be repeated for a limited time alone gets a deadline no later than that.
//! * A backend with one server, or one that finds its server itself, uses [`Servers::one`].

mod call;
mod servers;
mod times;

pub use servers::Servers;

use crate::{Error, ErrorKind, driver::Deadline};
use std::{fmt, future::Future, time::Duration};

/// The consequence of sending a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetrySafety {
    /// The request changes nothing, and may always be sent again.
    Read,
    /// A second application does nothing more than the first one, since the effect is bound to an
    /// id of our own: the request may be sent again. If the first one took effect, the answer to
    /// the second one can be another.
    Repeatable,
    /// The request must never be sent again once it may have taken effect: another client may
    /// write between the two.
    Write,
}

/// The effect of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The request certainly never reached the server, or did nothing there: sending it again is
    /// safe.
    None,
    /// The server answered with a lasting refusal and did nothing, and every server would say the
    /// same.
    Refused,
    /// This server cannot do it, and did nothing; another one may do it, or this one later: it is
    /// not the leader, is busy, is starting, or has no quorum. With an error that is not transient
    /// (its certificate is not trusted, its disk is full) the call ends once every server refuses
    /// so.
    RefusedHere,
    /// The request may have taken effect.
    Unknown,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
pub struct RequestError {
    /// The failure, with the name of the server. A transient kind ([`Error::is_transient`]) says
    /// that it can pass.
    pub error: Error,
    /// The effect of the attempt.
    pub effect: Effect,
    /// Tells whether the client has mended the cause (read a token anew, logged in again), so that
    /// the same server may take the request now, without a pause.
    pub is_mended: bool,
}

impl RequestError {
    /// Makes a failure whose cause is not mended.
    #[must_use]
    pub fn new(effect: Effect, error: Error) -> Self {
        Self { error, effect, is_mended: false }
    }

    /// Sets whether the client has mended the cause. Say so only where something has changed since
    /// the attempt began.
    #[must_use]
    pub fn mended(self, is_mended: bool) -> Self {
        Self { is_mended, ..self }
    }
}

/// One attempt at a request, as its closure is given it.
pub struct Attempt<'a, S> {
    /// The server to ask.
    pub server: &'a S,
    /// The moment at which the whole call ends. An attempt that has heard from the server
    /// meanwhile may wait until then.
    pub deadline: Deadline,
    /// Tells whether an earlier attempt of the same call may have taken effect. In a read it is
    /// always false.
    pub is_repeat: bool,
    safety: RetrySafety,
}

impl<S> Attempt<'_, S> {
    /// The least patience: a server on a busy machine is not given up sooner.
    const MIN_PATIENCE: Duration = Duration::from_millis(50);

    /// Returns how long this attempt may take at most, counted from this call. Ask for it when the
    /// request is about to be sent.
    ///
    /// It is half of what is left, so that a silent server leaves time for another one or for
    /// another connection; 50 ms at least. A write has all that is left, since giving it up would
    /// only make its outcome unknown. The end is never behind the deadline.
    #[must_use]
    pub fn patience(&self) -> Deadline {
        match self.safety {
            RetrySafety::Read | RetrySafety::Repeatable => self.connect_patience(),
            RetrySafety::Write => self.deadline,
        }
    }

    /// Returns how long may pass, counted from this call, until the request can be sent: half of
    /// what is left, 50 ms at least, never behind the deadline. It is the same for a write: one
    /// that is given up by then took no effect.
    #[must_use]
    pub fn connect_patience(&self) -> Deadline {
        let left = self.deadline.remaining();
        let part = (left / 2).max(Self::MIN_PATIENCE);
        // Counted from now, a longer time could end behind the deadline.
        if part < left { Deadline::after(part) } else { self.deadline }
    }
}

impl<S: fmt::Debug> fmt::Debug for Attempt<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Attempt");
        fields.field("server", self.server).field("safety", &self.safety);
        fields.field("deadline", &self.deadline).field("is_repeat", &self.is_repeat).finish()
    }
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer of the last attempt.
    pub answer: T,
    /// Tells whether an attempt before the answered one may have taken effect, so that the answer
    /// may describe what this call itself did. In a read it is always false.
    pub is_repeat: bool,
}

impl<T> Answered<T> {
    /// Returns the same with another answer, made of this one.
    #[must_use]
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answered<U> {
        Answered { answer: make(self.answer), is_repeat: self.is_repeat }
    }
}

/// Returns the error of a call that may have taken effect, and ended without an answer that
/// settles it. It is of the kind [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), says what to do,
/// and has the given error as its cause. An error that is of that kind already stays as it is.
#[must_use]
pub fn outcome_unknown(error: Error) -> Error {
    if error.kind() == ErrorKind::OutcomeUnknown {
        return error;
    }
    let why = "the write may or may not have happened, so read before writing again";
    Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
}

/// Runs `work`, but not past the deadline: returns `None` when it was not done by then, and was
/// dropped.
///
/// Unlike [`Deadline::limit`], it begins nothing once the deadline has passed: a task that is
/// woken too late sends nothing.
pub async fn before<T>(deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
    if deadline.has_passed() { None } else { deadline.limit(work).await }
}
