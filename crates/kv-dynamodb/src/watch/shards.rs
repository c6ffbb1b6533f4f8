//! Decides which shards of a stream are to be read, in which order.
//!
//! A shard takes records for some hours, then is closed, and goes on in one child, or in two when
//! its part of the table was split. All records of a key lie in one line of shards, so a child is
//! begun when its parent has been read to its end.

use std::collections::{HashMap, HashSet};

/// A shard, as the service lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Done,
}

/// The shards that one reader has met.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    met: HashMap<String, State>,
    /// The shards that were read to their end, and of which no child has been listed yet.
    childless: HashSet<String>,
}

impl Shards {
    /// Returns the shards to begin with, at their newest record: the last of each line, and closed
    /// ones too whose children are not listed yet. The records of all others are older.
    pub(crate) fn begin(&mut self, listed: &[Shard]) -> Vec<String> {
        let parents: HashSet<_> = listed.iter().filter_map(|shard| shard.parent.as_deref()).collect();
        let mut begun = Vec::new();
        for shard in listed {
            let is_last = !parents.contains(shard.id.as_str());
            self.met.insert(shard.id.clone(), if is_last { State::Reading } else { State::Done });
            if is_last {
                begun.push(shard.id.clone());
            }
        }
        begun
    }

    /// Notes that the shard was read to its end.
    pub(crate) fn done(&mut self, id: &str) {
        self.met.insert(id.to_owned(), State::Done);
        self.childless.insert(id.to_owned());
    }

    /// Returns the shards to begin now, at their oldest record.
    pub(crate) fn next(&mut self, listed: &[Shard]) -> Vec<String> {
        let there: HashSet<_> = listed.iter().map(|shard| shard.id.as_str()).collect();
        let mut begun = Vec::new();
        for shard in listed {
            if let Some(parent) = &shard.parent {
                self.childless.remove(parent);
            }
            if self.met.contains_key(&shard.id) {
                continue;
            }
            // A parent that is listed no more was trimmed, and so was all that it held.
            let is_first = shard
                .parent
                .as_deref()
                .is_none_or(|parent| self.met.get(parent) == Some(&State::Done) || !there.contains(parent));
            if is_first {
                begun.push(shard.id.clone());
            }
        }
        self.met.extend(begun.iter().map(|id| (id.clone(), State::Reading)));
        self.met.retain(|id, state| *state == State::Reading || there.contains(id.as_str()));
        begun
    }

    /// Tells whether a shard has ended whose children are still to be listed.
    pub(crate) fn awaits_children(&self) -> bool {
        !self.childless.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parent: Option<&str>) -> Shard {
        Shard { id: id.into(), parent: parent.map(Into::into) }
    }

    #[test]
    fn one_begins_with_the_last_of_each_line() {
        let listed = [shard("a", None), shard("b", Some("a")), shard("c", Some("a")), shard("x", None)];
        assert_eq!(Shards::default().begin(&listed), ["b", "c", "x"]);
        // The oldest shards of this line were trimmed.
        assert_eq!(Shards::default().begin(&[shard("b", Some("gone"))]), ["b"]);
    }

    #[test]
    fn children_come_after_their_parent() {
        let mut shards = Shards::default();
        let mut listed = vec![shard("a", None)];
        assert_eq!(shards.begin(&listed), ["a"]);
        listed.extend([shard("b", Some("a")), shard("c", Some("a")), shard("d", Some("b"))]);
        assert_eq!(shards.next(&listed), [""; 0], "the parent is still read");
        shards.done("a");
        assert!(shards.awaits_children());
        assert_eq!(shards.next(&listed), ["b", "c"], "and the grandchild waits");
        assert!(!shards.awaits_children());
        assert_eq!(shards.next(&listed), [""; 0], "none is begun twice");
        shards.done("b");
        assert_eq!(shards.next(&listed), ["d"]);
    }

    #[test]
    fn children_that_are_listed_late_are_waited_for() {
        let mut shards = Shards::default();
        let listed = [shard("a", None)];
        shards.begin(&listed);
        shards.done("a");
        assert_eq!(shards.next(&listed), [""; 0]);
        assert!(shards.awaits_children());
        // The parent may have been trimmed by then.
        assert_eq!(shards.next(&[shard("b", Some("a"))]), ["b"]);
        assert!(!shards.awaits_children());
    }

    #[test]
    fn what_is_listed_no_more_is_forgotten() {
        let mut shards = Shards::default();
        shards.begin(&[shard("a", None)]);
        for n in 0..100 {
            let (old, new) = (n.to_string(), (n + 1).to_string());
            let parent = if n == 0 { "a" } else { &old };
            shards.done(parent);
            assert_eq!(shards.next(&[shard(&new, Some(parent))]), [new.as_str()]);
        }
        assert!(shards.met.len() < 3, "{shards:?}");
    }
}
