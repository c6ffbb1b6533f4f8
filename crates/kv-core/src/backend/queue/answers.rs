//! The answers of a queue.

#[cfg(doc)]
use super::Queue;

/// The result of [`Queue::enter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered<P> {
    /// The contender is in the queue.
    Queued {
        /// The fencing token, which also gives the order of the queue.
        token: u64,
        /// The position, where the same answer told it; else [`Queue::position`] is asked.
        position: Option<Position<P>>,
    },
    /// The contender is not in the queue, because another one is there and the caller does not
    /// wait.
    Taken,
    /// The contender is not in the queue, and another attempt may succeed: it entered and is gone
    /// again, or the server refuses this contender alone.
    Lost,
}

/// The place of a contender in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<P> {
    /// Nobody is before it: it holds the lock.
    First,
    /// This one is directly before it.
    Behind(P),
    /// The contender is not in the queue, or is not ours any more.
    Lost,
}

/// The result of [`Queue::leave`] and [`Queue::cancel`]. In every case the contender is not in the
/// queue any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The contender was in the queue until now.
    Gone,
    /// The contender was not in the queue.
    NotThere,
    /// The contender was not in the queue, but an earlier attempt of this request may have taken
    /// it out.
    Maybe,
}
