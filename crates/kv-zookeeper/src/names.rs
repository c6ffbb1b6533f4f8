//! How keys and locks are spelt on the server: paths below one root, with what the server refuses escaped.

use kv_core::{Directory, Error, ErrorKind, Key, Result};

/// The segment that no key has: our own nodes below the root, and the mark of an empty value below its key.
pub(crate) const OWN: &str = ".kv";
/// The server's own node at its top.
const SERVERS: &str = "zookeeper";
const SERVERS_ESCAPED: &str = "%7Aookeeper";
/// Creations are counted in so many nodes, by the hash of the key.
pub(crate) const SLOTS: usize = 16;

/// All keys of a store lie below its root.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Without a slash at its end, so empty for the top.
    root: String,
}

/// What a path below the root speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Key(Key),
    /// The queue of the lock of this name, or a contender in it.
    Lock(Key),
}

impl Names {
    /// A prefix ends at a segment, whether it has its last slash or not.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(Self { root: String::new() });
        }
        let fault = |segment: &str| {
            matches!(segment, "" | "." | ".." | OWN)
                || segment.chars().any(|c| is_refused(c) || c.is_control() || c == '\u{ffff}')
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

    /// The node that everything lies below.
    pub(crate) fn root(&self) -> &str {
        if self.root.is_empty() { "/" } else { &self.root }
    }

    /// The node of a key, or of a directory.
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

    /// The node that marks its parent as a key whose value is empty.
    pub(crate) fn mark(path: &str) -> String {
        format!("{}/{OWN}", if path == "/" { "" } else { path })
    }

    /// The node of our own things.
    pub(crate) fn own(&self) -> String {
        format!("{}/{OWN}", self.root)
    }

    /// The parent of what counts creations, and of the lines of locks.
    pub(crate) fn area(&self, area: &str) -> String {
        format!("{}/{OWN}/{area}", self.root)
    }

    pub(crate) fn slot_node(&self, slot: usize) -> String {
        format!("{}/{OWN}/epoch/{slot:x}", self.root)
    }

    /// The queue of a lock. Names may have slashes, and a lock below another is another.
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

    /// The ancestors of a node that lie below the root, the topmost first.
    pub(crate) fn ancestors<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let from = self.root.len() + 1;
        path.get(from..)
            .into_iter()
            .flat_map(move |rest| rest.match_indices('/').map(move |(at, _)| &path[..from + at]))
    }

    /// The root and its ancestors, the topmost first; none for the top, which is always there.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        let ends = self.root.match_indices('/').map(|(at, _)| at).filter(|&at| at > 0);
        ends.map(|at| &self.root[..at]).chain((!self.root.is_empty()).then_some(&*self.root))
    }

    /// What a node below the root speaks of; `None` for other tools' and for what is nobody's business.
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

    /// The segment of the name of a node so many levels below the root's children; `None` for what no key has.
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

/// Where a segment stands, which decides what is escaped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Beside the server's own node.
    Top,
    Below,
    /// In the name of a lock, which is one segment with its slashes escaped.
    Lock,
}

