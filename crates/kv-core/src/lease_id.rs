//! The name of a lease.

use std::sync::Arc;

/// The backend's own name of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(Arc<str>);

impl LeaseId {
    /// Makes, for backends, the name of a lease.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
