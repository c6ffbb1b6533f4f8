//! The handle that the owner of a registered key holds.

use super::{
    line::Line,
    state::{RegistrationState, Stop, Told, Wanted},
};
use crate::{json, names::in_recipe, record};
use kv_core::{Bytes, Error, ErrorKind, IntoValue, Key, Kv, Result, Version};
use serde::Serialize;
use std::{fmt, future::Future};
use tokio::sync::{oneshot, watch};

/// A key that is registered as long as this value lives; dropping it deregisters in the
/// background. [`Registration`](super::Registration) says what it promises, and shows it.
///
/// The background is the runtime: a program that leaves `main` leaves the key to its TTL.
/// [`deregister`](Self::deregister) and [`Kv::close`] wait until the key is gone.
#[must_use = "dropping it deregisters"]
pub struct Registered {
    kv: Kv,
    key: Key,
    id: String,
    wanted: watch::Sender<Wanted>,
    told: watch::Receiver<Told>,
    stop: oneshot::Sender<Stop>,
}

impl Registered {
    pub(super) fn new(
        kv: Kv,
        key: Key,
        id: String,
        wanted: watch::Sender<Wanted>,
        told: watch::Receiver<Told>,
        stop: oneshot::Sender<Stop>,
    ) -> Self {
        Self { kv, key, id, wanted, told, stop }
    }

    /// Returns the key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the id of this registration, which stands in the record, and which no other
    /// registration has.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the state. No I/O.
    pub fn state(&self) -> RegistrationState {
        // It is asked first: whoever tells ends behind the last word.
        let is_last = self.told.has_changed().is_err();
        let told = self.told.borrow();
        match told.over() {
            None if is_last => RegistrationState::Over(runtime_ended()),
            _ => told.state.clone(),
        }
    }

    /// Waits until something has changed since this call (the state, or the value that the store
    /// has), and returns the state then. What changed before the call, behind a look at the
    /// [`state`](Self::state), is not waited for: wait for a state by [`until`](Self::until).
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub async fn changed(&self) -> RegistrationState {
        let mut told = self.told.clone();
        told.mark_unchanged();
        // It fails when nothing will change any more.
        let _ = told.changed().await;
        self.state()
    }

    /// Waits until the state is one for which this is true, and returns that state; also one that
    /// the registration has already. When it has ended, and no other state can come, the last one is
    /// returned, whatever this says of it.
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::{Registration, RegistrationState};
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let me = Registration::new(&kv, "services/web/host-7").json(&"10.0.0.7:80").register().await?;
    /// me.until(|state| matches!(state, RegistrationState::Registered)).await; // it is already
    /// kv.close().await?;
    /// let last = me.until(|state| matches!(state, RegistrationState::Superseded)).await;
    /// assert!(matches!(last, RegistrationState::Over(_)));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "wait_for")]
    pub async fn until(&self, mut is_so: impl FnMut(&RegistrationState) -> bool) -> RegistrationState {
        let mut told = self.told.clone();
        // It fails when nothing will change any more.
        let found = told.wait_for(|told| told.over().is_some() || is_so(&told.state)).await;
        let state = found.ok().map(|told| told.state.clone());
        state.unwrap_or_else(|| self.state())
    }

    /// Waits until the registration has ended, though nobody deregistered it, and returns the
    /// reason: [`KeyModified`](ErrorKind::KeyModified) when another has registered the key,
    /// [`Closed`](ErrorKind::Closed) after [`Kv::close`], or what the server refuses. The future
    /// borrows nothing.
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub fn over(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut told = self.told.clone();
        let (kv, key) = (self.kv.clone(), self.key.clone());
        async move {
            let over = told.wait_for(|told| told.over().is_some()).await;
            let why = over.ok().and_then(|told| told.over()).unwrap_or_else(runtime_ended);
            in_recipe(why, &kv, "register", Some(&key))
        }
    }

    /// Replaces the value, and returns when the store has it, or a newer one of this registration.
    /// Outages are ridden out; whatever becomes of this call, the newest value is the one with
    /// which the key mends itself.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge), with the value before still in place; the error with
    /// which the registration has ended, as [`over`](Self::over) gives it.
    ///
    /// # Cancel safety
    /// The value is put in the background when the future is dropped.
    pub async fn set_value(&self, value: impl IntoValue) -> Result<()> {
        let change = self.want(value.into_value())?;
        self.until_written(change).await
    }

    /// Replaces the value by this one as JSON. The same as [`set_value`](Self::set_value)
    /// otherwise.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a value that cannot be JSON; else those
    /// of [`set_value`](Self::set_value).
    ///
    /// # Cancel safety
    /// That of [`set_value`](Self::set_value).
    pub async fn set_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        let value = json::write(value).map_err(|e| in_recipe(e, &self.kv, "register", Some(&self.key)));
        let change = self.want(value?)?;
        self.until_written(change).await
    }

    /// Takes the key away, and returns whether it was still registered. It is not put again,
    /// whatever is under way.
    ///
    /// # Errors
    /// Those of the server; the key goes by its TTL then.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    pub async fn deregister(self) -> Result<bool> {
        let Self { kv, key, stop, .. } = self;
        let (answer, answered) = oneshot::channel();
        if stop.send(answer).is_err() {
            return Ok(false); // it had ended
        }
        let gone = answered.await.unwrap_or_else(|_| Err(runtime_ended()));
        gone.map_err(|e| in_recipe(e, &kv, "deregister", Some(&key)))
    }

    /// Has this value put in the background; returns the number of the change.
    pub(crate) fn want(&self, value: Bytes) -> Result<u64> {
        self.fits(&value)?;
        let mut change = 0;
        self.wanted.send_modify(|wanted| {
            wanted.change += 1;
            wanted.value = value;
            change = wanted.change;
        });
        Ok(change)
    }

    /// Checks that a record with this value is not too large, since a value that can never be put
    /// would end the registration.
    pub(super) fn fits(&self, value: &Bytes) -> Result<()> {
        let longest = Line::new(&self.id, Some(Version::new(u64::MAX, u64::MAX)), u64::MAX);
        let (bytes, most) = (record::write(&longest, value)?.len(), self.kv.capabilities().max_value);
        if bytes <= most {
            return Ok(());
        }
        let why = format!("a value of {bytes} bytes with its line; this store takes at most {most}");
        Err(in_recipe(Error::new(ErrorKind::TooLarge, why), &self.kv, "register", Some(&self.key)))
    }

    pub(super) async fn until_written(&self, change: u64) -> Result<()> {
        let mut told = self.told.clone();
        let done = told.wait_for(|told| told.written >= change || told.over().is_some()).await;
        let failed = match done.as_deref() {
            Ok(told) if told.written >= change => return Ok(()),
            Ok(told) => told.over(),
            Err(_) => None,
        };
        Err(in_recipe(failed.unwrap_or_else(runtime_ended), &self.kv, "register", Some(&self.key)))
    }
}

#[cold]
fn runtime_ended() -> Error {
    Error::new(ErrorKind::Closed, "the runtime that kept the registration has ended")
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, id) = (&self.key, &self.id);
        f.debug_struct("Registered").field("key", key).field("id", id).field("state", &self.state()).finish()
    }
}
