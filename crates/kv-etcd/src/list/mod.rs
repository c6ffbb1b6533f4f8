//! Listings, in pages at one revision, and reads of single keys.

mod fewer;
mod read;

pub(crate) use fewer::fewer;
pub(crate) use read::{exists, get, get_many, purpose, read_names, reading};

use crate::{
    client::answer::{entry, revision, version},
    core::Core,
    error::says,
    names::{after, behind, owned},
};
use etcd_client::KeyValue;
use fewer::{STEP, is_too_much};
use kv_core::{
    Directory, Error, ErrorKind, Item, Position, Result,
    driver::{Cursor, Deadline, ListOptions, Page, ReadOptions},
};
use std::ops::Bound;

/// Counts the keys that the first page asks for, so that most directories are one page; the
/// following pages ask for as many as fill [`PAGE_BYTES`] by what was seen.
const FIRST: usize = 512;
const MOST: usize = 4096;
/// Counts the keys whose values are asked for first where a page of [`FIRST`] was too much, and of
/// a page of names.
const FEWER: usize = 64;
const PAGE_BYTES: usize = 1 << 20;

/// The place at which a page begins, as a cursor holds it.
struct PageToken {
    /// Holds the revision of the first page; 0 before that page.
    revision: i64,
    /// Counts the keys to ask for.
    size: usize,
    start: Vec<u8>,
}

impl PageToken {
    fn of(cursor: &Cursor) -> Option<Self> {
        let (head, start) = cursor.as_bytes().split_at_checked(12)?;
        let (revision, size) = head.split_at_checked(8)?;
        Some(Self {
            revision: i64::from_be_bytes(revision.try_into().ok()?),
            size: usize::try_from(u32::from_be_bytes(size.try_into().ok()?)).ok()?,
            start: start.to_vec(),
        })
    }

    fn cursor(&self) -> Cursor {
        let size = u32::try_from(self.size).unwrap_or(u32::MAX).to_be_bytes();
        Cursor::new([&self.revision.to_be_bytes()[..], &size, &self.start].concat())
    }
}

/// Does [`Store::list`](kv_core::driver::Store::list): reads one page.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let range = core.names.below(directory);
    let token = match from {
        Some(cursor) => {
            PageToken::of(cursor).filter(|token| range.holds(&token.start)).ok_or_else(Cursor::refused)?
        }
        None => {
            let start = match Page::seek(directory, options, None) {
                Bound::Included(name) => core.names.key(&name),
                Bound::Excluded(name) => after(&core.names.key(&name)),
                Bound::Unbounded => Vec::new(),
            };
            PageToken { revision: 0, size: FIRST, start: start.max(range.start.clone()) }
        }
    };
    if !range.holds(&token.start) {
        return Ok(Page::default());
    }
    let keys_only = options.keys_only || !options.recursive;
    let most = options.limit.map_or(token.size, |limit| token.size.min(limit.max(1)));
    let mut ask = reading(&options.read).with_range(range.end).with_revision(token.revision);
    if keys_only {
        ask = ask.with_keys_only();
    }
    let (start, reads, deadline) = (&*token.start, purpose(&options.read), options.read.deadline);
    let read = |count: usize, within| {
        let ask = ask.clone().with_limit(i64::try_from(count).unwrap_or(i64::MAX));
        core.range(reads, within, start, ask)
    };
    let answer = match keys_only {
        true => read(most, deadline).await.map(|answer| (most, answer)),
        false if token.revision == 0 && most > FEWER => {
            // Nothing is known of the values yet, and most of the time is left for fewer.
            match read(most, Deadline::after(deadline.remaining() / 6)).await {
                Err(e) if is_too_much(&e) => fewer(FEWER, deadline, read).await,
                answer => answer.map(|answer| (most, answer)),
            }
        }
        false => fewer(most, deadline, read).await,
    };
    let (size, mut answer) = answer.map_err(|e| match says(&e, "has been compacted") {
        true => Error::new(
            ErrorKind::Unavailable,
            "the server compacted this listing's revision while its pages were read; list again",
        )
        .with_cause(e),
        false => e,
    })?;
    let at = if token.revision > 0 { token.revision } else { revision(answer.header())? };
    let (more, kvs) = (answer.more(), answer.take_kvs());
    let last = kvs.last().map(|kv| kv.key().to_vec());
    let mut next_page = next_size(&kvs).min(size.saturating_mul(STEP));
    let (mut items, deep) = items(core, directory, options, kvs);
    if !options.recursive && !options.keys_only {
        let filled = fill(core, items, at, size.min(FEWER), &options.read).await?;
        next_page = next_page.min(filled.next_size);
        if let Some(start) = filled.next {
            let next = PageToken { revision: at, size: next_page, start }.cursor();
            return Ok(Page { items: filled.items, next: Some(next) });
        }
        items = filled.items;
    }
    let next = last.filter(|_| more).map(|last| {
        // All that lies below the last child directory is skipped, however much it is.
        let start =
            deep.filter(|deep| last.starts_with(deep)).map_or_else(|| after(&last), |deep| behind(&deep));
        PageToken { revision: at, size: next_page, start }.cursor()
    });
    Ok(Page { items, next })
}

