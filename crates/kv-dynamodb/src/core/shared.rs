//! The state that the handles of one store share within a process. Stores that differ in anything
//! share nothing.

use crate::{
    lease::state::Leases,
    lock::tokens::Tokens,
    names::Identity,
    write::{turns::Turns, versions::Versions},
};
use kv_core::backend::WhileUsed;
use std::sync::{Arc, LazyLock};

/// The state that all handles of a store share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) versions: Versions,
    pub(crate) tokens: Tokens,
    pub(crate) turns: Arc<Turns>,
    pub(crate) leases: Leases,
}

static OPEN: LazyLock<WhileUsed<Identity, Shared>> = LazyLock::new(WhileUsed::new);

impl Shared {
    /// Returns the state of this store, which lives as long as one handle has it.
    pub(crate) fn of(store: Identity) -> Arc<Self> {
        OPEN.get_or(store, Self::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_that_differ_in_anything_share_nothing() {
        let some = |text: &str| Some(text.to_owned());
        let store = Identity {
            arn: some("arn:aws:dynamodb:r:1:table/t"),
            id: some("1"),
            made: some("2"),
            table: "t".into(),
            prefix: "p/".into(),
        };
        let others = [
            Identity { arn: some("arn:aws:dynamodb:s:1:table/t"), ..store.clone() },
            Identity { id: some("2"), ..store.clone() },
            Identity { made: None, ..store.clone() },
            Identity { table: "u".into(), ..store.clone() },
            Identity { prefix: "q/".into(), ..store.clone() },
        ];
        let shared = Shared::of(store.clone());
        assert!(Arc::ptr_eq(&shared, &Shared::of(store)));
        for other in others {
            assert!(!Arc::ptr_eq(&shared, &Shared::of(other.clone())), "{other:?}");
        }
    }
}
