//! Spells the names that keys and locks have on the server.

use kv_core::{Directory, Error, ErrorKind, Key, Result};

/// The names of one store, which all begin with its prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// Makes the names of a store with this prefix.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a prefix that the path of no request
    /// can spell: the server would make another one of it.
    pub(crate) fn new(prefix: String) -> Result<Self> {
        let mut segments: Vec<_> = prefix.split('/').collect();
        // The last part is only the beginning of a segment.
        segments.pop();
        match segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            None => Ok(Self { prefix }),
            Some(_) => {
                let why = format!(
                    "the prefix {prefix:?} begins with a slash, or has two in a row, or a segment `.` or `..`, none of which \
                     Consul's API can reach"
                );
                Err(Error::new(ErrorKind::InvalidArgument, why))
            }
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the server's name of a key, or what the names in a directory begin with.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Returns the key of this name, also where it is one of the library's own; `None` for what
    /// other tools wrote.
    pub(crate) fn parse(&self, name: &str) -> Option<Key> {
        let key = name.strip_prefix(&self.prefix)?;
        match key.strip_prefix(LOCKS) {
            Some(contender) => own(contender),
            None => Key::from_stored(key),
        }
    }

    /// Tells whether a name below the prefix is one that this store keeps for itself, or a store
    /// inside of it, other than what other tools may have put beside those.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.prefix).unwrap_or(name);
        let is_area = |rest: &str| ["lock/", "gone/"].iter().any(|area| rest.starts_with(area));
        let at = rest.match_indices(".kv/").map(|(at, own)| (at, &rest[at + own.len()..]));
        at.into_iter().any(|(at, behind)| (at == 0 || rest[..at].ends_with('/')) && is_area(behind))
    }

    /// Returns what the names of all contenders of a lock begin with.
    pub(crate) fn line(&self, lock: &Key) -> String {
        format!("{}{}/", self.prefix, line(lock))
    }

    /// Returns what the names of all locks begin with.
    pub(crate) fn locks(&self) -> String {
        self.name(LOCKS)
    }

    /// Returns the name of the mark of a contender that was given up while its request was under
    /// way.
    pub(crate) fn given_up(&self, id: &str) -> String {
        self.name(&format!(".kv/gone/{id}"))
    }

    /// Returns the name that is read to see whether the server answers: a name of our own, below
    /// the prefix, where the store has rights.
    pub(crate) fn health(&self) -> String {
        self.name(".kv/health")
    }
}

const LOCKS: &str = ".kv/lock/";

/// Returns the directory in which the contenders of a lock lie. The number of the lock's segments
/// comes first, so that no lock's directory lies in another's.
fn line(lock: &Key) -> String {
    format!("{LOCKS}{}/{lock}", lock.segments().count())
}

/// Makes the key of a contender, by which watches tell whether the contender is there.
///
/// # Errors
/// When the name of the lock is too long.
pub(crate) fn contender(lock: &Key, id: &str) -> Result<Key> {
    let area = format!("lock/{}", lock.segments().count());
    let id = Key::parse(id)?;
    Ok(Key::internal(&area, &lock.as_directory().join(&id)?))
}

/// Reads the key of a contender, from a name behind [`LOCKS`]; `None` for whatever else lies
/// there, which other tools wrote.
fn own(contender: &str) -> Option<Key> {
    let (count, name) = contender.split_once('/')?;
    let (lock, id) = name.rsplit_once('/')?;
    let is_spelt = is_id(id) && count == Key::from_stored(lock)?.segments().count().to_string();
    is_spelt.then(|| Some(Key::internal(&format!("lock/{count}"), &Key::from_stored(name)?)))?
}

/// Returns the lock in whose queue a contender is.
pub(crate) fn lock_of(contender: &Key) -> Option<Key> {
    let (_, name) = contender.as_str().strip_prefix(LOCKS)?.split_once('/')?;
    Key::from_stored(name.rsplit_once('/')?.0)
}

/// Makes the id of a contender.
pub(crate) fn id(number: u64) -> String {
    format!("{number:016x}")
}

fn is_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Tells whether a name, behind the prefix of a store, is one that the library keeps for itself:
/// for this store, or for one whose prefix lies inside of it.
pub(crate) fn is_somebodys_own(name: &str) -> bool {
    let is_this_stores = name == ".kv" || name.starts_with(".kv/");
    is_this_stores || ["/.kv/lock/", "/.kv/gone/"].iter().any(|own| name.contains(own))
}

/// Returns the part of a name up to its last slash, that one included: what its siblings begin
/// with.
pub(crate) fn parent(name: &str) -> &str {
    let trimmed = name.strip_suffix('/').unwrap_or(name);
    trimmed.rfind('/').map_or("", |at| &name[..=at])
}