/// Returns how many keys like these fill a page.
pub(crate) fn next_size<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> usize {
    let (count, bytes) =
        kvs.into_iter().fold((0_usize, 0), |(count, bytes), kv| (count + 1, bytes + weight(kv)));
    fitting(PAGE_BYTES, bytes, count)
}

/// Returns how many keys fit into this room, when `count` of them have so many bytes.
fn fitting(room: usize, bytes: usize, count: usize) -> usize {
    let each = bytes.checked_div(count).unwrap_or(1).max(1);
    (room / each).clamp(1, MOST)
}

fn weight(kv: &KeyValue) -> usize {
    kv.key().len() + kv.value().len() + 32
}

/// Returns the items, and what the names in the last child directory begin with.
fn items(
    core: &Core,
    directory: &Directory,
    options: &ListOptions,
    kvs: Vec<KeyValue>,
) -> (Vec<Item>, Option<Vec<u8>>) {
    let (mut items, mut deep) = (Vec::with_capacity(kvs.len()), None::<Vec<u8>>);
    for kv in kvs {
        if deep.as_ref().is_some_and(|deep| kv.key().starts_with(deep)) {
            continue;
        }
        let Some(key) = core.names.parse(kv.key()) else {
            if owned(kv.key()).is_none() {
                options.left_out.note(kv.key());
            }
            continue;
        };
        let item = match directory.child_of(&key) {
            Some(child) if !options.recursive => {
                deep = Some(core.names.key(&child.start()));
                Item::Directory(child)
            }
            _ if options.keys_only || !options.recursive => Item::Key(key, version(kv.mod_revision())),
            _ => Item::Entry(entry(key, kv)),
        };
        if options.start_after.as_ref().is_none_or(|place| item.position() > *place) {
            items.push(item);
        }
    }
    (items, deep)
}

/// Items with their values, as many as fill a page.
struct Filled {
    items: Vec<Item>,
    /// Holds the name of the first item that had no room.
    next: Option<Vec<u8>>,
    /// Counts the items like these that fill a page.
    next_size: usize,
}

/// Reads the values of the keys among the items, at this revision. A listing of names alone does
/// not tell how large the values are: they are read in parts, the first of `size` keys, and the
/// page ends where they fill it.
async fn fill(core: &Core, items: Vec<Item>, at: i64, size: usize, read: &ReadOptions) -> Result<Filled> {
    let (mut filled, mut items) = (Vec::with_capacity(items.len()), items.into_iter());
    let (mut size, mut bytes, mut keys) = (size.max(1), 0, 0);
    let (pinned, reads) = (reading(read).with_revision(at), purpose(read));
    loop {
        let named = items.as_slice().iter().filter_map(Item::key).take(size);
        let names: Vec<_> = named.map(|key| core.names.key(key.as_str())).collect();
        let values = fewer(names.len(), read.deadline, |count, within| {
            read_names(core, &names[..count], reads, within, &pinned)
        });
        let (count, found) = values.await?;
        let mut found = found.into_iter();
        // The directories up to the next key come along.
        let comes = |next: &Item, left: usize| next.key().is_none() || left > 0;
        while items.as_slice().first().is_some_and(|next| comes(next, found.len())) {
            let Some(item) = items.next() else { break };
            filled.extend(match item {
                Item::Key(key, _) => found.next().flatten().map(|kv| {
                    (keys, bytes) = (keys + 1, bytes + weight(&kv));
                    Item::Entry(entry(key, kv))
                }),
                item => Some(item),
            });
        }
        let next_size = fitting(PAGE_BYTES, bytes, keys);
        let next = items.as_slice().first().map(|item| match item.position() {
            Position::Key(key) => core.names.key(key.as_str()),
            Position::Directory(directory) => core.names.key(&directory.start()),
        });
        if next.is_none() || bytes >= PAGE_BYTES || count < names.len() {
            return Ok(Filled { items: filled, next, next_size });
        }
        size = fitting(PAGE_BYTES - bytes, bytes, keys);
    }
}
