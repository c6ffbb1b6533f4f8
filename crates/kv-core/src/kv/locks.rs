//! `locks`.

use super::{Does, Kv, Listing, awaitable};
use crate::{
    Consistency, Directory, HeldLock, Result,
    driver::{NotesLeftOut, ReadOptions},
};
use std::time::Duration;

/// [`Kv::locks`]. Awaited it is a `Vec`; [`stream`](Self::stream) fetches page by page.
///
/// # Errors
/// Before any I/O [`InvalidKey`](crate::ErrorKind::InvalidKey) and
/// [`Unsupported`](crate::ErrorKind::Unsupported); [`Timeout`](crate::ErrorKind::Timeout) for a
/// page that takes longer than the deadline, and the server's refusals. A stream ends with its
/// first error.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Locks {
    kv: Kv,
    directory: Result<Directory>,
    consistency: Consistency,
    within: Duration,
}

impl Locks {
    pub(super) fn new(kv: &Kv, directory: Result<Directory>) -> Self {
        Self { kv: kv.clone(), directory, consistency: Consistency::default(), within: kv.deadline }
    }
    /// Lets any member answer, from the past.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }
    /// Sets the time that each page has, in place of the handle's.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Returns the locks as a stream.
    pub fn stream(self) -> Listing<HeldLock> {
        Listing::of_pages(NotesLeftOut::default(), |out| async move {
            let directory = self.directory.map_err(|e| self.kv.in_call(e, "locks", None))?;
            let (name, part) = (Some(directory.as_str()), self.kv.part());
            let in_call = |e| self.kv.in_call(e, "locks", name);
            let whole = part.whole_directory(&directory).map_err(in_call)?;
            let mut from = None;
            loop {
                let (store, deadline) = self.kv.begin(self.within);
                let list = async {
                    let capabilities = store.capabilities();
                    if !capabilities.lock.as_ref().is_some_and(|locking| locking.lists) {
                        return Err(capabilities.unsupported("listings of locks"));
                    }
                    capabilities.check_consistency(self.consistency)?;
                    let options = ReadOptions { consistency: self.consistency, deadline };
                    store.locks(&whole, from.as_ref(), &options).await
                };
                let mut page = self.kv.call("locks", name, Does::Read, deadline, list).await?;
                for lock in &mut page.locks {
                    lock.name = part.own(lock.name.clone()).map_err(in_call)?;
                }
                out.send(page.locks).await;
                from = page.next;
                if from.is_none() {
                    return Ok(());
                }
            }
        })
    }

    async fn run(self) -> Result<Vec<HeldLock>> {
        self.stream().await
    }
}
awaitable!(Locks => Vec<HeldLock>, Locks::run);
