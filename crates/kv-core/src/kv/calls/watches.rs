//! The calls that begin a watch.

#[allow(unused_imports, reason = "the documentation speaks of them")]
use crate::{Capabilities, Error, ErrorKind, Watch};
use crate::{
    IntoKey,
    driver::Target,
    kv::{Kv, WatchCall},
};

impl Kv {
    /// Watches one key, which need not be there: first what is there, then `Synced`, then every
    /// change (or the newest state, as [`Capabilities::watch`] says). Outages are ridden out
    /// inside the stream; only what [`Error::is_lasting`] names ends it.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), and
    /// [`Unsupported`](ErrorKind::Unsupported) where the store has no watches. Later ones come
    /// from [`Watch::event`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::WatchEvent;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let mut watch = kv.watch("app/color").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Synced)); // nothing was there
    /// kv.put("app/color", "red").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Put(entry) if entry.text() == Some("red")));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "subscribe")]
    #[doc(alias = "observe")]
    #[doc(alias = "listen")]
    pub fn watch(&self, key: impl IntoKey) -> WatchCall {
        WatchCall::new(self, "watch", key.into_key().map(Target::Key))
    }

    /// Watches everything strictly below a directory, as [`watch`](Self::watch) does a key.
    /// Folding the events over an empty map arrives at what a listing shows.
    /// [`Capabilities::watch_ordered`] tells whether the changes of different keys come in the
    /// order in which they were made.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_core::WatchEvent;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("nodes/1", "up").await?;
    /// let mut watch = kv.watch_tree("nodes").await?;
    /// assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    /// assert!(matches!(watch.event().await?, WatchEvent::Synced));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "watch_prefix")]
    #[doc(alias = "subscribe")]
    #[doc(alias = "observe")]
    #[doc(alias = "listen")]
    pub fn watch_tree(&self, directory: impl IntoKey) -> WatchCall {
        WatchCall::new(self, "watch_tree", directory.into_directory().map(Target::Tree))
    }
}
