//! Lists directories: walks through the tree in the order of keys, many nodes a request.

pub(crate) mod cursor;
pub(crate) mod read;

use crate::{
    client::{
        multi::{Ask, Got},
        node::{Mark, Node},
        read::read_some,
    },
    core::Core,
    names::OWN,
};
use cursor::{MOST, cursor, place};
use kv_core::{
    Directory, Entry, Item, Key, Position, Result,
    driver::{Cursor, ListOptions, Page, ReadOptions},
};
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

/// A node that the walk visited.
#[derive(Debug)]
pub(crate) struct Visited {
    /// The key, or the name of the directory.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) node: Node,
    pub(crate) value: Vec<u8>,
}

/// The knowledge of one place in the order of keys.
enum Place {
    Node {
        path: String,
    },
    /// An empty node with children: a directory, unless it is marked.
    Maybe {
        path: String,
    },
    Tree {
        path: String,
    },
    Here(Visited),
    /// A directory of which it is asked whether there are keys below, when only the children of a
    /// directory are listed.
    Fold {
        path: String,
    },
    /// The same question, asked of the first child.
    FoldChild {
        child: String,
    },
    Directory,
}

/// A walk through what lies below a directory.
pub(crate) struct Walk<'a> {
    core: &'a Core,
    read: &'a ReadOptions,
    recursive: bool,
    /// The place behind which the walk begins.
    after: Option<String>,
    places: BTreeMap<String, Place>,
    pub(crate) size: usize,
    /// The places and paths of the nodes that are no keys, if they are wanted.
    left_out: Option<Vec<(String, String)>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        core: &'a Core,
        directory: &Directory,
        recursive: bool,
        after: Option<String>,
        read: &'a ReadOptions,
    ) -> Self {
        let root = Place::Tree { path: core.names.directory(directory) };
        let places = BTreeMap::from([(directory.start(), root)]);
        Self { core, read, recursive, after, places, size: FIRST, left_out: None }
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
        let mut got = read_some(&self.core.client, self.read, &asks, BYTES).await?.into_iter();
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
                let below = ListOptions::default().keys_only(true).limit(Some(1)).read(self.read.clone());
                let found = Box::pin(page(self.core, &directory, None, &below)).await?;
                if !found.items.is_empty() {
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
                self.leave_out(start, path, &child);
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

    /// Notes a node that is no key, and none that stores or the server keep for themselves.
    fn leave_out(&mut self, start: &str, path: &str, child: &str) {
        let place = format!("{start}{child}");
        if child == OWN || (path == "/" && child == "zookeeper") || !self.is_after(&place) {
            return;
        }
        if let Some(left_out) = &mut self.left_out {
            left_out.push((place, format!("{}/{child}", if path == "/" { "" } else { path })));
        }
    }

    /// Notes what was left out up to this place, or up to the end. What lies behind is seen again by
    /// the next page.
    fn note_left_out(&self, last: Option<&str>, options: &ListOptions) {
        let noted =
            self.left_out.iter().flatten().filter(|(place, _)| last.is_none_or(|last| **place <= *last));
        noted.for_each(|(_, path)| options.left_out.note(path));
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
    let from = place(from, directory)?;
    let size = from.as_ref().map(|(size, _)| *size);
    let after = from.map(|(_, after)| after).or_else(|| options.start_after.as_ref().map(Position::start));
    let mut walk = Walk::new(core, directory, options.recursive, after, &options.read);
    walk.size = size.unwrap_or(walk.size);
    walk.left_out = options.left_out.is_wanted().then(Vec::new);
    let most = options.limit.unwrap_or(MOST).clamp(1, MOST);
    let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
    while items.len() < most && bytes < BYTES {
        let item = match walk.next() {
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
                match options.keys_only {
                    true => Item::Key(key, at),
                    false => Item::Entry(Entry::new(key, visited.value, at)),
                }
            }
            Some(_) => continue,
            None if walk.is_over() => {
                walk.note_left_out(None, options);
                return Ok(Page { items, next: None });
            }
            None => {
                // Even a limit of one is only met by the first key, which may lie deep.
                walk.ask((most - items.len()).max(16)).await?;
                continue;
            }
        };
        last = Some(item.position().start());
        items.push(item);
    }
    let last = if walk.is_over() { None } else { last };
    walk.note_left_out(last.as_deref(), options);
    let next = last.map(|last| cursor(walk.size, &last));
    Ok(Page { items, next })
}
