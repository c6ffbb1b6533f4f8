//! What every connection needs.

use crate::tls::Tls;
use kv_core::Secret;
use std::{collections::BTreeMap, sync::Arc};

/// Who asks, of what, and how.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<u8>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Where servers are reached that name themselves otherwise.
    pub(crate) reached: Arc<BTreeMap<String, String>>,
}

impl Access {
    /// The same way for one who has no name.
    pub(crate) fn nobody(&self) -> Self {
        Self { user: None, password: None, database: None, ..self.clone() }
    }
}
