//! The names of keys and locks in the file, and the keys and locks of names.

use kv_core::Key;
use std::{borrow::Cow, sync::Arc};

/// Returns the whole name of a key, for a look: without a prefix it is the key's own.
pub(crate) fn with<'a>(prefix: &str, key: &'a Key) -> Cow<'a, str> {
    if prefix.is_empty() { Cow::Borrowed(key.as_str()) } else { Cow::Owned(format!("{prefix}{key}")) }
}

/// Returns the whole name of a key: the prefix of its store, and the key.
pub(crate) fn whole(prefix: &str, key: &Key) -> Arc<str> {
    if prefix.is_empty() { key.as_str().into() } else { format!("{prefix}{key}").into() }
}

/// Returns the first name behind all that begin with `start`; `None` where there is none.
pub(crate) fn behind(start: &str) -> Option<String> {
    let mut rest = start.chars();
    while let Some(last) = rest.next_back() {
        // The range leaves out what is no character.
        if let Some(next) = (last..=char::MAX).nth(1) {
            return Some(format!("{}{next}", rest.as_str()));
        }
    }
    None
}

/// Returns the key of a whole name without its prefix: a user's, or an internal one.
pub(crate) fn key(name: &str) -> Option<Key> {
    Key::from_stored(name).or_else(|| {
        let (area, name) = name.strip_prefix(".kv/")?.split_once('/')?;
        Key::from_stored(name).map(|name| Key::internal(area, &name))
    })
}

/// Returns the whole name of a lock. No lock of another store has it, whatever the prefixes, since
/// no key holds a NUL.
pub(crate) fn lock(prefix: &str, name: &Key) -> Arc<str> {
    format!("{name}\0{prefix}").into()
}

/// Returns the lock of a whole name, if it belongs to the store of this prefix.
pub(crate) fn lock_key(prefix: &str, name: &str) -> Option<Key> {
    let (lock, of) = name.split_once('\0')?;
    Key::from_stored(lock).filter(|_| of == prefix)
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn behind_all_that_begins_so_is_the_next_name() {
        for (start, end) in [
            ("", None),
            ("app/", Some("app0")),
            ("a\u{7f}", Some("a\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(behind(start).as_deref(), end, "{start:?}");
        }
    }
}
