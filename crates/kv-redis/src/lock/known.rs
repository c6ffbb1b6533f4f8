//! The contenders of a session, as this side knows them.

use std::collections::HashSet;

/// The contenders that have not left, and the number of the next one.
#[derive(Clone, Default)]
pub(crate) struct Known {
    next: u64,
    names: HashSet<String>,
}

impl Known {
    /// Makes a name for another contender of this session.
    pub(crate) fn another(&mut self, session: &str) -> String {
        let name = format!("{session}:{:x}", self.next);
        self.next += 1;
        self.names.insert(name.clone());
        name
    }

    /// Notes that a contender has left, or never was in a queue.
    pub(crate) fn has_left(&mut self, contender: &str) {
        self.names.remove(contender);
    }

    /// Tells whether a contender had left by the moment of which this is a copy: what the server
    /// has of it in a queue behind that came late, by a request that was given up. One that came or
    /// left since may have been there when the server looked.
    pub(crate) fn was_gone(&self, contender: &str) -> bool {
        let number = contender.rsplit_once(':').and_then(|(_, number)| u64::from_str_radix(number, 16).ok());
        number.is_none_or(|number| number < self.next) && !self.names.contains(contender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_or_left_since_was_not_gone() {
        let mut known = Known::default();
        let (gone, stays, leaves) = (known.another("s"), known.another("s"), known.another("s"));
        known.has_left(&gone);
        let before = known.clone();
        let came = known.another("s");
        known.has_left(&leaves);
        known.has_left(&came);
        let was_gone = |name: &String| before.was_gone(name);
        assert_eq!([&gone, &stays, &leaves, &came].map(was_gone), [true, false, false, false]);
    }
}
