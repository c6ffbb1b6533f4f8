//! The one error of the library.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// The result of every call of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], by which a program decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name of a key, directory or lock is not allowed. Refused before any I/O.
    InvalidKey,
    /// An option or a URL makes no sense. Refused before any I/O.
    InvalidArgument,
    /// A write that was to create the key found it there.
    KeyExists,
    /// A write that was to replace or delete one version found another, or no key.
    KeyModified,
    /// A value or a transaction is above what the store takes
    /// ([`Capabilities`](crate::Capabilities)); nothing was written.
    TooLarge,
    /// The server has no room left (disk, quota, memory) and refused the write; nothing was
    /// written. Reading, deleting, revoking and releasing still work wherever the server allows
    /// them: make room, or have an operator do so.
    NoSpace,
    /// The backend does not offer this; [`Capabilities`](crate::Capabilities) says what it offers.
    Unsupported,
    /// The server does not know these credentials.
    Unauthenticated,
    /// The server knows who asks, and refuses.
    PermissionDenied,
    /// The server could not be reached, and the request took no effect.
    Unavailable,
    /// No answer came in time, and the request took no effect.
    Timeout,
    /// A write may or may not have happened: its answer was lost. Read before you write again.
    OutcomeUnknown,
    /// The lock is no longer held.
    LockLost,
    /// The lease has ended, and the keys under it go with it.
    LeaseLost,
    /// The handle was closed.
    Closed,
    /// Stored data is not what this library, or the tool that wrote it, would write.
    Corrupt,
    /// Anything else; the message and the source say what.
    Other,
}

impl ErrorKind {
    /// Returns its name in lower case, with words joined by `_`: `outcome_unknown`. It is for
    /// labels of metrics and for logs; `Display` writes the same.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidKey => "invalid_key",
            Self::InvalidArgument => "invalid_argument",
            Self::KeyExists => "key_exists",
            Self::KeyModified => "key_modified",
            Self::TooLarge => "too_large",
            Self::NoSpace => "no_space",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::LockLost => "lock_lost",
            Self::LeaseLost => "lease_lost",
            Self::Closed => "closed",
            Self::Corrupt => "corrupt",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The failure of a call: a [kind](ErrorKind) to act on, the operation, the key, the backend, and
/// the source.
///
/// `Display` gives one line that names all of them, ending in the source's own words. As with
/// [`std::io::Error`], [`source`](StdError::source) therefore goes on behind the error that
/// [`cause`](Self::cause) gives. No secret is in either: backends put none in.
///
/// ```
/// use kv_core::{Error, ErrorKind};
///
/// let e = Error::new(ErrorKind::KeyModified, "expected version 3, found 7").in_call("put", "redb", Some("a/b"));
/// assert_eq!(e.to_string(), r#"put "a/b" on redb: expected version 3, found 7"#);
/// assert!(!e.is_transient());
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// The operation, and the backend where one was asked.
    call: Option<(&'static str, Option<&'static str>)>,
    key: Option<Box<str>>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of this kind. The message names the thing, the value and the way out, and no
    /// secret.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), call: None, key: None, cause: None }))
    }

    /// Adds the error behind this one, whose text becomes the end of this one's.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into().into());
        self
    }

    /// Adds the operation, the backend and the key, unless they are there already.
    /// [`Kv`](crate::Kv) does so for every call.
    #[must_use]
    pub fn in_call(mut self, operation: &'static str, backend: &'static str, key: Option<&str>) -> Self {
        if self.0.call.is_none() {
            self.0.call = Some((operation, Some(backend)));
            self.0.key = key.map(Into::into);
        }
        self
    }

    /// Adds the operation, unless it is there already, to an error of before any backend is asked.
    #[must_use]
    pub(crate) fn in_operation(mut self, operation: &'static str) -> Self {
        if self.0.call.is_none() {
            self.0.call = Some((operation, None));
        }
        self
    }

    /// Puts this text in front of the message.
    #[must_use]
    pub(crate) fn behind(mut self, text: &str) -> Self {
        self.0.message = format!("{text}: {}", self.0.message).into();
        self
    }

    /// Returns the same error with another kind, for a caller that knows better what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Returns the kind, by which a program decides what to do about the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message alone, without operation, key, backend and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the call that failed, by the name that the program called: `put`, `delete_tree`,
    /// `acquire`, … Of a lock or a lease that was lost, while no call failed, it is `lock` or
    /// `lease`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.call.map(|c| c.0)
    }

    /// Returns the name of the backend, as in
    /// [`Capabilities::backend`](crate::Capabilities::backend); `None` where no backend was asked.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.call.and_then(|c| c.1)
    }

    /// Returns the key, directory or lock that the call was about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Returns the error behind this one, for a look at a client's own type.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// Tells whether the same call can succeed when it is made again, and is safe to make again:
    /// [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout), and no other
    /// kind.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Tells whether the error is known to last, so that it ends a watch and a wait for a lock:
    /// [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// [`Unauthenticated`](ErrorKind::Unauthenticated), [`Unsupported`](ErrorKind::Unsupported),
    /// [`Closed`](ErrorKind::Closed), [`Corrupt`](ErrorKind::Corrupt), and no other kind. Every
    /// other error, known or unknown, is ridden out.
    pub fn is_lasting(&self) -> bool {
        use ErrorKind::*;
        matches!(self.0.kind, PermissionDenied | Unauthenticated | Unsupported | Closed | Corrupt)
    }

    /// Tells whether a compare-and-swap lost: [`KeyExists`](ErrorKind::KeyExists) or
    /// [`KeyModified`](ErrorKind::KeyModified). Read again, and decide again.
    pub fn is_conflict(&self) -> bool {
        matches!(self.0.kind, ErrorKind::KeyExists | ErrorKind::KeyModified)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, call, key, cause, .. } = &*self.0;
        if let Some((operation, backend)) = call {
            write!(f, "{operation}")?;
            if let Some(key) = key {
                write!(f, " {key:?}")?;
            }
            if let Some(backend) = backend {
                write!(f, " on {backend}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{message}")?;
        match cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().and_then(|cause| cause.source())
    }
}
