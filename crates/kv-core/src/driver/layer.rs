//! Layers: stores over stores.

use super::Store;
use std::sync::Arc;

/// The trait of what puts a [`Store`] over another one, for [`Kv::layer`](crate::Kv::layer).
///
/// The store that it makes keeps every promise of the one below, but for what its
/// [`Capabilities`](crate::Capabilities) take back: a layer that cannot fence writes says
/// `fenced_writes: false`, one that stores values in a form of its own `native_values: false`. It
/// gives [`inner`](Store::inner), so that what is below is found, a
/// [description](Store::describe) of itself alone, and forwards `close`. Names are whole here,
/// whatever part of the tree a handle is on.
///
/// # Example
/// This layer refuses writes. What it does not offer any more, the handle refuses without asking
/// it; so it can leave those methods to the trait.
/// ```
/// use kv_core::driver::{
///     Cursor, Expect, Layer, ListOptions, Page, PutOptions, ReadOptions, Store, Target, WatchOptions,
///     WatchStream, WriteOptions, async_trait,
/// };
/// use kv_core::{Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Key, Result, Written};
/// use std::sync::Arc;
///
/// struct ReadOnly;
///
/// impl Layer for ReadOnly {
///     fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
///         let mut capabilities = inner.as_ref().capabilities().clone();
///         (capabilities.lock, capabilities.lease, capabilities.max_txn_ops) = (None, None, 0);
///         capabilities.health = false;
///         Arc::new(Reader { inner, capabilities })
///     }
/// }
///
/// #[derive(Debug)]
/// struct Reader {
///     inner: Arc<dyn Store>,
///     capabilities: Capabilities,
/// }
///
/// fn refused() -> Error {
///     Error::new(ErrorKind::PermissionDenied, "this program only reads")
/// }
///
/// #[async_trait]
/// impl Store for Reader {
///     fn capabilities(&self) -> &Capabilities {
///         &self.capabilities
///     }
///     async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
///         self.inner.as_ref().get(key, options).await
///     }
///     async fn put(&self, _: &Key, _: Bytes, _: Expect, _: &PutOptions) -> Result<Written> {
///         Err(refused())
///     }
///     async fn delete(&self, _: &Key, _: Expect, _: &WriteOptions) -> Result<bool> {
///         Err(refused())
///     }
///     async fn list(&self, d: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
///         self.inner.as_ref().list(d, from, options).await
///     }
///     async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
///         self.inner.as_ref().watch(target, options).await
///     }
///     fn describe(&self) -> String {
///         "ReadOnly".into()
///     }
///     fn inner(&self) -> Option<&dyn Store> {
///         Some(self.inner.as_ref())
///     }
///     async fn close(&self) -> Result<()> {
///         self.inner.as_ref().close().await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("a", "1").await?;
/// let reader = kv.clone().layer(ReadOnly);
/// assert_eq!(reader.get("a").await?.unwrap().text(), Some("1"));
/// assert_eq!(reader.put("a", "2").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
/// assert_eq!(reader.new_lock("l").acquire().await.unwrap_err().kind(), ErrorKind::Unsupported);
/// assert!(format!("{reader:?}").starts_with("Kv { store: ReadOnly > Memory"));
/// # Ok(()) }
/// ```
pub trait Layer {
    /// Returns the store that stands on this one.
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store>;
}

impl<L: Layer + ?Sized> Layer for &L {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        (**self).layer(inner)
    }
}
