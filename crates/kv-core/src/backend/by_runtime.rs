//! One value for each runtime, such as a connection of its own.

use super::{Home, lock};
use crate::{Error, ErrorKind, Result};
use std::{collections::HashMap, fmt, sync::Mutex};
use tokio::runtime::{Handle, Id};

/// Holds one value for each runtime that uses a store, such as a connection and the task that keeps
/// it: they live in that runtime, and stand still and end with it. Shared by all runtimes, they
/// would hold up the others.
///
/// ```
/// # fn main() -> kv_core::Result<()> {
/// use kv_core::backend::ByRuntime;
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering::SeqCst}};
/// use tokio::runtime::Builder;
///
/// let (connections, made) = (ByRuntime::new(), AtomicU32::new(0));
/// let connect = || Arc::new(made.fetch_add(1, SeqCst));
/// let one = Builder::new_current_thread().build().unwrap();
/// let other = Builder::new_current_thread().build().unwrap();
/// let number = |runtime: &tokio::runtime::Runtime| runtime.block_on(async { connections.here(connect) });
/// assert_eq!((*number(&one)?, *number(&other)?, *number(&one)?), (0, 1, 0));
/// drop(one);
/// assert_eq!(connections.gone().len(), 1);
/// assert_eq!(connections.all().len(), 1);
/// # Ok(()) }
/// ```
pub struct ByRuntime<T>(Mutex<Option<Made<T>>>);

/// `None` once nothing is made any more.
type Made<T> = HashMap<Id, (Home, T)>;

impl<T: Clone> ByRuntime<T> {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Returns what the current runtime has; makes it where there is nothing yet, and drops what
    /// runtimes had that have ended.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after [`close`](Self::close), and outside of a runtime.
    pub fn here(&self, make: impl FnOnce() -> T) -> Result<T> {
        let here = Handle::try_current().map_err(|e| outside().with_cause(e))?.id();
        // It is dropped outside of the lock, for a drop may do anything.
        let _gone = self.gone();
        let mut made = lock(&self.0);
        let made = made.as_mut().ok_or_else(closed)?;
        Ok(made.entry(here).or_insert_with(|| (Home::here(), make())).1.clone())
    }

    /// Takes away what runtimes had that have ended, and returns it, for whoever has to do in their
    /// place what they left.
    pub fn gone(&self) -> Vec<T> {
        let mut made = lock(&self.0);
        let gone = made.iter_mut().flat_map(|made| made.extract_if(|_, (home, _)| home.is_gone()));
        gone.map(|(_, (_, gone))| gone).collect()
    }

    /// Returns what all runtimes have.
    pub fn all(&self) -> Vec<T> {
        lock(&self.0).iter().flat_map(HashMap::values).map(|(_, made)| made.clone()).collect()
    }

    /// Takes away what all runtimes have, and returns it. Nothing is made from then on.
    pub fn close(&self) -> Vec<T> {
        let made = lock(&self.0).take();
        made.into_iter().flat_map(HashMap::into_values).map(|(_, made)| made).collect()
    }

    /// Returns whether it was closed.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_none()
    }
}

impl<T: Clone> Default for ByRuntime<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
fn outside() -> Error {
    Error::new(ErrorKind::Closed, "no tokio runtime runs here; call the store from within one")
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed; open it anew")
}

impl<T> fmt::Debug for ByRuntime<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = lock(&self.0).as_ref().map_or(0, HashMap::len);
        write!(f, "ByRuntime({many} runtimes)")
    }
}
