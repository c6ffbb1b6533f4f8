//! The state of one call, and the step that follows from it.

use super::{Effect, RequestError, RetrySafety, outcome_unknown};
use crate::{Error, ErrorKind};

/// The number of mended causes in a row after which the same server is asked again. Two can meet
/// at one server: the credentials of the client, and the certificates that the client trusts.
const MAX_MENDS: u32 = 2;

/// The step that follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The same server is asked again, at once.
    SameServer,
    /// The next server is asked.
    NextServer,
    /// The call ends: its servers have answered.
    EndRefused,
    /// The call ends, since the write may have been done.
    EndUnknown,
}

/// The amount that an error tells, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tells {
    Silence,
    Cause,
    Answer,
}

impl Tells {
    fn of(effect: Effect, error: &Error) -> Self {
        match effect {
            Effect::Refused | Effect::RefusedHere => Self::Answer,
            _ if !error.is_transient() => Self::Answer,
            _ if error.kind() == ErrorKind::Timeout => Self::Silence,
            Effect::None | Effect::Unknown => Self::Cause,
        }
    }
}

/// The state of one call.
#[derive(Debug)]
pub(super) struct Call {
    safety: RetrySafety,
    servers: usize,
    /// Tells whether an attempt may have taken effect. In a read it is always false.
    pub(super) maybe_done: bool,
    best: Option<(Tells, Error)>,
    mends: u32,
    /// Counts the servers in succession that refused with an error that is not transient.
    refusals: usize,
}

impl Call {
    pub(super) fn new(safety: RetrySafety, servers: usize) -> Self {
        Self { safety, servers, maybe_done: false, best: None, mends: 0, refusals: 0 }
    }

    /// Notes a failed attempt, and returns the step that follows where there is time.
    pub(super) fn note(&mut self, failed: RequestError) -> Step {
        let RequestError { error, effect, is_mended } = failed;
        let is_unknown = effect == Effect::Unknown && self.safety != RetrySafety::Read;
        let is_lasting_here = effect == Effect::RefusedHere && !error.is_transient();
        self.maybe_done |= is_unknown;
        self.keep(effect, error);
        if is_unknown && self.safety == RetrySafety::Write {
            return Step::EndUnknown;
        }
        if is_mended && self.mends < MAX_MENDS {
            self.mends += 1;
            return Step::SameServer;
        }
        self.mends = 0;
        self.refusals = if is_lasting_here { self.refusals + 1 } else { 0 };
        if effect == Effect::Refused || self.refusals >= self.servers {
            return Step::EndRefused;
        }
        Step::NextServer
    }

    fn keep(&mut self, effect: Effect, error: Error) {
        let tells = Tells::of(effect, &error);
        if self.best.as_ref().is_none_or(|(best, _)| tells >= *best) {
            self.best = Some((tells, error));
        }
    }

    /// Returns the error of a call that ends without an answer, `untried` where no attempt was
    /// made.
    pub(super) fn error(self, untried: impl FnOnce() -> Error) -> Error {
        let error = self.best.map_or_else(untried, |(_, error)| error);
        if self.maybe_done { outcome_unknown(error) } else { error }
    }
}
