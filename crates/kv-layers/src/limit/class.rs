//! The permits of one class of calls, and how a call gets one.

use kv_core::{Error, ErrorKind, Result, backend::Permits, driver::Deadline};
use std::future::{Future, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The permits of one class of calls.
#[derive(Debug)]
pub(super) struct Class {
    name: &'static str,
    permits: Permits,
    /// Counts those that may be had by calls that their callers poll. A caller may poll something
    /// else meanwhile, for long: the others are for calls that are tasks of their own, so that
    /// there is always one that goes on.
    at_once: Semaphore,
}

/// The permit of a call that its caller polls.
pub(super) type AtOnce<'a> = (OwnedSemaphorePermit, SemaphorePermit<'a>);

impl Class {
    pub(super) fn new(name: &'static str, most: usize) -> Self {
        let permits = Permits::new(most);
        Self { name, at_once: Semaphore::new(permits.most() / 2), permits }
    }

    fn at_once(&self) -> Option<AtOnce<'_>> {
        let at_once = self.at_once.try_acquire().ok()?;
        Some((self.permits.at_once()?, at_once))
    }

    /// Waits for a permit, as long as the call has time, and makes the call, as a task of its own.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        deadline: Deadline,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let call = |permit| async move {
            let _permit = permit;
            call.await
        };
        self.permits.apart(deadline, call).await?.ok_or_else(|| self.no_turn(deadline))
    }

    /// Waits for a permit that is held after the call.
    pub(super) async fn keep(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit> {
        if let Some(permit) = self.permits.at_once() {
            return Ok(permit);
        }
        let permit = self.permits.apart(deadline, |permit| ready(Ok(permit))).await?;
        permit.ok_or_else(|| self.no_turn(deadline))
    }

    /// Has whoever waits for a permit hear that there is none any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn no_turn(&self, deadline: Deadline) -> Error {
        let (name, most) = (self.name, self.permits.most());
        let why = format!(
            "no turn within {deadline}: {most} {name} were under way all the time, which is the most that the layer `Limit` allows; nothing was sent"
        );
        Error::new(ErrorKind::Timeout, why)
    }
}

/// Returns what a call that its caller polls has to hold, or the class of which it has to wait for
/// a permit.
pub(super) fn enter(class: Option<&Class>) -> Result<Option<AtOnce<'_>>, &Class> {
    class.map(|class| class.at_once().ok_or(class)).transpose()
}

/// Makes a call of the store below when it has its permit: at once, or with copies of these
/// arguments, and of the place behind which it goes on, as a task.
macro_rules! in_turn {
    (
        $limited:ident.$class:ident, $deadline:expr,
        |$below:ident, $($argument:ident),+ $(; $from:ident)?| $call:expr
    ) => {
        match enter($limited.$class.as_ref()) {
            Ok(_held) => {
                let $below = $limited.below();
                $call.await
            }
            Err(class) => {
                let (deadline, $below) = ($deadline, $limited.inner.clone());
                $(let $argument = $argument.to_owned();)+
                $(let $from = $from.cloned();)?
                let call = async move {
                    $(let $argument = &$argument;)+
                    $(let $from = $from.as_ref();)?
                    $call.await
                };
                class.apart(deadline, call).await
            }
        }
    };
}
pub(super) use in_turn;
