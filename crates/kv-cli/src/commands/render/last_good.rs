//! The keys of the last rendering, which are kept for a start without the store.

use super::target::{Rights, replaced};
use crate::{
    exit::{Failure, Run},
    lines::{ExportLine, ExportedLine},
    out::Out,
    transfer::Place,
};
use kv_core::{Bytes, Key};
use std::{collections::BTreeMap, path::Path};

/// Keeps these keys in a file, as the lines of an export, by which one that was cut is known.
pub(super) async fn keep(path: &Path, keys: &BTreeMap<Key, Bytes>, out: &Out) -> Run<()> {
    let mut lines = Vec::with_capacity(keys.len() + 1);
    lines.extend(keys.iter().map(|(key, value)| serde_json::to_string(&ExportLine::of(key, value))));
    lines.push(serde_json::to_string(&ExportedLine::of(keys.len() as u64)));
    let lines = lines.into_iter().collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|e| Failure::here(format!("the keys cannot be kept: {e}")))?.join("\n");
    let text = format!("{lines}\n");
    replaced(path, &Rights::own(), text.as_bytes(), async |_| Ok(()), out).await.map(drop)
}

/// Reads the keys that were kept.
pub(super) async fn read(path: &Path) -> Run<BTreeMap<Key, Bytes>> {
    match Place::of_file(Some(path.to_owned()), false).await? {
        Place::Lines(keys) => Ok(keys),
        Place::Store(_) | Place::Folder(_) => {
            Err(Failure::usage(format!("{} is no file of --state", path.display())))
        }
    }
}
