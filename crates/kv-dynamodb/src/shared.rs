//! What the handles of one store share within a process: nothing else is shared, whatever two stores differ in.

use crate::{item::Versions, lease::Leases, turns::Turns};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

/// Which store it is. Stores that differ in any of these have nothing to do with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    /// Whose table it is, by the access key or the profile.
    pub(crate) account: Option<String>,
    pub(crate) table: String,
    pub(crate) prefix: String,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) versions: Versions,
    pub(crate) turns: Arc<Turns>,
    pub(crate) leases: Leases,
}

static OPEN: LazyLock<Mutex<HashMap<Identity, Weak<Shared>>>> = LazyLock::new(Mutex::default);

impl Shared {
    /// That of this store, as long as one handle has it.
    pub(crate) fn of(store: Identity) -> Arc<Self> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
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
            endpoint: some("http://a"),
            region: some("r"),
            account: some("me"),
            table: "t".into(),
            prefix: "p/".into(),
        };
        let others = [
            Identity { endpoint: some("http://b"), ..store.clone() },
            Identity { region: some("s"), ..store.clone() },
            Identity { account: None, ..store.clone() },
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
