//! Another process, as far as the clock and the network go: a runtime with a thread of its own,
//! which can stand still, and end without giving anything back.

use crate::Failure;
use std::{convert::Infallible, future::Future, sync::mpsc as sync, thread};
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub(crate) struct Process {
    runtime: Handle,
    pauses: mpsc::UnboundedSender<Pause>,
    ended: oneshot::Receiver<()>,
}

struct Pause {
    stands_still: oneshot::Sender<()>,
    goes_on: sync::Receiver<Infallible>,
}

/// A process that stands still until this is dropped.
pub(crate) struct Paused {
    _still: sync::Sender<Infallible>,
}

impl Process {
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (pauses, mut asked) = mpsc::unbounded_channel::<Pause>();
        let (ends, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        thread::spawn(move || {
            runtime.block_on(async {
                while let Some(Pause { stands_still, goes_on }) = asked.recv().await {
                    // The case may have been given up.
                    let _ = stands_still.send(());
                    // It ends with an error when nobody keeps the other end any more.
                    let _ = goes_on.recv();
                }
            });
            drop(runtime);
            let _ = ends.send(());
        });
        Ok(Self { runtime: handle, pauses, ended })
    }

    /// Runs the work there, as a task.
    pub(crate) fn run<T, F>(&self, work: F) -> JoinHandle<Result<T, Failure>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.runtime.spawn(work)
    }

    /// Stops it, with all its tasks, as SIGSTOP does; returns when it stands still.
    pub(crate) async fn pause(&self) -> Result<Paused, Failure> {
        let ((still, goes_on), (stands_still, stands)) = (sync::channel(), oneshot::channel());
        let ended = "the other process has ended";
        self.pauses.send(Pause { stands_still, goes_on }).map_err(|_| ended)?;
        stands.await.map_err(|_| ended)?;
        Ok(Paused { _still: still })
    }

    /// Ends it, with all its tasks; returns when it is gone.
    pub(crate) async fn kill(self) -> Result<(), Failure> {
        drop(self.pauses);
        self.ended.await.map_err(|_| "the thread of the other process panicked".into())
    }
}
