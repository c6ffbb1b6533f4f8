//! The change of one value by a function of it.

use super::{Named, Typed};
use crate::json;
#[allow(unused_imports, reason = "the documentation speaks of it")]
use kv_core::Kv;
use kv_core::{Entry, IntoKey, Next, Result, Update};
use serde::{Serialize, de::DeserializeOwned};

/// The decision of the function that is given to [`Typed::update`]: what becomes of the name. Every
/// value is one to put, so that the function may return `Ok(value)` as well as
/// `Ok(TypedNext::Delete)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedNext<T> {
    /// The name is given this value.
    Put(T),
    /// The name is deleted, if it is there.
    Delete,
    /// The name stays as it is, and nothing is written.
    Keep,
}

impl<T> From<T> for TypedNext<T> {
    fn from(value: T) -> Self {
        Self::Put(value)
    }
}

impl<T: Serialize + DeserializeOwned> Typed<T> {
    /// Changes a name by a function of its value: `update` of the handle, with its options (`ttl`,
    /// `lease`, `fenced`, `exactly_once`), to be awaited. It reads the name, has the function
    /// compute what comes after it, and writes that if nobody has written the name meanwhile; else
    /// it begins again.
    ///
    /// The function gets the value, or `None` where the name is missing. It returns the value to
    /// put, or a [`TypedNext`]; an error of it ends the update, with nothing written. It may be
    /// called several times.
    ///
    /// # Errors
    /// Those of [`Kv::update`]. With nothing written also [`Corrupt`](kv_core::ErrorKind::Corrupt)
    /// for a value that cannot be read, which is left alone, and
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for a new one that cannot be JSON.
    ///
    /// # Cancel safety
    /// That of [`Kv::update`].
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::{Typed, TypedNext};
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let limits: Typed<u32> = Typed::new(&kv, "limits");
    /// limits.update("requests", |found| Ok(found.unwrap_or(10) * 2)).await?;
    /// let double = |found: Option<u32>| Ok(found.unwrap_or(10) * 2);
    /// limits.update("requests", double).exactly_once().await?; // also when an answer is lost
    /// assert_eq!(limits.get("requests").await?.unwrap().value?, 40);
    ///
    /// let end = |found: Option<u32>| match found {
    ///     Some(40..) => Ok(TypedNext::Delete),
    ///     _ => Ok(TypedNext::Keep),
    /// };
    /// limits.update("requests", end).await?;
    /// assert!(limits.get("requests").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "modify")]
    #[doc(alias = "compute")]
    #[doc(alias = "fetch_update")]
    #[doc(alias = "cas")]
    pub fn update<F, N>(&self, name: impl IntoKey, mut change: F) -> Update
    where
        F: FnMut(Option<T>) -> Result<N> + Send + 'static,
        N: Into<TypedNext<T>>,
    {
        let change = move |found: Option<&Entry>| -> Result<Next> {
            let found = found.map(|entry| json::read(&entry.key, &entry.value)).transpose()?;
            Ok(match change(found)?.into() {
                TypedNext::Put(value) => Next::Put(json::write(&value)?),
                TypedNext::Delete => Next::Delete,
                TypedNext::Keep => Next::Keep,
            })
        };
        self.kv.update(Named(self.key(name)), change)
    }
}
