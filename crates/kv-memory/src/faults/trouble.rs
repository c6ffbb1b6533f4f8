//! The faults that a test has planned for the calls of one client, and the way in which calls meet
//! them.

use kv_core::{Error, ErrorKind, Result, backend::Mutex, driver::Deadline};
use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// The calls that a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Calls {
    /// Every call.
    Any,
    /// `get`, `get_many`, `exists`, each page of a listing, `lock_holder`, `health`, and what a
    /// watch reads when it begins or was cut.
    Reads,
    /// `put`, `delete`, each batch of `delete_tree`, `transact`, `lease`, the acquisition of a
    /// lock, `set_value` of its guard, `adopt`.
    Writes,
}

/// A planned fault, for `times` calls.
pub(super) struct Fault {
    pub(super) calls: Calls,
    pub(super) effect: Effect,
    pub(super) times: usize,
}

/// The effect of a fault on the call that meets it.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Fails(ErrorKind),
    LosesAnswer,
}

/// The kind of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Read,
    Write,
}

/// The fate of a call's answer.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Comes,
    IsLost,
}

impl Answer {
    /// Returns the answer as the caller gets it.
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
    /// Tells whether a fault is planned or a pause is on. A call without either looks at nothing
    /// else.
    any: AtomicBool,
    planned: Mutex<VecDeque<Fault>>,
    paused: watch::Sender<bool>,
}

impl Trouble {
    pub(super) fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.planned.lock()
    }

    pub(super) fn plan(&self, fault: Fault) {
        if fault.times > 0 {
            self.faults().push_back(fault);
            self.any.store(true, Ordering::Release);
        }
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
        let faults = self.faults();
        self.any.store(paused || !faults.is_empty(), Ordering::Release);
    }

    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until no pause is on.
    pub(crate) fn resumed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut paused = self.paused.subscribe();
        async move {
            // The sender may go first, with its client: then no pause is on any more.
            let _ = paused.wait_for(|paused| !paused).await;
        }
    }

    /// Waits as [`resumed`](Self::resumed) does, until the deadline.
    pub(crate) async fn resumed_by(&self, does: Does, deadline: Deadline) -> Result<()> {
        deadline.limit(self.resumed()).await.ok_or_else(|| {
            let why = format!("no answer within {deadline}: the test has paused the store");
            match does {
                Does::Read => Error::new(ErrorKind::Timeout, why),
                Does::Write => Error::new(ErrorKind::OutcomeUnknown, why),
            }
        })
    }

    /// Waits for the end of a pause, then gives a call the first fault that concerns it.
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
