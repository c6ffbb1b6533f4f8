//! The store of the settings, which may have to be opened first.

use futures_core::future::BoxFuture;
use kv_core::{Kv, Result};
use std::fmt;

type Open = dyn FnMut() -> BoxFuture<'static, Result<Kv>> + Send;

/// The store of the settings: a handle, or a way to open one.
///
/// Opening a store asks its server. A program that is to start while the server is down gives the
/// way to open it, by [`by`](Self::by), and has the settings of its
/// [last good file](crate::OpenLive::last_good) until the store can be opened.
/// [`Live::kv`](crate::Live::kv) gives the handle from then on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_config::Opening;
///
/// #[derive(Default, serde::Deserialize)]
/// #[serde(default)]
/// struct Settings {
///     color: String,
/// }
///
/// let store = Opening::by(|| kv_memory::open("memory://"));
/// let settings = kv_config::live::<Settings>(store, "app/config").await?;
/// assert!(settings.kv().is_some());
/// # Ok(()) }
/// ```
pub struct Opening(Stage);

enum Stage {
    Open(Kv),
    Waits(Box<Open>),
}

impl Opening {
    /// Makes one that is opened by this function. It is called once, and, where there are last good
    /// settings to run meanwhile, again until it succeeds, with pauses of up to ten seconds.
    pub fn by<F>(mut open: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Kv>> + Send + 'static,
    {
        let open = move || -> BoxFuture<'static, Result<Kv>> { Box::pin(open()) };
        Self(Stage::Waits(Box::new(open)))
    }

    /// Returns the handle; `None` until the store is open.
    pub(crate) fn opened(&self) -> Option<&Kv> {
        match &self.0 {
            Stage::Open(kv) => Some(kv),
            Stage::Waits(_) => None,
        }
    }

    /// Returns the backend's name, for errors.
    pub(crate) fn backend(&self) -> &'static str {
        self.opened().map_or("an unopened store", |kv| kv.capabilities().backend)
    }

    /// Returns the handle; opens the store unless it is open.
    pub(crate) async fn kv(&mut self) -> Result<Kv> {
        let opening = match &mut self.0 {
            Stage::Open(kv) => return Ok(kv.clone()),
            Stage::Waits(open) => open(),
        };
        let kv = opening.await?;
        self.0 = Stage::Open(kv.clone());
        Ok(kv)
    }
}

impl From<Kv> for Opening {
    fn from(kv: Kv) -> Self {
        Self(Stage::Open(kv))
    }
}

impl From<&Kv> for Opening {
    fn from(kv: &Kv) -> Self {
        Self(Stage::Open(kv.clone()))
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opening").field(&self.opened()).finish()
    }
}
