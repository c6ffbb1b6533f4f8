//! The moment by which a call has to end.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, sleep_until},
};

/// The moment by which a call has to end.
///
/// The default is five seconds from now, so that a store called without a handle cannot hang
/// either.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kv_core::driver::Deadline;
/// use std::time::Duration;
///
/// let soon = Deadline::after(Duration::from_millis(5));
/// assert_eq!(soon.limit(async { 1 }).await, Some(1));
/// assert_eq!(soon.limit(std::future::pending::<u8>()).await, None);
/// assert!(soon.has_passed());
/// assert_eq!(format!("no answer within {soon}"), "no answer within 5ms");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
    within: Duration,
}

impl Deadline {
    /// The time that a handle gives each call unless told otherwise.
    pub const DEFAULT: Duration = Duration::from_secs(5);
    /// No deadline.
    pub const NEVER: Self = Self { at: None, within: Duration::MAX };

    /// Makes a deadline this long from now. It never passes where the clock cannot count the time.
    pub fn after(within: Duration) -> Self {
        Self { at: Instant::now().checked_add(within), within }
    }

    /// Returns the time that there was at first.
    pub fn within(self) -> Duration {
        self.within
    }

    /// Returns the time that is left; [`Duration::MAX`] without a deadline.
    pub fn remaining(self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Tells whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Runs `work` until the deadline; `None` when it was not done by then, and was dropped. A
    /// timer is armed only when the answer is not there at once.
    ///
    /// Each turn polls `work` once, so that work that yields lets other tasks run, within any
    /// number of these limits.
    pub async fn limit<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut timer) = (pin!(work), None);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            let Some(at) = self.at else { return Poll::Pending };
            // Work that uses up what a task may do in one turn must not hold back the timer. It is
            // in a box, since a call that is answered at once has none, and is moved about.
            let timer = timer.get_or_insert_with(|| Box::pin(unconstrained(sleep_until(at))));
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// Writes the time that there was at first, for messages that tell within which time something did
/// not happen.
impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.within.is_zero() {
            return f.write_str("0 s, which is no time: give it more");
        }
        write!(f, "{:?}", self.within)
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::after(Self::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        task::{Context, Waker},
    };

    #[tokio::test]
    async fn what_is_limited_is_asked_once_a_turn() {
        let (soon, mut asked) = (Deadline::after(Duration::from_secs(60)), 0);
        let mut work = pin!(soon.limit(soon.limit(Deadline::NEVER.limit(poll_fn(|_| {
            asked += 1;
            if asked > 3 { Poll::Ready(asked) } else { Poll::Pending }
        })))));
        let mut turn = || Pin::as_mut(&mut work).poll(&mut Context::from_waker(Waker::noop()));
        for _ in 0..3 {
            assert!(turn().is_pending());
        }
        assert_eq!(turn(), Poll::Ready(Some(Some(Some(4)))));
    }
}
