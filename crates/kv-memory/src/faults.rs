//! Faults on demand, for users' tests of their own programs.

use crate::Memory;
use kv_core::{
    Deadline, Error, ErrorKind, IntoKey, Kv, LeaseId, Result, WatchStream,
    backend::{Mutex, stream},
};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// Which calls a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Calls {
    /// Whatever comes first.
    Any,
    /// `get`, `get_many`, `exists`, each page of a listing, `lock_holder`, `health`, and what a watch reads when it begins
    /// or was cut.
    Reads,
    /// `put`, `delete`, each batch of `delete_tree`, `transact`, `lease`, the acquisition of a lock, `adopt`.
    Writes,
}

/// Faults of the link between one handle and its store in memory, for tests of what a program does then: calls that fail,
/// answers that are lost, a server that stands still, watches that are cut, locks and leases that are taken away.
///
/// They are those of one opened handle and its clones. Another handle on the same store (`memory://NAME`, opened twice)
/// does not meet them, so that a test can look at what happened, or be the other process, meanwhile. What is planned is met
/// in the order of planning, each by the first call that it concerns. Renewals, releases and revocations go on in the
/// background: they meet pauses and nothing else.
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
    /// Those of this handle, through whatever layers it has; `None` where the store below is another one.
    pub fn of(kv: &Kv) -> Option<Self> {
        kv.store().find::<Memory>().map(Memory::faults)
    }

    /// Has the next call fail with this kind, without an effect. [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) waits for
    /// the next write, since reads never give it: the write was *not* done then, with
    /// [`lose_answers`](Self::lose_answers) it was, and a program should be right in both cases.
    pub fn fail_next(&self, kind: ErrorKind) {
        self.fail(Calls::Any, kind, 1);
    }

    /// Has the next so many calls of these fail with this kind, without an effect.
    ///
    /// Watches and waits for a lock ride out what does not last ([`Error::is_lasting`]): a kind that does ends them.
    pub fn fail(&self, calls: Calls, kind: ErrorKind, times: usize) {
        let calls = if kind == ErrorKind::OutcomeUnknown { Calls::Writes } else { calls };
        self.0.trouble().plan(Fault { calls, effect: Effect::Fails(kind), times });
    }

    /// Has the next so many writes take effect, and answer [`OutcomeUnknown`](ErrorKind::OutcomeUnknown): whether they
    /// succeeded, lost a comparison or were refused, nobody tells.
    pub fn lose_answers(&self, times: usize) {
        self.0.trouble().plan(Fault { calls: Calls::Writes, effect: Effect::LosesAnswer, times });
    }

    /// How many faults are planned that no call has met yet.
    pub fn planned(&self) -> usize {
        self.0.trouble().faults().iter().map(|fault| fault.times).sum()
    }

    /// Freezes the store for this handle, until [`resume`](Self::resume): calls wait until their deadline, then reads are
    /// [`Timeout`](ErrorKind::Timeout) and writes [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) (they are not done).
    /// Watches tell nothing; renewals wait, so that locks and leases are lost by time, and others get them.
    pub fn pause(&self) {
        self.0.trouble().set_paused(true);
    }

    /// Ends a pause: what still waits is done, and watches tell what they missed.
    pub fn resume(&self) {
        self.0.trouble().set_paused(false);
    }

    /// Cuts this handle's watches, as a lost connection does: each reads what is there, tells what differs, then `Synced`,
    /// and goes on. With [`fail`](Self::fail) for [`Reads`](Calls::Reads) and a kind that lasts, they end by it.
    pub fn cut_watches(&self) {
        self.0.0.cut();
    }

    /// Takes the lock of this name away from its holder, whoever that is, as an administrator could; whether it was held.
    /// The holder is told at once, and the next in line gets it.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) for the name.
    pub fn evict_lock(&self, name: impl IntoKey) -> Result<bool> {
        self.0.evict_lock(name)
    }

    /// Ends a lease with its keys, as an administrator could; whether it was alive. Its owner is told at once.
    pub fn evict_lease(&self, lease: &LeaseId) -> bool {
        self.0.evict_lease(lease)
    }

    /// Forgets what is planned and was not met, and ends a pause.
    pub fn clear(&self) {
        self.0.trouble().faults().clear();
        self.resume();
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (planned, paused) = (self.planned(), self.0.trouble().is_paused());
        f.debug_struct("Faults").field("planned", &planned).field("paused", &paused).finish()
    }
}

