//! Listings: the server answers whole.

use crate::{
    client::{
        Purpose,
        api::{self, Pair},
    },
    names::{below, is_plain},
    store::Inner,
    txn,
};
use kv_core::*;
use std::collections::BTreeSet;

/// How often the immediate children are read anew because one of them changed between the requests.
const TRIES: usize = 3;
/// Keys are read one by one only where this many names lie beside each of them.
const SPARSE: usize = 4;

pub(crate) async fn page(
    inner: &Inner,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let prefix = below(&inner.names, directory);
    if !options.recursive && is_plain(&prefix) {
        for _ in 0..TRIES {
            if let Some(page) = children(inner, &prefix, directory, from, options).await? {
                return Ok(page);
            }
        }
    }
    let pairs = api::tree(&inner.client, Purpose::of(&options.read), options.read.deadline, &prefix).await?;
    let entries = pairs.iter().filter_map(|pair| entry(inner, pair, !options.keys_only).transpose());
    Ok(Page::select(entries.collect::<Result<Vec<_>>>()?, directory, options, from))
}

/// `None` for a name that is no key.
fn entry(inner: &Inner, pair: &Pair, with_value: bool) -> Result<Option<Entry>> {
    let Some(key) = inner.names.parse(&pair.name) else { return Ok(None) };
    let value = if with_value { pair.value()? } else { Bytes::new() };
    Ok(Some(Entry::new(key, value, pair.version())))
}

/// The immediate children, without the values of what lies deeper; `None` when they are better read whole, or were not seen
/// at one moment.
async fn children(
    inner: &Inner,
    prefix: &str,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Option<Page>> {
    let (purpose, deadline) = (Purpose::of(&options.read), options.read.deadline);
    let (names, index) = api::names(&inner.client, purpose, deadline, prefix).await?;
    let from = from.and_then(Page::place).or_else(|| options.start_after.clone());
    let keys = names.iter().filter_map(|name| inner.names.parse(name)).filter(|key| !key.is_internal());
    let places: BTreeSet<_> = keys
        .map(|key| match directory.child_of(&key) {
            Some(child) => Position::Directory(child),
            None => Position::Key(key),
        })
        .filter(|place| from.as_ref().is_none_or(|from| place > from))
        .collect();
    let limit = options.limit.unwrap_or(usize::MAX);
    let next = places.iter().take(limit).next_back().filter(|_| places.len() > limit).map(Page::behind);
    let places: Vec<_> = places.into_iter().take(limit).collect();
    let wanted: Vec<_> = places
        .iter()
        .filter_map(|place| match place {
            Position::Key(key) => Some(inner.names.name(key.as_str())),
            Position::Directory(_) => None,
        })
        .collect();
    if wanted.len() > api::MOST_OPS && wanted.len() * SPARSE > names.len() {
        return Ok(None);
    }
    let found = txn::read(inner, &wanted, purpose, deadline).await?;
    let mut found = found.into_iter();
    let mut items = Vec::with_capacity(places.len());
    for place in places {
        items.push(match place {
            Position::Directory(directory) => Item::Directory(directory),
            Position::Key(key) => match found.next().flatten().filter(|pair| pair.modified <= index) {
                None => return Ok(None),
                Some(pair) if options.keys_only => Item::Key(key, pair.version()),
                Some(pair) => Item::Entry(Entry::new(key, pair.value()?, pair.version())),
            },
        });
    }
    Ok(Some(Page { items, next }))
}
