//! Many readers, or one writer.

use crate::{
    Permit,
    names::{below, in_recipe, new_id},
    needs,
    patience::{DEFAULT_TTL, backoff, ends, until_lost},
    permit::{occupy, permit},
    record::{self, Format},
};
use kv_core::{Entry, Error, ErrorKind, Guard, IntoKey, Key, Kv, Lock, Result, WatchEvent, backend::apart};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;

/// The pause after which the readers are listed again, when the watch has told the end of readers
/// that are still there.
const LATE_WATCH: Duration = Duration::from_millis(100);

/// A read-write lock: many readers hold it at once, or one writer.
///
/// A fair lock is the gate. A reader passes it, leaves a key under a lease of its own, and gives it
/// back. A writer keeps it, and waits until no reader's key is left; meanwhile all who come later
/// wait behind the writer, so that it does not starve. There is no way from reading to writing: who
/// asks to write and keeps its own permit to read waits for ever. The writer's [`Guard`] is that of
/// the gate: writes can be [`fenced`](kv_core::Put::fenced) by it. A reader's writes depend on its
/// permit's [`condition`](Permit::condition).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::RwLock;
///
/// let kv = kv_memory::open("memory://").await?;
/// let schema = RwLock::new(&kv, "schema");
/// let (one, two) = (schema.read().await?, schema.read().await?);
/// assert!(schema.try_write().await?.is_none());
///
/// let writes = tokio::spawn({
///     let schema = schema.clone();
///     async move { schema.write().await }
/// });
/// one.release().await?;
/// two.release().await?;
/// let writer = writes.await.unwrap()?;
/// kv.put("schema/version", "8").fenced(&writer).await?;
/// assert!(schema.try_read().await?.is_none());
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when a holder is | then |
/// |---|---|
/// | paused beyond the TTL | others get the lock; when it wakes, it knows that its time is over, and what it writes under the guard or the condition is refused |
/// | killed | its share is free within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | robbed of its key as a reader, which somebody deletes or replaces | [`Permit::lost`] and [`Permit::while_held`], which watch the key, tell it at once; writes under its condition are refused |
/// | cut off from the server | it knows the loss by its own clock, a tenth of the TTL before others can have the lock |
/// | there while the server restarts | its share is kept, if the lock or lease outlives the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | a reader reads its key, and knows it by the name; else it gives back what it may have, and asks again |
/// | no longer waiting (the future is dropped) | its place in line and its share are free, in the background |
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
/// failover can let a writer in beside readers, or beside another writer: the older one's writes
/// under its guard or condition are refused.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the lock `NAME` | the gate; a writer holds it all the while |
/// | the keys `NAME/readers/ID` | the readers, each under its lease; made by the holder of the gate, fenced by it: `{"v":1,"token":42}` |
///
/// Data may lie below `NAME`, but not below `NAME/readers`.
#[doc(alias = "mutex")]
#[doc(alias = "shared_lock")]
#[derive(Clone, Debug)]
#[must_use = "nothing is locked until it is acquired"]
pub struct RwLock {
    kv: Kv,
    name: Result<Key>,
    ttl: Duration,
}

/// The line of a reader.
#[derive(Serialize, Deserialize)]
struct Reader {
    v: Format,
    token: u64,
}

