//! Takes settings that are valid, and rejects those that are not.

use crate::{
    follower::Follower,
    last_good::LastGood,
    reader::Reader,
    snapshot::Snapshot,
    state::{Ending, Origin, Rejected, Running, Shared, State, ends},
};
use kv_core::{
    Error, Result,
    backend::{Backoff, Outage},
};
use serde::de::DeserializeOwned;
use std::{mem, sync::Arc, time::Duration};

/// The first and the greatest ceiling of the pauses between attempts to follow the store.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Keeps live settings in step with the store.
pub(crate) struct Keeper<T> {
    follower: Follower,
    reader: Reader<T>,
    last_good: Option<LastGood>,
    /// The stored settings that are run.
    taken: Snapshot,
    /// They are not in the last good file yet.
    unsaved: bool,
    outage: Option<Outage>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Keeper<T> {
    /// Reads the first settings, from the store or else from the last good file.
    ///
    /// # Errors
    /// There are none in either that are valid.
    pub(crate) async fn start(
        mut follower: Follower,
        reader: Reader<T>,
        last_good: Option<LastGood>,
    ) -> Result<(Self, State<T>)> {
        let first = loop {
            match follower.next().await {
                Ok(None) => {}
                Ok(Some(snapshot)) => break Ok(snapshot),
                Err(e) => break Err(e),
            }
        };
        let (why, rejected, trouble) = match first {
            Ok(snapshot) => match reader.read(&snapshot) {
                Ok(settings) => {
                    let mut state = State::new(running(settings, &snapshot, Origin::Store));
                    state.kv = follower.opening().opened().cloned();
                    return Ok((Self::new(follower, reader, last_good, snapshot, true), state));
                }
                Err(error) => {
                    let generation = snapshot.generation();
                    (error.clone(), Some(Rejected { generation, error }), None)
                }
            },
            Err(error) if ends(&error) => return Err(error),
            Err(error) => (error.clone(), None, Some(error)),
        };
        let Some(file) = &last_good else { return Err(why) };
        let place = follower.place().clone();
        let snapshot = file.load(&place).await.map_err(|e| neither(&why, &e))?;
        let settings = reader.read(&snapshot).map_err(|e| neither(&why, &e))?;
        tracing::warn!(place = place.name(), %why, "settings: those of the last good file are run");
        let mut state = State::new(running(settings, &snapshot, Origin::File));
        state.kv = follower.opening().opened().cloned();
        state.troubles.store = trouble;
        if let Some(rejected) = rejected {
            state.reject(rejected);
        }
        Ok((Self::new(follower, reader, last_good, snapshot, false), state))
    }

    fn new(
        follower: Follower,
        reader: Reader<T>,
        last_good: Option<LastGood>,
        taken: Snapshot,
        unsaved: bool,
    ) -> Self {
        Self { follower, reader, last_good, taken, unsaved, outage: None }
    }

    /// Follows the store until the handle is closed.
    pub(crate) async fn run(mut self, shared: Shared<T>) {
        let _ending = Ending(shared.clone());
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            if mem::take(&mut self.unsaved) {
                save(self.last_good.as_ref(), &self.taken, &shared).await;
            }
            let next = self.follower.next().await;
            if let Some(kv) = self.follower.opening().opened() {
                shared.note_open(kv);
            }
            match next {
                Ok(found) => {
                    backoff.reset();
                    if let Some(mut outage) = self.outage.take() {
                        outage.over();
                    }
                    shared.trouble(None, |troubles| &mut troubles.store);
                    if let Some(snapshot) = found {
                        self.examine(snapshot, &shared);
                    }
                }
                Err(e) if ends(&e) => return shared.end(e),
                Err(e) => {
                    let backend = self.follower.opening().backend();
                    self.outage.get_or_insert_with(|| Outage::new("settings", backend)).failed(&e);
                    shared.trouble(Some(e), |troubles| &mut troubles.store);
                    backoff.pause().await;
                }
            }
        }
    }

    /// Takes settings that are valid, and rejects others.
    fn examine(&mut self, snapshot: Snapshot, shared: &Shared<T>) {
        let (place, generation) = (snapshot.place().name(), snapshot.generation());
        if snapshot.has_same_values(&self.taken) {
            shared.keep(generation);
        } else {
            match self.reader.read(&snapshot) {
                Ok(settings) => {
                    tracing::info!(place, %generation, "settings: taken");
                    shared.take(running(settings, &snapshot, Origin::Store));
                }
                Err(error) => {
                    tracing::warn!(place, %generation, %error, "settings: rejected, those of before stay");
                    return shared.reject(Rejected { generation, error });
                }
            }
        }
        (self.taken, self.unsaved) = (snapshot, true);
    }
}

/// Saves the settings that are run.
async fn save<T>(last_good: Option<&LastGood>, taken: &Snapshot, shared: &Shared<T>) {
    let Some(file) = last_good else { return };
    let failed = file.save(taken).await.err();
    if let Some(error) = &failed {
        tracing::warn!(%error, "settings: they are not saved");
    }
    shared.trouble(failed, |troubles| &mut troubles.last_good);
}

fn running<T>(settings: T, snapshot: &Snapshot, origin: Origin) -> Running<T> {
    Running { settings: Arc::new(settings), generation: snapshot.generation(), origin }
}

/// Returns the error of a start without settings: neither those of the store nor those of the file.
#[cold]
fn neither(store: &Error, file: &Error) -> Error {
    Error::new(store.kind(), format!("{store}; and there are no settings from before: {file}"))
}
