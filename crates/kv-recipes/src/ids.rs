//! Ids that nobody else has, by blocks.

use crate::{
    json::corrupt,
    names::in_recipe,
    patience::{backoff, ends},
};
use kv_core::{Entry, Error, ErrorKind, IntoKey, Key, Kv, Result, backend::apart, driver::Deadline};
use std::{fmt, ops::Range, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The first id of all.
const FIRST: u64 = 1;
/// The share of its time that each request of a block has, so that a lost answer leaves time for
/// another try.
const REQUESTS: u32 = 5;

/// Ids that no other process gets, ever: numbers that are taken from the store by blocks, and given
/// out from memory.
///
/// An id is never given out twice. There are gaps: what is left of a block when its process ends,
/// and blocks whose answer was lost. The ids of one process grow; those of several grow block by
/// block. Clones share their block. It works on every store: a block is one compare-and-swap.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::IdBlocks;
///
/// let kv = kv_memory::open("memory://").await?;
/// let here = IdBlocks::new(&kv, "orders/ids").size(100);
/// let there = IdBlocks::new(&kv, "orders/ids");
/// assert_eq!((here.next().await?, here.next().await?), (1, 2));
/// assert_eq!(there.next().await?, 101);
///
/// kv_memory::Faults::of(&kv).unwrap().lose_answers(1); // of a write that is done
/// assert_eq!(there.block(10).await?, 1111..1121, "the block before it is a gap");
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the process is | then |
/// |---|---|
/// | paused, for however long | its block stays its own |
/// | killed | what is left of its block is a gap |
/// | cut off from the server | ids of its block are given out; then an error within the [deadline](Self::deadline) |
/// | there while the server restarts | as when it is cut off |
/// | told nothing, because an answer was lost | another block is taken, and the one that was lost is a gap |
/// | no longer waiting (the future is dropped) | a block that it had asked for is a gap |
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
/// failover can bring back an older number, and ids of then come twice.
///
/// # Layout, format 1
/// The key has the first id that was not given out, as decimal text; a missing key is 1. Whoever
/// takes a block replaces it, by a compare-and-swap, by the first id behind the block.
#[doc(alias = "sequence")]
#[doc(alias = "auto_increment")]
#[derive(Clone)]
pub struct IdBlocks {
    kv: Kv,
    name: Result<Key>,
    size: u64,
    within: Duration,
    block: Arc<Mutex<Range<u64>>>,
}

impl IdBlocks {
    /// Makes the ids of this key, in blocks of 1,000. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        let (size, within, block) = (1000, Deadline::DEFAULT, Arc::default());
        Self { kv: kv.clone(), name: name.into_key(), size, within, block }
    }

    /// Sets how many ids [`next`](Self::next) takes from the store at once, at least one. Processes
    /// may have different ones.
    #[must_use]
    pub fn size(mut self, ids: u64) -> Self {
        self.size = ids.max(1);
        self
    }

    /// Sets the time that taking a block has, with all its tries: five seconds unless it is set.
    #[doc(alias = "timeout")]
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Returns the next id; it asks the store once a block.
    ///
    /// # Errors
    /// Those of [`block`](Self::block).
    ///
    /// # Cancel safety
    /// A future that is dropped may leave a gap.
    pub async fn next(&self) -> Result<u64> {
        let ids = self.clone();
        // Others wait while it asks the store, polled or not.
        apart(async move { ids.next_here().await }).await
    }

    async fn next_here(&self) -> Result<u64> {
        // Whoever waits while another asks the store has no more time than who asks.
        let deadline = Deadline::after(self.within);
        let block = deadline.limit(self.block.lock()).await;
        let mut block = block.ok_or_else(|| self.in_call(self.too_late()))?;
        if block.is_empty() {
            *block = self.block_by(self.size, deadline).await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }

    /// Takes a block of so many ids from the store, apart from those of [`next`](Self::next).
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Corrupt`](ErrorKind::Corrupt) for a
    /// value that is no number, and [`InvalidArgument`](ErrorKind::InvalidArgument) when 64 bits
    /// are used up, with nothing written; the error of the last try when the time is over, or
    /// [`Timeout`](ErrorKind::Timeout); the server's lasting refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped may leave a gap.
    pub async fn block(&self, ids: u64) -> Result<Range<u64>> {
        self.block_by(ids, Deadline::after(self.within)).await
    }

    async fn block_by(&self, ids: u64, deadline: Deadline) -> Result<Range<u64>> {
        let name = self.name.as_ref().map_err(|e| self.in_call(e.clone()))?;
        let mut last = None;
        let take = deadline.limit(self.take(name, ids, &mut last));
        let taken = take.await.unwrap_or_else(|| Err(last.unwrap_or_else(|| self.too_late())));
        taken.map_err(|e| self.in_call(e))
    }

    async fn take(&self, name: &Key, ids: u64, last: &mut Option<Error>) -> Result<Range<u64>> {
        let mut backoff = backoff();
        loop {
            match self.try_to_take(name, ids).await {
                // What an unknown outcome took, if it did, is a gap.
                Err(e) if !ends(&e) => *last = Some(e).filter(|e| !e.is_conflict()).or(last.take()),
                ended => return ended,
            }
            backoff.pause().await;
        }
    }

    async fn try_to_take(&self, name: &Key, ids: u64) -> Result<Range<u64>> {
        let each = self.within / REQUESTS;
        let found = self.kv.get(name).deadline(each).await?;
        let first = found.as_ref().map_or(Ok(FIRST), first_of)?;
        let behind = first.checked_add(ids).ok_or_else(|| {
            let why =
                format!("{ids} ids from {first} on are beyond 64 bits; take fewer, or begin another key");
            Error::new(ErrorKind::InvalidArgument, why)
        })?;
        let put = self.kv.put(name, behind.to_string()).deadline(each);
        let put = match &found {
            Some(entry) => put.if_version(entry.version),
            None => put.if_missing(),
        };
        put.await?;
        Ok(first..behind)
    }

    #[cold]
    fn too_late(&self) -> Error {
        let why = format!("no block was there within {:?}: others took theirs first", self.within);
        Error::new(ErrorKind::Timeout, why)
    }

    fn in_call(&self, error: Error) -> Error {
        in_recipe(error, &self.kv, "take ids", self.name.as_ref().ok())
    }
}

fn first_of(entry: &Entry) -> Result<u64> {
    let first = entry.text().and_then(|text| text.parse().ok());
    first.ok_or_else(|| corrupt(&entry.key, "is no decimal number of 64 bits"))
}

impl fmt::Debug for IdBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdBlocks").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}
