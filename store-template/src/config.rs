//! The settings of a store.

use crate::{server::Server, store::Template};
use kv_core::{Error, ErrorKind, Kv, Result, StoreUrl, backend::directory_prefix};

/// The settings of a store; a URL spells the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use store_template::Config;
///
/// let kv = Config::new("a-server").prefix("app").open().await?;
/// kv.put("color", "red").await?; // at `app/color`, for those who look at the whole server
/// # Ok(()) }
/// ```
// DECIDE: your settings. Those that are secret are a `kv_core::Secret`, so that no `Debug` shows them, with
// `serde(skip_serializing)`, so that nothing writes them. TLS is a `kv_core::Tls`: it knows its parameters of a URL, and
// refuses what is half given.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// The server.
    pub server: String,
    /// The directory on the server that the store is.
    pub prefix: String,
    /// In its place, what all names on the server begin with, byte for byte: for trees that another tool wrote.
    pub raw_prefix: String,
}

impl Config {
    /// For the server of this name, without a prefix.
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), ..Self::default() }
    }

    /// Sets the directory on the server that the store is: `app`, or `app/`.
    #[must_use]
    pub fn prefix(mut self, directory: impl Into<String>) -> Self {
        self.prefix = directory.into();
        self
    }

    /// Sets, in its place, what all names on the server begin with, byte for byte.
    #[must_use]
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = bytes.into();
        self
    }

    fn whole_prefix(&self) -> Result<String> {
        match (self.prefix.is_empty(), self.raw_prefix.is_empty()) {
            (false, false) => {
                let why =
                    "both `prefix` and `raw_prefix` are given; give one: a directory, or bytes as they are";
                Err(Error::new(ErrorKind::InvalidArgument, why))
            }
            (true, false) => Ok(self.raw_prefix.clone()),
            _ => Ok(directory_prefix(&*self.prefix)),
        }
    }

    /// The settings that `template://SERVER/PREFIX` spells.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme or form, and for a parameter that is unknown.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        // DECIDE: parameters, each by `url.take("name")?`. What is not taken is refused by `finish`, and so should be
        // all else that you do not use: nobody's password is ignored in silence.
        url.expect(&["template"])?;
        if url.user().is_some() || url.password().is_some() || url.hosts().len() != 1 {
            return Err(Error::new(ErrorKind::InvalidArgument, "expected a URL template://SERVER/PREFIX"));
        }
        let raw_prefix = url.take::<String>("raw_prefix")?.unwrap_or_default();
        let config = Self::new(&url.hosts()[0]).prefix(url.prefix()).raw_prefix(raw_prefix);
        url.finish()?;
        config.whole_prefix()?;
        Ok(config)
    }

    /// The store, for [`Kv::new`] and for layers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for both kinds of prefix.
    // DECIDE: what must be true of the server for your promises to hold, and ask it here: `Capabilities` are complete
    // when this returns, and a server set up to break one is refused by an error that names the setting.
    pub async fn build(self) -> Result<Template> {
        let prefix = self.whole_prefix().map_err(in_open)?;
        Ok(Template::new(Server::connect(&self.server), prefix))
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
    from_url(StoreUrl::parse(url).map_err(in_open)?).await.map(Kv::new)
}

/// The store of a URL, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// As [`Config::from_url`] and [`Config::build`].
pub async fn from_url(url: StoreUrl) -> Result<Template> {
    Config::from_url(url).map_err(in_open)?.build().await
}

/// Says in an error that it is one of opening this backend's store.
fn in_open(error: Error) -> Error {
    error.in_call("open", "template", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_refused_with_a_reason() {
        for (url, why) in [
            ("etcd://a/x", "\"etcd\" is not the scheme of this store, which is \"template\""),
            ("template://me@a/x", "template://SERVER/PREFIX"),
            ("template://a,b/x", "template://SERVER/PREFIX"),
            ("template://a/x?ttl=5", "\"ttl\""),
        ] {
            let refused = StoreUrl::parse(url).and_then(Config::from_url).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(refused.to_string().contains(why), "{url}: {refused}");
        }
    }
}
