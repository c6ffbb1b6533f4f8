//! Makes the paths of keys and locks on the server: they lie below one root, with characters
//! escaped that the server refuses.

mod escape;
pub(crate) mod slot;
#[cfg(test)]
mod tests;

use escape::{Place, SERVERS, escape, is_refused, unescape};
use kv_core::{Directory, Error, ErrorKind, Key, Result};
use slot::slot;

/// The name that no segment of a key has: of our own nodes below the root, and of the mark of an
/// empty value below its key.
pub(crate) const OWN: &str = ".kv";

/// The paths of one store: all its keys lie below its root.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The root without a slash at its end, so that it is empty for the top of the server.
    root: String,
}

/// The meaning of a path below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Key(Key),
    /// The queue of the lock of this name, or a contender in it.
    Lock(Key),
}

impl Names {
    /// Makes the paths below a prefix, which ends at a segment, with or without a last slash.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(Self { root: String::new() });
        }
        let fault = |segment: &str| {
            matches!(segment, "" | "." | ".." | OWN)
                || segment.chars().any(|c| is_refused(c) || c.is_control())
        };
        if prefix.split('/').any(fault) || prefix.split('/').next() == Some(SERVERS) {
            let why = format!(
                "the prefix {prefix:?} is no path of ZooKeeper's: no empty segment, none of `.` and `..`, not `.kv`, where \
                 stores keep what is theirs, none of its own at `/zookeeper`, no control character and none of U+D800 to U+F8FF, U+FFF0 to U+FFFF and beyond"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        Ok(Self { root: format!("/{prefix}") })
    }

    /// Returns the node that everything lies below.
    pub(crate) fn root(&self) -> &str {
        if self.root.is_empty() { "/" } else { &self.root }
    }

    /// Returns the node of a key, or of a directory.
    pub(crate) fn node(&self, name: &str) -> String {
        let mut path = String::with_capacity(self.root.len() + 1 + name.len());
        path.push_str(&self.root);
        for (at, segment) in name.split('/').filter(|s| !s.is_empty()).enumerate() {
            path.push('/');
            escape(segment, self.place(at), &mut path);
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    pub(crate) fn key(&self, key: &Key) -> String {
        self.node(key.as_str())
    }

    pub(crate) fn directory(&self, directory: &Directory) -> String {
        self.node(directory.as_str())
    }

    /// Returns the node that marks its parent as a key whose value is empty.
    pub(crate) fn mark(path: &str) -> String {
        format!("{}/{OWN}", if path == "/" { "" } else { path })
    }

    /// Returns the node that our own nodes lie below.
    pub(crate) fn own(&self) -> String {
        format!("{}/{OWN}", self.root)
    }

    /// Returns the nodes that the others of a store lie below, in the order in which they are made.
    pub(crate) fn areas(&self) -> [String; 3] {
        [self.own(), self.area("epoch"), self.area("lock")]
    }

    /// Returns the parent of the nodes that count creations, or of the queues of locks.
    pub(crate) fn area(&self, area: &str) -> String {
        format!("{}/{OWN}/{area}", self.root)
    }

    pub(crate) fn slot_node(&self, slot: usize) -> String {
        format!("{}/{OWN}/epoch/{slot:x}", self.root)
    }

    /// Returns the node of an incarnation, which lies beside the slots.
    pub(crate) fn incarnation(&self, incarnation: u128) -> String {
        format!("{}/{OWN}/epoch/{incarnation:032x}", self.root)
    }

    /// Returns the slot of the key that a node below the root is, or would be.
    pub(crate) fn slot_of(&self, path: &str) -> Option<usize> {
        match self.parse(path)? {
            Named::Key(key) => Some(slot(&key)),
            Named::Lock(_) => None,
        }
    }

    /// Returns the queue of a lock. Names of locks may have slashes, and a lock below another one
    /// is a lock of its own.
    pub(crate) fn queue(&self, lock: &Key) -> String {
        let mut path = self.area("lock");
        path.push('/');
        for (at, segment) in lock.segments().enumerate() {
            if at > 0 {
                path.push_str("%2F");
            }
            escape(segment, Place::Lock, &mut path);
        }
        path
    }

    /// Returns the ancestors of a node that lie below the root, the topmost first.
    pub(crate) fn ancestors<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let from = self.root.len() + 1;
        path.get(from..)
            .into_iter()
            .flat_map(move |rest| rest.match_indices('/').map(move |(at, _)| &path[..from + at]))
    }

    /// Returns the root and its ancestors, the topmost first; none for the top of the server,
    /// which always exists.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        let ends = self.root.match_indices('/').map(|(at, _)| at).filter(|&at| at > 0);
        ends.map(|at| &self.root[..at]).chain((!self.root.is_empty()).then_some(&*self.root))
    }

    /// Returns the meaning of a node below the root; `None` for nodes of other tools that are no
    /// keys, and for those of our own that concern no watch.
    pub(crate) fn parse(&self, path: &str) -> Option<Named> {
        let rest = path.strip_prefix(&*self.root)?.strip_prefix('/')?;
        // A segment of that name, not what begins with it.
        let mut segments = rest.split('/');
        if segments.next() == Some(OWN) {
            let queue = segments.next().filter(|area| *area == "lock").and_then(|_| segments.next())?;
            let name: Option<Vec<_>> = queue.split("%2F").map(|s| unescape(s, Place::Lock)).collect();
            return Key::from_stored(&name?.join("/")).map(Named::Lock);
        }
        let rest = rest.strip_suffix(OWN).and_then(|key| key.strip_suffix('/')).unwrap_or(rest);
        let name: Option<Vec<_>> = rest.split('/').enumerate().map(|(at, s)| self.segment(s, at)).collect();
        Key::from_stored(&name?.join("/")).map(Named::Key)
    }

    /// Returns the segment that the name of a node stands for, so many levels below the root's
    /// children; `None` for a name that no key has.
    pub(crate) fn segment(&self, name: &str, level: usize) -> Option<String> {
        let place = self.place(level);
        if place == Place::Top && name == SERVERS {
            return None;
        }
        let segment = unescape(name, place)?;
        Key::from_stored(&segment).map(|_| segment)
    }

    fn place(&self, level: usize) -> Place {
        if level == 0 && self.root.is_empty() { Place::Top } else { Place::Below }
    }
}

/// Returns the node that a node lies below.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}
