//! The marker of an update that is made exactly once.

use super::attempt::Attempt;
use crate::{
    Capabilities, Directory, Key, Result,
    backend::{Clock, unique},
    kv::lifetime::Lifetime,
};
use std::time::Duration;

/// The times that a marker stays at least, where the server grants as much, and at most.
const MARKER_TTL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// The key that a transaction writes beside its change, and that tells that it was made.
pub(super) struct Marker {
    pub(super) key: Key,
    pub(super) life: Lifetime,
    /// The TTL as granted; `None` where the marker lives under a lease.
    ttl: Option<Duration>,
    pub(super) clock: Clock,
}

impl Marker {
    pub(super) fn new(
        capabilities: &Capabilities,
        directory: &Directory,
        of_the_key: &Lifetime,
        within: Duration,
    ) -> Result<Self> {
        let key = directory.join(&Key::parse(&format!("{:016x}", unique()))?)?;
        let (mut life, clock) = (of_the_key.clone(), Clock::system());
        if life.lease.is_some() {
            return Ok(Self { key, life, ttl: None, clock });
        }
        let range = capabilities.ttl.as_ref().ok_or_else(|| capabilities.unsupported("TTLs"))?;
        // Some servers give all keys of one transaction one TTL.
        let long = within.saturating_mul(2).clamp(MARKER_TTL.0, MARKER_TTL.1).min(range.greatest);
        let ttl = capabilities.key_ttl(*life.ttl.get_or_insert(long))?;
        Ok(Self { key, life, ttl: Some(ttl), clock })
    }

    /// Tells whether the attempt may have been made so long ago that its marker has ended.
    pub(super) fn may_have_gone(&self, attempt: &Attempt) -> bool {
        self.ttl.zip(attempt.sent).is_some_and(|(ttl, sent)| self.clock.now().since(sent) >= ttl)
    }
}
