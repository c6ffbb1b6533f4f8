//! Something that happens once.

use crate::{
    names::{in_recipe, new_id},
    needs,
    patience::{DEFAULT_TTL, backoff, ends, until_lost},
    record::{self, Format},
};
use kv_core::{
    Condition, Error, ErrorKind, Fence, Guard, IntoKey, Key, Kv, Outcome, Refusal, Result, Step, Txn,
};
use serde::{Deserialize, Serialize};
use std::{future::Future, time::Duration};

/// Something that happens once, whoever tries: a migration, the creation of first data.
///
/// What is to happen is a set of writes of one transaction, which marks in the same step that it
/// happened. So it happens exactly once. Other effects of the function that makes the writes happen
/// at least once, for its process can die behind them.
///
/// One process runs the function at a time, under a lock; the others wait. The lock is kept alive
/// while it runs: there is no longest time to guess.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::Result;
/// use kv_recipes::{Effects, Once, Ran};
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("users/1", "ann").await?;
/// let (once, store) = (Once::new(&kv, "migrations/7"), &kv);
/// let migrate = |effects: Effects| async move {
///     let old = store.get("users/1").await?.expect("it is there");
///     let renamed = store.put("people/1", &old.value).if_missing();
///     Result::Ok(effects.then(renamed).then(store.delete("users/1").if_version(old.version)))
/// };
/// kv_memory::Faults::of(&kv).unwrap().lose_answers(3);
/// assert_eq!(once.run(migrate).await?, Ran::Now);
/// assert_eq!(once.run(migrate).await?, Ran::Before);
/// assert!(kv.exists("people/1").await? && !kv.exists("users/1").await?);
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the process that runs is | then |
/// |---|---|
/// | paused beyond the TTL | another runs; the function of the first is dropped when it wakes, and its writes are refused if they come late |
/// | killed | another runs, within the TTL and its [lateness](kv_core::Capabilities::lateness); nothing is half written |
/// | cut off from the server | as when it is paused |
/// | there while the server restarts | it goes on, if the lock outlives the restart; else as when it is paused |
/// | told nothing, because an answer was lost | the marker tells whether it happened; if not, the function runs again |
/// | no longer waiting (the future is dropped) | it happened, or it did not; the lock is given back in the background |
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
/// failover can lose the marker and the writes together; then it happens again.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the lock `NAME` | who runs |
/// | the key `NAME` | the marker, a line of JSON: `{"v":1,"id":"9f86d081884c7d65","token":42}`; put if it is missing, fenced by the lock, in the transaction of the writes |
///
/// To have it happen again, delete the key.
#[doc(alias = "migration")]
#[doc(alias = "idempotent")]
#[doc(alias = "singleton")]
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `run` is awaited"]
pub struct Once {
    kv: Kv,
    name: Result<Key>,
    ttl: Duration,
}

/// The answer of [`Once::run`]: whether this call made it happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ran {
    /// It happened by this call.
    Now,
    /// It had happened before, or by another meanwhile.
    Before,
}

/// The writes that happen once; they are added to what [`Once::run`] gives its function. A
/// transaction limits their number ([`Capabilities::max_txn_ops`](kv_core::Capabilities)), and
/// three are needed for the marker and the lock.
#[derive(Debug)]
#[must_use = "the writes happen when they are returned to `Once::run`"]
pub struct Effects(Txn);

impl Effects {
    /// Adds a write: `kv.put(..)` or `kv.delete(..)` with its options, not awaited.
    pub fn then(self, step: impl Into<Step>) -> Self {
        Self(self.0.then(step))
    }

    /// Adds a condition without which nothing happens; [`Once::run`] then fails with
    /// [`KeyModified`](ErrorKind::KeyModified).
    pub fn when(self, condition: Condition) -> Self {
        Self(self.0.when(condition))
    }

    /// Adds the condition that this lock is held too.
    pub fn when_held(self, lock: impl AsRef<Fence>) -> Self {
        Self(self.0.when_held(lock))
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    v: Format,
    id: String,
    token: u64,
}

/// The conditions of our own in front of those of the effects: that the lock is held, and that the
/// marker is missing.
const OWN: usize = 2;

impl Once {
    /// Names what happens once. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), ttl: DEFAULT_TTL }
    }

