//! The calls about one key, or several that are named.

#[allow(unused_imports, reason = "the documentation speaks of it")]
use crate::ErrorKind;
use crate::{
    Entry, IntoKey, IntoValue, Result, Version,
    driver::Expect,
    kv::{Delete, Exists, Get, GetMany, Kv, Next, Put, Update},
};

impl Kv {
    /// Reads a key: its entry, or `None` when it is missing or expired. The read sees every write
    /// that was acknowledged before it began, unless it is [`stale`](Get::stale).
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Timeout`](ErrorKind::Timeout),
    /// [`Unavailable`](ErrorKind::Unavailable), and the server's refusals. A missing key is no
    /// error.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/color", "red").await?;
    /// let entry = kv.get("app/color").await?.expect("it was put");
    /// assert_eq!(entry.text(), Some("red"));
    /// assert!(kv.get("app/size").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "read")]
    #[doc(alias = "lookup")]
    pub fn get(&self, key: impl IntoKey) -> Get {
        Get::new(self, key.into_key())
    }

    /// Reads several keys, in as few requests as the server allows. The answers are in the order
    /// of the keys. Without keys there is no request.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), for all keys at once.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("a", "1").await?;
    /// let found = kv.get_many(["a", "b"]).await?;
    /// assert!(found[0].is_some() && found[1].is_none());
    /// # Ok(()) }
    /// ```
    #[doc(alias = "mget")]
    #[doc(alias = "multi_get")]
    #[doc(alias = "batch")]
    pub fn get_many<K: IntoKey>(&self, keys: impl IntoIterator<Item = K>) -> GetMany {
        GetMany::new(self, keys.into_iter().map(IntoKey::into_key).collect())
    }

    /// Returns whether a key is there. It fetches no value where the server allows that.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind: the request may still be answered, to
    /// nobody.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/a", "").await?;
    /// assert!(kv.exists("app/a").await?);
    /// assert!(!kv.exists("app").await?); // a directory is no key
    /// # Ok(()) }
    /// ```
    #[doc(alias = "contains")]
    #[doc(alias = "contains_key")]
    #[doc(alias = "has")]
    pub fn exists(&self, key: impl IntoKey) -> Exists {
        Exists::new(self, key.into_key())
    }

    /// Creates or replaces a key, and returns its new version and the granted TTL. Without
    /// [`ttl`](Put::ttl) and [`lease`](Put::lease) the key is permanent, whatever it was before.
    /// The value is borrowed or owned text or bytes.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), [`TooLarge`](ErrorKind::TooLarge),
    /// [`Unsupported`](ErrorKind::Unsupported) and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument); then what its conditions ask for, the
    /// server's refusals, and [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was
    /// lost: [`Put`] has them all.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use std::time::Duration;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let first = kv.put("app/color", "red").await?.version;
    /// kv.put("app/color", "blue").if_version(first).await?; // compare-and-swap
    /// kv.put("nodes/1", "up").ttl(Duration::from_secs(30)).await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "set")]
    #[doc(alias = "upsert")]
    #[doc(alias = "write")]
    #[doc(alias = "insert")]
    pub fn put(&self, key: impl IntoKey, value: impl IntoValue) -> Put {
        Put::new(self, "put", key.into_key(), value.into_value(), Expect::Anything)
    }

    /// Replaces a key at this version; with `None` creates it. The same as [`put`](Self::put) with
    /// [`if_version`](Put::if_version) or [`if_missing`](Put::if_missing).
    ///
    /// # Errors
    /// [`KeyModified`](ErrorKind::KeyModified) when the key is at another version or gone,
    /// [`KeyExists`](ErrorKind::KeyExists) when it was to be created; else those of
    /// [`put`](Self::put).
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::ErrorKind;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let seen = kv.atomic_put("counter", "1", None).await?.version;
    /// kv.atomic_put("counter", "2", seen).await?;
    /// let late = kv.atomic_put("counter", "2", seen).await.unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::KeyModified);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cas")]
    #[doc(alias = "compare_and_swap")]
    #[doc(alias = "compare_exchange")]
    pub fn atomic_put(
        &self,
        key: impl IntoKey,
        value: impl IntoValue,
        previous: impl Into<Option<Version>>,
    ) -> Put {
        let expect = previous.into().map_or(Expect::Missing, Expect::Version);
        Put::new(self, "atomic_put", key.into_key(), value.into_value(), expect)
    }

    /// Changes a key by a function of what is there: reads the key, has the function compute what
    /// comes after it, and writes that if nobody has written the key meanwhile. Else it begins
    /// again, after a pause at random that grows, until the deadline.
    ///
    /// The function gets the entry, or `None` where the key is missing. It returns the value to
    /// put, or a [`Next`]; an error of it ends the update, with nothing written. It may be called
    /// several times, so that it should do nothing but compute.
    ///
    /// An update whose answer was lost is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), and is not
    /// made again, since it may have been done; [`exactly_once`](Update::exactly_once) finds out.
    ///
    /// # Errors
    /// Those of [`Update`].
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::{Entry, Error, ErrorKind, Result};
    ///
    /// fn count(found: Option<&Entry>) -> Result<String> {
    ///     let hits = found.and_then(Entry::text).unwrap_or("0").parse::<u64>();
    ///     let hits = hits.map_err(|e| Error::new(ErrorKind::Corrupt, "no number").with_cause(e))?;
    ///     Ok((hits + 1).to_string())
    /// }
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.update("hits", count).await?;
    /// let second = kv.update("hits", count).exactly_once().await?;
    /// assert_eq!(second.text(), Some("2"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "modify")]
    #[doc(alias = "compute")]
    #[doc(alias = "fetch_update")]
    #[doc(alias = "increment")]
    #[doc(alias = "counter")]
    #[doc(alias = "cas")]
    pub fn update<F, N>(&self, key: impl IntoKey, change: F) -> Update
    where
        F: FnMut(Option<&Entry>) -> Result<N> + Send + 'static,
        N: Into<Next>,
    {
        Update::new(self, key.into_key(), change)
    }

    /// Deletes a key, and returns whether it was there. The keys below it stay.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; the server's refusals, and
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost. A missing key is no
    /// error.
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("a", "1").await?;
    /// assert!(kv.delete("a").await?);
    /// assert!(!kv.delete("a").await?);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "remove")]
    #[doc(alias = "del")]
    pub fn delete(&self, key: impl IntoKey) -> Delete {
        Delete::new(self, "delete", key.into_key(), Expect::Anything)
    }

    /// Deletes a key at this version. The same as [`delete`](Self::delete) with
    /// [`if_version`](Delete::if_version).
    ///
    /// # Errors
    /// [`KeyModified`](ErrorKind::KeyModified) when the key is at another version or gone; else
    /// those of [`delete`](Self::delete).
    ///
    /// # Cancel safety
    /// A future that is dropped may have sent the write: it happens once or not at all, and the
    /// caller does not know which.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let seen = kv.put("a", "1").await?.version;
    /// kv.put("a", "2").await?;
    /// assert!(kv.atomic_delete("a", seen).await.is_err()); // somebody wrote it meanwhile
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cas_delete")]
    pub fn atomic_delete(&self, key: impl IntoKey, version: Version) -> Delete {
        Delete::new(self, "atomic_delete", key.into_key(), Expect::Version(version))
    }
}
