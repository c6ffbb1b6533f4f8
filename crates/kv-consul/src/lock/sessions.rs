//! Keeps the sessions that locks hang on.

use kv_core::backend::{self, LetGo};
use std::sync::Arc;

/// A session for locks.
#[derive(Clone, Debug)]
pub(crate) struct LockSession {
    pub(crate) id: Arc<str>,
    pub(crate) let_go: LetGo,
}

pub(crate) type LockSessions = backend::Sessions<LockSession>;
pub(crate) type Use = backend::Use<LockSession>;
