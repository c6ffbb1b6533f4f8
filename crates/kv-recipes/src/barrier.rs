//! A barrier that is raised and lifted.

use crate::{
    names::in_recipe,
    needs,
    patience::{backoff, ends},
    record::{self, Format},
};
use kv_core::{Entry, Error, ErrorKind, IntoKey, Key, Kv, Result, Version, WatchEvent, driver::Deadline};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The share of its time that each request has, so that a lost answer leaves time to find out.
const REQUESTS: u32 = 5;

/// A barrier that anybody raises and lifts: while it is raised, all who [`wait`](Self::wait) stand
/// still. A barrier that nobody has raised is lifted.
///
/// It is nobody's own: it stays as it is until somebody changes it, whoever dies meanwhile. For a
/// barrier that goes with its owner, wait for the holder of a lock to be gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::Barrier;
///
/// let kv = kv_memory::open("memory://").await?;
/// let migration = Barrier::new(&kv, "app/migration");
/// migration.wait().await?; // nobody has raised it
/// migration.raise().await?;
/// assert!(migration.is_raised().await?);
///
/// let waits = tokio::spawn({
///     let migration = migration.clone();
///     async move { migration.wait().await }
/// });
/// tokio::task::yield_now().await;
/// assert!(!waits.is_finished());
/// migration.lift().await?;
/// waits.await.unwrap()
/// # }
/// ```
///
/// # When things fail
/// | when | then |
/// |---|---|
/// | who waits is paused | it goes on when it wakes, if the barrier is lifted then |
/// | who waits, or who raised it, is killed | nothing: the barrier stays as it is |
/// | who waits is cut off from the server | it waits on, and hears of the end afterwards |
/// | the server restarts | the barrier is as it was |
/// | an answer is lost | the barrier is read again; what was asked for stands when the call returns, and no late request of the call changes it afterwards |
/// | the future is dropped | [`wait`](Self::wait) leaves nothing behind; [`raise`](Self::raise) and [`lift`](Self::lift) may have happened, or may not, and are over with the next change |
///
/// # Layout, format 1
/// The key has a line of JSON: `{"v":1,"raised":true}`; a missing key is a lifted barrier. Every
/// change is a compare-and-swap, also one that changes nothing, so that older requests that are
/// still on their way come too late. The key is never deleted.
#[doc(alias = "gate")]
#[doc(alias = "latch")]
#[derive(Clone, Debug)]
#[must_use = "a barrier does nothing until it is raised, lifted or waited for"]
pub struct Barrier {
    kv: Kv,
    name: Result<Key>,
    within: Duration,
}

#[derive(Serialize, Deserialize)]
struct State {
    v: Format,
    raised: bool,
}

fn is_raised(entry: &Entry) -> Result<bool> {
    let (State { raised, .. }, _) = record::read(&entry.key, &entry.value)?;
    Ok(raised)
}

