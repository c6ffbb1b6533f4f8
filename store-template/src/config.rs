//! How a store is opened.

use crate::{Template, server::Server};
use kv_core::{Result, StoreUrl};

/// The settings of a store; [`from_url`](crate::from_url) reads the same from a URL.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Kv;
/// use store_template::Config;
///
/// let kv = Kv::new(Config::new("a-server").prefix("app/").open().await?);
/// kv.put("color", "red").await?; // at `app/color`, for those who look at the whole server
/// # Ok(()) }
/// ```
// DECIDE: your settings. Those that are secret are a `kv_core::Secret`, so that no `Debug` shows them. A half-given TLS
// setting (a certificate without its key) is an error at `open`, never plain text.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened until `open`"]
pub struct Config {
    server: String,
    prefix: String,
}

impl Config {
    /// For the server of this name.
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), prefix: String::new() }
    }

    /// What all names on the server begin with, byte for byte; nothing unless told otherwise.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// None: a map cannot refuse.
    // DECIDE: what must be true of the server for your promises to hold, and ask it here; `Capabilities` are complete
    // when this returns, and a server set up to break one is refused by an error that names the setting.
    pub async fn open(self) -> Result<Template> {
        Ok(Template::new(Server::connect(&self.server), self.prefix))
    }

    pub(crate) fn from_url(url: StoreUrl) -> Result<Self> {
        // DECIDE: parameters, each by `url.take("name")?`; `finish` refuses the others by name.
        let config = Self::new(url.hosts().join(",")).prefix(url.prefix());
        url.finish()?;
        Ok(config)
    }
}
