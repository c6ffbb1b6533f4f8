//! Makes the versions of writes, which go up with the writes of a key.

use crate::client::{
    clock::Millis,
    item::{is_plausible, last_version},
};
use kv_core::{Version, backend::unique};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes versions. A version is the microseconds of the service's time, at the latest that it may
/// be, or one more than the last one that the handles of this store have made or seen in this
/// process; and a number that nobody else uses. So versions go up with the writes of a key, also
/// where it was deleted, and none is given out twice.
#[derive(Debug, Default)]
pub(crate) struct Versions(AtomicU64);

impl Versions {
    pub(crate) fn next(&self, latest: Millis) -> Version {
        let now = latest.saturating_mul(1000);
        // After the service's clock was set back by days, versions begin anew.
        let known = |last: u64| if last <= last_version(latest) { last } else { 0 };
        let step = |last: u64| known(last).saturating_add(1).max(now);
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last)));
        Version::new(step(last.unwrap_or_else(|last| last)), unique())
    }

    /// Notes a version that was met, wherever it comes from. One that lies far in the service's
    /// future moves nothing.
    pub(crate) fn seen(&self, version: Version, latest: Millis) {
        if is_plausible(version, latest) {
            self.0.fetch_max(version.parts().0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::item::FAR;

    #[test]
    fn versions_go_up_also_when_the_time_does_not() {
        let versions = Versions::default();
        let mut last = versions.next(5);
        for latest in [5, 5, 4, 0, 6, 5] {
            let next = versions.next(latest);
            assert!(next.parts().0 > last.parts().0, "{next} after {last}");
            last = next;
        }
        let (high, low) = last.parts();
        versions.seen(Version::new(high + 1000, low), 5);
        assert!(versions.next(0).parts().0 > high + 1000);
    }

    #[test]
    fn a_version_from_the_far_future_moves_nothing() {
        let (versions, now) = (Versions::default(), 1_700_000_000_000);
        for far in [u64::MAX, last_version(now) + 1] {
            versions.seen(Version::new(far, 7), now);
            assert_eq!(
                versions.next(now).parts().0.checked_sub(now * 1000).map(|above| above < 9),
                Some(true)
            );
        }
        // When the service's clock goes back by days, so do versions.
        versions.next(now + 9 * FAR);
        assert!(is_plausible(versions.next(now), now));
    }
}
