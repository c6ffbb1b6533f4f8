//! `Debug` of a handle: its store with all layers, and its part.

use super::Kv;
use crate::driver::Store;
use std::fmt;

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Kv");
        shown.field("store", &Tower(self.handle.store.as_ref()));
        if !self.part().is_whole_tree() {
            shown.field("directory", &self.directory());
        }
        shown.field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Shows a store with its layers, the outermost first.
struct Tower<'a>(&'a dyn Store);

impl fmt::Debug for Tower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stores = std::iter::successors(Some(self.0), |store| store.inner());
        let shown: Vec<_> = stores.map(|store| store.describe()).filter(|text| !text.is_empty()).collect();
        f.write_str(&shown.join(" > "))
    }
}
