//! Lists what lies below a directory, by pages.

pub(crate) mod batch_get;
pub(crate) mod cursor;
pub(crate) mod query;
pub(crate) mod read;

use crate::{
    client::item::Found,
    core::Core,
    list::{
        cursor::{PageToken, page_token},
        query::query,
        read::read_items,
    },
    names::{Names, Range},
};
use kv_core::{
    Bytes, Directory, Item, Key, Position, Result,
    driver::{Cursor, ListOptions, Page},
};
use std::ops::Bound;

/// The number of keys that the first page asks for; an answer ends at 1 MB, whatever was asked for.
/// The pages after it ask for as many as fill [`PAGE_BYTES`], judged by the page before.
const FIRST: usize = 512;
const LEAST: usize = 64;
const MOST: usize = 4096;
const PAGE_BYTES: usize = 1 << 20;

/// Does [`Store::list`](kv_core::driver::Store::list) for one page.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let Range { start, end } = Names::below(directory);
    let token = match page_token(from, directory)? {
        Some(token) => token,
        None => {
            let begins = match Page::seek(directory, options, None) {
                Bound::Included(name) => name,
                Bound::Excluded(name) => Names::after(&name),
                Bound::Unbounded => String::new(),
            };
            PageToken { size: FIRST, start: begins.max(start) }
        }
    };
    let size = options.limit.map_or(token.size, |limit| token.size.min(limit.max(1)));
    let with_values = !options.keys_only && options.recursive;
    let range = Range { start: token.start, end };
    let client = &core.client;
    let found = query(client, &core.names.data, &range, Some(size), with_values, &options.read).await?;
    options.left_out.unnamed(found.filtered);
    let last = found.next.is_some().then(|| found.rows.last().map(|(name, _)| name.clone())).flatten();
    let next_size = next_size(&found.rows);
    let (mut items, deep) = items(core, directory, options, found.rows)?;
    if !with_values {
        items = completed(core, items, options).await?;
    }
    let next = found.next.map(|next| {
        // The next page skips the keys that lie deeper in this child directory, however many they
        // are.
        let skips = deep.filter(|deep| last.is_some_and(|last| last.starts_with(&deep.start())));
        PageToken { size: next_size, start: skips.map_or(next, |deep| Names::behind_all(&deep)) }.cursor()
    });
    Ok(Page { items: items.into_iter().filter_map(Row::item).collect(), next })
}

fn next_size(rows: &[(String, Found)]) -> usize {
    let bytes = rows.iter().map(|(name, found)| name.len() + found.value.as_ref().map_or(0, Bytes::len) + 64);
    let each = bytes.sum::<usize>().checked_div(rows.len()).unwrap_or(1).max(1);
    (PAGE_BYTES / each).clamp(LEAST, MOST)
}

/// An item of a page in the making.
enum Row {
    Item(Item),
    /// A key whose value or version is still to be read.
    Open(Key),
}

impl Row {
    fn item(self) -> Option<Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Open(_) => None,
        }
    }
}

/// Returns the items of a page, and the child directory that was met last.
fn items(
    core: &Core,
    directory: &Directory,
    options: &ListOptions,
    rows: Vec<(String, Found)>,
) -> Result<(Vec<Row>, Option<Directory>)> {
    let (mut items, mut deep) = (Vec::with_capacity(rows.len()), None::<Directory>);
    for (name, found) in rows {
        let Some(key) = Names::parse(&name).filter(|key| key.is_below(directory)) else {
            options.left_out.note(&name);
            continue;
        };
        let Some(found) = core.living(&name, Some(found))? else { continue };
        let wanted = |at: Position| options.start_after.as_ref().is_none_or(|place| at > *place);
        match directory.child_of(&key).filter(|_| !options.recursive) {
            Some(child) if deep.as_ref() == Some(&child) => {}
            Some(child) => {
                deep = Some(child.clone());
                if wanted(Position::Directory(child.clone())) {
                    items.push(Row::Item(Item::Directory(child)));
                }
            }
            None if !wanted(Position::Key(key.clone())) => {}
            None => items.push(match found.version {
                Some(version) if options.keys_only => Row::Item(Item::Key(key, version)),
                _ => match found.entry(key.clone()) {
                    Some(entry) => Row::Item(Item::Entry(entry)),
                    None => Row::Open(key),
                },
            }),
        }
    }
    Ok((items, deep))
}

/// Reads what a query without values left open: the values of children, and the versions of
/// foreign keys.
async fn completed(core: &Core, rows: Vec<Row>, options: &ListOptions) -> Result<Vec<Row>> {
    let open: Vec<_> = rows
        .iter()
        .filter_map(|row| if let Row::Open(key) = row { Some(key.as_str()) } else { None })
        .collect();
    if open.is_empty() {
        return Ok(rows);
    }
    let mut found = read_items(core, &core.names.data, open, &options.read).await?;
    let mut done = Vec::with_capacity(rows.len());
    for row in rows {
        let Row::Open(key) = row else {
            done.push(row);
            continue;
        };
        let found = core.living(key.as_str(), found.remove(key.as_str()))?;
        done.extend(found.and_then(|found| found.entry(key)).map(|entry| {
            Row::Item(match options.keys_only {
                true => Item::Key(entry.key, entry.version),
                false => Item::Entry(entry),
            })
        }));
    }
    Ok(done)
}
