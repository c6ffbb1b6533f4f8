//! The messages between the owner of a registration and the task that keeps it.

use kv_core::{Bytes, Error, ErrorKind, Result};
use std::time::Instant;
use tokio::sync::oneshot;

/// The state of a registration, as its owner knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationState {
    /// The key was there, with the newest value, when it was looked at last.
    Registered,
    /// The key may be gone; it is being put again.
    Mending {
        /// The moment since which this is so.
        since: Instant,
        /// The failure that began it, or the last one since.
        error: Error,
    },
    /// Another has registered the key: this registration has given up for good.
    Superseded,
    /// The registration has ended: it was deregistered, or the server refuses it for good.
    Over(Error),
}

/// The value that is to be registered.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) change: u64,
    pub(super) value: Bytes,
}

/// The state of the key, as the keeper tells it to the owner.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) state: RegistrationState,
    /// The greatest change that the store has acknowledged.
    pub(super) written: u64,
}

impl Told {
    pub(super) fn nothing() -> Self {
        let error = Error::new(ErrorKind::Unavailable, "the key was not put yet");
        Self { state: RegistrationState::Mending { since: Instant::now(), error }, written: 0 }
    }

    /// Returns why the registration has ended; `None` while it goes on.
    pub(super) fn over(&self) -> Option<Error> {
        match &self.state {
            RegistrationState::Superseded => Some(superseded()),
            RegistrationState::Over(why) => Some(why.clone()),
            RegistrationState::Registered | RegistrationState::Mending { .. } => None,
        }
    }
}

/// The request to take the key away, with the way of the answer.
pub(super) type Stop = oneshot::Sender<Result<bool>>;

#[cold]
pub(super) fn superseded() -> Error {
    let why = "another has registered the key; give each owner a name of its own";
    Error::new(ErrorKind::KeyModified, why)
}
