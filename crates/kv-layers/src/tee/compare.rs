//! Copies what one store has into another, and compares the two.

use super::{Tee, copier::AT_ONCE};
use futures::{StreamExt, TryStreamExt, stream};
use kv_core::{Directory, Entry, IntoKey, Key, Kv, Result};
use std::{cmp::Ordering, fmt};

/// The keys that are read at a time.
const BATCH: usize = 32;

/// A key that two stores do not have alike, found by [`Tee::differences`]. `Display` says it in a
/// sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The key is not in the other store.
    Missing(Key),
    /// The key is in the other store alone.
    Extra(Key),
    /// The key has another value in the other store.
    Value(Key),
}

impl Difference {
    /// Returns the key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Missing(key) | Self::Extra(key) | Self::Value(key) => key,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "{key} is missing in the other store"),
            Self::Extra(key) => write!(f, "{key} is in the other store alone"),
            Self::Value(key) => write!(f, "{key} has another value in the other store"),
        }
    }
}

impl Tee {
    /// Copies what lies below a directory from one store to the other, and returns how many keys
    /// were written. It deletes nothing. It may run while handles with the layer write, and can be
    /// called again: a key that has the same value in both is not written.
    ///
    /// The copies have no TTL, since no store tells what is left of one. Copy directories whose
    /// keys expire, or live under leases, only if that is fine; written through the layer they
    /// have theirs.
    ///
    /// # Errors
    /// Those of both stores; what was copied until then stays.
    ///
    /// # Cancel safety
    /// Dropped, it has copied a part.
    pub async fn copy(from: &Kv, to: &Kv, directory: impl IntoKey) -> Result<u64> {
        let (mut keys, mut batch, mut copied) = (from.list(directory).keys(), Vec::new(), 0);
        loop {
            let key = keys.next().await.transpose()?;
            let is_end = key.is_none();
            batch.extend(key);
            if is_end || batch.len() >= BATCH {
                copied += copy_all(from, to, &batch).await?;
                batch.clear();
            }
            if is_end {
                return Ok(copied);
            }
        }
    }

    /// Compares what lies below a directory in two stores, by names and values, and returns what
    /// differs, in the order of the keys. Each difference was seen twice; while others write, what
    /// is just being copied can be among them.
    ///
    /// # Errors
    /// Those of both stores.
    ///
    /// # Cancel safety
    /// Nothing is written.
    pub async fn differences(from: &Kv, to: &Kv, directory: impl IntoKey) -> Result<Vec<Difference>> {
        let directory: Directory = directory.into_directory()?;
        let (mut ours, mut theirs) = (from.list(&directory).entries(), to.list(&directory).entries());
        let (mut one, mut other) = (ours.next().await.transpose()?, theirs.next().await.transpose()?);
        let mut found = Vec::new();
        loop {
            let order = match (&one, &other) {
                (None, None) => return Ok(found),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.key.cmp(&other.key),
            };
            let suspect = match (&one, &other) {
                (Some(one), Some(other)) if order == Ordering::Equal && one.value == other.value => None,
                (Some(one), _) if order != Ordering::Greater => Some(one.key.clone()),
                (_, other) => other.as_ref().map(|other| other.key.clone()),
            };
            if let Some(key) = suspect {
                found.extend(differ(from, to, key).await?);
            }
            if order != Ordering::Greater {
                one = ours.next().await.transpose()?;
            }
            if order != Ordering::Less {
                other = theirs.next().await.transpose()?;
            }
        }
    }
}

fn value(entry: Option<&Entry>) -> Option<&[u8]> {
    entry.map(|entry| &*entry.value)
}

/// Looks once more whether a key differs.
async fn differ(from: &Kv, to: &Kv, key: Key) -> Result<Option<Difference>> {
    let (there, here) = (to.get(&key).await?, from.get(&key).await?);
    Ok(match (value(here.as_ref()), value(there.as_ref())) {
        (here, there) if here == there => None,
        (Some(_), None) => Some(Difference::Missing(key)),
        (None, _) => Some(Difference::Extra(key)),
        (Some(_), Some(_)) => Some(Difference::Value(key)),
    })
}

async fn copy_all(from: &Kv, to: &Kv, keys: &[Key]) -> Result<u64> {
    // The other store is read first, as by the layer: a copy that is late then finds its key changed.
    let there = to.get_many(keys).await?;
    let here = from.get_many(keys).await?;
    let each = keys.iter().zip(here).zip(there);
    let copies = each.map(|((key, here), there)| copy_one(from, to, key, here, there));
    let written = stream::iter(copies).buffer_unordered(AT_ONCE);
    written.try_fold(0, async |sum, is_written| Ok(sum + u64::from(is_written))).await
}

/// Copies one key, and returns whether it was written.
async fn copy_one(
    from: &Kv,
    to: &Kv,
    key: &Key,
    mut here: Option<Entry>,
    mut there: Option<Entry>,
) -> Result<bool> {
    loop {
        // What is gone meanwhile was deleted in both by whoever deleted it.
        let Some(entry) = here.filter(|here| there.as_ref().is_none_or(|there| there.value != here.value))
        else {
            return Ok(false);
        };
        let put = to.put(key, &entry.value);
        let put = match &there {
            Some(there) => put.if_version(there.version),
            None => put.if_missing(),
        };
        match put.await {
            Ok(written) => {
                let now = from.get(key).await?;
                if now.as_ref().is_some_and(|now| now.version == entry.version) {
                    return Ok(true);
                }
                // Whoever deleted it meanwhile found nothing to delete in the other store.
                if now.is_none() && to.delete(key).if_version(written.version).await.is_ok() {
                    return Ok(false);
                }
            }
            Err(e) if e.is_conflict() => {}
            Err(e) => return Err(e),
        }
        there = to.get(key).await?;
        here = from.get(key).await?;
    }
}
