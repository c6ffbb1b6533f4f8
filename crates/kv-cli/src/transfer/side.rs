//! The places that keys and values come from and go to: a store, a folder, the lines of an export.

use super::folder::{Files, Folder, Role};
use crate::{
    exit::{Failure, Run},
    lines::{self, Given},
    out::note,
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
    /// Reads the lines of a file, or those of standard input; or opens a folder by its name. Lines
    /// that are no whole export are refused, unless a part will do.
    pub(crate) async fn of_file(file: Option<PathBuf>, may_be_part: bool) -> Run<Self> {
        let file = file.filter(|file| file != Path::new("-"));
        let name = file.as_deref().and_then(|file| file.to_str());
        if let Some(name) = name
            && let Some(folder) = Folder::named(name, &Directory::root(), Role::From)?
        {
            return Ok(Self::Folder(folder));
        }
        let read = tokio::task::spawn_blocking(move || {
            let from = file.as_ref().map_or_else(|| "standard input".to_owned(), |f| f.display().to_string());
            let mut bytes = Vec::new();
            let read = match &file {
                Some(file) => fs::read(file).map(|whole| bytes = whole),
                None => io::stdin().lock().read_to_end(&mut bytes).map(drop),
            };
            read.map_err(|e| Failure::here(format!("{from} cannot be read: {e}")))?;
            let wrong = |why: String| Failure::usage(format!("{from}, {why}"));
            let Export { keys, cut, is_torn } = text(bytes).and_then(|text| parse(&text)).map_err(wrong)?;
            match cut {
                Some(why) if may_be_part && is_torn => {
                    note(&format!("{from}, {why}; what is whole is taken"))
                }
                Some(_) if may_be_part => {}
                Some(why) => return Err(wrong(format!("{why}; {END}"))),
                None => {}
            }
            Ok(keys)
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

/// The way out for whoever has a part of an export.
const END: &str = "an export ends with the number of its keys, as {\"v\":1,\"exported\":3}, so that this is a part \
                   of one; --partial takes it all the same";

/// The keys of one or more exports that stand one behind the other.
#[derive(Debug)]
struct Export {
    keys: BTreeMap<Key, Bytes>,
    /// The reason for which a part is missing, if one is.
    cut: Option<String>,
    /// It is not the end alone that is missing.
    is_torn: bool,
}

/// Returns the text of a file. One that was cut within a character ends before it.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).or_else(|e| {
        let (whole, is_cut) = (e.utf8_error().valid_up_to(), e.utf8_error().error_len().is_none());
        let mut bytes = e.into_bytes();
        bytes.truncate(whole);
        let text = String::from_utf8(bytes).unwrap_or_default();
        let line = 1 + text.matches('\n').count();
        if is_cut { Ok(text) } else { Err(format!("line {line}: it is no UTF-8")) }
    })
}

/// Reads the lines of an export. The message names the line, and shows no value.
fn parse(text: &str) -> Result<Export, String> {
    let mut export = Export { keys: BTreeMap::new(), cut: None, is_torn: false };
    let last = text.lines().count();
    // The keys behind the last end.
    let (mut count, mut is_ended) = (0, false);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let (key, value) = match lines::given(line) {
            Ok(Given::Entry(key, value)) => (key, value),
            Ok(Given::End(exported)) => {
                if exported != count && export.cut.is_none() {
                    let why = format!("line {number}: it ends an export of {exported} keys, and has {count}");
                    (export.cut, export.is_torn) = (Some(why), true);
                }
                (count, is_ended) = (0, true);
                continue;
            }
            Err(_) if number == last && !text.ends_with('\n') => {
                let why = format!("line {number}: it has no end");
                return Ok(Export { cut: export.cut.or(Some(why)), is_torn: true, ..export });
            }
            Err(why) => return Err(format!("line {number}: {why}")),
        };
        if export.keys.contains_key(&key) {
            return Err(format!("line {number}: the key {key:?} was given before"));
        }
        export.keys.insert(key, value);
        (count, is_ended) = (count + 1, false);
    }
    if !is_ended {
        export.cut = export.cut.or_else(|| Some(format!("behind line {last}: the last line is missing")));
    }
    Ok(export)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_export_are_read_in_any_order() {
        let text = "{\"v\":1,\"key\":\"b\",\"value\":\"2\"}\n\n{\"v\":1,\"key\":\"a\",\"value\":\"1\"}\n";
        let export = parse(text).unwrap();
        let keys: Vec<_> = export.keys.into_keys().map(|key| key.to_string()).collect();
        assert_eq!(keys, ["a", "b"]);
        let twice = format!("{text}{text}");
        assert_eq!(parse(&twice).unwrap_err(), "line 4: the key \"b\" was given before");
    }

    #[test]
    fn an_export_that_was_cut_anywhere_is_not_taken_for_a_whole_one() {
        let line = |key: &str| format!("{{\"v\":1,\"key\":{key:?},\"value\":\"ü\"}}\n");
        let keys: String = (0..12).map(|n| line(&format!("k{n}"))).collect();
        let whole = format!("{keys}{{\"v\":1,\"exported\":12}}\n");
        let read = |bytes: &[u8]| parse(&text(bytes.to_vec()).unwrap()).unwrap();
        let (export, end) = (read(whole.as_bytes()), whole.len());
        assert_eq!((export.keys.len(), export.cut), (12, None));
        assert_eq!(read(&whole.as_bytes()[..end - 1]).cut, None, "nothing is missing but the line feed");
        for cut in 0..end - 1 {
            let part = read(&whole.as_bytes()[..cut]);
            assert!(part.cut.is_some(), "{cut}");
            assert!(part.keys.len() <= 12 && part.keys.values().all(|value| value == "ü"), "{cut}");
        }
        // Nor one that lacks a piece in its middle.
        assert_eq!(
            read(whole.split_once('\n').unwrap().1.as_bytes()).cut.unwrap(),
            "line 12: it ends an export of 12 keys, and has 11"
        );
    }

    #[test]
    fn exports_may_stand_one_behind_the_other() {
        let part =
            |key: &str| format!("{{\"v\":1,\"key\":{key:?},\"value\":\"1\"}}\n{{\"v\":1,\"exported\":1}}\n");
        let both = parse(&format!("{}{}", part("a"), part("b"))).unwrap();
        assert_eq!((both.keys.len(), both.cut), (2, None));
        assert_eq!(text(b"a\n\xff\n".to_vec()).unwrap_err(), "line 2: it is no UTF-8");
    }
}
