//! Text for people and for scripts: escapes, durations, versions.

use kv_core::{Directory, Error, Version};
use std::{fmt::Write, time::Duration};
use unicode_width::UnicodeWidthChar;

/// Tells whether a terminal may obey this character, or show others in another order for it.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes bytes with an escape for each that is no text, and for each character that this function
/// names.
fn escaped(bytes: &[u8], also: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match also(c) {
                Some(escape) => out.push_str(escape),
                None if is_dangerous(c) && c.is_ascii() => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                None if is_dangerous(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                None => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Returns bytes as a terminal can show them: its lines and tabs as they are, and nothing that the
/// terminal would obey.
pub(crate) fn for_terminal(bytes: &[u8]) -> String {
    escaped(bytes, |c| match c {
        '\n' => Some("\n"),
        '\t' => Some("\t"),
        _ => None,
    })
}

/// Returns bytes on one line, from which they can be told: a backslash is doubled.
pub(crate) fn on_one_line(bytes: &[u8]) -> String {
    escaped(bytes, |c| match c {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        '\\' => Some("\\\\"),
        _ => None,
    })
}

/// Returns how many columns of a terminal a character takes.
fn columns(c: char) -> usize {
    c.width().unwrap_or_default()
}

/// Returns how many columns of a terminal a line takes.
pub(crate) fn width(line: &str) -> usize {
    line.chars().map(columns).sum()
}

/// Cuts a line to this many columns, the last of which then says that it was cut.
pub(crate) fn cut(line: &str, most: usize) -> String {
    if width(line) <= most {
        return line.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = line.chars().take_while(|c| {
        let has_room = columns(*c) <= left;
        left = left.saturating_sub(columns(*c));
        has_room
    });
    let mut short: String = fits.collect();
    short.push('…');
    short
}

/// Reads a duration: `500ms`, `30s`, `5m`, `1h`, `2d`, several together as `1h30m`, or seconds
/// without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "a duration looks like 500ms, 30s, 5m, 1h30m or 2d";
    let refused = || FORM.to_owned();
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    if rest.is_empty() {
        return Err(refused());
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, behind) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refused()),
        };
        let part = number.checked_mul(millis).ok_or_else(refused)?;
        sum = sum.checked_add(Duration::from_millis(part)).ok_or_else(refused)?;
        rest = behind;
    }
    Ok(sum)
}

/// Writes a duration as [`duration`] reads it.
pub(crate) fn of_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (number, unit) = match millis {
        0 => (0, "s"),
        _ if millis.is_multiple_of(86_400_000) => (millis / 86_400_000, "d"),
        _ if millis.is_multiple_of(3_600_000) => (millis / 3_600_000, "h"),
        _ if millis.is_multiple_of(60_000) => (millis / 60_000, "m"),
        _ if millis.is_multiple_of(1_000) => (millis / 1_000, "s"),
        _ => (millis, "ms"),
    };
    format!("{number}{unit}")
}

/// The state of a key that the caller has seen, on which a write is to depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    At(Version),
}

/// Reads a version, as the program prints them; `none` is said of a key that is not there.
pub(crate) fn seen(text: &str) -> Result<Seen, String> {
    if text == "none" {
        return Ok(Seen::Nothing);
    }
    text.parse().map(Seen::At).map_err(|e: Error| format!("{}, or `none`", e.message()))
}

/// Checks the name of a key or directory. An empty variable of a script is none.
pub(crate) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty; write / for the whole store".to_owned());
    }
    Directory::parse(text).map(|_| text.to_owned()).map_err(|e| e.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_a_value() {
        assert_eq!(for_terminal(b"a\n\tb\x1b[2J\xff\x07"), "a\n\tb\\x1b[2J\\xff\\x07");
        assert_eq!(for_terminal("x\u{202e}y\u{85}z".as_bytes()), "x\\u{202e}y\\u{85}z");
        assert_eq!(on_one_line("a\\\n\tü\r".as_bytes()), "a\\\\\\n\\tü\\r");
    }

    #[test]
    fn a_line_is_cut_by_the_columns_that_it_takes() {
        for (line, most, expected) in [
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
            ("e\u{301}ab", 2, "e\u{301}…"),
            ("🚀🚀", 3, "🚀…"),
        ] {
            assert_eq!(cut(line, most), expected);
        }
        assert_eq!([width("aü"), width("日本"), width("e\u{301}"), width("🚀")], [2, 4, 1, 2]);
    }

    #[test]
    fn a_line_is_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("ab", 0), "…");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("7", 7_000), ("1h30m", 5_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5x", "1.5s", "-1s", "1h30", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["0s", "250ms", "30s", "90m", "2d"] {
            assert_eq!(duration(text).map(of_duration).as_deref(), Ok(text));
        }
    }
}
