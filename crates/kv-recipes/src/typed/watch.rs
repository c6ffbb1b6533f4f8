//! The events of a directory whose values are of one type.

#[allow(unused_imports, reason = "the documentation speaks of it")]
use super::Typed;
use super::{TypedEntry, typed};
use kv_core::{Directory, Key, Result, Version, Watch, WatchEvent};
use serde::de::DeserializeOwned;
use std::{fmt, marker::PhantomData};

/// One event of a [`TypedWatch`].
#[derive(Clone, Debug)]
pub enum TypedEvent<T> {
    /// The name has this value and version now.
    Put(TypedEntry<T>),
    /// The name is gone.
    Delete {
        /// The name below the directory.
        name: Key,
        /// The version that this stream last gave for the name, or a newer one.
        version: Version,
    },
    /// Everything that was there, at first or after an outage, has been told; from here on come
    /// changes.
    Synced,
}

/// The events of a [`Typed`] directory, as a [`Watch`] gives them; made by [`Typed::watch`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::{Typed, TypedEvent};
///
/// let kv = kv_memory::open("memory://").await?;
/// let limits: Typed<u32> = Typed::new(&kv, "limits");
/// let mut watch = limits.watch().await?;
/// assert!(matches!(watch.event().await?, TypedEvent::Synced));
/// kv.put("limits/a", "no number").await?;
/// limits.put("b", &7).await?;
/// assert!(matches!(watch.event().await?, TypedEvent::Put(a) if a.value.is_err()));
/// let TypedEvent::Put(b) = watch.event().await? else { panic!("the watch goes on") };
/// assert_eq!((b.name.as_str(), b.value?), ("b", 7));
/// # Ok(()) }
/// ```
#[must_use = "a watch does nothing until it is read"]
pub struct TypedWatch<T> {
    watch: Watch,
    directory: Directory,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> TypedWatch<T> {
    pub(super) fn new(watch: Watch, directory: Directory) -> Self {
        Self { watch, directory, values: PhantomData }
    }

    /// Returns the next event.
    ///
    /// # Errors
    /// What ends a [watch](Watch::event). A value that cannot be read does not.
    ///
    /// # Cancel safety
    /// An event that was not given is given by the next call.
    pub async fn event(&mut self) -> Result<TypedEvent<T>> {
        loop {
            let event = self.watch.event().await?;
            let Some(key) = event.key() else { return Ok(TypedEvent::Synced) };
            let Some(name) = self.directory.strip(key) else { continue };
            return Ok(match event {
                WatchEvent::Put(entry) => TypedEvent::Put(typed(name, &entry)),
                WatchEvent::Delete { version, .. } => TypedEvent::Delete { name, version },
                WatchEvent::Synced => TypedEvent::Synced,
            });
        }
    }
}

impl<T> fmt::Debug for TypedWatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedWatch").field("directory", &self.directory).finish_non_exhaustive()
    }
}
