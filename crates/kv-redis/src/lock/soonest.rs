//! When those that wait in lines look by themselves, since who dies tells nobody.

use kv_core::backend::{Instant, Mutex};
use tokio::sync::Notify;

/// When one before us in a line dies, unless it is renewed.
#[derive(Default)]
pub(crate) struct Soonest {
    /// With the moment in which it was known.
    next: Mutex<Option<(Instant, Instant)>>,
    changed: Notify,
}

impl Soonest {
    pub(crate) fn at(&self) -> Option<Instant> {
        self.next.lock().map(|(at, _)| at)
    }

    /// Ready when it may be another.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Somebody dies then, as is known now.
    pub(crate) fn dies(&self, at: Instant, now: Instant) {
        {
            let mut next = self.next.lock();
            let at = next.map_or(at, |(other, _)| other.min(at));
            *next = Some((at, now));
        }
        self.changed.notify_one();
    }

    /// What a look found that began then: who came since may not have been seen.
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

    /// The look failed.
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
        let (soonest, begin) = (Soonest::default(), Clock::manual().now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        soonest.dies(at(10), at(0));
        soonest.dies(at(20), at(2));
        // Those before the look it has seen, or they are gone.
        soonest.looked(at(3), Some(at(30)));
        assert_eq!(soonest.at(), Some(at(30)));
        // It began before that one came.
        soonest.dies(at(9), at(5));
        soonest.looked(at(4), Some(at(40)));
        assert_eq!(soonest.at(), Some(at(9)));
        soonest.looked(at(4), None);
        assert_eq!(soonest.at(), Some(at(9)));
        soonest.looked(at(6), None);
        assert_eq!(soonest.at(), None);
        soonest.dies(at(5), at(5));
        soonest.again(at(8), at(7));
        assert_eq!(soonest.at(), Some(at(8)));
    }
}
