//! Makes the operations of transactions.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use std::sync::Arc;

/// One operation of a transaction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Op {
    #[serde(rename = "KV")]
    kv: KvOp,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KvOp {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u64>,
}

impl Op {
    fn new(verb: &'static str, key: &str) -> Self {
        Self { kv: KvOp { verb, key: key.to_owned(), value: None, index: None, session: None, flags: None } }
    }

    pub(crate) fn get(key: &str) -> Self {
        Self::new("get", key)
    }

    pub(crate) fn get_tree(prefix: &str) -> Self {
        Self::new("get-tree", prefix)
    }

    pub(crate) fn delete(key: &str) -> Self {
        Self::new("delete", key)
    }

    pub(crate) fn check_missing(key: &str) -> Self {
        Self::new("check-not-exists", key)
    }

    pub(crate) fn check_index(key: &str, index: u64) -> Self {
        let mut op = Self::new("check-index", key);
        op.kv.index = Some(index);
        op
    }

    pub(crate) fn check_session(key: &str, session: &str) -> Self {
        let mut op = Self::new("check-session", key);
        op.kv.session = Some(session.into());
        op
    }

    /// Writes the key; with a session, the key ends when the session does.
    pub(crate) fn write(key: &str, value: &[u8], session: Option<&Arc<str>>) -> Self {
        let mut op = Self::new(if session.is_some() { "lock" } else { "set" }, key);
        op.kv.value = Some(BASE64_STANDARD.encode(value));
        op.kv.session = session.map(ToString::to_string);
        op
    }

    /// Writes a number beside the value: with another one, the key is modified even where its
    /// value stays the same.
    pub(crate) fn with_flags(mut self, flags: u64) -> Self {
        self.kv.flags = Some(flags);
        self
    }
}
