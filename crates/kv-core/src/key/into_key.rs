//! The types that name a key or a directory in a call.

use super::{Directory, Key};
use crate::{Error, Result};
use std::{borrow::Cow, sync::Arc};

/// A type that names a key or a directory in a call: `&str`, `String`, [`Key`], [`Directory`] and
/// references to them.
///
/// The name is checked when the call is awaited, so that calls can be chained.
pub trait IntoKey {
    /// Returns the name as a key.
    ///
    /// # Errors
    /// Those of [`Key::parse`].
    fn into_key(self) -> Result<Key>;
    /// Returns the name as a directory.
    ///
    /// # Errors
    /// Those of [`Directory::parse`].
    fn into_directory(self) -> Result<Directory>;
}

impl IntoKey for &str {
    fn into_key(self) -> Result<Key> {
        Key::parse(self)
    }
    fn into_directory(self) -> Result<Directory> {
        Directory::parse(self)
    }
}

macro_rules! text {
    ($($type:ty),* $(,)?) => { $(
        impl IntoKey for $type {
            fn into_key(self) -> Result<Key> {
                Key::parse(&self)
            }
            fn into_directory(self) -> Result<Directory> {
                Directory::parse(&self)
            }
        }
    )* };
}
text!(&&str, String, &String, Box<str>, Arc<str>, &Arc<str>, Cow<'_, str>, &Cow<'_, str>);

macro_rules! conversions {
    ($($type:ident),*) => { $(
        impl TryFrom<&str> for $type {
            type Error = Error;
            fn try_from(name: &str) -> Result<Self> {
                Self::parse(name)
            }
        }
        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(name: String) -> Result<Self> {
                Self::parse(&name)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }
        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                let name = <Cow<'de, str>>::deserialize(from)?;
                // A name out of a listing may be longer than one that a user may give.
                let known = super::stored(&name).filter(|_| !name.is_empty());
                known.map(Self).map_or_else(|| Self::parse(&name), Ok).map_err(serde::de::Error::custom)
            }
        }
    )* };
}
conversions!(Key, Directory);

impl IntoKey for Key {
    fn into_key(self) -> Result<Key> {
        Ok(self)
    }
    fn into_directory(self) -> Result<Directory> {
        Ok(Directory(self.0))
    }
}
impl IntoKey for &Key {
    fn into_key(self) -> Result<Key> {
        Ok(self.clone())
    }
    fn into_directory(self) -> Result<Directory> {
        Ok(self.as_directory())
    }
}
impl IntoKey for Directory {
    fn into_key(self) -> Result<Key> {
        if self.is_root() { Key::parse("") } else { Ok(Key(self.0)) }
    }
    fn into_directory(self) -> Result<Directory> {
        Ok(self)
    }
}
impl IntoKey for &Directory {
    fn into_key(self) -> Result<Key> {
        self.clone().into_key()
    }
    fn into_directory(self) -> Result<Directory> {
        Ok(self.clone())
    }
}
