//! Faults on demand, for users' tests of their own programs.

pub(crate) mod trouble;

pub use trouble::Calls;

use crate::store::Memory;
use kv_core::{ErrorKind, IntoKey, Kv, LeaseId, Result};
use trouble::{Effect, Fault, Trouble};

/// Faults of the link between one handle and its store in memory, for tests of what a program does
/// then: calls that fail, answers that are lost, a server that stands still, watches that are cut,
/// locks and leases that are taken away.
///
/// The faults are those of one opened handle and its clones. Another handle on the same store
/// (`memory://NAME`, opened twice) does not meet them, so that a test can look at what happened,
/// or be the other process, meanwhile. Planned faults are met in the order of planning, each by
/// the first call that it concerns. Renewals, releases and revocations go on in the background:
/// they meet pauses and nothing else.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_memory::Faults;
///
/// let kv = kv_memory::open("memory://").await?;
/// let faults = Faults::of(&kv).expect("a store in memory");
/// faults.fail_next(ErrorKind::Unavailable);
/// assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
///
/// faults.lose_answers(1);
/// assert_eq!(kv.put("a", "1").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
/// assert!(kv.exists("a").await?, "it was done all the same");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Faults(Memory);

impl Faults {
    /// Returns the faults of this handle, through whatever layers it has; `None` where the store
    /// below is another one.
    pub fn of(kv: &Kv) -> Option<Self> {
        kv.store().find::<Memory>().map(Memory::faults)
    }

    /// Makes the next call fail with this kind, without an effect.
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) waits for the next write, since reads never
    /// give it. That write is *not* done; with [`lose_answers`](Self::lose_answers) it is. A
    /// program should be right in both cases.
    pub fn fail_next(&self, kind: ErrorKind) {
        self.fail(Calls::Any, kind, 1);
    }

    /// Makes the next `times` calls of this sort fail with this kind, without an effect.
    ///
    /// Watches and waits for a lock ride out errors that do not last
    /// ([`Error::is_lasting`](kv_core::Error::is_lasting)); a lasting kind ends them.
    pub fn fail(&self, calls: Calls, kind: ErrorKind, times: usize) {
        let calls = if kind == ErrorKind::OutcomeUnknown { Calls::Writes } else { calls };
        self.trouble().plan(Fault { calls, effect: Effect::Fails(kind), times });
    }

    /// Lets the next `times` writes take effect, and answers
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) to them, whether they succeeded, lost a
    /// comparison or were refused.
    pub fn lose_answers(&self, times: usize) {
        self.trouble().plan(Fault { calls: Calls::Writes, effect: Effect::LosesAnswer, times });
    }

    /// Counts the planned faults that no call has met yet.
    pub fn planned(&self) -> usize {
        self.trouble().faults().iter().map(|fault| fault.times).sum()
    }

    /// Freezes the store for this handle, until [`resume`](Self::resume): calls wait until their
    /// deadline, then reads are [`Timeout`](ErrorKind::Timeout) and writes
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) (they are not done). Watches tell nothing;
    /// renewals wait, so that locks and leases are lost by time, and others get them.
    pub fn pause(&self) {
        self.trouble().set_paused(true);
    }

    /// Ends a pause: calls that still wait are done, and watches tell what they missed.
    pub fn resume(&self) {
        self.trouble().set_paused(false);
    }

    /// Cuts this handle's watches, as a lost connection does: each reads what is there, tells what
    /// differs, then `Synced`, and goes on. With [`fail`](Self::fail) for [`Reads`](Calls::Reads)
    /// and a lasting kind, they end with that error.
    pub fn cut_watches(&self) {
        self.0.0.hub.missed();
    }

    /// Takes the lock of this name away from its holder, whoever that is, as an administrator
    /// could; tells whether it was held. The holder is told at once, and the next contender gets
    /// the lock.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) for the name.
    pub fn evict_lock(&self, name: impl IntoKey) -> Result<bool> {
        self.0.evict_lock(name)
    }

    /// Ends a lease with its keys, as an administrator could; tells whether it was alive. Its
    /// owner is told at once.
    pub fn evict_lease(&self, lease: &LeaseId) -> bool {
        self.0.evict_lease(lease)
    }

    /// Forgets the planned faults that no call has met, and ends a pause.
    pub fn clear(&self) {
        self.trouble().faults().clear();
        self.resume();
    }

    fn trouble(&self) -> &Trouble {
        &self.0.0.trouble
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (planned, paused) = (self.planned(), self.trouble().is_paused());
        f.debug_struct("Faults").field("planned", &planned).field("paused", &paused).finish()
    }
}

impl Memory {
    /// Returns the faults of this client, for tests; they are those that [`Faults::of`] gives for
    /// a handle on it.
    pub fn faults(&self) -> Faults {
        Faults(self.clone())
    }
}
