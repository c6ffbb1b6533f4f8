//! Lists directories: walks through the tree in the order of keys, many nodes a request.

pub(crate) mod cursor;
mod left_out;
pub(crate) mod parked;
mod place;
pub(crate) mod read;

pub(crate) use place::Visited;

use crate::{
    client::{
        multi::{Ask, Got},
        node::{Mark, Node},
        read::read_some,
    },
    core::Core,
    names::OWN,
};
use cursor::{MOST, Note, cursor, place};
use kv_core::{
    Directory, Entry, Item, Key, Position, Result,
    driver::{Cursor, ListOptions, Page, ReadOptions},
};
use left_out::LeftOut;
use parked::Rest;
use place::Place;
use std::collections::BTreeMap;

/// The number of nodes that the first request asks for, however large they may be. The following
/// ones ask for as many as should fill [`BYTES`] by the sizes seen so far, but for [`GROWTH`]
/// times as many at the most: later nodes may be larger.
const FIRST: usize = 16;
const GROWTH: usize = 16;
const BYTES: usize = 1 << 20;
/// Up to this number of nodes at once are asked for their children too, whether or not they have
/// any: so a deep tree costs one wait a level.
const FEW: usize = 16;

/// A walk through what lies below a directory.
pub(crate) struct Walk<'a> {
    core: &'a Core,
    read: &'a ReadOptions,
    recursive: bool,
    /// The text that the names of all keys below the directory begin with.
    start: String,
    /// The place behind which the walk begins.
    after: Option<String>,
    places: BTreeMap<String, Place>,
    size: usize,
    /// The nodes that are no keys and are not told yet, if they are wanted.
    left_out: Option<LeftOut>,
    /// The connection on which everything is seen that was acknowledged before this page: one
    /// barrier is enough for all that is read there.
    seen_by: Option<u64>,
}

impl<'a> Walk<'a> {
    /// Begins a walk, behind this place or anywhere.
    pub(crate) fn new(
        core: &'a Core,
        directory: &Directory,
        recursive: bool,
        after: Option<String>,
        read: &'a ReadOptions,
    ) -> Self {
        let (path, start) = (core.names.directory(directory), directory.start());
        let places = BTreeMap::from([(start.clone(), Place::Tree { path })]);
        Self { core, read, recursive, start, after, places, size: FIRST, left_out: None, seen_by: None }
    }

    /// Goes on with the walk that a page left, or begins behind that page.
    pub(crate) fn resume(
        core: &'a Core,
        directory: &Directory,
        recursive: bool,
        from: Note,
        read: &'a ReadOptions,
    ) -> Self {
        let Note { size, walk, after } = from;
        let rest = core.parked.take(walk).filter(|rest| {
            rest.start == directory.start()
                && rest.recursive == recursive
                && rest.consistency == read.consistency
                && rest.last == after
        });
        match rest {
            Some(Rest { start, after, places, left_out, .. }) => {
                Self { core, read, recursive, start, after, places, size, left_out, seen_by: None }
            }
            None => Self { size, ..Self::new(core, directory, recursive, Some(after), read) },
        }
    }

    /// Returns the cursor of the next page, which begins behind this place. With `goes_on` the walk
    /// is kept for it, without what was read: that page reads it anew.
    pub(crate) fn cursor(self, last: String, goes_on: bool) -> Cursor {
        let Self { core, read, recursive, start, after, mut places, size, left_out, .. } = self;
        let walk = if goes_on {
            places.values_mut().for_each(Place::unread);
            let (consistency, last) = (read.consistency, last.clone());
            core.parked.park(Rest { start, recursive, consistency, last, after, places, left_out })
        } else {
            0
        };
        cursor(&Note { size, walk, after: last })
    }

    /// Takes the next place, if it is known.
    fn next(&mut self) -> Option<(String, Place)> {
        let first = self.places.first_entry()?;
        matches!(first.get(), Place::Here(_) | Place::Directory).then(|| first.remove_entry())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.places.is_empty()
    }

