//! One attempt of an update: what was there, and what comes after it.

use super::{Next, Updated};
use crate::{Entry, Written, backend::Instant, driver::Expect};

/// One change that was computed of what was there.
pub(super) struct Attempt {
    /// The number that its marker holds.
    pub(super) number: u32,
    pub(super) before: Option<Entry>,
    pub(super) next: Next,
    /// The moment before it was sent for the first time.
    pub(super) sent: Option<Instant>,
}

impl Attempt {
    pub(super) fn changes_nothing(&self) -> bool {
        match self.next {
            Next::Put(_) => false,
            Next::Delete => self.before.is_none(),
            Next::Keep => true,
        }
    }

    /// Tells whether this was computed of what is there now.
    pub(super) fn is_of(&self, found: Option<&Entry>) -> bool {
        expect(self.before.as_ref()) == expect(found)
    }

    /// Tells whether a request of this attempt can still be made when this is there. A key that was
    /// missing can be missing again, while no version comes twice.
    pub(super) fn can_still_be_made(&self, found: Option<&Entry>) -> bool {
        self.before.is_none() || self.is_of(found)
    }

    pub(super) fn done(self, written: Option<Written>) -> Updated {
        let value = match self.next {
            Next::Put(value) => Some(value),
            Next::Delete => None,
            Next::Keep => self.before.as_ref().map(|entry| entry.value.clone()),
        };
        Updated { before: self.before, value, written }
    }
}

/// Returns the precondition that what was found is there still.
pub(super) fn expect(found: Option<&Entry>) -> Expect {
    found.map_or(Expect::Missing, |entry| Expect::Version(entry.version))
}
