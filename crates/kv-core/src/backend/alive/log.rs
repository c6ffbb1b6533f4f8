//! The log lines of a lock or lease: its failed renewals, and its loss.

use crate::observe::Cause;
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// The names that the log lines of a session show. Nothing is logged while there is no [`Owner`].
#[derive(Default)]
pub(super) struct Log {
    about: OnceLock<About>,
    owners: AtomicUsize,
    /// The last renewal failed.
    is_failing: AtomicBool,
    /// The session is over.
    is_over: AtomicBool,
}

pub(super) struct About {
    /// `lock` or `lease`.
    pub(super) what: &'static str,
    pub(super) backend: &'static str,
    /// Tells whether all is being given back, by `close`.
    pub(super) is_shut: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Log {
    /// Returns what is told about; `None` when nobody owns it, as while it is given back.
    pub(super) fn about(&self) -> Option<&About> {
        let is_owned = self.owners.load(Ordering::Relaxed) > 0;
        self.about.get().filter(|about| is_owned && !(about.is_shut)())
    }

    fn lost(&self, why: &str, cause: Cause) {
        if let Some(About { what, backend, .. }) = self.about() {
            tracing::warn!(backend, cause = cause.as_str(), why, "a {what} is lost");
        }
    }

    /// Returns the cause of a loss by time.
    pub(super) fn by_time(&self) -> Cause {
        if self.is_failing.load(Ordering::Relaxed) { Cause::RenewalsFailed } else { Cause::StoodStill }
    }

    /// Lets go of the owner of a life.
    fn disown(&self, is_owned: &AtomicBool) {
        let was_owned = is_owned.swap(false, Ordering::Relaxed);
        self.owners.fetch_sub(usize::from(was_owned), Ordering::Relaxed);
    }

    /// Notes whether the last renewal succeeded.
    pub(super) fn renewed(&self, has_succeeded: bool) {
        self.is_failing.store(!has_succeeded, Ordering::Relaxed);
    }

    /// Logs the end of the session.
    pub(super) fn over(&self, why: &str, cause: Cause) {
        self.is_over.store(true, Ordering::Relaxed);
        self.lost(why, cause);
    }

    /// Returns the owner of a life of this session.
    pub(super) fn owned(self: &Arc<Self>, is_owned: &Arc<AtomicBool>, about: About) -> Owner {
        // What shares a session is alike.
        self.about.get_or_init(|| about);
        if !is_owned.swap(true, Ordering::Relaxed) {
            self.owners.fetch_add(1, Ordering::Relaxed);
        }
        Owner(self.clone(), is_owned.clone())
    }

    /// Ends one life; the first reason counts, and is logged.
    pub(super) fn end(
        &self,
        ended: &watch::Sender<Option<(Arc<str>, Cause)>>,
        is_owned: &AtomicBool,
        why: Arc<str>,
        cause: Cause,
    ) {
        let is_first = ended.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert_with(|| (why.clone(), cause));
            is_first
        });
        let is_told = self.is_over.load(Ordering::Relaxed) || !is_owned.load(Ordering::Relaxed);
        if is_first && !is_told {
            self.lost(&why, cause);
            self.disown(is_owned);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("owners", &self.owners).finish_non_exhaustive()
    }
}

/// The owner of a lock or lease, whose failed renewals and loss are logged while this lives.
#[derive(Debug)]
pub(crate) struct Owner(Arc<Log>, Arc<AtomicBool>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.disown(&self.1);
    }
}
