//! A share of something: a key under a lease of its own.

use crate::{own_key::OwnKey, patience::until_lost};
use kv_core::{Bytes, Condition, Entry, Error, ErrorKind, Guard, Key, Kv, Lease, Result, Version};
use std::{fmt, future::Future, time::Duration};

/// A share of a [`Semaphore`](crate::Semaphore) or of a [`RwLock`](crate::RwLock), which is held
/// while this value lives; dropping it gives the share back in the background.
///
/// The background is the runtime: a program that leaves `main` with a permit leaves it to its TTL.
/// [`release`](Self::release), [`Kv::close`] and [`Kv::scope`] wait until it is given back.
///
/// A write that must not happen once the permit is lost depends on its
/// [`condition`](Self::condition), which the store decides in the same step:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::Semaphore;
///
/// let kv = kv_memory::open("memory://").await?;
/// let permit = Semaphore::new(&kv, "render", 8).acquire().await?;
/// let write = || kv.transact().when(permit.condition()).then(kv.put("frames/1", "done"));
/// assert!(write().await?.is_committed());
///
/// kv.delete_tree("render").await?; // somebody clears up, or the lease ends in a pause
/// let late = write().await?;
/// assert!(!late.is_committed(), "{:?}", late.refusal());
/// # Ok(()) }
/// ```
#[must_use = "dropping the permit gives it back"]
pub struct Permit {
    share: OwnKey,
    version: Version,
    token: u64,
}

impl Permit {
    /// Returns the token of the permit: the fencing token of the gate by which it was given. It
    /// grows from permit to permit of one name, over restarts and failovers too.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Returns the key that is there as long as the permit is.
    pub fn key(&self) -> &Key {
        self.share.key()
    }

    /// Returns the condition that the permit is still held, for
    /// [`Txn::when`](kv_core::Txn::when).
    pub fn condition(&self) -> Condition {
        Condition::Version(self.key().clone(), self.version)
    }

    /// Returns how long the permit is held at least if no further renewal succeeds, by this side's
    /// clock; zero when it is lost. No I/O.
    pub fn remaining(&self) -> Duration {
        self.share.remaining()
    }

    /// Tells whether the permit is held, by this side's clock and by the rule of
    /// [`Guard::is_held`]. No I/O. That somebody has deleted or replaced its [`key`](Self::key) is
    /// known here only once a [`lost`](Self::lost) or [`while_held`](Self::while_held), which watch
    /// the key, has seen it. Between this answer and what you do next the permit can be lost: make
    /// a write that must not happen then depend on the [`condition`](Self::condition).
    pub fn is_held(&self) -> bool {
        self.share.is_held()
    }

    /// Waits until the permit is lost, and returns the reason, a
    /// [`LeaseLost`](ErrorKind::LeaseLost) or [`Closed`](ErrorKind::Closed): its time is over, as
    /// [`Lease::lost`] says, or somebody has deleted or replaced its [`key`](Self::key). For this
    /// it watches the key while it is waited for; the loss is told as soon as a watch tells it.
    /// Where the server refuses that watch, the time alone decides. The future borrows nothing.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        self.share.lost()
    }

    /// Runs the work until it ends, or until the permit is lost, as [`lost`](Self::lost) says: the
    /// work is then dropped where it stands.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) and [`Closed`](ErrorKind::Closed), or those of the work.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the permit stays.
    pub async fn while_held<T, E: From<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        until_lost(|| self.is_held(), self.lost(), work).await?
    }

    /// Gives the permit back, and returns whether it was still held, by the rule of
    /// [`is_held`](Self::is_held).
    ///
    /// # Errors
    /// Those of the server; the permit is free after its TTL then.
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    pub async fn release(self) -> Result<bool> {
        self.share.give_back().await
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut permit = f.debug_struct("Permit");
        permit
            .field("key", self.key())
            .field("token", &self.token)
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}

/// Makes a key that stands for a share, under the lease and the gate; its version, or `None` when
/// another has the key. `is_ours` tells a record that was made under this very lease.
///
/// An outcome that stays unknown is an error. The lease has to be given back then: that takes the
/// key away, or refuses it when it comes late.
pub(crate) async fn occupy(
    kv: &Kv,
    key: &Key,
    record: &Bytes,
    (gate, lease): (&Guard, &Lease),
    is_ours: impl Fn(&Entry) -> bool,
) -> Result<Option<Version>> {
    let put = kv.put(key, record).if_missing().lease(lease).fenced(gate);
    let e = match put.await {
        Ok(written) => return Ok(Some(written.version)),
        Err(e) if matches!(e.kind(), ErrorKind::KeyExists | ErrorKind::OutcomeUnknown) => e,
        Err(e) => return Err(e),
    };
    match kv.get(key).await? {
        Some(entry) if is_ours(&entry) => Ok(Some(entry.version)),
        _ if e.kind() == ErrorKind::OutcomeUnknown => Err(e),
        _ => Ok(None),
    }
}

/// Makes the permit of a key that was made under this lease. A permit that was lost before it is
/// there is never given.
pub(crate) async fn permit(
    kv: &Kv,
    lease: Lease,
    (key, version): (Key, Version),
    gate: &Guard,
) -> Result<Permit> {
    match lease.is_held() {
        true => {
            let share = OwnKey::new(kv, lease, key, Some(version));
            Ok(Permit { share, version, token: gate.token() })
        }
        false => Err(lease.lost().await),
    }
}
