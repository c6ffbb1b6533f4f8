//! A mutex that a panic does not poison.

use std::{
    fmt,
    sync::{MutexGuard, PoisonError},
};

/// A mutex whose [`lock`](Self::lock) returns the guard: it is for values that are changed in one
/// step, which a panic of another thread leaves whole.
///
/// The guard is the standard library's, so that clippy still finds one that is held over an await.
///
/// ```
/// use kv_core::backend::Mutex;
///
/// let seen = Mutex::new(vec![1]);
/// seen.lock().push(2);
/// assert_eq!(seen.into_inner(), [1, 2]);
/// ```
#[derive(Default)]
pub struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Makes one that guards this value.
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody else holds it, and returns the guard that gives it back when dropped.
    ///
    /// It blocks the thread: hold it for a few steps, and never over an await. A thread that holds
    /// it already hangs or panics.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value without locking, which the exclusive borrow makes needless.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    /// Writes the value, or that it is locked: it never waits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.try_lock() {
            Ok(value) => f.debug_tuple("Mutex").field(&&*value).finish(),
            Err(std::sync::TryLockError::Poisoned(value)) => {
                f.debug_tuple("Mutex").field(&&**value.get_ref()).finish()
            }
            Err(std::sync::TryLockError::WouldBlock) => f.write_str("Mutex(<locked>)"),
        }
    }
}