struct Fault {
    calls: Calls,
    effect: Effect,
    times: usize,
}

#[derive(Clone, Copy)]
enum Effect {
    Fails(ErrorKind),
    LosesAnswer,
}

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Read,
    Write,
}

/// What becomes of a call's answer.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Comes,
    IsLost,
}

impl Answer {
    /// The answer as the caller gets it.
    pub(crate) fn of<T>(self, done: Result<T>) -> Result<T> {
        match self {
            Self::Comes => done,
            Self::IsLost => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the answer was lost, as the test asked for; read before writing again",
            )),
        }
    }
}

/// The faults of one client.
#[derive(Default)]
pub(crate) struct Trouble {
    /// Whether there are any, so that a call without looks at nothing else.
    any: AtomicBool,
    planned: Mutex<VecDeque<Fault>>,
    paused: watch::Sender<bool>,
}

impl Trouble {
    fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.planned.lock()
    }

    fn plan(&self, fault: Fault) {
        if fault.times > 0 {
            self.faults().push_back(fault);
            self.any.store(true, Ordering::Release);
        }
    }

    fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
        let faults = self.faults();
        self.any.store(paused || !faults.is_empty(), Ordering::Release);
    }

    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Ready when nothing is frozen.
    pub(crate) fn resumed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut paused = self.paused.subscribe();
        async move {
            // The sender may go first, with its client: then nothing is frozen any more.
            let _ = paused.wait_for(|paused| !paused).await;
        }
    }

    /// As [`resumed`](Self::resumed), within a deadline.
    pub(crate) async fn resumed_by(&self, does: Does, deadline: Deadline) -> Result<()> {
        deadline.limit(self.resumed()).await.ok_or_else(|| {
            let why = format!("no answer within {:?}: the test has paused the store", deadline.within());
            match does {
                Does::Read => Error::new(ErrorKind::Timeout, why),
                Does::Write => Error::new(ErrorKind::OutcomeUnknown, why),
            }
        })
    }

    /// What a call meets that is made now.
    #[cold]
    pub(crate) async fn meet(&self, does: Does, deadline: Deadline) -> Result<Answer> {
        self.resumed_by(does, deadline).await?;
        let mut faults = self.faults();
        let concerns = |fault: &Fault| match fault.calls {
            Calls::Any => true,
            Calls::Reads => does == Does::Read,
            Calls::Writes => does == Does::Write,
        };
        let Some(at) = faults.iter().position(concerns) else { return Ok(Answer::Comes) };
        let effect = faults[at].effect;
        faults[at].times -= 1;
        if faults[at].times == 0 {
            faults.remove(at);
        }
        self.any.store(self.is_paused() || !faults.is_empty(), Ordering::Release);
        match effect {
            Effect::LosesAnswer => Ok(Answer::IsLost),
            Effect::Fails(kind) => {
                Err(Error::new(kind, format!("the test asked for this failure ({})", kind.as_str())))
            }
        }
    }
}

impl Memory {
    /// The faults of this client, for tests; the same as [`Faults::of`] a handle on it.
    pub fn faults(&self) -> Faults {
        Faults(self.clone())
    }

    pub(crate) fn trouble(&self) -> &Arc<Trouble> {
        &self.0.trouble
    }

    /// The way of every call to the data: what was planned comes first.
    pub(crate) async fn call<T>(
        &self,
        does: Does,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.trouble().is_any() {
            return work();
        }
        let answer = Box::pin(self.trouble().meet(does, deadline)).await?;
        answer.of(work())
    }
}

/// The watch, standing still while its client is paused.
pub(crate) fn pausing(mut changes: WatchStream, trouble: Arc<Trouble>) -> WatchStream {
    stream(|out| async move {
        while let Some(event) = poll_fn(|cx| changes.as_mut().poll_next(cx)).await {
            if trouble.is_any() {
                trouble.resumed().await;
            }
            out.send(event?).await;
        }
        Ok(())
    })
}
