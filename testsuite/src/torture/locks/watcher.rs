//! Watches on the holders of all locks.

use super::{
    contender::{LOCKS, name},
    event::wall,
    had::attempt_of,
    history::{Told, Watched},
};
use crate::torture::field::Denials;
use kv_core::{Kv, WatchEvent};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The watches, and what they told so far, by the wall clock.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<Watched>>);

impl Watches {
    fn all(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches every lock by this handle, until all is over.
    pub(super) async fn by(&self, client: &str, kv: &Kv, over: &watch::Receiver<bool>, denials: Denials) {
        let each = (0..LOCKS).map(|lock| async move {
            let number = {
                let mut all = self.all();
                all.push(Watched { client: client.into(), lock, ..Watched::default() });
                all.len() - 1
            };
            let mut over = over.clone();
            tokio::select! {
                ended = self.one(number, lock, kv, denials) => self.all()[number].ended = Some((wall(), ended.to_string())),
                _ = over.wait_for(|is_over| *is_over) => {}
            }
        });
        futures::future::join_all(each).await;
    }

    /// Watches one lock; returns the error that ends the watch. A watch that was denied begins
    /// anew, where that may happen.
    async fn one(&self, number: usize, lock: usize, kv: &Kv, denials: Denials) -> kv_core::Error {
        loop {
            let ended = self.once(number, lock, kv, denials).await;
            if !denials.explain(&ended) {
                return ended;
            }
            self.all()[number].told.push((wall(), Told::Anew));
        }
    }

    async fn once(&self, number: usize, lock: usize, kv: &Kv, denials: Denials) -> kv_core::Error {
        let mut holder = loop {
            match kv.lock_holder(name(lock)).watch().await {
                Ok(holder) => break holder,
                Err(e) if e.is_transient() || denials.explain(&e) => sleep(Duration::from_millis(20)).await,
                Err(e) => return e,
            }
        };
        loop {
            let told = match holder.event().await {
                Ok(WatchEvent::Synced) => Told::Synced,
                Ok(WatchEvent::Put(entry)) => {
                    Told::Put { token: entry.version.parts().0, value: attempt_of(&entry.value) }
                }
                Ok(WatchEvent::Delete { version, .. }) => Told::Delete { version },
                Err(e) => return e,
            };
            self.all()[number].told.push((wall(), told));
        }
    }

    /// Waits until all watches say this of their locks, but no longer than this.
    pub(super) async fn all_say(&self, within: Duration, holders: &[Option<u64>]) {
        let deadline = Instant::now() + within;
        let says = |watch: &Watched| match holders.get(watch.lock) {
            Some(holder) => watch.ended.is_some() || watch.fold() == Some(*holder),
            None => true,
        };
        while !self.all().iter().all(says) && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns what the watches told, on the clock of a run that began at `zero`.
    pub(super) fn told(self, zero: u64) -> Vec<Watched> {
        let mut all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        for watch in &mut all {
            let moments =
                watch.told.iter_mut().map(|(at, _)| at).chain(watch.ended.iter_mut().map(|(at, _)| at));
            moments.for_each(|at| *at = at.saturating_sub(zero));
        }
        all
    }
}
