//! Which store is opened, and how.

use crate::Memory;
use kv_core::{Error, ErrorKind, Kv, Result, StoreUrl, backend::Clock};

/// How a store in memory is opened.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_memory::Config;
///
/// let app = Config::new().name("docs").prefix("app/").open().await?;
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
    /// What all names begin with, byte for byte.
    pub prefix: String,
    /// What measures TTLs, leases and locks; the machine's clock without one.
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

    /// Sets what all names begin with, byte for byte: `app/` puts the key `a` at `app/a`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets what measures TTLs, leases and locks; a [`Clock::manual`] moves only as told.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The configuration that a URL spells: `memory://`, `memory://NAME`, `memory://NAME/prefix`, `memory:///prefix`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, for credentials, for several names, and for
    /// any parameter.
    pub fn from_url(url: StoreUrl) -> Result<Self> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        if url.scheme() != "memory" {
            return refused(format!(
                "{:?} is not the scheme of this store, which is \"memory\"",
                url.scheme()
            ));
        }
        if url.user().is_some() || url.password().is_some() {
            return refused(
                "a memory URL with a user or password, which this store has not; leave them away".into(),
            );
        }
        if url.hosts().len() > 1 {
            return refused("a memory URL with several names; one is enough: memory://NAME/prefix".into());
        }
        let config =
            Self { name: url.hosts().first().cloned(), prefix: url.prefix().to_owned(), clock: None };
        url.finish()?;
        Ok(config)
    }

    /// The store, for [`Kv::new`], for layers, and for [`Memory::with_prefix`] and [`Memory::evict_lock`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a clock together with the name of a store that is open, and
    /// has a clock already.
    pub fn build(self) -> Result<Memory> {
        Memory::of(self)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn open(self) -> Result<Kv> {
        self.build().map(Kv::new)
    }
}

/// Opens the store of a URL: `memory://` a store of its own, `memory://NAME/prefix` one that all share who open that
/// name in this process.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`].
pub async fn open(url: &str) -> Result<Kv> {
    from_url(StoreUrl::parse(url)?).await.map(Kv::new)
}

/// The store of a URL, for [`Registry::with`](kv_core::Registry::with).
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), as [`Config::from_url`].
pub async fn from_url(url: StoreUrl) -> Result<Memory> {
    Config::from_url(url)?.build()
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
