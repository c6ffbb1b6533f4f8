//! Versions as the scripts write them, and the notes of keys at their last writes.

use crate::client::answer::Answer;
use kv_core::{Error, ErrorKind, Result, Version, backend::unique};
use sha1::{Digest, Sha1};

/// The bit of the low half that marks a version made of the bytes that another tool wrote.
const FOREIGN: u64 = 1 << 63;

/// Returns a new random number: the part of a version that is the write's own.
pub(crate) fn nonce() -> u64 {
    unique() >> 1
}

/// Returns the digest by which a value is known again: the first 60 bits of its SHA-1, in hex.
pub(crate) fn digest(value: &[u8]) -> String {
    let mut hex: String = Sha1::digest(value).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(15);
    hex
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

/// The note of a key, made at its last write through the library.
#[derive(Debug)]
pub(crate) struct Note {
    version: Version,
    digest: String,
}

impl Note {
    /// Reads a note; `None` where there is none, or where it cannot be read. The scripts, which
    /// know the server's time, hand on no note that they do not believe.
    pub(crate) fn of(answer: Answer) -> Result<Option<Self>> {
        let Some(answer) = answer.some() else { return Ok(None) };
        Ok(std::str::from_utf8(&answer.bytes()?).ok().and_then(Self::read))
    }

    fn read(text: &str) -> Option<Self> {
        let is_number = |text: &str, digits| {
            (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let mut words = text.splitn(4, ' ');
        let (number, nonce, digest, _life) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_hex = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_number(number, 16) || !is_number(nonce, 19) || !is_hex {
            return None;
        }
        let version = Version::new(number.parse().ok()?, nonce.parse().ok()?);
        Some(Self { version, digest: digest.to_owned() })
    }

    /// Returns the version of a value with this note: the noted one, or one made of the bytes
    /// where another tool has written since.
    pub(crate) fn version(note: Option<Self>, value: &[u8]) -> Result<Version> {
        let digest = digest(value);
        match note {
            Some(note) if note.digest == digest => Ok(note.version),
            note => {
                let number = note.map_or(0, |note| note.version.parts().0);
                version_of_text(&format!("{number} x{digest}"))
            }
        }
    }

    /// Returns the version that was noted, whatever the value is by now.
    pub(crate) fn noted(note: Option<Self>) -> Version {
        note.map_or(Version::new(0, 0), |note| note.version)
    }
}
