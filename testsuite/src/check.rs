//! Checks for cases; one that fails gives a message with what was expected and what was found.

use futures::FutureExt;
use kv_core::{Error, ErrorKind, Guard, Lease, Outcome};
use std::{fmt::Debug, panic::Location};

/// The reason for which a promise is broken.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[track_caller]
fn at(message: String) -> Failure {
    let place = Location::caller();
    let file = place.file().rsplit('/').next().unwrap_or_default();
    format!("{message} ({file}:{})", place.line()).into()
}

/// Checks that something holds.
///
/// # Errors
/// It does not hold.
#[track_caller]
pub fn holds(what: impl AsRef<str>, holds: bool) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(at(format!("broken: {}", what.as_ref()))) }
}

/// A lock or a lease, which can be lost.
pub trait Holding {
    /// Returns what `is_held()` says, and the error of `lost()`, if that is ready.
    fn state(&self) -> (bool, Option<Error>);
}

impl Holding for Guard {
    fn state(&self) -> (bool, Option<Error>) {
        (self.is_held(), self.lost().now_or_never())
    }
}

impl Holding for Lease {
    fn state(&self) -> (bool, Option<Error>) {
        (self.is_held(), self.lost().now_or_never())
    }
}

/// Checks that the lock or lease is held.
///
/// # Errors
/// It is not held; the message says why it was lost.
#[track_caller]
pub fn still_held(what: impl AsRef<str>, it: &impl Holding) -> Result<(), Failure> {
    match it.state() {
        (true, None) => Ok(()),
        (is_held, lost) => {
            let what = what.as_ref();
            Err(at(format!("broken: {what}; found `is_held()` {is_held}, and `lost()` {lost:?}")))
        }
    }
}

/// Checks that what was found is what was expected.
///
/// # Errors
/// The two are not the same; the message has both.
#[track_caller]
pub fn same<F, E>(what: impl AsRef<str>, found: F, expected: E) -> Result<(), Failure>
where
    F: Debug + PartialEq<E>,
    E: Debug,
{
    if found == expected {
        return Ok(());
    }
    Err(at(format!("{}: expected {}, found {}", what.as_ref(), short(&expected), short(&found))))
}

/// Checks that the two differ.
///
/// # Errors
/// They are the same.
#[track_caller]
pub fn differ<T: Debug + PartialEq>(what: impl AsRef<str>, one: T, other: T) -> Result<(), Failure> {
    if one != other {
        return Ok(());
    }
    Err(at(format!("{}: expected two different ones, found {} twice", what.as_ref(), short(&one))))
}

/// Checks that the transaction was refused by the condition of this index.
///
/// # Errors
/// It was not refused, or by another condition.
#[track_caller]
pub fn refused_at(what: impl AsRef<str>, outcome: &Outcome, index: usize) -> Result<(), Failure> {
    same(what, outcome.refusal().map(|refusal| refusal.index), Some(index))
}

/// Checks that the call was refused with this kind of error, and returns the error.
///
/// # Errors
/// The call succeeded, or failed in another way.
#[track_caller]
pub fn refused<T: Debug>(
    what: impl AsRef<str>,
    answer: Result<T, Error>,
    kind: ErrorKind,
) -> Result<Error, Failure> {
    match answer {
        Err(e) if e.kind() == kind => Ok(e),
        Err(e) => Err(at(format!("{}: expected the error {kind:?}, found {e:?}", what.as_ref()))),
        Ok(answer) => Err(at(format!(
            "{}: expected the error {kind:?}, found the answer {}",
            what.as_ref(),
            short(&answer)
        ))),
    }
}

/// Returns the value as text, which is cut after 2,000 characters.
fn short(value: &impl Debug) -> String {
    const SHOWN: usize = 2_000;
    let text = format!("{value:?}");
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text,
    }
}
