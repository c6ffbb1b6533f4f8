//! Escapes the characters that the server refuses in a segment of a path, and nothing else, so
//! that each name has one spelling.

/// The name of the server's own node at its top.
pub(super) const SERVERS: &str = "zookeeper";
const SERVERS_ESCAPED: &str = "%7Aookeeper";

/// The place of a segment, which decides what is escaped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Beside the server's own node.
    Top,
    Below,
    /// In the name of a lock, which is one segment with its slashes escaped.
    Lock,
}

pub(super) fn escape(segment: &str, place: Place, out: &mut String) {
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

/// Returns whether the `%` at the beginning, left as it is, would be read as an escape.
fn is_ambiguous(text: &str, place: Place) -> bool {
    escaped(text, place).is_some() || (place == Place::Top && text == SERVERS_ESCAPED)
}

/// Returns whether the server refuses a character that keys may have. The server looks at the
/// units of UTF-16 and refuses all of U+D800 to U+F8FF, and so the surrogates of every character
/// beyond U+FFFF.
pub(super) fn is_refused(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{10000}'..)
}

/// Returns the character that an escape at the beginning stands for, and the length of the escape.
/// Only what can be written in no other way counts as an escape, so that names of other tools with
/// a `%` are read as they are.
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

/// Returns the segment that is escaped like this; `None` for a name that this library never
/// writes.
pub(super) fn unescape(name: &str, place: Place) -> Option<String> {
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
