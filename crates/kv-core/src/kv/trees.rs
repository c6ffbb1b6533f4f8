//! `delete_tree`, `adopt`.

use super::{Does, Kv, awaitable, deadline};
#[allow(unused_imports, reason = "the documentation speaks of it")]
use crate::ErrorKind;
use crate::{Directory, Result, backend::retry::outcome_unknown, driver::WriteOptions};
use std::time::Duration;

/// [`Kv::delete_tree`], to be awaited.
///
/// # Errors
/// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost, and when a batch failed
/// after others had deleted something; the cause tells why: call it again.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct DeleteTree {
    kv: Kv,
    directory: Result<Directory>,
    within: Duration,
}

impl DeleteTree {
    pub(super) fn new(kv: &Kv, directory: Result<Directory>) -> Self {
        Self { kv: kv.clone(), directory, within: kv.deadline }
    }
    /// Sets the time that each batch has, in place of the handle's.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    async fn run(self) -> Result<Option<u64>> {
        let directory = self.directory.map_err(|e| self.kv.in_call(e, "delete_tree", None))?;
        let name = Some(directory.as_str());
        let whole = self.kv.part().whole_directory(&directory);
        let whole = whole.map_err(|e| self.kv.in_call(e, "delete_tree", name))?;
        let (mut from, mut count) = (None, Some(0));
        loop {
            let (store, deadline) = self.kv.begin(self.within);
            let has_deleted = count != Some(0);
            let batch = async {
                let batch = store.delete_tree(&whole, from.as_ref(), &WriteOptions { deadline }).await;
                // Something is deleted by now, whatever this batch says of itself.
                batch.map_err(|e| if has_deleted { outcome_unknown(e) } else { e })
            };
            let batch = self.kv.call("delete_tree", name, Does::Write, deadline, batch).await?;
            count = count.zip(batch.deleted).map(|(sum, more)| sum + more);
            from = batch.next;
            if from.is_none() {
                return Ok(count);
            }
        }
    }
}
awaitable!(DeleteTree => Option<u64>, DeleteTree::run);

/// [`Kv::adopt`], to be awaited.
///
/// # Errors
/// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when an answer was lost: call it again.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Adopt {
    kv: Kv,
    directory: Result<Directory>,
    within: Duration,
}

impl Adopt {
    pub(super) fn new(kv: &Kv, directory: Result<Directory>) -> Self {
        Self { kv: kv.clone(), directory, within: kv.deadline }
    }
    deadline!();

    async fn run(self) -> Result<u64> {
        let directory = self.directory.map_err(|e| self.kv.in_call(e, "adopt", None))?;
        let (store, deadline) = self.kv.begin(self.within);
        let adopt = async {
            let whole = self.kv.part().whole_directory(&directory)?;
            store.adopt(&whole, &WriteOptions { deadline }).await
        };
        self.kv.call("adopt", Some(directory.as_str()), Does::Write, deadline, adopt).await
    }
}
awaitable!(Adopt => u64, Adopt::run);
