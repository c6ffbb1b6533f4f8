//! The settings of a store in memory.

use crate::store::Memory;
use kv_core::{
    Error, ErrorKind, Kv, Result, StoreUrl,
    backend::{Clock, directory_prefix},
};

/// The settings of a store in memory.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_memory::Config;
///
/// let app = Config::new().name("docs").prefix("app").open().await?;
/// let all = Config::new().name("docs").open().await?;
/// app.put("a", "1").await?;
/// assert_eq!(all.get("app/a").await?.unwrap().text(), Some("1"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// The name under which this process shares the store; a store of its own without one.
    pub name: Option<String>,
    /// The directory that the store is: with `app` the key `a` is at `app/a`.
    pub prefix: String,
    /// In its place, what all names begin with, byte for byte.
    pub raw_prefix: String,
    /// Measures TTLs, leases and locks; the machine's clock does if this is `None`.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Option<Clock>,
}

impl Config {
    /// A store of its own, without a prefix, on the machine's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares the store with all who open this name in this process. It ends with the last of them.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the directory that the store is: `app`, or `app/`, puts the key `a` at `app/a`, and leaves `application` alone.
    #[must_use]
    pub fn prefix(mut self, directory: impl Into<String>) -> Self {
        self.prefix = directory.into();
        self
    }

    /// Sets, in place of [`prefix`](Self::prefix), what all names begin with, byte for byte: `app` puts the key `a` at
    /// `appa`.
    #[must_use]
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = bytes.into();
        self
    }

    /// Returns what all names begin with.
    fn whole_prefix(&self) -> Result<String> {
        if self.raw_prefix.is_empty() {
            return Ok(directory_prefix(&*self.prefix));
        }
        if !self.prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "both `prefix` and `raw_prefix` are given; give `prefix` for a directory, or `raw_prefix` for bytes as they are",
            ));
        }
        Ok(self.raw_prefix.clone())
    }

    /// Sets what measures TTLs, leases and locks: a [`Clock::manual`] moves only as told, [`Clock::tokio`] with the
    /// runtime's, so that a test under `#[tokio::test(start_paused = true)]` moves it by `tokio::time::advance`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The configuration that a URL spells: `memory://`, `memory://NAME`, `memory://NAME/prefix`, `memory:///prefix`, and
    /// behind it `?clock=tokio` for [`Clock::tokio`] or `?raw_prefix=…`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, for credentials, for several names, and for
    /// a parameter that is unknown or makes no sense.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        url.expect(&["memory"])?;
        if url.user().is_some() || url.password().is_some() {
            return refused(
                "a memory URL with a user or password, which this store has not; leave them away".into(),
            );
        }
        if url.hosts().len() > 1 {
            return refused("a memory URL with several names; one is enough: memory://NAME/prefix".into());
        }
        let clock = match url.take::<String>("clock")?.as_deref() {
            None => None,
            Some("system") => Some(Clock::system()),
            Some("tokio") => Some(Clock::tokio()),
            Some(other) => {
                return refused(format!("the parameter \"clock\" is {other:?}; known: system, tokio"));
            }
        };
        let (name, prefix) = (url.hosts().first().cloned(), url.prefix().to_owned());
        let raw_prefix = url.take("raw_prefix")?.unwrap_or_default();
        url.finish()?;
        let config = Self { name, prefix, raw_prefix, clock };
        config.whole_prefix()?;
        Ok(config)
    }

    /// The store, for [`Kv::new`], for layers, and for [`Memory::with_prefix`] and [`Memory::evict_lock`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another clock than that of the store, where one of this name is
    /// open, and for `prefix` together with `raw_prefix`.
    ///
    /// # Cancel safety
    /// It does not wait, and so is never dropped half way.
    pub async fn build(self) -> Result<Memory> {
        let prefix = self.whole_prefix().map_err(in_open)?;
        Memory::open(self.name, self.clock, &prefix).map_err(in_open)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }
}

/// Opens the store of a URL: `memory://` a store of its own, `memory://NAME/prefix` one that all share who open that
/// name in this process.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open)?).await.map(Kv::new)
}

/// The store of a URL, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`].
pub async fn from_url(url: StoreUrl) -> Result<Memory> {
    Config::from_url(url).map_err(in_open)?.build().await
}

/// Says in an error that it is one of opening this backend's store.
fn in_open(error: Error) -> Error {
    error.in_call("open", "memory", None)
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Config;
    use serde::{
        Deserialize,
        de::value::{Error, MapDeserializer},
    };

    fn read(fields: &[(&str, &str)]) -> Result<Config, Error> {
        Config::deserialize(MapDeserializer::new(fields.iter().copied()))
    }

    #[test]
    fn fields_may_be_left_out_and_unknown_ones_are_refused() {
        let config = read(&[("prefix", "app/")]).unwrap();
        assert_eq!((config.name, &*config.prefix), (None, "app/"));
        assert!(read(&[("prefx", "app/")]).unwrap_err().to_string().contains("`prefix`"));
    }
}
