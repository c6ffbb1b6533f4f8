//! Live settings, as those have them who use them.

use crate::{
    snapshot::Generation,
    state::{Origin, Rejected, Running, Shared, State, Troubles},
};
use kv_core::{Error, ErrorKind, Kv, Result, backend::AbortOnDrop};
use std::{fmt, sync::Arc};

/// Settings that follow the store; made by [`live`](crate::live()).
///
/// [`get`](Self::get) returns the newest that are valid, without I/O and without waiting for
/// anybody. It hands out whole settings: use one answer for one piece of work, such as a request,
/// so that this does not see half a change.
///
/// Clones have the same settings. They are followed until the last clone is dropped; its report is
/// taken back in the background then. [`Kv::close`] ends them too, and returns when the report is
/// gone; the settings stay as they were.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     limit: u32,
/// }
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config", r#"{"limit":5}"#).await?;
/// let mut settings = kv_config::live::<Settings>(&kv, "app/config").json().await?;
/// assert_eq!(settings.get().limit, 5);
///
/// kv.put("app/config", r#"{"limit":"many"}"#).await?; // a mistake: nobody sees it
/// let rejected = settings.next_rejected().await?;
/// assert_eq!(rejected.error.message(), "limit: expected u32, found text");
/// assert_eq!(settings.get().limit, 5);
///
/// kv.put("app/config", r#"{"limit":9}"#).await?;
/// assert_eq!(settings.changed().await?.limit, 9);
/// # Ok(()) }
/// ```
pub struct Live<T> {
    shared: Shared<T>,
    tasks: Arc<[AbortOnDrop]>,
    /// The changes that this clone has given out.
    changes: u64,
    /// The rejections that this clone has given out.
    rejections: u64,
}

impl<T> Live<T> {
    pub(crate) fn new(shared: Shared<T>, tasks: Vec<AbortOnDrop>) -> Self {
        Self { shared, tasks: tasks.into(), changes: 0, rejections: 0 }
    }

    /// Returns the settings that are run. No I/O.
    #[doc(alias = "load")]
    #[doc(alias = "current")]
    pub fn get(&self) -> Arc<T> {
        self.shared.look(|state| state.running.settings.clone())
    }

    /// Returns the settings that are run, with the generation that they are of and where they come
    /// from. No I/O.
    pub fn running(&self) -> Running<T> {
        self.shared.look(|state| state.running.clone())
    }

    /// Returns the generation of the settings that are run. No I/O.
    pub fn generation(&self) -> Generation {
        self.shared.look(|state| state.running.generation.clone())
    }

    /// Returns where the settings that are run come from. No I/O.
    pub fn origin(&self) -> Origin {
        self.shared.look(|state| state.running.origin)
    }

    /// Returns the stored settings that are rejected at present; `None` where those that are stored
    /// are run. No I/O.
    #[doc(alias = "refused")]
    #[doc(alias = "error")]
    pub fn rejected(&self) -> Option<Rejected> {
        self.shared.look(|state| state.rejected.clone())
    }

    /// Returns what fails in the background at present. No I/O.
    #[doc(alias = "health")]
    pub fn troubles(&self) -> Troubles {
        self.shared.look(|state| state.troubles.clone())
    }

    /// Returns the handle of the store; `None` while the store could not be opened yet.
    pub fn kv(&self) -> Option<Kv> {
        self.shared.look(|state| state.kv.clone())
    }

    /// Waits for other settings than those that this clone has returned here before, or was opened
    /// with, and returns the newest. Stored values that were written anew, and are the same, are
    /// no change.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) when the handle was closed, or its runtime has ended;
    /// [`Unsupported`](ErrorKind::Unsupported) when a store that was opened later has no watches.
    /// Nothing will change any more.
    ///
    /// # Cancel safety
    /// A change that was not returned is returned by the next call.
    #[doc(alias = "watch")]
    #[doc(alias = "subscribe")]
    pub async fn changed(&mut self) -> Result<Arc<T>> {
        let seen = self.changes;
        let (changes, settings) = self
            .until(|state| (state.changes != seen).then(|| (state.changes, state.running.settings.clone())))
            .await?;
        self.changes = changes;
        Ok(settings)
    }

    /// Waits for stored settings that are rejected and that this clone has not returned here
    /// before, and returns the newest. They may have been replaced by valid ones meanwhile.
    ///
    /// # Errors
    /// Those of [`changed`](Self::changed).
    ///
    /// # Cancel safety
    /// A rejection that was not returned is returned by the next call, unless it was replaced.
    pub async fn next_rejected(&mut self) -> Result<Rejected> {
        let seen = self.rejections;
        let fresh = |state: &State<T>| {
            let rejected = state.last_rejected.as_ref().filter(|_| state.rejections != seen)?;
            Some((state.rejections, rejected.clone()))
        };
        let (rejections, rejected) = self.until(fresh).await?;
        self.rejections = rejections;
        Ok(rejected)
    }

    /// Waits until this finds something in the state.
    async fn until<U>(&self, find: impl Fn(&State<T>) -> Option<U>) -> Result<U> {
        let mut told = self.shared.subscribe();
        loop {
            {
                let state = told.borrow_and_update();
                if let Some(found) = find(&state) {
                    return Ok(found);
                }
                if let Some(why) = &state.over {
                    return Err(why.clone());
                }
            }
            // The sender is this value's own, so waiting does not fail.
            if told.changed().await.is_err() {
                return Err(Error::new(ErrorKind::Closed, "the settings are no longer followed"));
            }
        }
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        let Self { shared, tasks, changes, rejections } = self;
        Self { shared: shared.clone(), tasks: tasks.clone(), changes: *changes, rejections: *rejections }
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("running", &self.running())
            .field("rejected", &self.rejected())
            .finish_non_exhaustive()
    }
}
