//! The places that keys and values come from and go to: a store, a folder, the lines of an export.

use super::folder::{Files, Folder, Role};
use crate::{
    exit::{Failure, Run},
    lines,
};
use kv_core::{Bytes, Directory, Entry, Key, Kv, LeftOut, Listing, Version};
use std::{
    collections::{BTreeMap, btree_map},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A place that can be read again and again.
#[derive(Debug)]
pub(crate) enum Place {
    Store(Kv),
    Folder(Folder),
    Lines(BTreeMap<Key, Bytes>),
}

impl Place {
    /// Reads the lines of a file, or those of standard input; or opens a folder by its name.
    pub(crate) async fn of_file(file: Option<PathBuf>) -> Run<Self> {
        let file = file.filter(|file| file != Path::new("-"));
        let name = file.as_deref().and_then(|file| file.to_str());
        if let Some(name) = name
            && let Some(folder) = Folder::named(name, &Directory::root(), Role::From)?
        {
            return Ok(Self::Folder(folder));
        }
        let read = tokio::task::spawn_blocking(move || {
            let from = file.as_ref().map_or_else(|| "standard input".to_owned(), |f| f.display().to_string());
            let mut text = String::new();
            let read = match &file {
                Some(file) => fs::read_to_string(file).map(|whole| text = whole),
                None => io::stdin().lock().read_to_string(&mut text).map(drop),
            };
            read.map_err(|e| Failure::here(format!("{from} cannot be read: {e}")))?;
            parse(&text).map_err(|why| Failure::usage(format!("{from}, {why}")))
        });
        let read = read.await.map_err(|e| Failure::here(format!("the lines cannot be read: {e}")))?;
        read.map(Self::Lines)
    }

    /// Looks at some keys alone.
    pub(super) async fn find(&self, keys: &[Key]) -> Run<Vec<Option<Found>>> {
        match self {
            Self::Store(kv) => {
                let found = kv.get_many(keys).await?;
                Ok(found.into_iter().map(|entry| entry.map(Found::of)).collect())
            }
            Self::Folder(folder) => keys.iter().map(|key| folder.find(key)).collect(),
            Self::Lines(lines) => {
                let found = |key: &Key| {
                    lines.get(key).map(|value| Found {
                        key: key.clone(),
                        value: value.clone(),
                        version: None,
                    })
                };
                Ok(keys.iter().map(found).collect())
            }
        }
    }

    /// Tells whether it has no key, as far as it lists them.
    pub(super) async fn is_empty(&self) -> Run<bool> {
        match self {
            Self::Store(kv) => Ok(kv.list("").limit(1).keys().next().await.transpose()?.is_none()),
            other => Ok(other.side().next().await?.is_none()),
        }
    }

    /// Closes what was opened.
    pub(crate) async fn close(&self) -> kv_core::Result<()> {
        match self {
            Self::Store(kv) => kv.close().await,
            Self::Folder(_) | Self::Lines(_) => Ok(()),
        }
    }

    /// Begins to read it, in ascending order of the keys, and to note what it leaves out.
    pub(super) fn told_side(&self) -> Side {
        match self {
            Self::Store(kv) => Side::Store(kv.list("").tell_left_out().entries()),
            other => other.side(),
        }
    }

    /// Begins to read it, in ascending order of the keys.
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Store(kv) => Side::Store(kv.list("").entries()),
            Self::Folder(folder) => Side::Folder(folder.side()),
            Self::Lines(lines) => Side::Lines(lines.clone().into_iter()),
        }
    }
}

/// A place that is being read.
pub(super) enum Side {
    Store(Listing<Entry>),
    Folder(Files),
    Lines(btree_map::IntoIter<Key, Bytes>),
}

/// One key of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) value: Bytes,
    /// The version in a store, or the state of the file that was read; lines of an export have
    /// none.
    pub(super) version: Option<Version>,
}

impl Found {
    fn of(entry: Entry) -> Self {
        let Entry { key, value, version, .. } = entry;
        Self { key, value, version: Some(version) }
    }
}

impl Side {
    /// Returns the names that are no keys, of what was read so far.
    pub(super) fn left_out(&self) -> LeftOut {
        match self {
            Self::Store(listing) => listing.left_out(),
            // A file whose name can be no key is an error.
            Self::Folder(_) | Self::Lines(_) => LeftOut::default(),
        }
    }

    pub(super) async fn next(&mut self) -> Run<Option<Found>> {
        Ok(match self {
            Self::Store(listing) => listing.next().await.transpose()?.map(Found::of),
            Self::Folder(files) => files.next()?,
            Self::Lines(lines) => lines.next().map(|(key, value)| Found { key, value, version: None }),
        })
    }
}

/// Reads the lines of an export. The message names the line, and shows no value.
fn parse(text: &str) -> Result<BTreeMap<Key, Bytes>, String> {
    let mut lines = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let (key, value) = lines::given(line).map_err(|why| format!("line {number}: {why}"))?;
        if lines.contains_key(&key) {
            return Err(format!("line {number}: the key {key:?} was given before"));
        }
        lines.insert(key, value);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_export_are_read_in_any_order() {
        let text = "{\"v\":1,\"key\":\"b\",\"value\":\"2\"}\n\n{\"v\":1,\"key\":\"a\",\"value\":\"1\"}\n";
        let keys: Vec<_> = parse(text).unwrap().into_keys().map(|key| key.to_string()).collect();
        assert_eq!(keys, ["a", "b"]);
        let twice = format!("{text}{text}");
        assert_eq!(parse(&twice).unwrap_err(), "line 4: the key \"b\" was given before");
    }
}
