//! The names of keys, records and channels on the server.

use fred::util::redis_keyslot;
use kv_core::{Directory, Key};

/// The names of one store. All of them begin with its prefix; those of its own records with the
/// prefix and `.kv/`, which no key can begin with.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    /// The database. Messages reach the listeners of all databases, so that the names of channels
    /// hold its number.
    database: u8,
}

impl Names {
    /// Makes the names of a prefix, byte for byte, in this database.
    pub(crate) fn new(prefix: String, database: u8) -> Self {
        Self { prefix, database }
    }

    /// Makes names that share one hash tag, as a cluster needs: that of the prefix where it has
    /// one, else the whole prefix becomes one.
    pub(crate) fn tagged(prefix: &str) -> Self {
        let tagged = match tag(prefix) {
            Some(_) => prefix.to_owned(),
            None if prefix.is_empty() => "{kv}".to_owned(),
            None => format!("{{{prefix}}}"),
        };
        Self::new(tagged, 0)
    }

    /// Makes the names of one part of a spread store.
    pub(crate) fn part(prefix: &str, part: u16) -> Self {
        Self::new(format!("{{{prefix}{part:02}}}"), 0)
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the argument that tells every script its database and prefix.
    pub(crate) fn identity(&self) -> String {
        format!("{}:{}", self.database, self.prefix)
    }

    /// Returns the name of a key on the server.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Returns the key of this name; `None` for a name that is no key of this store.
    pub(crate) fn parse(&self, name: &[u8]) -> Option<Key> {
        Key::from_stored(std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok()?)
    }

    /// Tells whether a name is that of a record of this store, or of a store inside of it, and not
    /// what another tool put beside those.
    pub(crate) fn is_own(&self, name: &[u8]) -> bool {
        const RECORDS: [&str; 5] = ["meta", "index", "clock", "ends", "parts"];
        const AREAS: [&str; 6] = ["lease/", "ended/", "lock/", "held/", "session/", "gone/"];
        let Ok(name) = std::str::from_utf8(name) else { return false };
        let rest = name.strip_prefix(&self.prefix).unwrap_or(name);
        let is_record = |own: &str| RECORDS.contains(&own) || AREAS.iter().any(|area| own.starts_with(area));
        let mut places = rest.match_indices(".kv/");
        places.any(|(at, found)| {
            (at == 0 || rest[..at].ends_with(['/', '}'])) && is_record(&rest[at + found.len()..])
        })
    }

    fn own(&self, area: &str, name: &str) -> String {
        format!("{}.kv/{area}{name}", self.prefix)
    }

    /// Returns the names of the records that every script is given.
    pub(crate) fn store(&self) -> [String; 4] {
        ["meta", "index", "clock", "ends"].map(|area| self.own(area, ""))
    }

    /// Returns the name of the note of the number of parts of a spread store.
    pub(crate) fn parts(&self) -> String {
        self.own("parts", "")
    }

    /// Returns the name of a lease, and its name while it is revoked.
    pub(crate) fn lease(&self, id: &str) -> [String; 2] {
        [self.own("lease/", id), self.own("ended/", id)]
    }

    /// Returns the names of the queue of a lock, and of what its contenders brought.
    pub(crate) fn lock(&self, lock: &Key) -> [String; 2] {
        [self.own("lock/", lock.as_str()), self.own("held/", lock.as_str())]
    }

    /// Returns the server's pattern for the queues of all locks below the directory.
    pub(crate) fn locks(&self, directory: &Directory) -> String {
        pattern(&self.own("lock/", &directory.start()))
    }

    /// Returns the lock whose queue has this name.
    pub(crate) fn lock_of(&self, name: &[u8]) -> Option<Key> {
        let lock = name.strip_prefix(self.own("lock/", "").as_bytes())?;
        Key::from_stored(std::str::from_utf8(lock).ok()?)
    }

    pub(crate) fn session(&self, id: &str) -> String {
        self.own("session/", id)
    }

    fn on(&self, area: &str, name: &str) -> String {
        self.own(&format!("on/{}/{area}", self.database), name)
    }

    pub(crate) fn on_key(&self, key: &Key) -> String {
        self.on("key/", key.as_str())
    }

    pub(crate) fn on_tree(&self, directory: &Directory) -> String {
        self.on("tree/", directory.as_str())
    }

    pub(crate) fn on_lock(&self, lock: &Key) -> String {
        self.on("lock/", lock.as_str())
    }

    pub(crate) fn on_session(&self, id: &str) -> String {
        self.on("session/", id)
    }

    /// Returns the channel of one connection, by which that one is known to be still subscribed.
    pub(crate) fn on_link(&self, id: u64) -> String {
        self.on("link/", &format!("{id:x}"))
    }

    /// Returns the server's pattern for the channels of all watches.
    pub(crate) fn on_all(&self) -> String {
        pattern(&self.on("", ""))
    }

    /// Returns the directory that a channel of a watch is about: that of the key, or the watched
    /// one.
    pub(crate) fn watched(&self, channel: &str) -> Option<String> {
        let watched = channel.strip_prefix(&self.on("", ""))?;
        watched.strip_prefix("key/").or_else(|| watched.strip_prefix("tree/")).map(str::to_owned)
    }

    /// Returns the hash slot that all names are in, in a cluster.
    pub(crate) fn slot(&self) -> u16 {
        redis_keyslot(self.prefix.as_bytes())
    }

    /// Returns the number of the part of a spread store that a key is in.
    pub(crate) fn part_of(key: &str, parts: u16) -> u16 {
        redis_keyslot(key.as_bytes()) % parts.max(1)
    }

    /// Returns the server's pattern for all names that begin with the directory.
    pub(crate) fn pattern(&self, directory: &Directory) -> String {
        pattern(&self.key(&directory.start()))
    }
}

/// Returns a pattern for all names that begin like this.
fn pattern(start: &str) -> String {
    let mut pattern = String::new();
    for c in start.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

/// Returns the part of a name that alone decides its slot.
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
    fn records_are_told_from_what_others_put_there() {
        let names = Names::new("p/".into(), 0);
        for own in [&names.store()[1], "p/in/.kv/meta", "p/.kv/lock/a/b", "p/{t}.kv/clock", "p/.kv/gone/s:1"]
        {
            assert!(names.is_own(own.as_bytes()), "{own}");
        }
        for others in ["p/.kv/x", "p/a.kv/meta", "p/dir/", "p/.kv/meta2"] {
            assert!(!names.is_own(others.as_bytes()), "{others}");
        }
    }

    #[test]
    fn channels_tell_databases_apart() {
        let key = Key::parse("k").unwrap();
        let [zero, one] = [0, 1].map(|database| Names::new("app/".into(), database));
        assert_eq!((zero.key("k"), zero.lock(&key)), (one.key("k"), one.lock(&key)));
        assert_ne!(zero.on_key(&key), one.on_key(&key));
        assert_eq!(one.watched(&one.on_tree(&Directory::parse("a/b").unwrap())), Some("a/b".into()));
        assert_eq!(one.watched(&zero.on_key(&key)), None);
    }

    #[test]
    fn a_pattern_takes_names_as_they_are() {
        let names = Names::new("a*/".into(), 0);
        assert_eq!(names.pattern(&Directory::parse("b[c").unwrap()), "a\\*/b\\[c/*");
    }
}
