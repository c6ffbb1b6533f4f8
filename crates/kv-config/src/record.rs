//! The record by which a process reports what it runs.

use crate::{
    snapshot::Generation,
    state::{Origin, State},
};
use kv_core::{Bytes, Entry, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The format of the record.
const FORMAT: u32 = 1;
/// The most characters of a reason that are reported.
const LONGEST: usize = 500;

/// The value of a report's key, in JSON: the generation that a process runs and its source, and the
/// generation that the process rejects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    pub(crate) runs: Generation,
    pub(crate) from: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rejects: Option<Rejects>,
}

/// The generation that a process rejects, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejects {
    pub(crate) generation: Generation,
    pub(crate) why: String,
}

/// The part that a record of any format has: the number of the format.
#[derive(Deserialize)]
struct AnyRecord {
    v: u32,
}

impl Record {
    pub(crate) fn of<T>(state: &State<T>) -> Self {
        let rejects = state.rejected.as_ref().map(|rejected| Rejects {
            generation: rejected.generation.clone(),
            why: rejected.error.message().chars().take(LONGEST).collect(),
        });
        let (runs, from) = (state.running.generation.clone(), state.running.origin);
        Self { v: FORMAT, runs, from, rejects }
    }

    pub(crate) fn write(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self).map(Bytes::from);
        json.map_err(|e| Error::new(ErrorKind::Other, "the report cannot be written").with_cause(e))
    }

    /// Reads the record of a key.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for what is no record of this format.
    pub(crate) fn read(entry: &Entry) -> Result<Self> {
        let corrupt = |what: String| {
            Error::new(ErrorKind::Corrupt, format!("the value of the key {:?} {what}", entry.key))
        };
        let any: Result<AnyRecord, _> = serde_json::from_slice(&entry.value);
        match any {
            Ok(AnyRecord { v }) if v != FORMAT => Err(corrupt(format!(
                "has the format {v}; this program knows {FORMAT}: run the release that wrote it"
            ))),
            // The parser's own words could show a piece of a foreign value.
            _ => serde_json::from_slice(&entry.value).map_err(|_| corrupt("is no report".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::state::Origin;
    use kv_core::{Entry, ErrorKind, Key, Version};

    fn read(value: &'static str) -> kv_core::Result<Record> {
        Record::read(&Entry::new(Key::parse("s/a").unwrap(), value, Version::new(1, 0)))
    }

    #[test]
    fn records_are_those_that_are_documented() {
        let with = r#"{"v":1,"runs":"17","from":"file","rejects":{"generation":"18","why":"a: is missing"}}"#;
        for json in [r#"{"v":1,"runs":"17","from":"store"}"#, with] {
            assert_eq!(read(json).unwrap().write().unwrap(), json);
        }
        let newer = read(r#"{"v":1,"runs":"17","from":"store","more":[1]}"#).unwrap();
        assert_eq!((newer.runs.as_str(), newer.from), ("17", Origin::Store));
        for (json, says) in [
            (r#"{"v":2}"#, "format 2"),
            ("secret", "is no report"),
            (r#"{"v":1}"#, "is no report"),
            ("", "is no report"),
        ] {
            let e = read(json).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt);
            assert!(e.to_string().contains(says) && !e.to_string().contains("secret"), "{e}");
        }
    }
}
