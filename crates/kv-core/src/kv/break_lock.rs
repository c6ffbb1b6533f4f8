//! `break_lock`.

use super::{Does, Kv, awaitable, deadline};
use crate::{Error, ErrorKind, Key, Result, driver::WriteOptions};
use std::time::Duration;

/// [`Kv::break_lock`], to be awaited: it returns whether the acquisition held the lock, and was
/// ended.
///
/// # Errors
/// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), [`Unsupported`](ErrorKind::Unsupported),
/// and [`InvalidArgument`](ErrorKind::InvalidArgument) without a [`token`](Self::token); else those
/// of a delete.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct BreakLock {
    kv: Kv,
    name: Result<Key>,
    token: Option<u64>,
    within: Duration,
}

impl BreakLock {
    pub(super) fn new(kv: &Kv, name: Result<Key>) -> Self {
        Self { kv: kv.clone(), name, token: None, within: kv.deadline }
    }
    /// Says which acquisition is to be ended, by its fencing token:
    /// [`Kv::lock_holder`] tells that of the holder.
    pub fn token(mut self, token: u64) -> Self {
        self.token = Some(token);
        self
    }
    deadline!();

    async fn run(self) -> Result<bool> {
        let name = self.name.map_err(|e| self.kv.in_call(e, "break_lock", None))?;
        let (store, deadline) = self.kv.begin(self.within);
        let break_lock = async {
            let capabilities = store.capabilities();
            if !capabilities.lock.as_ref().is_some_and(|locking| locking.breaks) {
                return Err(capabilities.unsupported("ending another's lock"));
            }
            let token = self.token.ok_or_else(|| {
                let why = "say by `token` which acquisition is to be ended; `lock_holder` tells it";
                Error::new(ErrorKind::InvalidArgument, why)
            })?;
            let options = WriteOptions { deadline };
            let whole = self.kv.part().whole(&name)?;
            store.break_lock(&whole, token, &options).await
        };
        self.kv.call("break_lock", Some(name.as_str()), Does::Write, deadline, break_lock).await
    }
}
awaitable!(BreakLock => bool, BreakLock::run);