    /// Asks for the next places, at most for so many.
    async fn ask(&mut self, most: usize) -> Result<()> {
        let most = most.min(self.size).max(1);
        let unknown = |place: &Place| !matches!(place, Place::Here(_) | Place::Directory);
        let names: Vec<_> =
            self.places.iter().filter(|(_, p)| unknown(p)).map(|(name, _)| name.clone()).take(most).collect();
        let asked: Vec<_> = names.into_iter().filter_map(|name| self.places.remove_entry(&name)).collect();
        let deeper = self.recursive && asked.len() <= FEW;
        let mut asks = Vec::with_capacity(asked.len());
        for (_, place) in &asked {
            match place {
                Place::Tree { path } | Place::Fold { path } => asks.push(Ask::Children(path.clone())),
                Place::Maybe { path } => asks.extend(Ask::marked(path.clone())),
                Place::Node { path } => {
                    asks.push(Ask::Data(path.clone()));
                    asks.extend(deeper.then(|| Ask::Children(path.clone())));
                }
                Place::FoldChild { child: path } => asks.push(Ask::Data(path.clone())),
                Place::Here(_) | Place::Directory => {}
            }
        }
        let (on, got) = read_some(&self.core.client, self.read, &asks, BYTES, self.seen_by).await?;
        self.seen_by = Some(on);
        let mut got = got.into_iter();
        let (mut bytes, mut count, mut largest, mut is_cut) = (0, 0, 0, false);
        for (name, place) in asked {
            let two = matches!(place, Place::Maybe { .. }) || (deeper && matches!(place, Place::Node { .. }));
            let first = if two && got.len() < 2 { None } else { got.next() };
            let Some(first) = first else {
                // The read stopped before this place, which is asked for next time.
                is_cut = true;
                self.places.insert(name, place);
                continue;
            };
            let second = if two { got.next() } else { None };
            if let Got::Data(data, _) = &first {
                let size = data.len() + 64;
                (bytes, count, largest) = (bytes + size, count + 1, largest.max(size));
            }
            self.found(name, place, first, second).await?;
        }
        // Names alone tell nothing of the sizes of values. Where the values were larger than
        // expected, the next ones may be like the largest.
        if let Some(mean) = bytes.checked_div(count) {
            let each = if is_cut { largest } else { mean };
            self.size = (BYTES / each).clamp(1, MOST.min(self.size * GROWTH));
        }
        Ok(())
    }

    /// Puts the answer about a place into the order, and, where they were asked for, the children
    /// or the mark of its node.
    async fn found(&mut self, name: String, place: Place, got: Got, second: Option<Got>) -> Result<()> {
        match (place, got) {
            (Place::Tree { path }, Got::Children(children)) => self.children(&name, &path, children),
            (Place::Node { path }, Got::Data(value, stat)) => {
                let has_children = stat.num_children > 0;
                if has_children && self.recursive {
                    match second {
                        Some(Got::Children(children)) => self.children(&format!("{name}/"), &path, children),
                        _ => {
                            self.places.insert(format!("{name}/"), Place::Tree { path: path.clone() });
                        }
                    }
                } else if has_children && self.is_after(&format!("{name}/")) {
                    self.places.insert(format!("{name}/"), Place::Fold { path: path.clone() });
                }
                if !self.is_after(&name) {
                    return Ok(());
                }
                if value.is_empty() && stat.ephemeral_owner == 0 && has_children {
                    self.places.insert(name, Place::Maybe { path });
                } else {
                    let node = Node::new(value.is_empty(), &stat, None);
                    self.places.insert(name.clone(), Place::Here(Visited { name, path, node, value }));
                }
            }
            (Place::Maybe { path }, Got::Data(value, stat)) => {
                let node = Node::new(value.is_empty(), &stat, second.as_ref().and_then(Mark::of));
                self.places.insert(name.clone(), Place::Here(Visited { name, path, node, value }));
            }
            (Place::Fold { path }, Got::Children(mut children)) => {
                children.retain(|child| child != OWN && self.core.names.segment(child, 1).is_some());
                if let Some(child) = children.first() {
                    self.places.insert(name, Place::FoldChild { child: format!("{path}/{child}") });
                }
            }
            (Place::FoldChild { .. }, Got::Data(value, stat))
                if !value.is_empty() || stat.ephemeral_owner != 0 =>
            {
                self.places.insert(name, Place::Directory);
            }
            (Place::FoldChild { .. }, _) => {
                let Some(directory) = directory_of(&name) else { return Ok(()) };
                let mut below = Self::new(self.core, &directory, true, None, self.read);
                below.seen_by = self.seen_by;
                let found = Box::pin(below.items(1, true)).await?;
                if !found.0.is_empty() {
                    self.places.insert(name, Place::Directory);
                }
            }
            // The node was deleted meanwhile.
            _ => {}
        }
        Ok(())
    }

