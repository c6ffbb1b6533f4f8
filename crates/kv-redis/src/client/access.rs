//! The settings that every connection needs: the user, the database and TLS.

use crate::client::tls::Connectors;
use kv_core::Secret;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The settings of a connection: user, password, database and TLS.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<u8>,
    pub(crate) tls: Option<Arc<Connectors>>,
    /// Maps the address that a server gives of itself to the one at which it is reached from here.
    pub(crate) reached: Arc<BTreeMap<String, String>>,
    /// Set once a server was reached with these settings.
    pub(crate) was_right: Arc<AtomicBool>,
}

impl Access {
    /// Returns the same settings without a user, a password and a database.
    pub(crate) fn nobody(&self) -> Self {
        Self { user: None, password: None, database: None, ..self.clone() }
    }

    /// Returns whether a server was reached with these settings before. If so, a failure that
    /// looks like wrong TLS settings is an outage, or one side has new certificates before the
    /// other.
    pub(crate) fn was_right(&self) -> bool {
        self.was_right.load(Ordering::Relaxed)
    }

    /// Notes that a server was reached with these settings.
    pub(crate) fn is_right(&self) {
        self.was_right.store(true, Ordering::Relaxed);
    }
}
