//! Compares what watches tell with what listings show.

use crate::{Failure, wait::soon};
use kv_core::{Entry, Kv, Result, Watch, WatchEvent};
use std::collections::BTreeMap;

/// Adds an event to the fold of the events before it.
pub(crate) fn fold(entries: &mut BTreeMap<String, Entry>, event: WatchEvent) {
    match event {
        WatchEvent::Put(entry) => drop(entries.insert(entry.key.to_string(), entry)),
        WatchEvent::Delete { key, .. } => drop(entries.remove(key.as_str())),
        WatchEvent::Synced => {}
    }
}

/// A watch, and the fold of what it has told.
#[derive(Debug)]
pub struct Mirror {
    watch: Watch,
    /// The fold: the entries by their keys.
    pub entries: BTreeMap<String, Entry>,
}

impl Mirror {
    /// Makes the mirror of a watch of which nothing has been read.
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        Self { watch, entries: BTreeMap::new() }
    }

    /// Reads an event, and folds it.
    ///
    /// # Errors
    /// The watch has ended.
    pub async fn event(&mut self) -> Result<WatchEvent> {
        let event = self.watch.event().await?;
        fold(&mut self.entries, event.clone());
        Ok(event)
    }

    /// Reads until the fold is what a listing of the directory shows, this key among it. Others
    /// may write meanwhile.
    ///
    /// # Errors
    /// The watch does not come to it in time, or has ended; or a listing failed.
    pub async fn agrees(&mut self, kv: &Kv, directory: &str, last: &str) -> Result<(), Failure> {
        let agreeing = async {
            while !self.entries.contains_key(last) || self.entries != listed(kv.list(directory).await?) {
                self.event().await?;
            }
            Ok::<_, Failure>(())
        };
        let agreed = soon("the watch to agree with a listing", agreeing).await;
        agreed.map_err(|e| format!("{e}: it told {:?}", self.entries))?
    }

    /// Reads until the fold is these entries, to which nobody writes meanwhile.
    ///
    /// # Errors
    /// The watch does not come to them in time, or has ended.
    pub async fn comes_to(&mut self, wanted: impl IntoIterator<Item = Entry>) -> Result<(), Failure> {
        let wanted = listed(wanted);
        let reading = async {
            while self.entries != wanted {
                self.event().await?;
            }
            Ok::<_, Failure>(())
        };
        let read = soon("the watch to tell what is there", reading).await;
        read.map_err(|e| format!("{e}: it told {:?}, there is {wanted:?}", self.entries))?
    }

    /// Reads until the fold has these keys with these values, and no other key.
    ///
    /// # Errors
    /// The watch does not come to it in time, or has ended.
    pub async fn shows(&mut self, wanted: &[(&str, &str)]) -> Result<(), Failure> {
        let reading = async {
            while self.texts() != wanted {
                self.event().await?;
            }
            Ok::<_, Failure>(())
        };
        let read = soon("the watch to show what is wanted", reading).await;
        read.map_err(|e| format!("{e}: it told {:?}, and {wanted:?} is wanted", self.entries))?
    }

    fn texts(&self) -> Vec<(&str, &str)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry.text().unwrap_or_default())).collect()
    }
}

/// Returns the entries by their keys.
fn listed(entries: impl IntoIterator<Item = Entry>) -> BTreeMap<String, Entry> {
    entries.into_iter().map(|entry| (entry.key.to_string(), entry)).collect()
}
