//! The time of the next look at the queues: a contender whose session dies sends no message, so
//! that those who wait have to look.

use kv_core::backend::{Instant, Mutex};
use tokio::sync::Notify;

/// The moment at which the session of a contender before ours dies, unless it is renewed.
#[derive(Default)]
pub(crate) struct NextLook {
    /// The moment of the look, and the moment at which it became known.
    next: Mutex<Option<(Instant, Instant)>>,
    changed: Notify,
}

impl NextLook {
    /// Returns the moment of the next look, if there is one.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.next.lock().map(|(at, _)| at)
    }

    /// Waits until the moment may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes that a contender dies at this moment unless renewed, as is known now.
    pub(crate) fn dies(&self, at: Instant, now: Instant) {
        {
            let mut next = self.next.lock();
            let at = next.map_or(at, |(other, _)| other.min(at));
            *next = Some((at, now));
        }
        self.changed.notify_one();
    }

    /// Notes what a look found that began at this moment. Contenders that came since may not have
    /// been seen.
    pub(crate) fn looked(&self, began: Instant, found: Option<Instant>) {
        {
            let mut next = self.next.lock();
            let newer = next.filter(|(_, known)| *known >= began);
            let found = found.map(|at| (at, began));
            *next = match (newer, found) {
                (Some((one, known)), Some((other, _))) => Some((one.min(other), known)),
                (newer, found) => newer.or(found),
            };
        }
        self.changed.notify_one();
    }

    /// Sets the moment of another look, because one failed.
    pub(crate) fn again(&self, at: Instant, now: Instant) {
        *self.next.lock() = Some((at, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::backend::Clock;
    use std::time::Duration;

    #[test]
    fn what_came_while_one_looked_is_not_forgotten() {
        let (next_look, begin) = (NextLook::default(), Clock::manual().now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        next_look.dies(at(10), at(0));
        next_look.dies(at(20), at(2));
        // The look has seen all that were noted before it, or they are gone.
        next_look.looked(at(3), Some(at(30)));
        assert_eq!(next_look.at(), Some(at(30)));
        // This look began before the contender came.
        next_look.dies(at(9), at(5));
        next_look.looked(at(4), Some(at(40)));
        assert_eq!(next_look.at(), Some(at(9)));
        next_look.looked(at(4), None);
        assert_eq!(next_look.at(), Some(at(9)));
        next_look.looked(at(6), None);
        assert_eq!(next_look.at(), None);
        next_look.dies(at(5), at(5));
        next_look.again(at(8), at(7));
        assert_eq!(next_look.at(), Some(at(8)));
    }
}
