//! A directory whose values are of one type.

mod update;
mod watch;

pub use update::TypedNext;
pub use watch::{TypedEvent, TypedWatch};

use crate::{OpenView, View, json, names::in_recipe};
use kv_core::{Delete, Directory, Entry, Error, IntoKey, Key, Kv, Put, Result, Version};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, marker::PhantomData};

/// A directory whose values are of one type, kept as JSON. Clones are one.
///
/// Names are those below the directory. A value that is no JSON of the type is an error that names
/// its key, in the place of that value: it ends no listing and no watch.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_recipes::Typed;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Route {
///     to: String,
/// }
/// let kv = kv_memory::open("memory://").await?;
/// let routes: Typed<Route> = Typed::new(&kv, "routes");
/// let to = |to: &str| Route { to: to.into() };
///
/// let seen = routes.put("a", &to("10.0.0.1")).await?.version;
/// routes.put("a", &to("10.0.0.2")).if_version(seen).ttl(Duration::from_secs(60)).await?;
/// let late = routes.put("a", &to("10.0.0.3")).if_version(seen).await;
/// assert!(late.is_err(), "a stale writer loses");
/// assert_eq!(routes.get("a").await?.unwrap().value?, to("10.0.0.2"));
///
/// kv.put("routes/bad", "{").await?;
/// routes.put("c", &to("10.0.0.3")).await?;
/// let all = routes.list().await?;
/// assert!(all[0].value.is_ok() && all[2].value.is_ok());
/// let bad = all[1].value.as_ref().unwrap_err();
/// assert_eq!(bad.kind(), ErrorKind::Corrupt);
/// assert!(bad.to_string().contains("routes/bad"));
/// # Ok(()) }
/// ```
///
/// # When things fail
/// Its calls are those of the handle, with the same errors and the same safety when a future is
/// dropped: a write whose answer was lost is
/// [`OutcomeUnknown`](kv_core::ErrorKind::OutcomeUnknown), and is not sent again; a process that is
/// paused, killed or cut off leaves what it wrote; a watch rides out outages and restarts.
///
/// # Layout
/// A value is one JSON document.
#[doc(alias = "serde")]
#[doc(alias = "json")]
pub struct Typed<T> {
    kv: Kv,
    directory: Result<Directory>,
    values: PhantomData<fn() -> T>,
}

/// A name of a [`Typed`] directory with its version and value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TypedEntry<T> {
    /// The name below the directory.
    pub name: Key,
    /// The version that the last write gave it.
    pub version: Version,
    /// The value, or why it cannot be read: [`Corrupt`](kv_core::ErrorKind::Corrupt), naming the
    /// key.
    pub value: Result<T>,
}

/// A name, or what is wrong with the call, which is told when the call is awaited.
struct Named(Result<Key>);

impl IntoKey for Named {
    fn into_key(self) -> Result<Key> {
        self.0
    }
    fn into_directory(self) -> Result<Directory> {
        self.0.map(|key| key.as_directory())
    }
}

/// A directory, or what is wrong with it.
struct Below(Result<Directory>);

impl IntoKey for Below {
    fn into_key(self) -> Result<Key> {
        self.0?.into_key()
    }
    fn into_directory(self) -> Result<Directory> {
        self.0
    }
}

impl<T> Typed<T> {
    /// Makes the directory of this name. No I/O.
    pub fn new(kv: &Kv, directory: impl IntoKey) -> Self {
        Self { kv: kv.clone(), directory: directory.into_directory(), values: PhantomData }
    }

    /// Deletes a name: `delete` of the handle, with its options, to be awaited or to be a
    /// [`Step`](kv_core::Step) of a transaction.
    ///
    /// # Errors
    /// Those of [`Kv::delete`].
    ///
    /// # Cancel safety
    /// That of [`Kv::delete`].
    pub fn delete(&self, name: impl IntoKey) -> Delete {
        self.kv.delete(Named(self.key(name)))
    }

    fn key(&self, name: impl IntoKey) -> Result<Key> {
        self.directory.as_ref().map_err(Error::clone)?.join(&name.into_key()?)
    }

    fn directory(&self) -> Result<&Directory> {
        self.directory.as_ref().map_err(|e| in_recipe(e.clone(), &self.kv, "typed", None))
    }
}

impl<T: Serialize> Typed<T> {
    /// Creates or replaces the value of a name: `put` of the handle, with its options (`ttl`,
    /// `lease`, `if_version`, `if_missing`, `fenced`), to be awaited or to be a
    /// [`Step`](kv_core::Step) of a transaction.
    ///
    /// # Errors
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument), before any I/O, for a value that
    /// cannot be JSON; those of [`Kv::put`].
    ///
    /// # Cancel safety
    /// That of [`Kv::put`].
    pub fn put(&self, name: impl IntoKey, value: &T) -> Put {
        match self.key(name).and_then(|key| Ok((key, json::write(value)?))) {
            Ok((key, value)) => self.kv.put(key, value),
            Err(e) => self.kv.put(Named(Err(e)), ""),
        }
    }
}

impl<T: DeserializeOwned> Typed<T> {
    /// Reads a name; `None` when it is missing or expired.
    ///
    /// # Errors
    /// Those of [`Kv::get`]. A value that cannot be read is no error of the call but
    /// [in its place](TypedEntry::value), since its version may be needed to replace it.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn get(&self, name: impl IntoKey) -> Result<Option<TypedEntry<T>>> {
        let name = name.into_key().map_err(|e| in_recipe(e, &self.kv, "get", None))?;
        let key = self.directory()?.join(&name).map_err(|e| in_recipe(e, &self.kv, "get", Some(&name)))?;
        let found = self.kv.get(key).await?;
        Ok(found.map(|entry| typed(name, &entry)))
    }

    /// Lists everything below the directory, in ascending byte order of the names.
    ///
    /// # Errors
    /// Those of [`Kv::list`]; a value that cannot be read is [in its place](TypedEntry::value).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    #[doc(alias = "scan")]
    #[doc(alias = "prefix")]
    pub async fn list(&self) -> Result<Vec<TypedEntry<T>>> {
        let directory = self.directory()?;
        let entries = self.kv.list(directory).await?;
        let named = entries.iter().filter_map(|entry| Some((directory.strip(&entry.key)?, entry)));
        Ok(named.map(|(name, entry)| typed(name, entry)).collect())
    }

    /// Watches everything below the directory, as [`Kv::watch_tree`] does.
    ///
    /// # Errors
    /// Those of [`Kv::watch_tree`]. Later ones come from [`TypedWatch::event`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub async fn watch(&self) -> Result<TypedWatch<T>> {
        let directory = self.directory()?.clone();
        let watch = self.kv.watch_tree(&directory).await?;
        Ok(TypedWatch::new(watch, directory))
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Typed<T> {
    /// Opens a [`View`] of the directory.
    pub fn view(&self) -> OpenView<T> {
        View::open(&self.kv, Below(self.directory.clone()))
    }
}

/// Decodes an entry of this name.
fn typed<T: DeserializeOwned>(name: Key, entry: &Entry) -> TypedEntry<T> {
    TypedEntry { name, version: entry.version, value: json::read(&entry.key, &entry.value) }
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self { kv: self.kv.clone(), directory: self.directory.clone(), values: PhantomData }
    }
}

impl<T> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("directory", &self.directory).finish_non_exhaustive()
    }
}