    /// Sets how long the lock outlives a process that died while it ran: 15 s unless it is set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Reads whether it has happened.
    ///
    /// # Errors
    /// Those of [`Kv::get`]; [`Corrupt`](ErrorKind::Corrupt) for a key that holds something else
    /// than the marker.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn is_done(&self) -> Result<bool> {
        let found = self.kv.get(self.name()?).await?;
        let marker = found.map(|entry| record::read::<Marker>(&entry.key, &entry.value)).transpose();
        Ok(marker.map_err(|e| self.in_call(e))?.is_some())
    }

    /// Has it happen, unless it has happened; waits in line while another process runs. Outages are
    /// ridden out. The function is called again when its writes came too late or their answer was
    /// lost.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where writes cannot depend on a lock,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL. Then the error of the function;
    /// what a [`Txn`] refuses; [`KeyModified`](ErrorKind::KeyModified) for a condition of the
    /// effects that is not true; [`LeaseLost`](ErrorKind::LeaseLost) for a lease of the effects
    /// that has ended; [`Corrupt`](ErrorKind::Corrupt) for a key that holds something
    /// else than the marker; [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    /// After an error of the function or a condition nothing was written; after another one it may
    /// have happened, if an answer was owed, and [`is_done`](Self::is_done) tells.
    ///
    /// # Cancel safety
    /// When the future is dropped it may have happened, and is not half done. One that is not polled
    /// keeps its place in line, or the turn that it was granted, until it is dropped.
    pub async fn run<E, W, F>(&self, mut effects: W) -> Result<Ran, E>
    where
        W: FnMut(Effects) -> F,
        F: Future<Output = Result<Effects, E>>,
        E: From<Error>,
    {
        let name = self.name()?;
        needs::fences(&self.kv, self.ttl).map_err(|e| self.in_call(e))?;
        let (id, mut backoff) = (new_id(), backoff());
        loop {
            if self.has_happened(&id).await? {
                return Ok(Ran::Before);
            }
            let guard = self.kv.new_lock(name).ttl(self.ttl).acquire().await?;
            let ran = Box::pin(self.run_once(&id, &guard, &mut effects)); // it is large, and is moved
            match until_lost(|| guard.is_held(), guard.lost(), ran).await {
                Ok(Ok(Some(ran))) => {
                    // A lock that could not be given back is free after its TTL.
                    drop(guard.release().await);
                    return Ok(ran);
                }
                Ok(Err(e)) => return Err(e),
                Err(e) if e.kind() == ErrorKind::Closed => return Err(e.into()),
                Ok(Ok(None)) | Err(_) => {}
            }
            drop(guard);
            backoff.pause().await;
        }
    }

    /// Runs the function, and commits its writes, while the lock is held; `None` when that has to
    /// be done again.
    async fn run_once<E, W, F>(&self, id: &str, guard: &Guard, effects: &mut W) -> Result<Option<Ran>, E>
    where
        W: FnMut(Effects) -> F,
        F: Future<Output = Result<Effects, E>>,
        E: From<Error>,
    {
        let name = self.name()?;
        // Whoever held the lock before may have been first.
        if let Some(ran) = self.ran(id).await? {
            return Ok(Some(ran));
        }
        let marker = Marker { v: Format, id: id.to_owned(), token: guard.token() };
        let marker = self.kv.put(name, record::write(&marker, b"")?).if_missing();
        let Effects(all) = effects(Effects(self.kv.transact().when_held(guard).then(marker))).await?;
        match all.await {
            Ok(Outcome::Committed(_)) => Ok(Some(Ran::Now)),
            Ok(Outcome::Refused(refusal)) if refusal.index >= OWN => Err(self.refused(&refusal).into()),
            Ok(Outcome::Refused(_)) => Ok(None),
            // A lease that has ended is one of the effects' own, and does not come back.
            Err(e) if ends(&e) || e.kind() == ErrorKind::LeaseLost => Err(self.in_call(e).into()),
            Err(_) => Ok(None),
        }
    }

    /// Tells whether another has done it. What this call did itself is found again under the lock.
    async fn has_happened(&self, id: &str) -> Result<bool> {
        Ok(self.ran(id).await? == Some(Ran::Before))
    }

    /// Reads the marker, and rides out what passes.
    async fn ran(&self, id: &str) -> Result<Option<Ran>> {
        let (name, mut backoff) = (self.name()?, backoff());
        loop {
            match self.kv.get(name).await {
                Ok(None) => return Ok(None),
                Ok(Some(entry)) => {
                    let (marker, _) = record::read::<Marker>(&entry.key, &entry.value)?;
                    return Ok(Some(if marker.id == id { Ran::Now } else { Ran::Before }));
                }
                Err(e) if ends(&e) => return Err(e),
                Err(_) => backoff.pause().await,
            }
        }
    }

    #[cold]
    fn refused(&self, refusal: &Refusal) -> Error {
        self.in_call(Error::new(ErrorKind::KeyModified, format!("nothing was written: {refusal}")))
    }

    fn name(&self) -> Result<&Key> {
        self.name.as_ref().map_err(|e| self.in_call(e.clone()))
    }

    fn in_call(&self, error: Error) -> Error {
        in_recipe(error, &self.kv, "once", self.name.as_ref().ok())
    }
}
