//! The record in the key of a lock.

use crate::{Entry, Error, ErrorKind, Holder, Result, driver::Store};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The content of the lock's key: the token, 0 until it is known; the id of the attempt; how often
/// the holder has changed its value; the value.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) token: u64,
    pub(super) id: u64,
    pub(super) changes: u64,
    pub(super) value: Bytes,
}

impl Record {
    const HEAD: usize = 24;

    pub(super) fn bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::HEAD + self.value.len());
        bytes.put_u64(self.token);
        bytes.put_u64(self.id);
        bytes.put_u64(self.changes);
        bytes.put_slice(&self.value);
        bytes.freeze()
    }

    pub(super) fn of(entry: &Entry) -> Result<Self> {
        let mut bytes = entry.value.clone();
        if bytes.len() < Self::HEAD {
            let why = format!("{:?} holds {} bytes, which no lock writes", entry.key, bytes.len());
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        let (token, id, changes) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u64());
        Ok(Self { token, id, changes, value: bytes })
    }

    pub(super) fn holder(self) -> Option<Holder> {
        (self.token > 0).then(|| Holder::new(self.token, self.value).with_changes(self.changes))
    }

    /// Checks that a value fits into the lock's key.
    pub(super) fn check(value: &Bytes, store: &impl Store) -> Result<()> {
        let most = store.capabilities().max_value.saturating_sub(Self::HEAD);
        if value.len() <= most {
            return Ok(());
        }
        let why = format!("a lock's value of {} bytes; this store takes {most}", value.len());
        Err(Error::new(ErrorKind::TooLarge, why))
    }
}
