//! The records that recipes write: a line of JSON, and behind it what the user gave.

use crate::json;
use kv_core::{Bytes, Error, Key, Result};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};

/// The format of every record, `"v":1` in its line. A record of another format is unreadable: who
/// changes a record so that programs of before would misread it counts this up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Format;

const FORMAT: u32 = 1;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u32::deserialize(from)? {
            FORMAT => Ok(Self),
            other => Err(D::Error::custom(format!("format {other}, where {FORMAT} is known"))),
        }
    }
}

/// Writes a record of this line and body.
pub(crate) fn write(line: &impl Serialize, body: &[u8]) -> Result<Bytes> {
    let line = json::write(line)?;
    let mut record = Vec::with_capacity(line.len() + 1 + body.len());
    record.extend_from_slice(&line);
    record.push(b'\n');
    record.extend_from_slice(body);
    Ok(Bytes::from(record))
}

/// Reads the line and the body of a key's record. A record without a line's end has no body.
pub(crate) fn read<L: DeserializeOwned>(key: &Key, record: &Bytes) -> Result<(L, Bytes)> {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let line = json::read(key, &record[..end]).map_err(|e| other_format(key, &record[..end]).unwrap_or(e))?;
    Ok((line, record.slice((end + 1).min(record.len())..)))
}

#[derive(Deserialize)]
struct Any {
    v: u32,
}

/// Returns the error of a record of another format; `None` for anything else.
#[cold]
fn other_format(key: &Key, line: &[u8]) -> Option<Error> {
    let Any { v } = serde_json::from_slice(line).ok()?;
    let why = || format!("has the format {v}; this program knows {FORMAT}: run the release that wrote it");
    (v != FORMAT).then(|| json::corrupt(key, why()))
}

#[cfg(test)]
mod tests {
    use super::{Format, read, write};
    use kv_core::{Bytes, ErrorKind, Key, Result};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Line {
        v: Format,
        id: String,
    }

    #[test]
    fn any_body_comes_back_and_other_formats_are_refused() -> Result<()> {
        let key = Key::parse("a/b")?;
        for body in [&b""[..], b"\n", b"one\ntwo", b"\xff\x00"] {
            let record = write(&Line { v: Format, id: "x".into() }, body)?;
            let (line, read) = read::<Line>(&key, &record)?;
            assert_eq!((&*line.id, &*read), ("x", body));
        }
        let newer = read::<Line>(&key, &Bytes::from_static(br#"{"v":2,"id":"x"}"#)).unwrap_err();
        assert!(newer.to_string().contains("the format 2"), "{newer}");
        let without_end = Bytes::from_static(br#"{"v":1,"id":"x","more":true}"#);
        assert_eq!(read::<Line>(&key, &without_end)?.1, Bytes::new());
        for other in [r#"{"v":2,"id":"x"}"#, r#"{"id":"x"}"#, "", "secret", r#"{"v":1,"id":7}"#] {
            let e = read::<Line>(&key, &Bytes::copy_from_slice(other.as_bytes())).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt);
            assert!(e.to_string().contains("\"a/b\"") && !e.to_string().contains("secret"), "{e}");
        }
        Ok(())
    }
}
