//! The place of stored settings, read at one moment.

use crate::{
    place::{Form, Place},
    snapshot::{Snapshot, are_same},
};
use kv_core::{Entry, Error, ErrorKind, IntoKey, Kv, Result};
use std::time::Duration;

/// The most readings of a directory, until two in a row are the same.
const READINGS: usize = 10;

/// The place of stored settings, to be read once: by [`snapshot`](Self::snapshot), by the crate
/// `config` as an asynchronous source (feature `config`), or by the crate `figment` by way of a
/// snapshot (feature `figment`).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// # #[cfg(all(feature = "config", feature = "figment"))] {
/// use kv_config::Source;
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config/limits/requests", "5").await?;
///
/// let config = config::Config::builder()
///     .set_default("limits.requests", 1)
///     .unwrap()
///     .add_async_source(Source::tree(&kv, "app/config"))
///     .build()
///     .await
///     .unwrap();
/// assert_eq!(config.get_int("limits.requests").unwrap(), 5);
///
/// let stored = Source::tree(&kv, "app/config").snapshot().await?;
/// let defaults = figment::providers::Serialized::default("limits.requests", 1);
/// let figment = figment::Figment::from(defaults).merge(stored);
/// assert_eq!(figment.extract_inner::<u32>("limits.requests").unwrap(), 5);
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    kv: Kv,
    place: Result<Place>,
    within: Option<Duration>,
}

impl Source {
    fn new(kv: &Kv, directory: impl IntoKey, form: Form) -> Self {
        let place = directory.into_directory().map(|directory| Place { directory, form });
        Self { kv: kv.clone(), place, within: None }
    }

    /// Makes the source of a directory: each key below it is one setting, as
    /// [`live`](crate::live()) tells.
    pub fn tree(kv: &Kv, directory: impl IntoKey) -> Self {
        Self::new(kv, directory, Form::Tree)
    }

    /// Makes the source of a key that holds a document in JSON.
    pub fn json(kv: &Kv, key: impl IntoKey) -> Self {
        Self::new(kv, key, Form::Json)
    }

    /// Makes the source of a key that holds a document in TOML.
    #[cfg(feature = "toml")]
    pub fn toml(kv: &Kv, key: impl IntoKey) -> Self {
        Self::new(kv, key, Form::Toml)
    }

    /// Sets the time that each request has, in place of the handle's.
    #[doc(alias = "timeout")]
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Reads the settings, at one moment: a transaction is in it whole or not at all. Where
    /// listings of the store show no moment
    /// ([`list_snapshot`](kv_core::Capabilities::list_snapshot)), a directory is read until two
    /// readings are the same.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; those of
    /// [`Kv::list`](kv_core::Kv::list) and [`Kv::get`](kv_core::Kv::get); for a directory also
    /// [`Timeout`](ErrorKind::Timeout) when others write it with each of ten readings.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let backend = self.kv.capabilities().backend;
        let place = self.place.as_ref().map_err(|e| e.clone().in_call("config", backend, None))?;
        read(&self.kv, place, self.within).await
    }
}

/// Reads the settings of this place at one moment.
pub(crate) async fn read(kv: &Kv, place: &Place, within: Option<Duration>) -> Result<Snapshot> {
    let backend = kv.capabilities().backend;
    let entries = match place.form {
        Form::Tree => directory(kv, place, within).await?,
        _ => {
            let get = kv.get(place.key()?);
            let get = match within {
                Some(within) => get.deadline(within),
                None => get,
            };
            get.await?.into_iter().collect()
        }
    };
    Ok(Snapshot::new(place, entries, backend))
}

async fn directory(kv: &Kv, place: &Place, within: Option<Duration>) -> Result<Vec<Entry>> {
    let mut before = list(kv, place, within).await?;
    if kv.capabilities().list_snapshot {
        return Ok(before);
    }
    // No version comes twice: what is the same in two readings was so between them.
    for _ in 1..READINGS {
        let again = list(kv, place, within).await?;
        if are_same(&before, &again) {
            return Ok(again);
        }
        before = again;
    }
    let why = format!(
        "others wrote the settings with each of {READINGS} readings; nothing was read at one moment, so try again"
    );
    let backend = kv.capabilities().backend;
    Err(Error::new(ErrorKind::Timeout, why).in_call("config", backend, Some(place.name())))
}

async fn list(kv: &Kv, place: &Place, within: Option<Duration>) -> Result<Vec<Entry>> {
    let list = kv.list(&place.directory);
    match within {
        Some(within) => list.deadline(within).await,
        None => list.await,
    }
}
