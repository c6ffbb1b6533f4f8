//! Versions as the scripts write them, and the notes of keys at their last writes.

use kv_core::{Error, ErrorKind, Result, Version, backend::unique};
use sha1::{Digest, Sha1};

/// The bit of the low half that marks a version made of the bytes that another tool wrote.
const FOREIGN: u64 = 1 << 63;

/// Returns a new random number: the part of a version that is the write's own.
pub(crate) fn nonce() -> u64 {
    unique() >> 1
}

/// Returns the digest by which a value is known again: the first 60 bits of its SHA-1.
fn digest(value: &[u8]) -> u64 {
    let sum: [u8; 20] = Sha1::digest(value).into();
    sum.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte)) >> 4
}

/// Returns the digest of a value as the scripts write it: 15 digits in hex.
pub(crate) fn digest_text(value: &[u8]) -> String {
    format!("{:015x}", digest(value))
}

/// Returns whether a version is made of the bytes that another tool wrote.
fn is_foreign(version: Version) -> bool {
    version.parts().1 & FOREIGN != 0
}

/// Returns whether a key can come from one version to the other by writes alone. Other tools leave
/// the number of the last write through the library in place, whatever they write over it, also
/// the same bytes again.
pub(crate) fn follows(before: Version, after: Version) -> bool {
    let is_theirs = is_foreign(before) || is_foreign(after);
    after > before || is_theirs && after.parts().0 == before.parts().0
}

/// Writes a version as the scripts do.
pub(crate) fn version_text(version: Version) -> String {
    match version.parts() {
        (number, low) if low & FOREIGN != 0 => format!("{number} x{:015x}", low & !FOREIGN),
        (number, nonce) => format!("{number} {nonce}"),
    }
}

/// Reads a version that the scripts wrote.
pub(crate) fn version_of_text(text: &str) -> Result<Version> {
    let parts = text.split_once(' ').and_then(|(number, low)| {
        let low = match low.strip_prefix('x') {
            Some(digest) => FOREIGN | u64::from_str_radix(digest, 16).ok()?,
            None => low.parse().ok()?,
        };
        Some(Version::new(number.parse().ok()?, low))
    });
    parts.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{text:?} is no version")))
}

/// The greatest number that a note may have, as a script answers it: none where all are believed.
/// The scripts know the server's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latest(pub(crate) Option<u64>);

/// The note of a key, made at its last write through the library.
#[derive(Debug)]
pub(crate) struct Note {
    version: Version,
    /// None where no digest of ours is in its place.
    digest: Option<u64>,
}

impl Note {
    /// Reads a note; `None` where there is none, where it cannot be read, or where it is not
    /// believed.
    pub(crate) fn of(text: Option<&[u8]>, latest: Latest) -> Option<Self> {
        let note = Self::read(std::str::from_utf8(text?).ok()?)?;
        latest.0.is_none_or(|latest| note.number() <= latest).then_some(note)
    }

    fn read(text: &str) -> Option<Self> {
        let number = |text: &str, digits| -> Option<u64> {
            let is_number = text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_number)
        };
        let mut words = text.splitn(4, ' ');
        let (count, nonce, digest, _life) = (words.next()?, words.next()?, words.next()?, words.next()?);
        if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let version = Version::new(number(count, 16)?, number(nonce, 19)?);
        let is_ours = digest.len() == 15 && !digest.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(Self { version, digest: u64::from_str_radix(digest, 16).ok().filter(|_| is_ours) })
    }

    fn number(&self) -> u64 {
        self.version.parts().0
    }

    /// Returns the version of a value, if this note was made when it was written.
    pub(crate) fn version_of(&self, value: &[u8]) -> Option<Version> {
        (self.digest == Some(digest(value))).then_some(self.version)
    }

    /// Returns the version of a value with this note: the noted one, or one made of the bytes
    /// where another tool has written since.
    pub(crate) fn version(note: Option<Self>, value: &[u8]) -> Version {
        let of_bytes = || Version::new(note.as_ref().map_or(0, Self::number), FOREIGN | digest(value));
        note.as_ref().and_then(|note| note.version_of(value)).unwrap_or_else(of_bytes)
    }

    /// Returns the version that was noted, whatever the value is by now.
    pub(crate) fn noted(note: Option<Self>) -> Version {
        note.map_or(Version::new(0, 0), |note| note.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of `v` is the beginning of its SHA-1.
    const NOTE: &[u8] = b"17 5 7a38d8cbd20d993 -";

    #[test]
    fn what_others_write_follows_what_it_was_written_over() {
        let (ours, one, two) =
            (Version::new(7, 9), Version::new(7, FOREIGN | 1), Version::new(7, FOREIGN | 2));
        for (before, after) in [(ours, one), (one, two), (two, one), (one, ours), (one, Version::new(8, 0))] {
            assert!(follows(before, after), "{before} {after}");
        }
        for after in [Version::new(6, 9), Version::new(6, FOREIGN | 3), Version::new(7, 8)] {
            assert!(!follows(ours, after), "{after}");
        }
        assert!(!follows(one, Version::new(6, FOREIGN | 3)));
    }

    #[test]
    fn a_note_is_of_the_value_with_its_digest() {
        assert_eq!(digest_text(b"v"), "7a38d8cbd20d993");
        let version =
            |note: &[u8], value| version_text(Note::version(Note::of(Some(note), Latest(Some(17))), value));
        assert_eq!(version(NOTE, b"v"), "17 5");
        let of_w = format!("x{}", digest_text(b"w"));
        assert_eq!(version(NOTE, b"w"), format!("17 {of_w}"));
        assert_eq!(version(b"17 5 7A38D8CBD20D993 -", b"v"), "17 x7a38d8cbd20d993");
        for none in [
            &b"18 5 7a38d8cbd20d993 -"[..],
            b"17 5 7a38d8cbd20d993",
            b"17 -5 7a -",
            b"+1 5 7a -",
            b" 5 7a -",
            b"17 5  -",
            b"",
        ] {
            assert_eq!(version(none, b"w"), format!("0 {of_w}"), "{none:?}");
        }
        let text = format!("17 {of_w}");
        assert_eq!(version_text(version_of_text(&text).unwrap()), text);
    }
}