impl RwLock {
    /// Makes the read-write lock of this name. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), ttl: DEFAULT_TTL }
    }

    /// Sets how long a share outlives its holder's last renewal: 15 s unless it is set. It is
    /// rounded as the TTLs of locks and leases.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Waits in line until the lock is held for reading. Outages are ridden out.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where there are no leases, no watches, or no writes
    /// that depend on a lock, [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL. Then
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind. One that is not polled keeps
    /// its place, or what it was granted, until it is dropped.
    pub async fn read(&self) -> Result<Permit> {
        let this = self.clone();
        // All who come later wait behind it, polled or not.
        apart(async move { this.read_here().await }).await
    }

    async fn read_here(&self) -> Result<Permit> {
        let name = self.name()?;
        let mut backoff = backoff();
        loop {
            let gate = self.gate(&name).acquire().await?;
            // The gate is given back in the background, as soon as the reader is in.
            match Box::pin(until_lost(|| gate.is_held(), gate.lost(), self.enter(&name, &gate))).await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(e)) if ends(&e) => return Err(self.in_call(e, &name)),
                Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                Ok(Err(_)) | Err(_) => {} // the place in line was lost, and is taken anew
            }
            drop(gate);
            backoff.pause().await;
        }
    }

    /// Locks for reading if nobody writes, waits, or is being served at this moment; returns `None`
    /// otherwise. It leaves nothing behind.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), and those of the single requests; what was begun is then
    /// given back in the background.
    ///
    /// # Cancel safety
    /// That of [`read`](Self::read).
    pub async fn try_read(&self) -> Result<Option<Permit>> {
        let this = self.clone();
        apart(async move { this.try_read_here().await }).await
    }

    async fn try_read_here(&self) -> Result<Option<Permit>> {
        let name = self.name()?;
        let Some(gate) = self.gate(&name).try_acquire().await? else { return Ok(None) };
        let entered = until_lost(|| gate.is_held(), gate.lost(), self.enter_once(&name, &gate));
        let entered = Box::pin(entered).await;
        // A gate that could not be given back is free after its TTL.
        drop(gate.release().await);
        entered.flatten().map(Some).map_err(|e| self.in_call(e, &name))
    }

    /// Waits in line until the lock is held for writing. Outages are ridden out.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind. One that is not polled keeps
    /// its place, or what it was granted, until it is dropped.
    pub async fn write(&self) -> Result<Guard> {
        let this = self.clone();
        apart(async move { this.write_here().await }).await
    }

    async fn write_here(&self) -> Result<Guard> {
        let name = self.name()?;
        let mut backoff = backoff();
        loop {
            let gate = self.gate(&name).acquire().await?;
            let readers = self.until_no_reader(&name);
            match until_lost(|| gate.is_held(), gate.lost(), readers).await {
                Ok(Ok(())) => return Ok(gate),
                Ok(Err(e)) => return Err(self.in_call(e, &name)),
                Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
                Err(_) => {} // the place in line was lost, and is taken anew
            }
            drop(gate);
            backoff.pause().await;
        }
    }

    /// Locks for writing if nobody reads, writes, waits, or is being served at this moment; returns
    /// `None` otherwise. It leaves nothing behind.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), and those of the single requests.
    ///
    /// # Cancel safety
    /// That of [`write`](Self::write).
    pub async fn try_write(&self) -> Result<Option<Guard>> {
        let this = self.clone();
        apart(async move { this.try_write_here().await }).await
    }

    async fn try_write_here(&self) -> Result<Option<Guard>> {
        let name = self.name()?;
        let Some(gate) = self.gate(&name).try_acquire().await? else { return Ok(None) };
        let free = until_lost(|| gate.is_held(), gate.lost(), self.is_free(&name)).await;
        if free.flatten().map_err(|e| self.in_call(e, &name))? {
            return Ok(Some(gate));
        }
        gate.release().await?;
        Ok(None)
    }

    /// Leaves the key of a reader, while the gate is held. It keeps the place in line through
    /// failures that pass.
    async fn enter(&self, name: &Key, gate: &Guard) -> Result<Permit> {
        let mut backoff = backoff();
        loop {
            match self.enter_once(name, gate).await {
                Err(e) if !ends(&e) && e.kind() != ErrorKind::LockLost => backoff.pause().await,
                ended => return ended,
            }
        }
    }

    /// Leaves the key under one lease. When that fails, the lease goes, and with it what was put
    /// under it.
    async fn enter_once(&self, name: &Key, gate: &Guard) -> Result<Permit> {
        let key = below(name, &format!("readers/{}", new_id()))?;
        let record = record::write(&Reader { v: Format, token: gate.token() }, b"")?;
        let lease = self.kv.lease(self.ttl).await?;
        // The name is new, so whatever is there is ours.
        let is_ours = |_: &Entry| true;
        let entered = occupy(&self.kv, &key, &record, (gate, &lease), is_ours).await?;
        let lost = || Error::new(ErrorKind::Unavailable, "the key of the reader was gone at once");
        permit(&self.kv, lease, (key, entered.ok_or_else(lost)?), gate).await
    }

    /// Waits until no reader's key is left. Nobody but the holder of the gate makes new ones.
    async fn until_no_reader(&self, name: &Key) -> Result<()> {
        let mut backoff = backoff();
        loop {
            match self.until_no_reader_once(name).await {
                Err(e) if !ends(&e) => backoff.pause().await,
                ended => return ended,
            }
        }
    }

    async fn until_no_reader_once(&self, name: &Key) -> Result<()> {
        let mut watch = self.kv.watch_tree(below(name, "readers")?).await?;
        let (mut readers, mut is_known) = (BTreeSet::new(), false);
        loop {
            let is_empty = is_known && readers.is_empty();
            // The watch says when to look; what is seen then decides.
            if is_empty && self.is_free(name).await? {
                return Ok(());
            }
            let event = tokio::select! {
                biased;
                event = watch.event() => event?,
                () = sleep(LATE_WATCH), if is_empty => continue,
            };
            match event {
                WatchEvent::Put(entry) => drop(readers.insert(entry.key)),
                WatchEvent::Delete { key, .. } => drop(readers.remove(&key)),
                WatchEvent::Synced => is_known = true,
            }
        }
    }

    async fn is_free(&self, name: &Key) -> Result<bool> {
        Ok(self.kv.list(below(name, "readers")?).limit(1).await?.is_empty())
    }

    fn name(&self) -> Result<Key> {
        let Self { kv, name, ttl } = self;
        let name = name.clone().map_err(|e| in_recipe(e, kv, "rwlock", None))?;
        let can = needs::watches(kv).and_then(|()| needs::leases(kv, *ttl));
        can.and_then(|()| needs::fences(kv, *ttl)).map_err(|e| self.in_call(e, &name))?;
        Ok(name)
    }

    fn gate(&self, name: &Key) -> Lock {
        self.kv.new_lock(name).ttl(self.ttl)
    }

    fn in_call(&self, error: Error, name: &Key) -> Error {
        in_recipe(error, &self.kv, "rwlock", Some(name))
    }
}
