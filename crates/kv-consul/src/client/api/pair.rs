//! Reads keys as the server tells them.

use super::json::name;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use kv_core::{Error, ErrorKind, Result, Version};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// A key as the server tells it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// Tells whether a session holds the key.
    pub(crate) is_held: bool,
    /// Holds the id of that session in quotes, as a part of the answer that it came in.
    session: Bytes,
    /// Holds the value in base64, as a part of the answer that it came in.
    text: Bytes,
}

impl Pair {
    pub(crate) fn value(&self) -> Result<Bytes> {
        let value = BASE64_STANDARD.decode(&self.text).map_err(|e| {
            let why = format!("the server answered a value of {:?} that is no base64", self.name);
            Error::new(ErrorKind::Corrupt, why).with_cause(e)
        })?;
        Ok(value.into())
    }

    /// Returns the id of the session that holds the key; an empty one where there is none.
    pub(crate) fn session(&self) -> Arc<str> {
        String::from_utf8_lossy(&self.session).trim_matches('"').into()
    }

    /// Returns a digest of the value.
    pub(crate) fn digest(&self, hashes: &RandomState) -> u64 {
        hashes.hash_one(&self.text)
    }

    pub(crate) fn version(&self) -> Version {
        Version::new(self.modified, 0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawPair<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow, default)]
    value: Option<&'a str>,
    #[serde(borrow, default)]
    session: Option<&'a RawValue>,
    create_index: u64,
    modify_index: u64,
}

impl RawPair<'_> {
    /// Returns the key; `None` for a name that is no text.
    pub(super) fn pair(&self, body: &Bytes) -> Option<Pair> {
        let part = |text: Option<&str>| text.map_or_else(Bytes::new, |text| body.slice_ref(text.as_bytes()));
        Some(Pair {
            name: name(self.key)?,
            created: self.create_index,
            modified: self.modify_index,
            is_held: self.session.is_some(),
            session: part(self.session.map(RawValue::get)),
            text: part(self.value),
        })
    }
}

/// Reads the keys of a listing, except those whose names are no text; `None` for a body that is no
/// listing.
pub(super) fn pairs(body: &Bytes) -> Option<Vec<Pair>> {
    let raw: Vec<RawPair<'_>> = serde_json::from_slice(body).ok()?;
    Some(raw.iter().filter_map(|raw| raw.pair(body)).collect())
}
