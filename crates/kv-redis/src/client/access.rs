//! What every connection needs: who asks, of which database, and by which TLS.

use crate::client::tls::Connectors;
use kv_core::Secret;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Who asks, of what, and how.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<u8>,
    pub(crate) tls: Option<Arc<Connectors>>,
    /// Where servers are reached that name themselves otherwise.
    pub(crate) reached: Arc<BTreeMap<String, String>>,
    /// Whether a server was reached by it.
    pub(crate) was_right: Arc<AtomicBool>,
}

impl Access {
    /// Returns the same access for one who has no name.
    pub(crate) fn nobody(&self) -> Self {
        Self { user: None, password: None, database: None, ..self.clone() }
    }

    /// Returns whether a server was reached by it before: what looks like wrong settings of TLS is an outage then, or certificates that
    /// are exchanged on one side before the other.
    pub(crate) fn was_right(&self) -> bool {
        self.was_right.load(Ordering::Relaxed)
    }

    /// Notes that a server was reached by it.
    pub(crate) fn is_right(&self) {
        self.was_right.store(true, Ordering::Relaxed);
    }
}
