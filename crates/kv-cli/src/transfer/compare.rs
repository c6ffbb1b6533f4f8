//! Finds the keys by which two places differ.

use super::side::{Found, Place, Side};
use crate::exit::Run;
use kv_core::{Bytes, Key, LeftOut, Version};
use std::cmp::Ordering;

/// One key by which the place that is read and the place that is written differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is to be created.
    Missing { key: Key, value: Bytes },
    /// It has another value, at this version.
    Other { key: Key, value: Bytes, at: Option<Version> },
    /// It is only where it would be written, at this version.
    Extra { key: Key, at: Option<Version> },
}

impl Difference {
    pub(super) fn key(&self) -> &Key {
        let (Self::Missing { key, .. } | Self::Other { key, .. } | Self::Extra { key, .. }) = self;
        key
    }
}

/// Two places that are read side by side, in the order of their keys: neither is ever in memory as
/// a whole, unless it was read from lines.
pub(super) struct Comparison {
    from: Ahead,
    to: Ahead,
    same: u64,
    /// The place that is read has no key, as far as it was read.
    is_from_empty: bool,
}

/// A place, with the key that was read last and is not compared yet.
struct Ahead {
    side: Side,
    found: Option<Found>,
    is_over: bool,
}

impl Ahead {
    fn of(side: Side) -> Self {
        Self { side, found: None, is_over: false }
    }

    /// Reads the next key, unless there is one already.
    async fn fill(&mut self) -> Run<()> {
        if self.found.is_none() && !self.is_over {
            self.found = self.side.next().await?;
            self.is_over = self.found.is_none();
        }
        Ok(())
    }
}

impl Comparison {
    pub(super) fn of(from: &Place, to: &Place) -> Self {
        Self::between(from.side(), to.side())
    }

    /// Compares as [`of`](Self::of) does, and notes what the place that is read leaves out.
    pub(super) fn telling(from: &Place, to: &Place) -> Self {
        Self::between(from.told_side(), to.side())
    }

    /// Compares as [`of`](Self::of) does, and notes what both places leave out.
    pub(super) fn telling_both(from: &Place, to: &Place) -> Self {
        Self::between(from.told_side(), to.told_side())
    }

    fn between(from: Side, to: Side) -> Self {
        Self { from: Ahead::of(from), to: Ahead::of(to), same: 0, is_from_empty: true }
    }

    /// Returns the next difference, in the order of the keys; `None` at the end.
    pub(super) async fn next(&mut self) -> Run<Option<Difference>> {
        loop {
            self.from.fill().await?;
            self.to.fill().await?;
            self.is_from_empty &= self.from.found.is_none();
            let order = match (&self.from.found, &self.to.found) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(from), Some(to)) => from.key.cmp(&to.key),
            };
            let from = if order.is_le() { self.from.found.take() } else { None };
            let to = if order.is_ge() { self.to.found.take() } else { None };
            match (from, to) {
                (Some(from), Some(to)) if from.value == to.value => self.same += 1,
                (Some(Found { key, value, .. }), Some(to)) => {
                    return Ok(Some(Difference::Other { key, value, at: to.version }));
                }
                (Some(Found { key, value, .. }), None) => {
                    return Ok(Some(Difference::Missing { key, value }));
                }
                (None, Some(Found { key, version, .. })) => {
                    return Ok(Some(Difference::Extra { key, at: version }));
                }
                (None, None) => return Ok(None),
            }
        }
    }

    /// Tells whether the place that is read has no key, as far as it was read.
    pub(super) fn is_from_empty(&self) -> bool {
        self.is_from_empty
    }

    /// Returns what the place that is read, and the one that it is compared with, have left out so
    /// far.
    pub(super) fn left_out(&self) -> [LeftOut; 2] {
        [self.from.side.left_out(), self.to.side.left_out()]
    }

    /// Returns how many keys were the same so far.
    pub(super) fn same(&self) -> u64 {
        self.same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pairs: &[(&str, &'static str)]) -> Place {
        let pairs =
            pairs.iter().map(|(key, value)| (Key::parse(key).unwrap(), Bytes::from_static(value.as_bytes())));
        Place::Lines(pairs.collect())
    }

    #[tokio::test]
    async fn every_difference_is_told_once_and_in_order() {
        let from = lines(&[("a", "1"), ("b", "2"), ("c/x", "3"), ("e", "5")]);
        let to = lines(&[("b", "2"), ("c", "9"), ("c/x", "4"), ("f", "6")]);
        let mut comparison = Comparison::of(&from, &to);
        let mut told = Vec::new();
        while let Some(difference) = comparison.next().await.unwrap() {
            let kind = match &difference {
                Difference::Missing { .. } => "+",
                Difference::Other { .. } => "~",
                Difference::Extra { .. } => "-",
            };
            told.push(format!("{kind}{}", difference.key()));
        }
        assert_eq!(told, ["+a", "-c", "~c/x", "+e", "-f"]);
        assert_eq!(comparison.same(), 1);
    }
}