fn escape(segment: &str, place: Place, out: &mut String) {
    if place == Place::Top && segment == SERVERS {
        out.push_str(SERVERS_ESCAPED);
        return;
    }
    for (at, c) in segment.char_indices() {
        if is_refused(c) || (c == '%' && is_ambiguous(&segment[at..], place)) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
}

/// Whether the `%` at the beginning, left as it is, would be read as an escape.
fn is_ambiguous(text: &str, place: Place) -> bool {
    escaped(text, place).is_some() || (place == Place::Top && text == SERVERS_ESCAPED)
}

/// The slot that counts the creations of a key: the same one for all clients and for ever, so no hash of the process's own
/// but FNV-1a, stirred once more, since keys that differ in their last letters alone are close to one another in it.
pub(crate) fn slot(key: &Key) -> usize {
    let hash = key.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let stirred = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (stirred >> 60) as usize % SLOTS
}

/// What of the characters of keys the server refuses: it looks at UTF-16, and at all of U+D800 to U+F8FF as one.
fn is_refused(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{10000}'..)
}

/// The character that an escape at the beginning stands for, and its length. Only what is written in no other way is one,
/// so that names of other tools with a `%` are what they seem.
fn escaped(text: &str, place: Place) -> Option<(char, usize)> {
    let mut bytes = [0; 4];
    for n in 0..4 {
        let digits = text.as_bytes().get(n * 3..n * 3 + 3)?;
        let hex = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        if digits[0] != b'%' {
            return None;
        }
        bytes[n] = hex(digits[1])? << 4 | hex(digits[2])?;
        if let Ok(found) = std::str::from_utf8(&bytes[..=n]) {
            let is_escape = |&c: &char| c == '%' || (c == '/' && place == Place::Lock) || is_refused(c);
            let c = found.chars().next().filter(is_escape)?;
            return Some((c, (n + 1) * 3));
        }
    }
    None
}

/// The segment that is escaped like this; `None` for what nothing of ours writes.
fn unescape(name: &str, place: Place) -> Option<String> {
    if place == Place::Top && name == SERVERS_ESCAPED {
        return Some(SERVERS.to_owned());
    }
    let (mut out, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(first) = rest.chars().next() {
        let (c, length) = escaped(rest, place).unwrap_or((first, first.len_utf8()));
        out.push(c);
        rest = &rest[length..];
    }
    let mut again = String::with_capacity(name.len());
    escape(&out, place, &mut again);
    (again == name).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str) -> Names {
        Names::new(prefix).unwrap()
    }

    #[test]
    fn every_key_comes_back_and_no_two_share_a_node() {
        let odd = [
            "a",
            "%",
            "%%",
            "%2F",
            "%252F",
            "%25",
            "%2525",
            "%41",
            "%7Aookeeper",
            "%257Aookeeper",
            "zookeeper",
            "zookeeper/config",
            "😀",
            "%F0%9F%98%80",
            "%25F0%9F%98%80",
            "%F0",
            "%F0😀",
            "%😀",
            "%4😀",
            "\u{e000}",
            "\u{fffd}",
            "\u{feff}x",
            "a/😀/b",
            "a/zookeeper",
            "%2",
            "%zz",
            "%f0%9f%98%80",
            "%25😀",
            "%%25",
        ];
        for root in ["", "app", "app/x/"] {
            let names = names(root);
            let mut seen = std::collections::HashSet::new();
            for name in odd {
                let key = Key::parse(name).unwrap();
                let node = names.key(&key);
                assert_eq!(names.parse(&node), Some(Named::Key(key.clone())), "{name} as {node}");
                assert!(seen.insert(node), "{name} has the node of another");
                assert_eq!(names.parse(&format!("{}/0-1", names.queue(&key))), Some(Named::Lock(key)));
            }
        }
    }

    #[test]
    fn names_of_other_tools_are_what_they_seem_or_nothing() {
        let names = names("");
        let found = |path: &str| match names.parse(path) {
            Some(Named::Key(key)) => Some(key.as_str().to_owned()),
            _ => None,
        };
        assert_eq!(found("/a%20b").as_deref(), Some("a%20b"));
        assert_eq!(found("/zookeeper/config"), None);
        assert_eq!(found("/a%2Fb").as_deref(), Some("a%2Fb"));
        assert_eq!(found("/%25"), None);
        assert_eq!(found("/ a"), None);
        assert_eq!(found("/a/.kv").as_deref(), Some("a"));
    }

    #[test]
    fn what_begins_like_our_own_nodes_is_a_key() {
        for root in ["", "app"] {
            let names = names(root);
            for name in [".kvx", ".kvstore/b", ".kv.kv", "a/.kvx", "a.kv", "a.kv/b", ".kvx/.k"] {
                let key = Key::parse(name).unwrap();
                assert_eq!(names.parse(&names.key(&key)), Some(Named::Key(key.clone())), "{name}");
                assert_eq!(names.parse(&Names::mark(&names.key(&key))), Some(Named::Key(key)), "{name}");
            }
            let own = names.own();
            for own in
                [own.clone(), format!("{own}/epoch/3"), format!("{own}/lock"), format!("{own}/lockx/a")]
            {
                assert_eq!(names.parse(&own), None, "{own}");
            }
        }
        // Another store's, whose root lies in this one.
        assert_eq!(names("").parse("/in/.kv/lock/l/x-1"), None);
        assert_eq!(names("app").parse("/application/a"), None);
    }

    #[test]
    fn the_slot_of_a_key_never_changes_and_neighbours_are_spread() {
        let slots: Vec<_> = (0..8).map(|n| slot(&Key::parse(&format!("app/{n}")).unwrap())).collect();
        assert_eq!(slots, SLOTS_OF_APP, "a store's counts would speak of other keys");
        let all: std::collections::HashSet<_> =
            (0..200).map(|n| slot(&Key::parse(&n.to_string()).unwrap())).collect();
        assert_eq!(all.len(), SLOTS);
    }

    const SLOTS_OF_APP: [usize; 8] = [5, 8, 1, 3, 7, 2, 13, 8];

    #[test]
    fn ancestors_begin_below_the_root() {
        let names = names("app/x");
        assert_eq!(names.ancestors("/app/x/a/b/c").collect::<Vec<_>>(), ["/app/x/a", "/app/x/a/b"]);
        assert_eq!(names.roots().collect::<Vec<_>>(), ["/app", "/app/x"]);
        let top = Names::new("").unwrap();
        assert_eq!(top.ancestors("/a/b").collect::<Vec<_>>(), ["/a"]);
        assert_eq!(top.roots().count(), 0);
    }
}