impl Barrier {
    /// Makes the barrier of this key. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), within: Deadline::DEFAULT }
    }

    /// Sets the time that [`raise`](Self::raise), [`lift`](Self::lift) and
    /// [`is_raised`](Self::is_raised) have: five seconds unless it is set. Waiting has no end.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Raises the barrier, whatever it was.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O; [`Corrupt`](ErrorKind::Corrupt) for a
    /// key that holds something else; the error of the last try when the time is over; the server's
    /// lasting refusals. Any error that comes behind a lost answer is
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), with that error as its cause.
    ///
    /// # Cancel safety
    /// A future that is dropped may have raised it.
    pub async fn raise(&self) -> Result<()> {
        self.set(true).await
    }

    /// Lifts the barrier, whatever it was: all who wait go on.
    ///
    /// # Errors
    /// Those of [`raise`](Self::raise).
    ///
    /// # Cancel safety
    /// A future that is dropped may have lifted it.
    pub async fn lift(&self) -> Result<()> {
        self.set(false).await
    }

    /// Reads whether the barrier is raised.
    ///
    /// # Errors
    /// Those of [`Kv::get`]; [`Corrupt`](ErrorKind::Corrupt) for a key that holds something else.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn is_raised(&self) -> Result<bool> {
        let name = self.name()?;
        let found = self.kv.get(name).deadline(self.within).await?;
        found.as_ref().map_or(Ok(false), is_raised).map_err(|e| self.in_call(e))
    }

    /// Waits until the barrier is lifted, if it is raised. Outages are ridden out.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) and [`Unsupported`](ErrorKind::Unsupported) before any
    /// I/O; [`Corrupt`](ErrorKind::Corrupt) for a key that holds something else; what ends a
    /// [watch](kv_core::Watch::event).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn wait(&self) -> Result<()> {
        let name = self.name()?;
        needs::watches(&self.kv).map_err(|e| self.in_call(e))?;
        let mut watch = self.kv.watch(name).await?;
        let (mut raised, mut is_known) = (false, false);
        loop {
            match watch.event().await? {
                WatchEvent::Put(entry) => raised = is_raised(&entry).map_err(|e| self.in_call(e))?,
                WatchEvent::Delete { .. } => raised = false,
                WatchEvent::Synced => is_known = true,
            }
            if is_known && !raised {
                return Ok(());
            }
        }
    }

    async fn set(&self, raised: bool) -> Result<()> {
        let name = self.name()?;
        let (mut last, mut sent) = (None, false);
        let set = Deadline::after(self.within).limit(self.set_within(name, raised, &mut last, &mut sent));
        let failed = match set.await {
            Some(Ok(())) => return Ok(()),
            Some(Err(e)) => Some(e),
            None => last,
        };
        let unknown = || {
            let why = "the barrier may or may not have been changed; read it before changing it again";
            Error::new(ErrorKind::OutcomeUnknown, why)
        };
        let late = || Error::new(ErrorKind::Timeout, "others changed the barrier first, again and again");
        Err(self.in_call(match failed {
            Some(e) if sent => unknown().with_cause(e),
            None if sent => unknown(),
            failed => failed.unwrap_or_else(late),
        }))
    }

    async fn set_within(
        &self,
        name: &Key,
        raised: bool,
        last: &mut Option<Error>,
        sent: &mut bool,
    ) -> Result<()> {
        let (mut backoff, mut first) = (backoff(), None);
        loop {
            match self.try_to_set(name, raised, &mut first, sent).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e) if ends(&e) => return Err(e),
                Err(e) => *last = Some(e),
            }
            backoff.pause().await;
        }
    }

    /// Tries once; `false` when another was first. `first` is the version that was read at first:
    /// once the barrier has another one, older requests come too late.
    async fn try_to_set(
        &self,
        name: &Key,
        raised: bool,
        first: &mut Option<Option<Version>>,
        sent: &mut bool,
    ) -> Result<bool> {
        let each = self.within / REQUESTS;
        let found = self.kv.get(name).deadline(each).await?;
        let version = found.as_ref().map(|entry| entry.version);
        let is_as_wanted = found.as_ref().map_or(Ok(false), is_raised)? == raised;
        if *first.get_or_insert(version) != version && is_as_wanted {
            return Ok(true);
        }
        let put = self.kv.put(name, record::write(&State { v: Format, raised }, b"")?).deadline(each);
        let put = match version {
            Some(version) => put.if_version(version),
            None => put.if_missing(),
        };
        let before = std::mem::replace(sent, true);
        let written = put.await;
        if written.as_ref().err().is_none_or(|e| e.kind() != ErrorKind::OutcomeUnknown) {
            *sent = before; // it is known what became of it
        }
        match written {
            Ok(_) => Ok(true),
            Err(e) if e.is_conflict() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn name(&self) -> Result<&Key> {
        self.name.as_ref().map_err(|e| self.in_call(e.clone()))
    }

    fn in_call(&self, error: Error) -> Error {
        in_recipe(error, &self.kv, "barrier", self.name.as_ref().ok())
    }
}
