//! Leases that end when they are empty.

use crate::{
    broken::{Broken, guard},
    fault::Fault,
};
use kv_core::{backend::Undo, *};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

/// All leases that were granted, with what is known of them.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<LeaseId, Known>>);

/// The keys of a lease, by their whole names, and how it is revoked.
#[derive(Default)]
struct Known {
    names: HashSet<String>,
    revoke: Arc<Mutex<Option<Undo>>>,
}

impl Leases {
    /// Notes a lease that was granted; returns the undo that revokes it in place of the store's
    /// own.
    pub(crate) fn granted(&self, id: &LeaseId, revoke: Undo) -> Undo {
        let shared = Arc::new(Mutex::new(Some(revoke)));
        guard(&self.0).insert(id.clone(), Known { revoke: shared.clone(), ..Known::default() });
        Undo::new(async move { crate::lock::take(&shared).await })
    }

    fn put(&self, lease: &LeaseId, name: String) {
        if let Some(known) = guard(&self.0).get_mut(lease) {
            known.names.insert(name);
        }
    }

    /// Notes that the names for which `gone` is true are under no lease any more. A lease that has
    /// no names now is revoked, a moment later.
    fn went(&self, gone: impl Fn(&str) -> bool) {
        for Known { names, revoke } in guard(&self.0).values_mut() {
            let before = names.len();
            names.retain(|name| !gone(name));
            if names.is_empty() && before > 0 {
                let revoke = revoke.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    crate::lock::take(&revoke).await
                });
            }
        }
    }
}

impl Broken {
    fn sweeps(&self) -> bool {
        self.fault == Fault::SweepsEmptyLeases
    }

    pub(crate) fn lease_has_put(&self, key: &Key, lease: Option<&LeaseId>) {
        if self.sweeps() {
            let name = self.name(key);
            self.state.leases.went(|gone| gone == name);
            if let Some(lease) = lease {
                self.state.leases.put(lease, name);
            }
        }
    }

    pub(crate) fn lease_has_lost(&self, directory: &Directory) {
        if self.sweeps() {
            let names = format!("{}{}", self.prefix, directory.as_str());
            self.state.leases.went(|gone| gone.starts_with(&names));
        }
    }
}
