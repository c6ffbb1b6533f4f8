//! Acquisitions that the writer has not seen yet.

use super::state::Shared;
use std::sync::Arc;

/// An acquisition that asks for a lock, and counts among those who wait for it.
#[derive(Debug)]
pub(crate) struct Asking {
    living: Shared,
    asks: (Arc<str>, u64),
}

impl Asking {
    pub(crate) fn new(living: &Shared, name: &Arc<str>, id: u64) -> Self {
        let asks = (name.clone(), id);
        living.lock().asking.insert(asks.clone());
        Self { living: living.clone(), asks }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.living.lock().asking.remove(&self.asks);
    }
}
