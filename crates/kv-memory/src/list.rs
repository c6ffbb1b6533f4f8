//! Lists and reads: names are walked over in order.

use crate::{
    core::Core,
    data::{Data, Name, Record},
};
use kv_core::{
    Directory, Entry, Item, Key,
    driver::{Cursor, ListOptions, Page},
};
use std::ops::Bound;

/// The most items of one page, and the bytes of values after which it takes no further item.
const PAGE_ITEMS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// The next step of a walk.
enum Step {
    On,
    /// Skips what is below this directory.
    Past(Directory),
    Stop,
}

/// Returns the entry of the key.
pub(crate) fn get(core: &Core, key: &Key) -> Option<Entry> {
    found(core, &core.look(), key)
}

/// Returns the entry of each key, all of one moment.
pub(crate) fn get_many(core: &Core, keys: &[Key]) -> Vec<Option<Entry>> {
    let data = core.look();
    keys.iter().map(|key| found(core, &data, key)).collect()
}

/// Tells whether the key is there.
pub(crate) fn exists(core: &Core, key: &Key) -> bool {
    core.look().entries.contains_key(&*core.name(key))
}

fn found(core: &Core, data: &Data, key: &Key) -> Option<Entry> {
    data.entries.get(&*core.name(key)).map(|record| record.entry(key.clone()))
}

/// Returns one page of what lies below the directory.
pub(crate) fn page(core: &Core, directory: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Page {
    let begins = Page::seek(directory, options, from);
    let most = options.limit.unwrap_or(PAGE_ITEMS).min(PAGE_ITEMS);
    let (mut page, mut bytes, mut left_out) = (Page::default(), 0, Vec::new());
    if most == 0 {
        return page;
    }
    let is_wanted = options.left_out.is_wanted();
    walk(core, &core.look(), directory, begins, |name, key, record| {
        let Some(key) = key else {
            left_out.extend(is_wanted.then(|| name.clone()));
            return Step::On;
        };
        let child = if options.recursive { None } else { directory.child_of(&key) };
        let item = match &child {
            Some(child) => Item::Directory(child.clone()),
            None if options.keys_only => Item::Key(key, record.version()),
            None => Item::Entry(record.entry(key)),
        };
        if page.items.len() == most || bytes >= PAGE_BYTES {
            page.next = page.items.last().map(|last| Page::behind(&last.position()));
            return Step::Stop;
        }
        bytes += if let Item::Entry(entry) = &item { entry.value.len() } else { 0 };
        page.items.push(item);
        // What comes behind the last item is noted by the next page.
        left_out.drain(..).for_each(|name| options.left_out.note(&*name));
        child.map_or(Step::On, Step::Past)
    });
    if page.next.is_none() {
        left_out.iter().for_each(|name| options.left_out.note(&**name));
    }
    page
}

/// Returns the whole names of all keys below the directory.
pub(crate) fn names_below(core: &Core, data: &Data, directory: &Directory) -> Vec<Name> {
    let mut names = Vec::new();
    walk(core, data, directory, Bound::Included(directory.start()), |name, key, _| {
        names.extend(key.map(|_| name.clone()));
        Step::On
    });
    names
}

/// Visits the names strictly below the directory from this one on, in order, each with its key
/// if it is one. Of a directory in which no key can lie one name is visited.
fn walk(
    core: &Core,
    data: &Data,
    directory: &Directory,
    from: Bound<String>,
    mut visit: impl FnMut(&Name, Option<Key>, &Record) -> Step,
) {
    let prefix = &*core.prefix;
    let below = format!("{prefix}{}", directory.start());
    let mut next = from.map(|name| format!("{prefix}{name}"));
    'seek: loop {
        let range = (next.as_ref().map(String::as_str), Bound::Unbounded);
        for (name, record) in data.entries.range::<str, _>(range) {
            if !name.starts_with(&below) {
                return;
            }
            let rest = &name[prefix.len()..];
            let key = record.key(rest);
            let is_key = key.is_some();
            let past = match visit(name, key, record) {
                Step::On if is_key => None,
                Step::On => without_keys(rest),
                Step::Past(directory) => Some(directory.as_str().len()),
                Step::Stop => return,
            };
            if let Some(end) = past {
                // This is the first name behind all that begin with the directory and its slash:
                // `0` follows `/`.
                next = Bound::Included(format!("{prefix}{}0", &rest[..end]));
                continue 'seek;
            }
        }
        return;
    }
}

/// Returns the end of the first directory in the name in which no key can lie.
fn without_keys(rest: &str) -> Option<usize> {
    rest.match_indices('/').map(|(at, _)| at).find(|at| Key::from_stored(&rest[..*at]).is_none())
}
