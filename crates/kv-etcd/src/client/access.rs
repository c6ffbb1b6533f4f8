//! The settings by which the members are reached, the same for all of them.

use kv_core::{Secret, Tls};
use std::sync::{Arc, atomic::AtomicBool};

/// The login and the TLS settings.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) tls: Arc<Tls>,
    /// Tells that the store was opened, so that the settings were right: what contradicts them
    /// later may pass.
    pub(crate) was_opened: AtomicBool,
}
