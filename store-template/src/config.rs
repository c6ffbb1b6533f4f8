//! How a store is opened.

use crate::{Template, server::Server};
use kv_core::{Error, ErrorKind, Kv, Result, StoreUrl};

/// The settings of a store; a URL spells the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use store_template::Config;
///
/// let kv = Config::new("a-server").prefix("app/").open().await?;
/// kv.put("color", "red").await?; // at `app/color`, for those who look at the whole server
/// # Ok(()) }
/// ```
// DECIDE: your settings. Those that are secret are a `kv_core::Secret`, so that no `Debug` shows them. A half-given TLS
// setting (a certificate without its key) is an error at `open`, never plain text.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// The server.
    pub server: String,
    /// What all names on the server begin with, byte for byte.
    pub prefix: String,
}

impl Config {
    /// For the server of this name, without a prefix.
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), ..Self::default() }
    }

    /// Sets what all names on the server begin with.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The settings that `template://SERVER/PREFIX` spells.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another form, and for any parameter.
    pub fn from_url(url: StoreUrl) -> Result<Self> {
        // DECIDE: parameters, each by `url.take("name")?`. What is not taken is refused by `finish`, and so should be
        // all else that you do not use: nobody's password is ignored in silence.
        if url.scheme() != "template"
            || url.user().is_some()
            || url.password().is_some()
            || url.hosts().len() != 1
        {
            return Err(Error::new(ErrorKind::InvalidArgument, "expected a URL template://SERVER/PREFIX"));
        }
        let config = Self::new(&url.hosts()[0]).prefix(url.prefix());
        url.finish()?;
        Ok(config)
    }

    /// The store, for [`Kv::new`] and for layers.
    ///
    /// # Errors
    /// None: a map cannot refuse.
    // DECIDE: what must be true of the server for your promises to hold, and ask it here: `Capabilities` are complete
    // when this returns, and a server set up to break one is refused by an error that names the setting.
    pub async fn build(self) -> Result<Template> {
        Ok(Template::new(Server::connect(&self.server), self.prefix))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }
}

/// Opens `template://SERVER/PREFIX`.
///
/// # Errors
/// As [`Config::from_url`] and [`Config::build`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url)?).await.map(Kv::new)
}

/// The store of a URL, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// As [`Config::from_url`] and [`Config::build`].
pub async fn from_url(url: StoreUrl) -> Result<Template> {
    Config::from_url(url)?.build().await
}
