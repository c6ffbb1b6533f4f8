//! Finds out whether a write that failed was done all the same.

use crate::{
    client::{Purpose, answer::revision},
    core::Core,
};
use etcd_client::{GetOptions, KeyValue};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};

/// Tells whether a write with this answer certainly took no effect.
pub(super) fn is_undone<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(e) if e.kind() != ErrorKind::OutcomeUnknown)
}

/// The name of one put of a request, which shows whether the request was done.
pub(crate) struct Trace {
    name: Vec<u8>,
    /// Holds a revision from before the request.
    before: i64,
}

impl Trace {
    /// Notes the name, before the request is sent.
    pub(crate) fn new(core: &Core, name: Vec<u8>) -> Self {
        Self { name, before: core.seen() }
    }

    /// Returns the error of the request. A server that becomes full by a request does it, and says
    /// all the same that there is no space; the key shows whether that happened.
    pub(crate) async fn error(&self, core: &Core, error: Error, deadline: Deadline) -> Error {
        if error.kind() != ErrorKind::NoSpace {
            return error;
        }
        let keys_only = GetOptions::new().with_keys_only();
        let read = core.range(Purpose::Read, deadline, &self.name, keys_only).await;
        let is_untouched = read.and_then(|read| {
            let written = read.kvs().first().map(KeyValue::mod_revision);
            Ok(self.is_untouched(revision(read.header())?, written))
        });
        match is_untouched {
            Ok(true) => error,
            _ => {
                let why = "the server became full, perhaps by this very write, which may have happened";
                Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
            }
        }
    }

    /// Tells whether nobody has written or deleted the key since, by its state at this revision:
    /// what the request did may be overwritten or deleted by now.
    fn is_untouched(&self, now: i64, written: Option<i64>) -> bool {
        match written {
            Some(written) => written <= self.before && self.before <= now,
            None => self.before == now,
        }
    }
}
