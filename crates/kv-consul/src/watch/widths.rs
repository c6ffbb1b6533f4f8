//! Decides how many polls there may be, and how wide.

use crate::{
    client::{Pool, api::Range},
    names::parent,
};
use std::sync::{Arc, atomic::Ordering};

/// Limits how many polls all stores of a process have at one agent: of the very names that are
/// wanted, of the directories of the others, and of the top-level directories of the rest. Each
/// store may poll the whole of itself besides.
pub(super) const MOST: [usize; 3] = [20, 8, 4];
pub(super) const WIDEST: usize = MOST.len();

/// The right to one poll of a width; the number of such rights is limited.
pub(super) struct Permit(Arc<Pool>, usize);

impl Permit {
    pub(super) fn take(pool: &Arc<Pool>, width: usize) -> Option<Self> {
        let one_more = |count| (count < MOST[width]).then_some(count + 1);
        pool.widths[width].fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(pool.clone(), width))
    }

    /// Returns a permit that is not counted: for the whole store, or for what a narrow token may
    /// read.
    pub(super) fn beyond(pool: &Arc<Pool>) -> Self {
        Self(pool.clone(), WIDEST)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = self.0.widths.get(self.1) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Returns the range, and ever wider ones.
pub(super) fn widths(prefix: &str, range: &Range) -> [Range; 4] {
    let name = match range {
        Range::Name(name) | Range::Tree(name) => name,
    };
    let below = &name[prefix.len()..];
    let parent = format!("{prefix}{}", parent(below));
    let top = match below.split_once('/') {
        // In this directory the locks are apart from each other.
        Some((".kv", _)) => format!("{prefix}.kv/lock/"),
        Some((top, _)) => format!("{prefix}{top}/"),
        None => prefix.to_owned(),
    };
    let tree = |name: String| Range::Tree(name.into());
    [range.clone(), tree(parent), tree(top), tree(prefix.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_widen_within_the_store() {
        let name = |name: &str| Range::Name(name.into());
        let tree = |name: &str| Range::Tree(name.into());
        let wide = |range: &Range| widths("p/", range);
        assert_eq!(wide(&name("p/a/b/c")), [name("p/a/b/c"), tree("p/a/b/"), tree("p/a/"), tree("p/")]);
        assert_eq!(wide(&tree("p/a/")), [tree("p/a/"), tree("p/"), tree("p/a/"), tree("p/")]);
        assert_eq!(wide(&tree("p/")), [tree("p/"), tree("p/"), tree("p/"), tree("p/")]);
        assert_eq!(
            wide(&name("p/.kv/lock/1/l/7"))[1..],
            [tree("p/.kv/lock/1/l/"), tree("p/.kv/lock/"), tree("p/")]
        );
        assert_eq!(widths("p", &name("px"))[1..], [tree("p"), tree("p"), tree("p")]);
    }

    #[test]
    fn permits_are_for_all_stores_of_a_process() {
        let pool = Pool::of(&"permits:1".into());
        let taken: Vec<_> = std::iter::from_fn(|| Permit::take(&pool, 0)).collect();
        assert_eq!(taken.len(), MOST[0]);
        assert!(Permit::take(&Pool::of(&"permits:1".into()), 0).is_none());
        assert!(Permit::take(&Pool::of(&"permits:2".into()), 0).is_some());
        drop(taken);
        assert!(Permit::take(&pool, 0).is_some());
    }
}
