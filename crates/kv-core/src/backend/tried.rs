//! The time that is told of an opening that failed.

use crate::Error;
use std::time::Duration;

/// Tells, in the error of an opening, for how long it was tried, where the error may pass: it is
/// then that of the last attempt alone, and does not show that there were others.
///
/// ```
/// use kv_core::{Error, ErrorKind, backend::tried_for};
/// use std::time::Duration;
///
/// let last = Error::new(ErrorKind::Unavailable, "h1:2379: cannot be reached");
/// let error = tried_for(Duration::from_millis(4912), last);
/// assert_eq!(error.to_string(), "tried for 4.9s: h1:2379: cannot be reached");
/// ```
#[must_use]
pub fn tried_for(time: Duration, error: Error) -> Error {
    if error.is_transient() { error.behind(&format!("tried for {time:.1?}")) } else { error }
}
