//! The times of one call.

use crate::driver::Deadline;
use std::time::Duration;

/// The least time by which a call ends before its deadline, where that leaves most of its time.
const MOMENT: Duration = Duration::from_millis(25);

/// The times of one call, as its deadline gives them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The end of all attempts, a moment before the call's own deadline, so that there is time to
    /// tell what is known.
    pub(super) attempts: Deadline,
    /// The time at which an attempt that did not end by itself is dropped, half a moment later: an
    /// attempt that knows whether anything was sent tells that first.
    pub(super) cut: Deadline,
    /// No attempt is begun anew with less time than this before the end of attempts.
    late: Duration,
}

impl Times {
    pub(super) fn new(deadline: Deadline) -> Self {
        let left = deadline.remaining();
        if left == Duration::MAX {
            return Self { attempts: deadline, cut: deadline, late: Duration::ZERO };
        }
        let moment = (left / 50).max(MOMENT).min(left / 4);
        let late = (left - moment) / 10;
        Self { attempts: Deadline::after(left - moment), cut: Deadline::after(left - moment / 2), late }
    }

    /// Returns what is left for further attempts; nothing where none is to be begun.
    pub(super) fn left(&self) -> Duration {
        self.attempts.remaining().saturating_sub(self.late)
    }
}
