//! The settings of a store.

use crate::{server::Server, store::Template};
use kv_core::{
    Error, ErrorKind, Kv, Result, StoreUrl,
    backend::{in_open, whole_prefix},
};

/// The settings of a store; a URL can give the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use store_template::Config;
///
/// let kv = Config::new("a-server").prefix("app").open().await?;
/// kv.put("color", "red").await?; // at `app/color`, for those who look at the whole server
/// # Ok(()) }
/// ```
// DECIDE: your settings. A secret one is a `kv_core::Secret`, so that no `Debug` shows it, with
// `serde(skip_serializing)`, so that nothing writes it. TLS is a `kv_core::Tls`, which knows its
// parameters in a URL, and refuses settings that are half given.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// Names the server.
    pub server: String,
    /// Names the directory on the server that the store is.
    pub prefix: String,
    /// Gives, in place of `prefix`, the bytes with which all names on the server begin: for trees
    /// that another tool wrote.
    pub raw_prefix: String,
}

impl Config {
    /// Makes the settings for the server of this name, without a prefix.
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), ..Self::default() }
    }

    /// Sets the directory on the server that the store is: `app`, or `app/`.
    #[must_use]
    pub fn prefix(mut self, directory: impl Into<String>) -> Self {
        self.prefix = directory.into();
        self
    }

    /// Sets, in place of [`prefix`](Self::prefix), the bytes with which all names on the server
    /// begin.
    #[must_use]
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = bytes.into();
        self
    }

    fn whole_prefix(&self) -> Result<String> {
        whole_prefix(&self.prefix, Some(&*self.raw_prefix).filter(|raw| !raw.is_empty()))
    }

    /// Reads the settings from a URL `template://SERVER/PREFIX`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme or form, and for a
    /// parameter that is unknown.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        // DECIDE: parameters, each by `url.take("name")?`. `finish` refuses those that were not
        // taken. Refuse every other part of the URL that you do not use too, so that no password
        // is ignored in silence.
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

    /// Opens the store without its handle: for [`Kv::new`], and for layers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for both kinds of prefix.
    // DECIDE: which settings of the server your promises depend on, and check them here. When this
    // function returns, `Capabilities` are complete, and a server whose setting breaks a promise
    // was refused by an error that names the setting.
    pub async fn build(self) -> Result<Template> {
        let prefix = self.whole_prefix().map_err(in_open("template"))?;
        Ok(Template::new(Server::connect(&self.server), prefix))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }
}

/// Opens `template://SERVER/PREFIX`.
///
/// # Errors
/// Those of [`Config::from_url`] and [`Config::build`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("template"))?).await.map(Kv::new)
}

/// Opens the store of a URL without its handle, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// Those of [`Config::from_url`] and [`Config::build`].
pub async fn from_url(url: StoreUrl) -> Result<Template> {
    Config::from_url(url).map_err(in_open("template"))?.build().await
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
