//! Refusals, which tell the users of a poll why nothing is told any more.

use crate::names::lock_of;
use kv_core::{Error, ErrorKind, Key, driver::Target};
use std::sync::Arc;

/// The reason why nothing is told any more: of some keys, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    keys: Option<Arc<[Key]>>,
    pub(crate) kind: ErrorKind,
    pub(crate) why: Arc<str>,
}

impl Refusal {
    pub(crate) fn of_all(error: &Error) -> Self {
        Self { keys: None, kind: error.kind(), why: error.message().into() }
    }

    pub(crate) fn of(keys: Vec<Key>) -> Self {
        let why = "the token may no longer read what is watched, which looks like a deletion and is none";
        Self { keys: Some(keys.into()), kind: ErrorKind::PermissionDenied, why: why.into() }
    }

    /// Tells whether the refusal is of all keys: a user that it concerns asks again, and hears it.
    pub(crate) fn is_of_all(&self) -> bool {
        self.keys.is_none()
    }

    pub(crate) fn concerns(&self, target: &Target) -> bool {
        let is_concerned = |key: &Key| match target {
            Target::Holder(name) => lock_of(key).as_ref() == Some(name),
            _ => target.concerns(key),
        };
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(is_concerned))
    }

    pub(crate) fn error(&self) -> Error {
        Error::new(self.kind, self.why.to_string())
    }
}
