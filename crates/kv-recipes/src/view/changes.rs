//! The changes of a view, for those who follow it.

use super::{View, ViewEntry};
use kv_core::{Key, Result};
use std::fmt;
use tokio::sync::watch;

/// The changes of a view from the moment on in which this was asked for; made by
/// [`View::changes`].
///
/// A reader that is slower than the changes gets the newest state of each name: the changes of one
/// name are put together, and those of one that is as it was are left out. So there never wait more
/// than there are names.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::View;
///
/// let kv = kv_memory::open("memory://").await?;
/// let view: View<u32> = View::open(&kv, "limits").await?;
/// let mut changes = view.changes();
/// for n in 0..10 {
///     kv.put("limits/requests", n.to_string()).await?;
/// }
/// view.synced_now().await?;
/// let change = changes.next().await?; // one for all
/// assert!(change.old.is_none());
/// assert_eq!(*change.new.unwrap().value?, 9);
/// # Ok(()) }
/// ```
#[doc(alias = "watch")]
#[doc(alias = "subscribe")]
pub struct Changes<T> {
    view: View<T>,
    reader: u64,
    changed: watch::Receiver<u64>,
}

/// One change of a view.
#[non_exhaustive]
pub struct Change<T> {
    /// The name below the directory of the view.
    pub name: Key,
    /// The entry when this reader saw the name last; `None` when there was none.
    pub old: Option<ViewEntry<T>>,
    /// The entry now; `None` when there is none.
    pub new: Option<ViewEntry<T>>,
}

impl<T> Changes<T> {
    pub(super) fn new(view: &View<T>) -> Self {
        let changed = view.shared.changed.subscribe();
        let reader = view.shared.state.lock().add_reader();
        Self { view: view.clone(), reader, changed }
    }

    /// Returns the next change.
    ///
    /// # Errors
    /// The error with which the view has [ended](View::ended), once all changes were given.
    ///
    /// # Cancel safety
    /// A change that was not given is given by the next call.
    pub async fn next(&mut self) -> Result<Change<T>> {
        loop {
            self.changed.mark_unchanged();
            {
                let mut state = self.view.shared.state.lock();
                if let Some((name, old, new)) = state.next_change(self.reader) {
                    return Ok(Change { name, old, new });
                }
                if let Some(why) = state.over() {
                    return Err(why);
                }
            }
            // The sender is the view's, so waiting cannot fail.
            let _ = self.changed.changed().await;
        }
    }
}

impl<T> Drop for Changes<T> {
    fn drop(&mut self) {
        self.view.shared.state.lock().remove_reader(self.reader);
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("view", &self.view).finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, old, new } = self;
        f.debug_struct("Change").field("name", name).field("old", old).field("new", new).finish()
    }
}
