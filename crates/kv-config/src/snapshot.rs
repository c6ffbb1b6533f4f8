//! Settings as they were stored at one moment.

use crate::{
    digest::Digest,
    fault::Fault,
    node::{Node, parse_json},
    place::{Form, Place},
    typed::Typed,
};
use kv_core::{Entry, Error, ErrorKind, Key, Result, Version};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};

/// The name of one state of stored settings: two processes that run the same generation of the same
/// settings run the same values.
///
/// It is the version of the key, for a document, and a digest of all names and versions, for a
/// directory; `none` where nothing is stored. Generations have no order. They are those of one
/// store: a copy in another store has others.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_config::Source;
///
/// let kv = kv_memory::open("memory://").await?;
/// let written = kv.put("app/config", "{}").await?;
/// let generation = Source::json(&kv, "app/config").snapshot().await?.generation();
/// assert_eq!(generation.as_str(), written.version.to_string());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(Box<str>);

impl Generation {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Generation {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Settings as they were stored at one moment; [`Source::snapshot`](crate::Source::snapshot) reads
/// them.
///
/// With the feature `figment` it is a provider of the crate `figment`, and with the feature
/// `config` a source of the crate `config`: [`Source`](crate::Source) shows both. `Debug` shows no
/// values.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_config::Source;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     color: String,
///     limit: u32,
/// }
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config/color", "red").await?;
/// kv.put("app/config/limit", "5").await?;
/// let settings: Settings = Source::tree(&kv, "app/config").snapshot().await?.settings()?;
/// assert_eq!((&*settings.color, settings.limit), ("red", 5));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Snapshot {
    place: Place,
    entries: Arc<[Entry]>,
    /// The store that it was read from, for errors.
    origin: &'static str,
}

impl Snapshot {
    pub(crate) fn new(place: &Place, entries: Vec<Entry>, origin: &'static str) -> Self {
        Self { place: place.clone(), entries: entries.into(), origin }
    }

    /// Returns the generation.
    pub fn generation(&self) -> Generation {
        let Some(first) = self.entries.first() else { return Generation::from("none") };
        if self.place.form != Form::Tree {
            return Generation::from(&*first.version.to_string());
        }
        let mut digest = Digest::new();
        for entry in self.entries.iter() {
            let (name, version) = (self.place.directory.strip(&entry.key), entry.version.to_string());
            digest.add(name.as_ref().map_or("", Key::as_str).as_bytes());
            digest.add(&[0]);
            digest.add(version.as_bytes());
            digest.add(&[0]);
        }
        Generation::from(&*digest.text())
    }

    /// Returns the settings, without defaults and without a validation.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for what is no `T`; the message says where and why, and
    /// shows no value.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let settings = self.node().and_then(|node| T::deserialize(Typed(&node)));
        settings.map_err(|fault| self.error(&fault, false))
    }

    /// Returns the keys with their values: those below the directory, in order, or the one that
    /// holds the document.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the version of a key; `None` where it is not there.
    pub(crate) fn version(&self, key: &Key) -> Option<Version> {
        let at = self.entries.binary_search_by(|entry| entry.key.cmp(key)).ok()?;
        Some(self.entries[at].version)
    }

    /// Tells whether the other is of the same moment, or of one between which nothing was written.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        are_same(&self.entries, &other.entries)
    }

    /// Tells whether the other has the same values, whenever they were written.
    pub(crate) fn has_same_values(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(other.entries.iter())
                .all(|(a, b)| a.key == b.key && a.value == b.value)
    }

    /// Returns the values as a tree.
    pub(crate) fn node(&self) -> Result<Node, Fault> {
        match self.place.form {
            Form::Tree => {
                let mut root = Node::table();
                for entry in self.entries.iter() {
                    // A listing of the directory gives nothing that lies elsewhere.
                    if let Some(name) = self.place.directory.strip(&entry.key) {
                        root.plant(&name, Node::Raw(entry.value.clone()))?;
                    }
                }
                Ok(root)
            }
            Form::Json => self.document(parse_json),
            #[cfg(feature = "toml")]
            Form::Toml => self.document(crate::node::parse_toml),
        }
    }

    /// Returns the document as a tree, an empty one where the key is not there.
    fn document(&self, parse: fn(&[u8]) -> Result<Node, Fault>) -> Result<Node, Fault> {
        self.entries.first().map_or_else(|| Ok(Node::table()), |entry| parse(&entry.value))
    }

    /// Returns the error of settings with this fault.
    #[cold]
    pub(crate) fn error(&self, fault: &Fault, quotes: bool) -> Error {
        let error = Error::new(ErrorKind::Corrupt, fault.text(quotes));
        error.in_call("config", self.origin, Some(self.place.name()))
    }
}

/// Tells whether the keys are the same, each in the same version.
pub(crate) fn are_same(one: &[Entry], other: &[Entry]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.key == b.key && a.version == b.version)
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("name", &self.place.name())
            .field("form", &self.place.form.as_str())
            .field("generation", &self.generation().as_str())
            .field("keys", &self.entries.len())
            .finish()
    }
}
