//! The settings of a store in memory.

use crate::store::Memory;
use kv_core::{
    Error, ErrorKind, Kv, Result, StoreUrl,
    backend::{Clock, in_open, whole_prefix},
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
    /// Names the store, so that clients in this process can share it; without a name it is a store
    /// of its own.
    pub name: Option<String>,
    /// Names the directory that the store is: with `app` the key `a` is at `app/a`.
    pub prefix: String,
    /// Gives, in place of `prefix`, the bytes with which all names begin.
    pub raw_prefix: String,
    /// Measures TTLs, leases and locks; the machine's clock does if this is `None`.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Option<Clock>,
}

impl Config {
    /// Makes the settings of a store of its own, without a prefix, on the machine's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares the store with all who open this name in this process. The store ends with the last
    /// of them.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the directory that the store is: `app`, or `app/`, puts the key `a` at `app/a`, and
    /// leaves `application` alone.
    #[must_use]
    pub fn prefix(mut self, directory: impl Into<String>) -> Self {
        self.prefix = directory.into();
        self
    }

    /// Sets, in place of [`prefix`](Self::prefix), the bytes with which all names begin: `app`
    /// puts the key `a` at `appa`.
    #[must_use]
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = bytes.into();
        self
    }

    /// Returns the bytes with which all names begin.
    fn whole_prefix(&self) -> Result<String> {
        whole_prefix(&self.prefix, Some(&*self.raw_prefix).filter(|raw| !raw.is_empty()))
    }

    /// Sets the clock that measures TTLs, leases and locks. A [`Clock::manual`] moves only as it
    /// is told; [`Clock::tokio`] moves with the runtime's time, so that a test under
    /// `#[tokio::test(start_paused = true)]` moves it by `tokio::time::advance`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Reads the settings from a URL: `memory://`, `memory://NAME`, `memory://NAME/prefix` or
    /// `memory:///prefix`, and behind it `?clock=tokio` for [`Clock::tokio`] or `?raw_prefix=…`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, for credentials, for
    /// several names, and for a parameter that is unknown or has a value that it cannot have.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        url.expect(&["memory"])?;
        if url.user().is_some() || url.password().is_some() {
            return refused(
                "the memory URL has a user or password, but this store has no logins; leave both out".into(),
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

    /// Opens the store without its handle: for [`Kv::new`], for layers, and for
    /// [`Memory::with_prefix`] and [`Memory::evict_lock`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a clock that is not that of the open
    /// store of this name, and for `prefix` together with `raw_prefix`.
    ///
    /// # Cancel safety
    /// The future does not wait, so it is never dropped half way.
    pub async fn build(self) -> Result<Memory> {
        let prefix = self.whole_prefix().map_err(in_open("memory"))?;
        Memory::open(self.name, self.clock, &prefix).map_err(in_open("memory"))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }
}

/// Opens the store of a URL: `memory://` is a store of its own, `memory://NAME/prefix` one that
/// all share who open that name in this process.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`] and [`Config::build`]
/// give it.
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url).map_err(in_open("memory"))?).await.map(Kv::new)
}

/// Opens the store of a URL without its handle, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`] and [`Config::build`]
/// give it.
pub async fn from_url(url: StoreUrl) -> Result<Memory> {
    Config::from_url(url).map_err(in_open("memory"))?.build().await
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
