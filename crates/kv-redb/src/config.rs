//! The settings of a store.

use crate::{engine::Options, store::Redb};
use kv_core::{
    Error, ErrorKind, Kv, Result, StoreUrl,
    backend::{Clock, in_open, whole_prefix},
};
use std::path::PathBuf;

/// The settings of a store: the place of its file, and the way in which the file is used.
///
/// Clients of one file in one process share it: its cache, clock, check and quick repair are then
/// those of the client that opened it first; the prefix is each client's own.
///
/// A URL gives the same:
/// `redb:///var/lib/app.redb?prefix=app&cache=67108864&verify=true&quick_repair=false`. With the
/// feature `serde` the settings can be read from a configuration file, without the clock.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("app.redb");
/// let kv = kv_redb::Config::new(path).prefix("app").cache_size(16 << 20).open().await?;
/// kv.put("color", "red").await?;
/// # kv.close().await
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Config {
    path: PathBuf,
    #[cfg_attr(feature = "serde", serde(default))]
    prefix: String,
    #[cfg_attr(feature = "serde", serde(default))]
    raw_prefix: String,
    #[cfg_attr(feature = "serde", serde(default = "Config::default_cache_size"))]
    cache_size: usize,
    #[cfg_attr(feature = "serde", serde(default = "Config::default_verify"))]
    verify: bool,
    #[cfg_attr(feature = "serde", serde(default))]
    quick_repair: bool,
    #[cfg_attr(feature = "serde", serde(skip))]
    clock: Clock,
}

impl Config {
    /// Makes the settings of a store in the file at this path. Opening makes the file when it is
    /// not there, but not its folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            prefix: String::new(),
            raw_prefix: String::new(),
            cache_size: Self::default_cache_size(),
            verify: Self::default_verify(),
            quick_repair: false,
            clock: Clock::system(),
        }
    }

    fn default_cache_size() -> usize {
        64 << 20
    }

    fn default_verify() -> bool {
        true
    }

    /// Reads a URL such as `redb:///var/lib/app.redb?prefix=app`; behind `redb://` stands the
    /// path, absolute when it begins with a slash.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for another scheme, for a parameter that is
    /// unknown or cannot be read, and for a user or a password, which a file does not have.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        let refused = |why: &str| Err(Error::new(ErrorKind::InvalidArgument, why.to_owned()));
        url.expect(&["redb"])?;
        if url.user().is_some() || url.password().is_some() {
            return refused("a redb URL has no user and no password; the rights are those of the file");
        }
        let path = url.file();
        if path.is_empty() {
            return refused(
                "the redb URL names no file; write redb:///path/to/file, or redb://file below this folder",
            );
        }
        let mut config = Self::new(path);
        config.prefix = url.take("prefix")?.unwrap_or(config.prefix);
        config.raw_prefix = url.take("raw_prefix")?.unwrap_or(config.raw_prefix);
        config.cache_size = url.take("cache")?.unwrap_or(config.cache_size);
        config.verify = url.take("verify")?.unwrap_or(config.verify);
        config.quick_repair = url.take("quick_repair")?.unwrap_or(config.quick_repair);
        url.finish()?;
        config.whole_prefix()?;
        Ok(config)
    }

    /// Sets the directory that the store is: with `app` the key `a` is stored as `app/a`, and
    /// `application` lies outside. Nothing outside is seen.
    #[must_use]
    pub fn prefix(mut self, directory: impl Into<String>) -> Self {
        self.prefix = directory.into();
        self
    }

    /// Sets, in place of [`prefix`](Self::prefix), the bytes with which all names begin, for files
    /// that were written so: with `app` the key `a` is stored as `appa`, and `application` is the
    /// key `lication`.
    #[must_use]
    pub fn raw_prefix(mut self, bytes: impl Into<String>) -> Self {
        self.raw_prefix = bytes.into();
        self
    }

    /// Returns the settings with which the engine opens the file.
    pub(crate) fn options(&self) -> Options {
        Options {
            path: self.path.clone(),
            cache_size: self.cache_size,
            verify: self.verify,
            quick_repair: self.quick_repair,
            clock: self.clock.clone(),
        }
    }

    /// Returns the bytes with which all names begin; refuses settings that make no sense.
    fn whole_prefix(&self) -> Result<String> {
        if self.clock == Clock::tokio() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the clock is `Clock::tokio()`, which the thread that writes cannot follow; give a `Clock::manual()`",
            ));
        }
        whole_prefix(&self.prefix, Some(&*self.raw_prefix).filter(|raw| !raw.is_empty()))
    }

    /// Sets how many bytes of the file are kept in memory at most: 64 MiB by default. With twice
    /// the size of the file, reads need no thread of their own.
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// Sets whether opening reads the whole file and compares all checksums, so that damage is an
    /// error at once; it does by default. The check takes seconds for each GB: switch it off for
    /// large files on a disk that finds damage itself. Without the check most damage is never
    /// found: redb does not compare a page that it reads with its checksum, and wrong bytes are
    /// given out as values. After a crash the file is checked in any case, unless
    /// [`quick_repair`](Self::quick_repair) is on.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Sets whether each commit also saves what opening needs after a crash; it does not by
    /// default. With this setting the file of a killed process opens in milliseconds, in place of
    /// seconds for each GB, and each commit takes about twice as long. It is for large files.
    #[must_use]
    pub fn quick_repair(mut self, quick: bool) -> Self {
        self.quick_repair = quick;
        self
    }

    /// Sets the clock that measures TTLs while the file is open; for tests. [`Clock::tokio`] is
    /// refused: the thread that writes has a runtime of its own, whose time nobody pauses.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, and makes the file when it is not there.
    ///
    /// # Errors
    /// Each names the file and the way out: [`InvalidArgument`](ErrorKind::InvalidArgument) for a
    /// path that cannot be a file, [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// [`Unavailable`](ErrorKind::Unavailable) when another process has the file open,
    /// [`Corrupt`](ErrorKind::Corrupt) for a file that is not a store's or is damaged,
    /// [`NoSpace`](ErrorKind::NoSpace) for a new file on a full disk.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing open.
    pub async fn open(self) -> Result<Kv> {
        self.build().await.map(Kv::new)
    }

    /// Opens the same as [`open`](Self::open), and returns the store without its handle: for
    /// layers, for [`Kv::new`](kv_core::Kv::new), and for [`Redb::stats`].
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn build(self) -> Result<Redb> {
        let prefix = self.whole_prefix().map_err(in_open("redb"))?;
        Redb::open(self.options(), &prefix).await.map_err(in_open("redb"))
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Config;

    #[test]
    fn a_configuration_comes_back_as_it_was_written() {
        let config: Config = serde_json::from_str(r#"{"path": "app.redb"}"#).unwrap();
        let plain = Config::new("app.redb");
        assert_eq!(format!("{config:?}"), format!("{plain:?}"));
        let written = serde_json::to_string(&plain.prefix("app/").cache_size(1 << 20)).unwrap();
        let config: Config = serde_json::from_str(&written).unwrap();
        assert_eq!((&*config.prefix, config.cache_size), ("app/", 1 << 20));
        let misspelt =
            serde_json::from_str::<Config>(r#"{"path": "a", "chache": 1}"#).unwrap_err().to_string();
        assert!(misspelt.contains("`chache`") && misspelt.contains("`cache_size`"), "{misspelt}");
    }
}