/// Returns what the keys below a directory begin with.
pub(crate) fn below(names: &Names, directory: &Directory) -> String {
    names.name(&directory.start())
}

/// Encodes a name once, as a part of a request's path, for the server decodes it once as well.
pub(crate) fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 16);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte as char)
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.extend(['%', HEX[usize::from(byte >> 4)] as char, HEX[usize::from(byte & 15)] as char]);
            }
        }
    }
    out
}

/// Tells whether the server certainly takes the name in a request's path: there it refuses
/// characters that it holds for unprintable, by tables of its own.
pub(crate) fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| (b' '..=b'~').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    #[test]
    fn names_are_encoded_once() {
        assert_eq!(encoded("a b/%2F?#é"), "a%20b/%252F%3F%23%C3%A9");
    }

    #[test]
    fn a_lock_below_another_is_another() {
        let names = Names::new("p/".into()).unwrap();
        assert_eq!(names.line(&key("a")), "p/.kv/lock/1/a/");
        let id = "00000000000000ff";
        for lock in ["a", "a/b", "a/b/c", &format!("a/{id}")] {
            let contender = contender(&key(lock), id).unwrap();
            let name = names.name(contender.as_str());
            let lines = ["a", "a/b", "a/b/c", &format!("a/{id}")]
                .map(|l| (name.starts_with(&names.line(&key(l))), l == lock));
            assert!(lines.iter().all(|(is, shall)| is == shall), "{name} {lines:?}");
            assert_eq!(names.parse(&name), Some(contender.clone()));
            assert_eq!(lock_of(&contender), Some(key(lock)));
        }
    }

    #[test]
    fn what_other_tools_put_into_a_line_is_no_contender() {
        let names = Names::new("p/".into()).unwrap();
        let contender = "p/.kv/lock/2/a/b/00000000000000ff";
        assert!(names.parse(contender).is_some());
        for junk in [
            "p/.kv/lock/2/a/b/",
            "p/.kv/lock/2/a/b/x",
            "p/.kv/lock/2/a/b/.kv",
            "p/.kv/lock/2/a/b",
            "p/.kv/lock/2/a/b/00000000000000FF",
            "p/.kv/lock/2/a/b/00000000000000ff/",
            "p/.kv/lock/2/a/b/000000000000000ff",
            "p/.kv/lock/2/a/b/c/00000000000000ff",
            "p/.kv/lock/1/a/b/00000000000000ff",
            "p/.kv/lock/02/a/b/00000000000000ff",
            "p/.kv/lock/+2/a/b/00000000000000ff",
            "p/.kv/lock/x/a/b/00000000000000ff",
            "p/.kv/lock/2//a/b/00000000000000ff",
            "p/.kv/lock/0/00000000000000ff",
            "p/.kv/lock/",
            "p/.kv/gone/00000000000000ff",
            "p/.kv/",
        ] {
            assert_eq!(names.parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn what_stores_keep_is_told_from_what_others_put_there() {
        let names = Names::new("p/".into()).unwrap();
        for own in ["p/.kv/lock/1/a/00000000000000ff", "p/.kv/gone/00000000000000ff", "p/in/.kv/gone/x"] {
            assert!(names.is_own(own), "{own}");
        }
        for others in ["p/dir/", "p/.kv/x", "p/a.kv/lock/x", "p/ sp"] {
            assert!(!names.is_own(others), "{others}");
        }
    }

    #[test]
    fn what_a_store_inside_keeps_is_told_from_keys() {
        for own in [".kv", ".kv/x", ".kv/lock/1/l/0", "a/.kv/lock/1/l/0", "a/b/.kv/gone/1"] {
            assert!(is_somebodys_own(own), "{own}");
        }
        for key in ["a", "a/", "a/.kv", "a/.kv/x", "a.kv/lock/1", ".kvs/lock/1", "a/.kv/locks/1"] {
            assert!(!is_somebodys_own(key), "{key}");
        }
    }

    #[test]
    fn prefixes_that_no_path_spells_are_refused() {
        for refused in ["/", "/a", "a//", "a//b", "./", "a/../b", "a/./"] {
            assert!(Names::new(refused.into()).is_err(), "{refused}");
        }
        for fine in ["", "a", "a/", "a/b", "a/.b/", "a."] {
            assert!(Names::new(fine.into()).is_ok(), "{fine}");
        }
    }

    #[test]
    fn the_parent_of_a_name() {
        assert_eq!(parent("a/b/c"), "a/b/");
        assert_eq!(parent("a/b/"), "a/");
        assert_eq!(parent("a"), "");
        assert_eq!(parent(""), "");
    }
}
