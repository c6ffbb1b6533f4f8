//! The state that the handles of one store share within a process. Stores that differ in anything
//! share nothing.

use crate::{
    lease::state::Leases,
    lock::tokens::Tokens,
    names::Identity,
    write::{turns::Turns, versions::Versions},
};
use kv_core::backend::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
};

/// The state that all handles of a store share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) versions: Versions,
    pub(crate) tokens: Tokens,
    pub(crate) turns: Arc<Turns>,
    pub(crate) leases: Leases,
}

static OPEN: LazyLock<Mutex<HashMap<Identity, Weak<Shared>>>> = LazyLock::new(Mutex::default);

impl Shared {
    /// Returns the state of this store, which lives as long as one handle has it.
    pub(crate) fn of(store: Identity) -> Arc<Self> {
        let mut open = OPEN.lock();
        if let Some(there) = open.get(&store).and_then(Weak::upgrade) {
            return there;
        }
        open.retain(|_, shared| shared.strong_count() > 0);
        let new = Arc::<Self>::default();
        open.insert(store, Arc::downgrade(&new));
        new
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
