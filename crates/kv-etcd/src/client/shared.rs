//! Work that several callers wait for, and that belongs to none of them.

use kv_core::backend::{AbortOnDrop, Mutex};
use std::future::Future;
use tokio::sync::watch;

/// Work of one kind, of which one piece at a time is under way, in a task of its own: a caller that
/// is not polled, or that leaves, holds back no other. It ends when this is dropped.
pub(crate) struct Shared<T>(Mutex<Last<T>>);

/// The piece that was begun last, if any.
struct Last<T> {
    number: u64,
    work: Option<(watch::Receiver<Option<T>>, AbortOnDrop)>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(Last { number: 0, work: None }))
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// Returns the number of the piece that was begun last; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.0.lock().number
    }

    /// Waits for the piece under way, or begins one on this runtime: `work` makes it of its number.
    /// Returns the number and the answer of the piece; no answer where its runtime has ended.
    /// Cancel safe: the work goes on.
    pub(crate) async fn join<F>(&self, work: impl FnOnce(u64) -> F) -> (u64, Option<T>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (number, mut answer) = self.under_way(work);
        let answer = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        (number, answer)
    }

    fn under_way<F>(&self, work: impl FnOnce(u64) -> F) -> (u64, watch::Receiver<Option<T>>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut last = self.0.lock();
        let is_under_way =
            |answer: &watch::Receiver<Option<T>>| answer.borrow().is_none() && answer.has_changed().is_ok();
        if let Some((answer, _)) = last.work.as_ref().filter(|(answer, _)| is_under_way(answer)) {
            return (last.number, answer.clone());
        }
        last.number += 1;
        let (tell, answer) = watch::channel(None);
        let work = work(last.number);
        let task = tokio::spawn(async move {
            tell.send_replace(Some(work.await));
        });
        last.work = Some((answer.clone(), AbortOnDrop::new(task.abort_handle())));
        (last.number, answer)
    }
}
