//! Notes about the requests that put one contender in a queue.

use std::sync::atomic::{AtomicU8, Ordering};

const SENT: u8 = 1;
const ANSWERED: u8 = 2;
const ENTERED: u8 = 4;
const LATE: u8 = 8;

/// Notes what became of the requests that put one contender in the queue, so that the engine knows
/// what is to be taken out: nothing, the contender, or the contender and whatever arrives late.
///
/// A new one counts as sent and unanswered: a backend that notes nothing costs a cleanup too many,
/// and never one too few.
#[derive(Debug)]
pub struct Sent(AtomicU8);

impl Default for Sent {
    fn default() -> Self {
        Self(AtomicU8::new(SENT))
    }
}

impl Sent {
    /// Notes that no request was sent yet. Every one must be announced by
    /// [`sending`](Self::sending) from then on, and none may be sent after the future of
    /// [`enter`](super::Queue::enter) was dropped.
    pub fn nothing_yet(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Notes that a request is about to be sent: until its answer is noted it may enter.
    pub fn sending(&self) {
        self.0.fetch_and(!ANSWERED, Ordering::AcqRel);
        self.0.fetch_or(SENT, Ordering::AcqRel);
    }

    /// Notes an answer: `entered` says whether the contender is in the queue, and `is_repeat`
    /// whether an earlier attempt of the same request may have been applied or may still arrive.
    /// An earlier note that the contender has entered, or that an attempt may still arrive, stays.
    pub fn answered(&self, entered: bool, is_repeat: bool) {
        let told = if entered { ENTERED } else { 0 } | if is_repeat { LATE } else { 0 };
        self.0.fetch_or(SENT | ANSWERED | told, Ordering::AcqRel);
    }

    /// Returns whether the contender may be in the queue, or may enter it still.
    pub fn may_have_entered(&self) -> bool {
        let known = self.0.load(Ordering::Acquire);
        known & SENT != 0 && (known & ANSWERED == 0 || known & (ENTERED | LATE) != 0)
    }

    /// Returns whether a request may still arrive that puts the contender in the queue.
    pub fn may_still_enter(&self) -> bool {
        let known = self.0.load(Ordering::Acquire);
        known & SENT != 0 && (known & ANSWERED == 0 || known & LATE != 0)
    }

    /// Returns whether no request has been answered since the last one was sent.
    pub(super) fn is_unanswered(&self) -> bool {
        self.0.load(Ordering::Acquire) & ANSWERED == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Sent;

    #[test]
    fn what_is_not_known_to_have_done_nothing_may_have_entered() {
        let sent = Sent::default();
        let knows = |sent: &Sent| (sent.may_have_entered(), sent.may_still_enter());
        assert_eq!(knows(&sent), (true, true));
        sent.nothing_yet();
        assert_eq!(knows(&sent), (false, false));
        sent.sending();
        assert_eq!(knows(&sent), (true, true));
        sent.answered(false, false);
        assert_eq!(knows(&sent), (false, false));
        sent.sending();
        assert_eq!(knows(&sent), (true, true));
        sent.answered(true, false);
        assert_eq!(knows(&sent), (true, false));
        sent.answered(false, true);
        assert_eq!(knows(&sent), (true, true), "an earlier attempt may be on its way");
        sent.sending();
        sent.answered(false, false);
        assert_eq!(knows(&sent), (true, true), "a later answer says nothing about an earlier request");
    }
}
