//! Computes from the time-outs that the server grants sessions which TTLs are possible, and the
//! time-out for each TTL.

use kv_core::TtlRange;
use std::time::Duration;

/// The shortest TTL, although a server may allow shorter ones: keeping something alive takes time
/// for more than one renewal on a busy machine.
const SHORTEST: Duration = Duration::from_secs(2);

/// The least and the greatest time-out that the server grants sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) least: Duration,
    pub(crate) greatest: Duration,
}

impl Limits {
    /// Returns the time-out of the session for a TTL: the time by which it outlives its last sign
    /// of life.
    ///
    /// It is longer than the TTL, for three reasons: a member of an ensemble tells the leader of
    /// signs of life only twice a tick, so that some are lost with the member; keys that are put
    /// within a tenth of the TTL share a session; and an idle session is pinged a few times within
    /// it.
    pub(crate) fn timeout(self, ttl: Duration) -> Duration {
        (ttl + ttl / 8 + self.least / 3).max(self.least)
    }

    /// Returns for how long new keys of one TTL join a session.
    pub(crate) fn shared(ttl: Duration) -> Duration {
        ttl / 10
    }

    /// Returns the TTLs that such sessions can keep.
    pub(crate) fn range(self) -> TtlRange {
        let greatest = self.greatest.saturating_sub(self.least / 3) / 9 * 8;
        let greatest = Duration::from_millis(u64::try_from(greatest.as_millis()).unwrap_or(u64::MAX));
        let mut range = TtlRange::new(self.least.max(SHORTEST).min(greatest), greatest);
        // A new leader, and a single server after a restart, gives each session its whole time-out
        // anew. Servers look for ended sessions once a tick, which is half of the least time-out
        // unless it is set otherwise.
        range.late_share = 1.5;
        range.late_by = self.least * 2 + Duration::from_millis(500);
        range
    }
}
