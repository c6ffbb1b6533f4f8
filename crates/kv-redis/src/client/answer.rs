//! The answers of the scripts, read part by part.

use crate::{error::corrupt, version::Latest};
use fred::types::Value;
use kv_core::{Bytes, Error, Result};

/// An answer, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Value);

impl Answer {
    /// Returns the parts of a list.
    pub(crate) fn list(self) -> Result<std::vec::IntoIter<Value>> {
        match self.0 {
            Value::Array(parts) => Ok(parts.into_iter()),
            _ => Err(not_ours()),
        }
    }

    /// Returns `None` for a nil or a `false`.
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
            _ => Err(not_ours()),
        }
    }

    pub(crate) fn text(self) -> Result<String> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| not_ours())
    }

    pub(crate) fn number(self) -> Result<i64> {
        match self.0 {
            Value::Integer(number) => Ok(number),
            _ => self.text()?.parse().map_err(|_| not_ours()),
        }
    }

    /// Returns the greatest number that a note may have.
    pub(crate) fn latest(self) -> Result<Latest> {
        let latest = self.text()?;
        let number = (!latest.is_empty()).then(|| latest.parse().map_err(|_| not_ours()));
        number.transpose().map(Latest)
    }

    /// Returns a number that is never negative.
    pub(crate) fn unsigned(self) -> Result<u64> {
        u64::try_from(self.number()?).map_err(|_| not_ours())
    }
}

/// Returns the next part of a list.
pub(crate) fn next(parts: &mut impl Iterator<Item = Value>) -> Result<Answer> {
    parts.next().map(Answer).ok_or_else(not_ours)
}

/// Returns the error of an answer that no script of ours gives.
pub(crate) fn not_ours() -> Error {
    corrupt("the server's answer is not one of our scripts'")
}
