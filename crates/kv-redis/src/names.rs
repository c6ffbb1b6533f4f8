//! Names on the server.

use fred::util::redis_keyslot;
use kv_core::{Directory, Key};

/// All names of a store begin with its prefix; its own with the prefix and `.kv/`, which no key can begin with.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// Byte for byte.
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// In a cluster all names share a hash tag: that of the prefix where it has one, else the prefix is made one.
    pub(crate) fn tagged(prefix: &str) -> Self {
        Self::new(match tag(prefix) {
            Some(_) => prefix.to_owned(),
            None if prefix.is_empty() => "{kv}".to_owned(),
            None => format!("{{{prefix}}}"),
        })
    }

    /// One of the parts of a spread store.
    pub(crate) fn part(prefix: &str, part: u16) -> Self {
        Self::new(format!("{{{prefix}{part:02}}}"))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The server's name of a key.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key of this name; `None` for what is not ours.
    pub(crate) fn parse(&self, name: &[u8]) -> Option<Key> {
        Key::from_stored(std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok()?)
    }

    fn own(&self, area: &str, name: &str) -> String {
        format!("{}.kv/{area}{name}", self.prefix)
    }

    /// What every script is given.
    pub(crate) fn store(&self) -> [String; 4] {
        ["meta", "index", "clock", "ends"].map(|area| self.own(area, ""))
    }

    pub(crate) fn lease(&self, id: &str) -> String {
        self.own("lease/", id)
    }

    /// The line of a lock, and what those in it brought.
    pub(crate) fn lock(&self, lock: &Key) -> [String; 2] {
        [self.own("lock/", lock.as_str()), self.own("held/", lock.as_str())]
    }

    pub(crate) fn session(&self, id: &str) -> String {
        self.own("session/", id)
    }

    pub(crate) fn on_key(&self, key: &Key) -> String {
        self.own("on/key/", key.as_str())
    }

    pub(crate) fn on_tree(&self, directory: &Directory) -> String {
        self.own("on/tree/", directory.as_str())
    }

    pub(crate) fn on_lock(&self, lock: &Key) -> String {
        self.own("on/lock/", lock.as_str())
    }

    pub(crate) fn on_session(&self, id: &str) -> String {
        self.own("on/session/", id)
    }

    /// A channel of one connection, by which it is known to be subscribed still.
    pub(crate) fn on_link(&self, id: u64) -> String {
        self.own("on/link/", &format!("{id:x}"))
    }

    /// The hash slot that all names are in, in a cluster.
    pub(crate) fn slot(&self) -> u16 {
        redis_keyslot(self.prefix.as_bytes())
    }

    /// The part of a spread store that a key is in.
    pub(crate) fn part_of(key: &str, parts: u16) -> u16 {
        redis_keyslot(key.as_bytes()) % parts.max(1)
    }

    /// A pattern of the server's for all names that begin with the directory.
    pub(crate) fn pattern(&self, directory: &Directory) -> String {
        let mut pattern = String::new();
        for c in self.key(&directory.start()).chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('*');
        pattern
    }
}

/// The part of a name that alone decides its slot.
fn tag(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_becomes_a_tag_unless_it_has_one() {
        for (prefix, name) in [("app/", "{app/}a"), ("x{t}/", "x{t}/a"), ("", "{kv}a"), ("{}", "{{}}a")] {
            assert_eq!(Names::tagged(prefix).key("a"), name);
        }
        assert_eq!(Names::tagged("app/").slot(), redis_keyslot(Names::tagged("app/").key("a").as_bytes()));
    }

    #[test]
    fn a_pattern_takes_names_as_they_are() {
        let names = Names::new("a*/".into());
        assert_eq!(names.pattern(&Directory::parse("b[c").unwrap()), "a\\*/b\\[c/*");
    }
}
