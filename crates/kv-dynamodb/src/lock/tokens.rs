//! Makes the tokens of locks.

use crate::client::{clock::Millis, item::last_token};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes tokens. A token is the service's time in milliseconds, at the latest that it may be, or
/// one more than the last token that the handles of this store have made or met in this process.
/// So none is given out twice, also where the table goes back to an older copy of itself.
#[derive(Debug, Default)]
pub(crate) struct Tokens(AtomicU64);

impl Tokens {
    pub(crate) fn next(&self, latest: Millis) -> u64 {
        // After the service's clock was set back by days, tokens begin anew.
        let known = |last: u64| if last <= last_token(latest) { last } else { 0 };
        let step = |last: u64| known(last).saturating_add(1).max(latest);
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last)));
        step(last.unwrap_or_else(|last| last))
    }

    /// Notes a token that was met. One that lies far in the service's future moves nothing.
    pub(crate) fn seen(&self, token: u64, latest: Millis) {
        if token <= last_token(latest) {
            self.0.fetch_max(token, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_up_with_the_time_and_without_it() {
        let (tokens, now) = (Tokens::default(), 1_700_000_000_000);
        assert_eq!(tokens.next(now), now);
        assert_eq!(tokens.next(now), now + 1);
        assert_eq!(tokens.next(now - 500), now + 2);
        tokens.seen(now + 700, now);
        assert_eq!(tokens.next(now), now + 701);
        tokens.seen(u64::MAX, now);
        assert_eq!(tokens.next(now + 5000), now + 5000);
        // While the time is not known, tokens are counted.
        assert_eq!(Tokens::default().next(0), 1);
    }
}
