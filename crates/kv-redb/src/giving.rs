//! Gives a lock or a lease back, whatever becomes of the runtime.

use crate::{
    core::Core,
    engine::{Batch, Done},
};
use kv_core::{Result, driver::Deadline};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

type Work = dyn Fn(&mut Batch<'_>) -> Done<bool> + Send + Sync;

/// An order to give something back, which the writer has to get once: by [`run`](Self::run), or
/// when this is dropped. The drop needs no runtime, since the writer is a thread. So what is held
/// when `main` returns, or when a runtime ends, is given back all the same.
///
/// The work is bound to the id of what it gives back, so that doing it twice has the effect of
/// doing it once.
pub(crate) struct Giving {
    core: Arc<Core>,
    work: Arc<Work>,
    done: Arc<AtomicBool>,
}

/// Notes that there is nothing to give back, after all.
pub(crate) struct Nothing(Arc<AtomicBool>);

impl Giving {
    pub(crate) fn new(
        core: &Arc<Core>,
        work: impl Fn(&mut Batch<'_>) -> Done<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { core: core.clone(), work: Arc::new(work), done: Arc::default() }
    }

    pub(crate) fn nothing(&self) -> Nothing {
        Nothing(self.done.clone())
    }

    /// Gives it back; tells whether it was still held.
    pub(crate) async fn run(self, within: Duration) -> Result<bool> {
        let (work, engine) = (self.work.clone(), self.core.engine()?);
        let answer = engine.write(Deadline::after(within), 0, move |batch| work(batch)).await;
        if answer.is_ok() {
            self.done.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl Nothing {
    pub(crate) fn note(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        if self.done.load(Ordering::Relaxed) {
            return;
        }
        let work = self.work.clone();
        // When the file is closed, what was held is over.
        self.core.order(move |batch| work(batch));
    }
}
