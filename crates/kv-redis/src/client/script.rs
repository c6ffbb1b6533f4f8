//! The scripts, and what they answer.

use crate::error::corrupt;
use fred::types::Value;
use kv_core::{Bytes, Result};
use sha1::{Digest, Sha1};
use std::sync::LazyLock;

/// A script, and the name that the server knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: &'static str,
    pub(crate) sha: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        let sha = Sha1::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { source, sha }
    }
}

macro_rules! scripts {
    ($($name:ident: $($file:literal),+;)*) => {
        $(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("../lua/common.lua"), $("\n", include_str!($file)),+)));
    )*
        /// All of them.
        pub(crate) fn all() -> Vec<&'static Script> {
            vec![$(&$name),*]
        }
    };
}

scripts! {
    ADOPT: "../lua/adopt.lua";
    AGAIN: "../lua/again.lua";
    DELETE_TREE: "../lua/delete_tree.lua";
    ENTER: "../lua/line.lua", "../lua/enter.lua";
    EXISTS: "../lua/exists.lua";
    HOLDER: "../lua/line.lua", "../lua/holder.lua";
    LEASE: "../lua/lease.lua";
    LEAVE: "../lua/line.lua", "../lua/leave.lua";
    LIST: "../lua/list.lua";
    LIVES: "../lua/lives.lua";
    PARTS: "../lua/parts.lua";
    READ: "../lua/read.lua";
    SESSION: "../lua/line.lua", "../lua/session.lua";
    WRITE: "../lua/write.lua";
}

/// What is noted of a value, to know it again: the first 60 bits of its SHA-1, in hex.
pub(crate) fn digest(value: &[u8]) -> String {
    let mut hex: String = Sha1::digest(value).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(15);
    hex
}

const NOT_OURS: &str = "the server's answer is not one of our scripts'";

/// An answer, read part by part.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Value);

impl Answer {
    pub(crate) fn list(self) -> Result<std::vec::IntoIter<Value>> {
        match self.0 {
            Value::Array(parts) => Ok(parts.into_iter()),
            _ => Err(corrupt(NOT_OURS)),
        }
    }

    /// `None` for nothing.
    pub(crate) fn some(self) -> Option<Self> {
        match self.0 {
            Value::Null | Value::Boolean(false) => None,
            _ => Some(self),
        }
    }

    pub(crate) fn bytes(self) -> Result<Bytes> {
        match self.0 {
            Value::String(text) => Ok(text.into_inner()),
            Value::Bytes(bytes) => Ok(bytes),
            Value::Integer(number) => Ok(number.to_string().into()),
            _ => Err(corrupt(NOT_OURS)),
        }
    }

    pub(crate) fn text(self) -> Result<String> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| corrupt(NOT_OURS))
    }

    pub(crate) fn number(self) -> Result<i64> {
        match self.0 {
            Value::Integer(number) => Ok(number),
            _ => self.text()?.parse().map_err(|_| corrupt(NOT_OURS)),
        }
    }
}

impl Answer {
    /// A number that cannot be below nothing.
    pub(crate) fn unsigned(self) -> Result<u64> {
        u64::try_from(self.number()?).map_err(|_| corrupt(NOT_OURS))
    }
}

/// The next part of a list.
pub(crate) fn next(parts: &mut impl Iterator<Item = Value>) -> Result<Answer> {
    parts.next().map(Answer).ok_or_else(|| corrupt(NOT_OURS))
}
