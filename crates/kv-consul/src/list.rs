//! Reads one key, several keys, and listings, which the server answers whole.

use crate::{
    client::{
        Purpose,
        api::{self, Done, Fault, MOST_OPS, Op, Pair},
    },
    core::Core,
    names::{below, is_plain},
};
use kv_core::{
    Bytes, Directory, Entry, Item, Key, Position, Result,
    driver::{Cursor, Deadline, ListOptions, Page, ReadOptions},
};
use std::collections::BTreeSet;

/// Limits how often the immediate children are read anew because one of them changed between the
/// requests.
const TRIES: usize = 3;
/// Counts the names that must lie beside each key for keys to be read one by one.
const SPARSE: usize = 4;

/// Reads one key.
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    let name = core.names.name(key.as_str());
    let found = api::get(&core.client, Purpose::of(options), options.deadline, &name).await?;
    found.map(|pair| entry(key, pair)).transpose()
}

/// Reads several keys, in their order.
pub(crate) async fn get_many(core: &Core, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
    let names: Vec<_> = keys.iter().map(|key| core.names.name(key.as_str())).collect();
    let found = read(core, &names, Purpose::of(options), options.deadline).await?;
    let pairs = keys.iter().zip(found);
    pairs.map(|(key, found)| found.map(|pair| entry(key, pair)).transpose()).collect()
}

fn entry(key: &Key, pair: Pair) -> Result<Entry> {
    Ok(Entry::new(key.clone(), pair.value()?, pair.version()))
}

/// Tells whether the key is there, without its value: no key was ever modified at index 0.
pub(crate) async fn exists(core: &Core, key: &Key, options: &ReadOptions) -> Result<bool> {
    let check = Op::check_index(&core.names.name(key.as_str()), 0);
    match core.txn(Purpose::of(options), options.deadline, &[check]).await? {
        Done::Committed(_) => Ok(true),
        Done::Refused(faults) => Ok(!faults.iter().all(Fault::is_missing)),
    }
}

/// Reads several names, in their order; in one request when all are there.
async fn read(
    core: &Core,
    names: &[String],
    purpose: Purpose,
    deadline: Deadline,
) -> Result<Vec<Option<Pair>>> {
    let mut found: Vec<Option<Pair>> = vec![None; names.len()];
    let mut wanted: Vec<usize> = (0..names.len()).collect();
    while !wanted.is_empty() {
        let (now, later) = wanted.split_at(wanted.len().min(MOST_OPS));
        let ops: Vec<_> = now.iter().map(|&at| Op::get(&names[at])).collect();
        match core.txn(purpose, deadline, &ops).await? {
            Done::Committed(pairs) => {
                // The server leaves out what the token may not read.
                let mut pairs = pairs.into_iter().peekable();
                for &at in now {
                    match pairs.next_if(|pair| pair.name == names[at]) {
                        Some(pair) => found[at] = Some(pair),
                        None => return Err(api::hidden(&names[at])),
                    }
                }
                wanted = later.to_vec();
            }
            Done::Refused(faults) => {
                let missing = |n: &usize| faults.iter().any(|fault| fault.at == *n);
                let there = now.iter().enumerate().filter(|(n, _)| !missing(n)).map(|(_, &at)| at);
                wanted = there.chain(later.iter().copied()).collect();
            }
        }
    }
    Ok(found)
}

/// Returns one page of a listing.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let prefix = below(&core.names, directory);
    if !options.recursive && is_plain(&prefix) {
        for _ in 0..TRIES {
            if let Some(page) = children(core, &prefix, directory, from, options).await? {
                return Ok(page);
            }
        }
    }
    let pairs = api::tree(&core.client, Purpose::of(&options.read), options.read.deadline, &prefix).await?;
    // Each page is cut from the whole.
    if options.left_out.is_wanted() && from.is_none() {
        let is_left_out = |name: &&str| core.names.parse(name).is_none() && !core.names.is_own(name);
        pairs.iter().map(|pair| &*pair.name).filter(is_left_out).for_each(|name| options.left_out.note(name));
    }
    let entries = pairs.iter().filter_map(|pair| listed(core, pair, !options.keys_only).transpose());
    Ok(Page::select(entries.collect::<Result<Vec<_>>>()?, directory, options, from))
}

/// Makes an entry of what was listed; `None` for a name that is no key.
fn listed(core: &Core, pair: &Pair, with_value: bool) -> Result<Option<Entry>> {
    let Some(key) = core.names.parse(&pair.name) else { return Ok(None) };
    let value = if with_value { pair.value()? } else { Bytes::new() };
    Ok(Some(Entry::new(key, value, pair.version())))
}

/// Reads the immediate children, without the values of what lies deeper; `None` when the directory
/// is better read whole, or when the children were not seen at one moment.
async fn children(
    core: &Core,
    prefix: &str,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Option<Page>> {
    let (purpose, deadline) = (Purpose::of(&options.read), options.read.deadline);
    let (names, index) = api::names(&core.client, purpose, deadline, prefix).await?;
    let from = from.and_then(Page::place).or_else(|| options.start_after.clone());
    let keys = names.iter().filter_map(|name| core.names.parse(name)).filter(|key| !key.is_internal());
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
            Position::Key(key) => Some(core.names.name(key.as_str())),
            Position::Directory(_) => None,
        })
        .collect();
    if wanted.len() > MOST_OPS && wanted.len() * SPARSE > names.len() {
        return Ok(None);
    }
    let found = read(core, &wanted, purpose, deadline).await?;
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
