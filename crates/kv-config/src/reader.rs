//! Makes a valid value of the program's type of stored settings.

use crate::{fault::Fault, node::Node, snapshot::Snapshot, typed::Typed};
use kv_core::Result;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A check of settings, which says what is wrong with them.
pub(crate) type Check<T> = dyn Fn(&T) -> Result<(), String> + Send + Sync;

/// Reads settings of type `T`.
pub(crate) struct Reader<T> {
    pub(crate) defaults: Option<Node>,
    pub(crate) overrides: Option<Node>,
    pub(crate) checks: Vec<Box<Check<T>>>,
    /// Errors show the words of types that read their values by themselves.
    pub(crate) quotes: bool,
}

impl<T: DeserializeOwned> Reader<T> {
    /// Reads and validates the settings.
    ///
    /// # Errors
    /// [`Corrupt`](kv_core::ErrorKind::Corrupt), which says where and why.
    pub(crate) fn read(&self, snapshot: &Snapshot) -> Result<T> {
        // A type or a check that panics has refused the settings; what follows the store goes on.
        let read = catch_unwind(AssertUnwindSafe(|| self.valid(snapshot)));
        let read = read.unwrap_or_else(|_| Err(Fault::new("the program panicked while it read them")));
        read.map_err(|fault| snapshot.error(&fault, self.quotes))
    }

    fn valid(&self, snapshot: &Snapshot) -> Result<T, Fault> {
        let mut node = snapshot.node()?;
        if let Some(defaults) = &self.defaults {
            let mut merged = defaults.clone();
            merged.merge(node);
            node = merged;
        }
        if let Some(overrides) = &self.overrides {
            node.merge(overrides.clone());
        }
        let settings = T::deserialize(Typed(&node))?;
        for check in &self.checks {
            check(&settings).map_err(|why| Fault::new(format!("refused by the validation: {why}")))?;
        }
        Ok(settings)
    }
}