    fn is_after(&self, place: &str) -> bool {
        self.after.as_deref().is_none_or(|after| place > after)
    }

    fn children(&mut self, start: &str, path: &str, children: Vec<String>) {
        let level = start.matches('/').count();
        for child in children {
            let segment = self.core.names.segment(&child, level);
            let name = segment.map(|segment| format!("{start}{segment}"));
            let Some(name) = name.filter(|name| Key::from_stored(name).is_some()) else {
                let place = format!("{start}{child}");
                // Stores and the server keep these for themselves.
                let is_own = child == OWN || path == "/" && child == "zookeeper";
                let is_wanted = !is_own && self.is_after(&place);
                if let Some(left_out) = self.left_out.as_mut().filter(|_| is_wanted) {
                    left_out.add(place, path, &child);
                }
                continue;
            };
            // The names of all that lies below it begin with its name and a slash.
            let below = format!("{name}/");
            let is_passed =
                self.after.as_deref().is_some_and(|after| after > &*below && !after.starts_with(&below));
            if !is_passed {
                let path = format!("{}/{child}", if path == "/" { "" } else { path });
                self.places.insert(name, Place::Node { path });
            }
        }
    }

    /// Returns the next nodes, in order: at most so many, and of about so many bytes. The answer
    /// is empty at the end alone.
    pub(crate) async fn nodes(&mut self, most: usize, most_bytes: usize) -> Result<Vec<Visited>> {
        let (mut nodes, mut bytes) = (Vec::new(), 0);
        while nodes.len() < most && bytes < most_bytes {
            match self.next() {
                Some((_, Place::Here(visited))) => {
                    bytes += visited.value.len();
                    nodes.push(visited);
                }
                Some(_) => {}
                None if self.is_over() => break,
                None => self.ask(most - nodes.len()).await?,
            }
        }
        Ok(nodes)
    }

    /// Returns the next items, in order, and the place with which they end: at most so many, and
    /// of about a page's bytes.
    async fn items(&mut self, most: usize, keys_only: bool) -> Result<(Vec<Item>, Option<String>)> {
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        while items.len() < most && bytes < BYTES {
            let item = match self.next() {
                Some((name, Place::Directory)) => match directory_of(&name) {
                    Some(child) => Item::Directory(child),
                    None => continue,
                },
                Some((name, Place::Here(visited))) => {
                    last = Some(name);
                    let Some(key) = Key::from_stored(&visited.name).filter(|_| visited.node.is_key) else {
                        continue;
                    };
                    let at = visited.node.at;
                    bytes += visited.value.len();
                    match keys_only {
                        true => Item::Key(key, at),
                        false => Item::Entry(Entry::new(key, visited.value, at)),
                    }
                }
                Some(_) => continue,
                None if self.is_over() => break,
                None => {
                    // Even a limit of one is only met by the first key, which may lie deep.
                    self.ask((most - items.len()).max(16)).await?;
                    continue;
                }
            };
            last = Some(item.position().start());
            items.push(item);
        }
        Ok((items, last))
    }
}

/// Returns the directory of the place with this name.
fn directory_of(place: &str) -> Option<Directory> {
    Some(Key::from_stored(place.strip_suffix('/')?)?.as_directory())
}

/// Lists one page: [`Store::list`](kv_core::driver::Store::list).
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let (recursive, read) = (options.recursive, &options.read);
    let mut walk = match place(from, directory)? {
        Some(note) => Walk::resume(core, directory, recursive, note, read),
        None => {
            let after = options.start_after.as_ref().map(Position::start);
            Walk::new(core, directory, recursive, after, read)
        }
    };
    if options.left_out.is_wanted() {
        walk.left_out.get_or_insert_default();
    }
    let most = options.limit.unwrap_or(MOST).clamp(1, MOST);
    let (items, last) = walk.items(most, options.keys_only).await?;
    // Nobody asks on who has got as many items as were wanted.
    let goes_on = options.limit.is_none_or(|limit| items.len() < limit);
    let last = last.filter(|_| !walk.is_over());
    if let Some(left_out) = &mut walk.left_out {
        left_out.tell(last.as_deref(), &options.left_out);
    }
    let next = last.map(|last| walk.cursor(last, goes_on));
    Ok(Page { items, next })
}
