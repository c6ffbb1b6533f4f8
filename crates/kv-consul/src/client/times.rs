//! Tells how long requests may take, and for how long one that fails is tried again.

use kv_core::driver::Deadline;
use std::time::Duration;

/// Sets for how long a server that does not know the token of an open store is asked again: tokens
/// are exchanged on one side before the other, and a server that has just begun knows no token
/// before it has read its data.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The time that one attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Limits the time until a write is sent.
    pub(crate) connect: Deadline,
    /// Limits the whole attempt.
    pub(crate) whole: Deadline,
}

/// Returns a deadline a moment before this one, for a wait that is to tell what it knows.
pub(crate) fn a_moment_before(deadline: Deadline) -> Deadline {
    let left = deadline.remaining();
    Deadline::after(left - left / 50)
}

/// Returns the deadline of work on a task of its own: the caller's time began before the task.
pub(crate) fn on_a_task(within: Duration) -> Deadline {
    Deadline::after(within - within / 10)
}
