//! Waits for locks: contenders stand in line within a store and a runtime, and all lines there
//! share the polls. A contender of another runtime that stands still would hold up those behind
//! it.

use crate::{
    client::{Client, backoff, clock::Millis},
    list::batch_get::read_many,
};
use kv_core::{
    Key, Result,
    backend::{ByRuntime, Mutex, WhileUsed, unique},
    driver::Deadline,
};
use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedMutexGuard},
    task::AbortHandle,
};

/// Sets the pause between two polls. A poll reads the records of all locks that this store waits
/// for, a hundred in one request.
const POLL: Duration = Duration::from_millis(250);
/// The number of times in a row that a lock passes from one contender of this store to the next.
/// Then contenders of other stores have a whole round of polls in which they can come first.
const IN_A_ROW: u32 = 8;

/// The locks that this store waits for, and what is known of them.
pub(crate) struct Waits {
    client: Arc<Client>,
    partition: Arc<str>,
    places: ByRuntime<Arc<Shared>>,
}

/// The waits of one runtime.
struct Shared {
    client: Arc<Client>,
    partition: Arc<str>,
    lines: WhileUsed<Key, Line>,
    /// The task that polls, while somebody waits.
    poller: Mutex<Option<AbortHandle>>,
}

/// The contenders of this store that wait for one lock.
#[derive(Default)]
struct Line {
    /// Lets one contender at a time ask the service.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Wakes the first in line to ask again.
    free: Notify,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    /// Tells whether the first in line waits for what the polls find.
    waits: bool,
    handed_on: u32,
}

/// The wait of the first in line.
pub(crate) struct Wait {
    line: Arc<Line>,
    shared: Arc<Shared>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock()
    }
}

impl Shared {
    /// Returns the lines whose first contender waits for what the polls find.
    fn waiting(&self) -> Vec<(Key, Arc<Line>)> {
        let mut lines = self.lines.all();
        lines.retain(|(_, line)| line.state().waits);
        lines
    }

    /// Polls the records as long as somebody waits.
    async fn poll(self: Arc<Self>) {
        let mut backoff = backoff();
        loop {
            tokio::time::sleep(POLL - POLL / 8 + Duration::from_millis(unique() % 64)).await;
            let waiting = self.waiting();
            if waiting.is_empty() {
                let mut poller = self.poller.lock();
                // A contender that began to wait meanwhile has seen this poller.
                if self.waiting().is_empty() {
                    *poller = None;
                    return;
                }
                continue;
            }
            let names = waiting.iter().map(|(name, _)| name.as_str());
            // A stale read is enough: the contender's own request tells the truth.
            let found = read_many(&self.client, &self.partition, names, false, Deadline::default()).await;
            let found = match found {
                Ok(found) => found,
                Err(e) => {
                    // A lasting error is for the contenders, whose own request meets it.
                    if e.is_lasting() {
                        waiting.iter().for_each(|(_, line)| line.free.notify_one());
                    }
                    backoff.pause().await;
                    continue;
                }
            };
            backoff.reset();
            for (name, line) in waiting {
                let held = found.get(name.as_str()).is_some_and(|record| {
                    let over = record.ends.is_some_and(|end| self.client.time.is_over(end));
                    record.owner.is_some() && !over
                });
                if !held {
                    line.free.notify_one();
                }
            }
        }
    }
}

impl Waits {
    pub(crate) fn new(client: Arc<Client>, partition: &str) -> Self {
        Self { client, partition: partition.into(), places: ByRuntime::new() }
    }

    /// Waits in line behind the other contenders that this store has in this runtime.
    ///
    /// # Errors
    /// [`Closed`](kv_core::ErrorKind::Closed) once the store is closed.
    pub(crate) async fn turn(&self, name: &Key) -> Result<(OwnedMutexGuard<()>, Wait)> {
        let shared = self.places.here(|| {
            let (client, partition) = (self.client.clone(), self.partition.clone());
            Arc::new(Shared { client, partition, lines: WhileUsed::new(), poller: Mutex::default() })
        })?;
        let line = shared.lines.get_or(name.clone(), Line::default);
        let wait = Wait { line, shared };
        Ok((wait.line.turn.clone().lock_owned().await, wait))
    }

    /// Notes that a lock of this store was given back. The first contender here then need not wait
    /// for the next poll, except now and then, so that other clients have a chance.
    pub(crate) fn released(&self, name: &Key) {
        for shared in self.places.all() {
            let Some(line) = shared.lines.get(name) else { continue };
            let mut state = line.state();
            state.handed_on += 1;
            if !state.handed_on.is_multiple_of(IN_A_ROW) {
                line.free.notify_one();
            }
        }
    }

    pub(crate) fn close(&self) {
        for shared in self.places.close() {
            let poller = shared.poller.lock().take();
            if let Some(poller) = poller {
                poller.abort();
            }
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.close();
    }
}

impl Wait {
    /// Starts the poller, unless one runs.
    fn poll(&self) {
        let mut poller = self.shared.poller.lock();
        if poller.as_ref().is_none_or(AbortHandle::is_finished) {
            *poller = Some(tokio::spawn(self.shared.clone().poll()).abort_handle());
        }
    }

    /// Waits until the lock may be free. Cancel safe.
    pub(crate) async fn free(&self, ends: Option<Millis>) {
        let watched = Watched::new(self);
        let time = &self.shared.client.time;
        // A holder that was killed gives nothing back.
        let over = async {
            match ends {
                Some(ends) => loop {
                    match time.until(ends) {
                        Duration::ZERO => return,
                        left => time.local().sleep(left).await,
                    }
                },
                None => std::future::pending().await,
            }
        };
        self.poll();
        tokio::select! {
            () = self.line.free.notified() => {}
            () = over => {}
        }
        drop(watched);
    }
}

/// A guard that makes the polls look at a lock as long as it lives.
struct Watched<'a>(&'a Line);

impl<'a> Watched<'a> {
    fn new(wait: &'a Wait) -> Self {
        wait.line.state().waits = true;
        Self(&wait.line)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.state().waits = false;
    }
}
