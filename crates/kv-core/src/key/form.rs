//! The normal form of names.

use crate::{Error, ErrorKind, Result};
use std::{fmt, sync::Arc};

/// The longest name that a user may give, in bytes.
pub(super) const MAX_GIVEN: usize = 512;
/// The longest name that a [`Store`](crate::driver::Store) is handed, in bytes: a user's name with
/// a layer's prefix.
pub(super) const MAX_STORED: usize = 1000;
/// The segment that the library keeps for itself.
pub(super) const RESERVED: &str = ".kv";

pub(super) fn refused(name: &str, why: fmt::Arguments<'_>) -> Error {
    const SHOWN: usize = 64;
    let shown: String = name.chars().take(SHOWN).collect();
    let cut = if shown.len() < name.len() { "…" } else { "" };
    Error::new(ErrorKind::InvalidKey, format!("the name {shown:?}{cut} {why}"))
}

/// Says why a segment is not allowed; `None` for one that is.
fn fault(segment: &str) -> Option<&'static str> {
    if matches!(segment, "." | ".." | RESERVED) {
        return Some("has a segment `.`, `..` or `.kv`, which are reserved; rename that segment");
    }
    if segment.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    if segment.trim().len() != segment.len() {
        return Some("has a segment that begins or ends with white space; trim it");
    }
    let noncharacter = |c: char| (c as u32 & 0xfffe) == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c);
    if segment.chars().any(|c| c.is_control() || noncharacter(c)) {
        return Some("holds a control character or a Unicode noncharacter; encode it, for example in hex");
    }
    None
}

/// Tells in one pass of a name like most that it is in normal form: it is of printable ASCII, and
/// none of its segments begins with a dot. Of other names, also of good ones, it says `false`.
fn is_plain(name: &str) -> bool {
    let mut before = b'/';
    for &byte in name.as_bytes() {
        if !byte.is_ascii_graphic() || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

/// Returns the normal form of a name that a user gave.
pub(super) fn normal(name: &str) -> Result<Arc<str>> {
    if name.len() > MAX_GIVEN {
        return Err(refused(
            name,
            format_args!("is {} bytes long; at most {MAX_GIVEN} are allowed", name.len()),
        ));
    }
    if is_plain(name) {
        return Ok(Arc::from(name));
    }
    for segment in name.split('/').filter(|s| !s.is_empty()) {
        if let Some(why) = fault(segment) {
            return Err(refused(name, format_args!("{why}")));
        }
    }
    if is_joined(name) {
        return Ok(Arc::from(name));
    }
    let mut out = String::with_capacity(name.len());
    for segment in name.split('/').filter(|s| !s.is_empty()) {
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(segment);
    }
    Ok(Arc::from(out))
}

/// Tells whether no slash is leading, trailing or doubled.
fn is_joined(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first() != Some(&b'/') && bytes.last() != Some(&b'/') && !bytes.windows(2).any(|w| w == b"//")
}

/// Returns a name that a server holds; `None` when it is not in normal form.
pub(super) fn stored(name: &str) -> Option<Arc<str>> {
    let is_fine = || is_plain(name) || (is_joined(name) && name.split('/').all(|s| fault(s).is_none()));
    (name.len() <= MAX_STORED && is_fine()).then(|| Arc::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `each` with every name of up to this many of the characters.
    fn names(most: usize, each: &impl Fn(&str), name: &mut String) {
        each(name);
        if most == 0 {
            return;
        }
        for c in ['a', '/', '.', 'k', 'v', ' ', '\u{7f}', '\u{fffe}', 'é'] {
            name.push(c);
            names(most - 1, each, name);
            name.pop();
        }
    }

    #[test]
    fn a_plain_name_is_one_in_normal_form() {
        let each = |name: &str| {
            let is_normal = is_joined(name) && name.split('/').all(|segment| fault(segment).is_none());
            if is_plain(name) {
                assert!(is_normal && !name.is_empty(), "{name:?}");
            } else if is_normal && name.is_ascii() && !name.is_empty() {
                assert!(name.contains(' ') || name.split('/').any(|s| s.starts_with('.')), "{name:?}");
            }
        };
        names(5, &each, &mut String::new());
    }
}
