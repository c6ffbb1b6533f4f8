//! `lease`.

use super::{Does, Kv, awaitable, closing::closed, deadline, guard::until_lost, sentry::Sentry};
use crate::{
    Error, ErrorKind, LeaseId, Result,
    backend::{Alive, Owner, Undo},
    driver::{LeaseOptions, Leased},
};
use std::{future::Future, time::Duration};

/// [`Kv::lease`], to be awaited.
///
/// # Errors
/// Before any I/O [`Unsupported`](ErrorKind::Unsupported), and
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL;
/// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost: what was granted ends
/// by its TTL.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct LeaseCall {
    kv: Kv,
    ttl: Duration,
    within: Duration,
}

impl LeaseCall {
    pub(super) fn new(kv: &Kv, ttl: Duration) -> Self {
        Self { kv: kv.clone(), ttl, within: kv.deadline }
    }
    deadline!();

    async fn run(self) -> Result<Lease> {
        let kv = self.kv.clone();
        kv.acquiring("lease", Box::pin(self.run_counted())).await
    }

    async fn run_counted(self) -> Result<Lease> {
        let Self { kv, ttl, within } = self;
        let until_closed = kv.until_closed();
        let (store, deadline) = kv.begin(within);
        let lease = async {
            let ttl = store.capabilities().lease_ttl(ttl)?;
            let options = LeaseOptions { deadline, each_request: within };
            tokio::select! {
                biased;
                () = until_closed => Err(closed()),
                leased = store.lease(ttl, &options) => leased,
            }
        };
        let Leased { id, ttl, alive, mut revoke } =
            kv.call("lease", None, Does::Write, deadline, lease).await?;
        kv.hold(&mut revoke).map_err(|e| kv.in_call(e, "lease", None))?;
        let sentry = Sentry::of(&kv, &alive, ErrorKind::LeaseLost, None);
        let owner = kv.owner_of(&alive, "lease");
        Ok(Lease { sentry, owner, kv, id, ttl, alive, revoke, within })
    }
}
awaitable!(LeaseCall => Lease, LeaseCall::run);

/// A lease. It is kept alive in the background while this value lives, whoever deletes or replaces
/// its keys, and the keys that are put under it live as long. Dropping it revokes it in the
/// background.
///
/// The background is the runtime: a program that leaves `main` (by `?` too) with a lease alive
/// does not revoke it, and the lease ends by its TTL, as that of a killed process does. Where only
/// a runtime ends, and not the program, the next lock or lease of the handle revokes it.
/// [`Kv::close`] and [`Kv::scope`] wait until it is gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use std::time::Duration;
///
/// let kv = kv_memory::open("memory://").await?;
/// let lease = kv.lease(Duration::from_secs(10)).await?;
/// kv.put("nodes/1", "up").lease(&lease).await?;
/// assert!(lease.revoke().await?);
/// assert!(!kv.exists("nodes/1").await?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping the lease revokes it"]
pub struct Lease {
    /// The first that is dropped.
    sentry: Option<Sentry>,
    owner: Owner,
    kv: Kv,
    id: LeaseId,
    ttl: Duration,
    alive: Alive,
    revoke: Undo,
    within: Duration,
}

impl Lease {
    /// Returns the backend's own name of the lease.
    pub fn id(&self) -> &LeaseId {
        &self.id
    }

    /// Returns the TTL as granted.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long the lease lives at least if no further renewal succeeds, by this side's
    /// clock; zero when it is over. No I/O.
    pub fn remaining(&self) -> Duration {
        if self.kv.is_closed() { Duration::ZERO } else { self.alive.remaining() }
    }

    /// Tells whether the lease is alive, by this side's clock and by the rule of
    /// [`Guard::is_held`](crate::Guard::is_held).
    pub fn is_held(&self) -> bool {
        self.alive.is_held() && !self.kv.is_closed()
    }

    /// Waits until the lease is over, by the rule of [`Guard::lost`](crate::Guard::lost), and
    /// returns the reason, as a [`LeaseLost`](ErrorKind::LeaseLost). The future borrows nothing of
    /// the lease.
    ///
    /// # Cancel safety
    /// Dropping the future stops the wait, and changes nothing.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        let lost = until_lost(&self.kv, &self.alive, ErrorKind::LeaseLost);
        let backend = self.kv.capabilities().backend;
        async move { lost.await.in_call("lease", backend, None) }
    }

    /// Ends the lease, removes its keys at once, and returns whether it was still alive.
    ///
    /// # Errors
    /// Those of the server; the lease ends by its TTL then.
    ///
    /// # Cancel safety
    /// The end goes on in the background when the future is dropped.
    pub async fn revoke(self) -> Result<bool> {
        let Self { sentry, owner, kv, revoke, within, .. } = self;
        drop((sentry, owner));
        kv.give_back("revoke", None, revoke, within).await
    }
}
