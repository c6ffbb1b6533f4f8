//! Names: [`Key`] and [`Directory`].

mod form;
mod into_key;

pub use into_key::IntoKey;

use crate::{Error, Result};
use form::{MAX_GIVEN, MAX_STORED, RESERVED, normal, refused, stored};
use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::Arc,
};

/// The name of a value: UTF-8 segments joined by `/`.
///
/// A key is always in its normal form: leading, trailing and doubled slashes are dropped, so
/// `/a//b/` and `a/b` are one key on every backend. Keys order by their bytes. Cloning is cheap.
///
/// A name that is given as text has at most 512 bytes. Longer names, up to 1,000 bytes, which
/// other tools wrote, come out of listings and watches as keys, and every call takes them.
///
/// A segment is refused when it is `.`, `..` or `.kv` (reserved for the library), begins or ends
/// with white space, or holds a control character or a noncharacter. Every other character works
/// on every backend, whatever the server's own quoting.
///
/// ```
/// use kv_core::{ErrorKind, Key};
///
/// let key: Key = "/app//config/".parse()?;
/// assert_eq!(key.as_str(), "app/config");
/// assert_eq!(Key::parse("a/../b").unwrap_err().kind(), ErrorKind::InvalidKey);
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// A prefix of keys that ends at a segment border; the empty one is the root.
///
/// `app` is the directory of `app/x` and never of `application/x`. Nothing creates or deletes a
/// directory: it is where keys are. [`Debug`](fmt::Debug) and [`Display`](fmt::Display) show it
/// with a `/` at its end.
///
/// ```
/// use kv_core::{Directory, Key};
///
/// let app = Directory::parse("app")?;
/// assert!(Key::parse("app/x")?.is_below(&app));
/// assert!(!Key::parse("application/x")?.is_below(&app));
/// assert!(!Key::parse("app")?.is_below(&app));
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Directory(Arc<str>);

impl Key {
    /// Returns the key that `name` spells, in its normal form.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey), naming the rule, for a name that is empty, longer
    /// than 512 bytes as given, or has a segment that is not allowed.
    pub fn parse(name: &str) -> Result<Self> {
        let key = normal(name)?;
        if key.is_empty() {
            return Err(refused(name, format_args!("is empty; a key has at least one segment")));
        }
        Ok(Self(key))
    }

    /// Returns, for backends, the key that a server holds under exactly this name; `None` where
    /// the name is not in normal form, is longer than 1,000 bytes, or is the library's own. Names
    /// without a key are to be skipped.
    ///
    /// ```
    /// use kv_core::Key;
    ///
    /// assert!(Key::from_stored("a/b").is_some());
    /// for foreign in ["", "/a", "a//b", "a/", "a/./b", ".kv/lock/x"] {
    ///     assert!(Key::from_stored(foreign).is_none());
    /// }
    /// ```
    pub fn from_stored(name: &str) -> Option<Self> {
        if name.is_empty() { None } else { stored(name).map(Self) }
    }

    /// Returns, for backends, a key of the library itself, `.kv/AREA/NAME`, which no user's key
    /// can be.
    pub fn internal(area: &str, name: &Key) -> Self {
        Self(Arc::from(format!("{RESERVED}/{area}/{name}")))
    }

    /// Tells whether this is one of the library's own keys, which no listing and no watch shows.
    pub fn is_internal(&self) -> bool {
        self.0.strip_prefix(RESERVED).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the key in its normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    /// Returns the segments, at least one.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the directory that the key lies directly in.
    pub fn parent(&self) -> Directory {
        Directory(Arc::from(self.0.rsplit_once('/').map_or("", |(parent, _)| parent)))
    }

    /// Returns the names of all directories above the key, the root first, without allocating.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::once("").chain(self.0.match_indices('/').map(|(at, _)| &self.0[..at]))
    }

    /// Returns the directory of the keys below this one.
    pub fn as_directory(&self) -> Directory {
        Directory(self.0.clone())
    }

    /// Tells whether the key lies strictly below the directory.
    pub fn is_below(&self, directory: &Directory) -> bool {
        let d = &*directory.0;
        d.is_empty()
            || (self.0.len() > d.len() && self.0.as_bytes()[d.len()] == b'/' && self.0.starts_with(d))
    }
}

impl Directory {
    /// Returns the directory of all keys.
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Returns the directory that `name` spells, in its normal form; an empty name or `/` is the
    /// root.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey), as [`Key::parse`], except for the empty name.
    pub fn parse(name: &str) -> Result<Self> {
        normal(name).map(Self)
    }

    /// Returns the name, without a slash at its end; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> Cow<'_, str> {
        if self.is_root() { Cow::Borrowed("/") } else { Cow::Owned(self.start()) }
    }

    /// Tells whether this is the directory of all keys.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the beginning of every key below: `app/`, or nothing for the root.
    pub fn start(&self) -> String {
        if self.is_root() { String::new() } else { format!("{}/", self.0) }
    }

    /// Returns the directory directly below this one that the key lies in; `None` when the key is
    /// a child itself, or not below this directory.
    pub fn child_of(&self, key: &Key) -> Option<Directory> {
        if !key.is_below(self) {
            return None;
        }
        let from = if self.is_root() { 0 } else { self.0.len() + 1 };
        let at = key.0[from..].find('/')?;
        Some(Directory(Arc::from(&key.0[..from + at])))
    }

    /// Returns the key `rest` below this directory.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) when the two together are longer than 1,000 bytes.
    pub fn join(&self, rest: &Key) -> Result<Key> {
        self.joined(&rest.0).map(Key)
    }

    /// Returns the directory `rest` below this one.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) when the two together are longer than 1,000 bytes.
    pub fn join_directory(&self, rest: &Directory) -> Result<Directory> {
        self.joined(&rest.0).map(Directory)
    }

    fn joined(&self, rest: &Arc<str>) -> Result<Arc<str>> {
        if self.is_root() {
            return Ok(rest.clone());
        }
        if rest.is_empty() {
            return Ok(self.0.clone());
        }
        let joined = format!("{}/{rest}", self.0);
        if joined.len() > MAX_STORED {
            let long = joined.len();
            return Err(refused(
                &joined,
                format_args!("is {long} bytes long with its prefix; {MAX_STORED} are allowed"),
            ));
        }
        Ok(Arc::from(joined))
    }

    /// Checks that every name that a user may give fits below this directory.
    pub(crate) fn takes_every_name(&self) -> Result<()> {
        const MOST: usize = MAX_STORED - MAX_GIVEN - 1;
        match self.0.len() {
            0..=MOST => Ok(()),
            long => Err(refused(
                &self.0,
                format_args!("is {long} bytes long; a part of the tree has at most {MOST}"),
            )),
        }
    }

    /// Returns what is left of the key below this directory; `None` when it does not lie below.
    pub fn strip(&self, key: &Key) -> Option<Key> {
        if self.is_root() {
            return Some(key.clone());
        }
        key.is_below(self).then(|| Key(Arc::from(&key.0[self.0.len() + 1..])))
    }

    /// Returns what is left of the directory below this one: the root when the two are the same,
    /// `None` when it does not lie below.
    pub fn strip_directory(&self, directory: &Directory) -> Option<Directory> {
        if self == directory {
            return Some(Self::root());
        }
        self.strip(&Key(directory.0.clone())).map(|k| Directory(k.0))
    }
}

macro_rules! as_text {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.shown())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.shown(), f)
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(name: &str) -> Result<Self> {
                Self::parse(name)
            }
        }
        // Hash and order are those of the text, so that maps can be asked by `&str`.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )* };
}
as_text!(Key, Directory);
