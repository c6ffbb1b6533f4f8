//! The backends of a program, by the schemes of the URLs that they open.

use crate::{Error, ErrorKind, IntoStoreUrl, Kv, Result, StoreUrl, driver::Store};
use futures_core::future::BoxFuture;
use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

type Open = dyn Fn(StoreUrl) -> BoxFuture<'static, Result<Kv>> + Send + Sync;

/// The backends that a program links, by the schemes of their URLs.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Registry;
///
/// let registry = Registry::new().with("memory", kv_memory::from_url);
/// let kv = registry.open("memory://").await?;
/// kv.put("a", "1").await?;
///
/// let refused = registry.open("mysql://h/x").await.unwrap_err();
/// assert_eq!(refused.to_string(), r#"open: no backend is registered for "mysql"; known: memory"#);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<String, Arc<Open>>);

impl Registry {
    /// Makes a registry that knows no backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has URLs of this scheme, in lower case, opened by this function: a backend's `from_url`, or
    /// your own. The last function given for a scheme counts.
    #[must_use]
    pub fn with<F, S>(
        mut self,
        scheme: impl Into<String>,
        open: impl Fn(StoreUrl) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: Store,
    {
        let open = move |url| -> BoxFuture<'static, Result<Kv>> {
            let store = open(url);
            Box::pin(async move { Ok(Kv::new(store.await?)) })
        };
        self.0.insert(scheme.into(), Arc::new(open));
        self
    }

    /// Returns the schemes that are known, in order.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Opens the store of this URL, which is text or a [`StoreUrl`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no URL, for a scheme that
    /// nobody registered (the message lists the known ones) and for parameters that the backend
    /// does not know; else the backend's own.
    ///
    /// # Cancel safety
    /// Dropping the future gives up what was begun, and leaves nothing behind.
    pub async fn open(&self, url: impl IntoStoreUrl) -> Result<Kv> {
        let url = url.into_store_url().map_err(in_open)?;
        let Some(open) = self.0.get(url.scheme()) else {
            let known = self.schemes().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            let why = format!("no backend is registered for {:?}; known: {known}", url.scheme());
            return Err(in_open(Error::new(ErrorKind::InvalidArgument, why)));
        };
        open(url).await.map_err(in_open)
    }
}

/// Adds to an error that it comes from opening a store, unless the store's own `open` did so.
fn in_open(error: Error) -> Error {
    error.in_operation("open")
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.schemes()).finish()
    }
}
