//! Errors, in words for the person who asked.

use std::{fmt, io, path::Path};

/// Says what went wrong, with what, and what can be done.
#[derive(Debug)]
pub struct Error {
    message: String,
    is_misuse: bool,
}

impl Error {
    /// Makes the error of something that could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_misuse: false }
    }

    /// Makes the error of a request that makes no sense.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_misuse: true }
    }

    /// Makes the error of a file or folder with which this could not be done.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format!("{} cannot be {verb}: {error}", path.display()))
    }

    /// Tells whether the request makes no sense, whatever the machine has.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        self.is_misuse
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
