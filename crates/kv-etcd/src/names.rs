//! The names on the server of keys, of locks, and of what the library keeps for itself.

use kv_core::{Directory, Key};

/// Begins the names that the library keeps for itself: no key can begin with a control character.
const OWN: char = '\u{1}';
/// Begins the range of the whole store, behind the names that the library keeps for itself.
const BEHIND_OWN: u8 = 2;

/// A range of names, the end not included; one name where the end is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Range {
    /// Tells whether the name lies in the range.
    pub(crate) fn holds(&self, name: &[u8]) -> bool {
        // etcd's word for *the end of all* is smaller than most names.
        *self.start <= *name && (self.end == [0] || *name < *self.end)
    }
}

/// The names of one store, which all begin with its prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the server's name of a key.
    pub(crate) fn key(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// Returns the key of this name; `None` for a name that is no key of this store.
    pub(crate) fn parse(&self, name: &[u8]) -> Option<Key> {
        Key::from_stored(std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok()?)
    }

    /// Returns the range of everything strictly below a directory.
    pub(crate) fn below(&self, directory: &Directory) -> Range {
        let mut start = self.key(&directory.start());
        let end = behind(&start);
        if directory.is_root() {
            start.push(BEHIND_OWN);
        }
        Range { start, end }
    }

    /// Returns the range of the contenders of a lock. The character that ends the lock's name here
    /// is in no name of a lock.
    pub(crate) fn contenders(&self, lock: &Key) -> Range {
        let start = self.key(&format!("{OWN}lock/{lock}{OWN}"));
        let end = behind(&start);
        Range { start, end }
    }

    /// Returns the range of the contenders of all locks strictly below a directory. They are in the
    /// order of the locks: the character that ends a lock's name is smaller than all in names.
    pub(crate) fn locks(&self, directory: &Directory) -> Range {
        let start = self.key(&format!("{OWN}lock/{}", directory.start()));
        let end = behind(&start);
        Range { start, end }
    }

    /// Returns the lock in whose queue a contender is, which has this lease; `None` for a name
    /// that is no contender's.
    pub(crate) fn lock_of(&self, name: &[u8], lease: i64) -> Option<Key> {
        let queue = name.strip_prefix(&*self.key(&format!("{OWN}lock/")))?;
        let end = queue.iter().position(|&byte| byte == OWN as u8)?;
        let lock = Key::from_stored(std::str::from_utf8(&queue[..end]).ok()?)?;
        Self::is_contender(&self.contenders(&lock), name, lease).then_some(lock)
    }

    /// Returns the name of one contender of a lock.
    pub(crate) fn contender(&self, lock: &Key, id: u64) -> Vec<u8> {
        self.key(&format!("{OWN}lock/{lock}{OWN}{id:016x}"))
    }

    /// Tells whether a name in the queue of a lock, with this lease, is that of a contender, and
    /// not what another tool put there. A name without a lease is the copy of a contender, or one
    /// that was taken from its session: it belongs to nobody, and nothing would ever end it.
    pub(crate) fn is_contender(line: &Range, name: &[u8], lease: i64) -> bool {
        let id = name.strip_prefix(&*line.start).unwrap_or_default();
        lease != 0 && id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit)
    }

    /// Returns the name that is read to see whether the server answers: a name of our own, below
    /// the prefix, where the store has rights.
    pub(crate) fn health(&self) -> Vec<u8> {
        self.key(&format!("{OWN}health"))
    }

    /// Returns the name at which a session notes the acquisitions that were given up.
    pub(crate) fn floor(&self, lease: i64) -> Vec<u8> {
        self.key(&format!("{OWN}floor/{lease:016x}"))
    }
}

/// Returns the range of the names that a store keeps for itself, this name among them; `None` for
/// a name that may be a key.
pub(crate) fn owned(name: &[u8]) -> Option<Range> {
    let at = name.iter().position(|&byte| byte == OWN as u8)?;
    let start = name[..=at].to_vec();
    let end = behind(&start);
    Some(Range { start, end })
}

/// Returns the first name behind all that begin with these bytes; where there is none, etcd's word
/// for *the end of all*.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0]
}

/// Returns the first name behind this one.
pub(crate) fn after(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_whole_server_ends_nowhere_and_leaves_our_own_out() {
        let names = Names::new(String::new());
        let root = names.below(&Directory::root());
        assert_eq!(root, Range { start: vec![2], end: vec![0] });
        assert!(root.holds(b"a") && !root.holds(b"\x01lock"));
        let lock = Key::parse("a").unwrap();
        assert!(names.contender(&lock, 7) < root.start);
    }

    #[test]
    fn a_lock_below_another_is_another() {
        let names = Names::new("p/".into());
        let (a, ab) = (Key::parse("a").unwrap(), Key::parse("a/b").unwrap());
        let range = names.contenders(&a);
        let name = names.contender(&ab, 1);
        assert!(!(range.start <= name && name < range.end));
        assert!(range.start <= names.contender(&a, 1) && names.contender(&a, u64::MAX) < range.end);
    }

    #[test]
    fn a_directory_holds_what_lies_below_it() {
        let app = Names::new("p/".into()).below(&Directory::parse("app").unwrap());
        assert!(app.holds(b"p/app/") && app.holds("p/app/\u{10ffff}".as_bytes()));
        for outside in ["p/app", "p/app0", "p/application", "p/b/x", "app/a", ""] {
            assert!(!app.holds(outside.as_bytes()), "{outside}");
        }
    }

    #[test]
    fn our_own_is_known_in_every_store() {
        let names = Names::new("a/in/".into());
        let own = owned(&names.contender(&Key::parse("l/m").unwrap(), 3)).unwrap();
        assert_eq!(own, Range { start: b"a/in/\x01".to_vec(), end: b"a/in/\x02".to_vec() });
        assert_eq!(owned(&names.key("l/m")), None);
    }

    #[test]
    fn contenders_are_in_the_order_of_their_locks() {
        let names = Names::new("p/".into());
        let locks = ["d", "d-e", "d/a", "d/a b", "d/a/b", "d/b"].map(|lock| Key::parse(lock).unwrap());
        let contenders: Vec<_> = locks.iter().map(|lock| names.contender(lock, 7)).collect();
        assert!(contenders.is_sorted());
        let range = names.locks(&Directory::parse("d").unwrap());
        let below: Vec<_> = contenders.iter().filter(|name| range.holds(name)).collect();
        let below: Vec<_> = below.iter().filter_map(|name| names.lock_of(name, 1)).collect();
        assert_eq!(below, locks[2..]);
        assert_eq!(names.lock_of(&contenders[0], 0), None);
        assert_eq!(names.lock_of(b"p/\x01lock/d\x01junk", 1), None);
        let all = names.locks(&Directory::root());
        assert!(contenders.iter().all(|name| all.holds(name)) && !all.holds(&names.floor(1)));
    }

    #[test]
    fn a_contender_is_told_from_what_others_wrote() {
        let (names, lock) = (Names::new(String::new()), Key::parse("l").unwrap());
        let line = names.contenders(&lock);
        assert!(Names::is_contender(&line, &names.contender(&lock, u64::MAX), 1));
        assert!(!Names::is_contender(&line, &names.contender(&lock, u64::MAX), 0));
        for junk in ["", "x", "00000000000000zz", "00000000000000000"] {
            assert!(!Names::is_contender(&line, &[&*line.start, junk.as_bytes()].concat(), 1));
        }
    }

    #[test]
    fn nothing_is_behind_the_last_byte() {
        assert_eq!(behind(b"a\xff"), b"b");
        assert_eq!(behind(b"\xff\xff"), [0]);
    }
}
