//! The state of live settings, which those who use them and those who keep them share.

use crate::snapshot::Generation;
use kv_core::{Error, ErrorKind, Kv};
use serde::{Deserialize, Serialize};
use std::{fmt, mem, sync::Arc};
use tokio::sync::watch;

/// The source of the settings that are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// The store.
    Store,
    /// The last good file: the store could not be read, or holds settings that are not valid.
    File,
}

/// The settings that are run, with what is known of them; all of one moment.
///
/// `Debug` shows no settings, which may hold secrets.
#[non_exhaustive]
pub struct Running<T> {
    /// The settings.
    pub settings: Arc<T>,
    /// The generation that they are of.
    pub generation: Generation,
    /// The source of the settings.
    pub origin: Origin,
}

impl<T> Clone for Running<T> {
    fn clone(&self) -> Self {
        let Self { settings, generation, origin } = self;
        Self { settings: settings.clone(), generation: generation.clone(), origin: *origin }
    }
}

impl<T> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, origin, .. } = self;
        f.debug_struct("Running")
            .field("generation", &generation.as_str())
            .field("origin", origin)
            .finish_non_exhaustive()
    }
}

/// Stored settings that are not valid, and so are not run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// The generation.
    pub generation: Generation,
    /// The fault: a [`Corrupt`](ErrorKind::Corrupt) that says where and why, without values.
    pub error: Error,
}

/// The failures in the background at present. Each thing that failed is tried again.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Troubles {
    /// The store cannot be opened, watched or read: the settings may be old. An outage that nobody
    /// has run into is not known here.
    pub store: Option<Error>,
    /// The report cannot be written.
    pub report: Option<Error>,
    /// The last good file could not be written; it is written with the next change.
    pub last_good: Option<Error>,
}

impl Troubles {
    /// Tells whether nothing fails.
    pub fn is_empty(&self) -> bool {
        self.store.is_none() && self.report.is_none() && self.last_good.is_none()
    }
}

/// The state of live settings.
pub(crate) struct State<T> {
    pub(crate) running: Running<T>,
    /// The number of times that other settings were taken.
    pub(crate) changes: u64,
    /// The stored settings that are rejected now.
    pub(crate) rejected: Option<Rejected>,
    /// The last ones that were rejected.
    pub(crate) last_rejected: Option<Rejected>,
    /// The number of times that settings were rejected.
    pub(crate) rejections: u64,
    pub(crate) troubles: Troubles,
    /// The reason why nothing will change any more.
    pub(crate) over: Option<Error>,
    pub(crate) kv: Option<Kv>,
}

impl<T> State<T> {
    pub(crate) fn new(running: Running<T>) -> Self {
        Self {
            running,
            changes: 0,
            rejected: None,
            last_rejected: None,
            rejections: 0,
            troubles: Troubles::default(),
            over: None,
            kv: None,
        }
    }

    pub(crate) fn reject(&mut self, rejected: Rejected) {
        self.rejected = Some(rejected.clone());
        self.last_rejected = Some(rejected);
        self.rejections += 1;
    }
}

/// The way by which the state is shared. Clones are one.
pub(crate) struct Shared<T>(watch::Sender<State<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    pub(crate) fn new(state: State<T>) -> Self {
        Self(watch::Sender::new(state))
    }

    /// Looks at the state, for a moment.
    pub(crate) fn look<U>(&self, at: impl FnOnce(&State<T>) -> U) -> U {
        at(&self.0.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<State<T>> {
        self.0.subscribe()
    }

    /// Takes other settings.
    pub(crate) fn take(&self, mut running: Running<T>) {
        self.0.send_modify(|state| {
            mem::swap(&mut state.running, &mut running);
            state.changes += 1;
            state.rejected = None;
        });
        // The old ones are dropped here, where nobody waits for the state.
        drop(running);
    }

    /// Notes that the settings that are run are those of this generation too.
    pub(crate) fn keep(&self, generation: Generation) {
        self.0.send_modify(|state| {
            (state.running.generation, state.running.origin) = (generation, Origin::Store);
            state.rejected = None;
        });
    }

    pub(crate) fn reject(&self, rejected: Rejected) {
        self.0.send_modify(|state| state.reject(rejected));
    }

    pub(crate) fn note_open(&self, kv: &Kv) {
        self.0.send_if_modified(|state| {
            let is_new = state.kv.is_none();
            if is_new {
                state.kv = Some(kv.clone());
            }
            is_new
        });
    }

    /// Notes what fails, or that it does not fail any more.
    pub(crate) fn trouble(
        &self,
        error: Option<Error>,
        part: impl FnOnce(&mut Troubles) -> &mut Option<Error>,
    ) {
        let fails = error.is_some();
        self.0.send_if_modified(|state| mem::replace(part(&mut state.troubles), error).is_some() || fails);
    }

    /// Notes that nothing will change any more; the first reason counts.
    pub(crate) fn end(&self, why: Error) {
        self.0.send_if_modified(|state| {
            let is_first = state.over.is_none();
            if is_first {
                state.over = Some(why);
            }
            is_first
        });
    }
}

/// Notes the end of the runtime, which ends the work without a word.
pub(crate) struct Ending<T>(pub(crate) Shared<T>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let why = "the runtime on which the settings were followed has ended";
        self.0.end(Error::new(ErrorKind::Closed, why));
    }
}

/// Tells whether trying again cannot help: the handle is closed, the store offers no such thing, or
/// the program asks for what makes no sense.
pub(crate) fn ends(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Closed | ErrorKind::Unsupported)
        || matches!(kind, ErrorKind::InvalidKey | ErrorKind::InvalidArgument)
}
