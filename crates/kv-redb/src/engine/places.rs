//! The files that are open in this process: the clients of one file share one engine.

use super::{blocking::blocking, common::Engine, file};
use crate::error;
use kv_core::{Result, backend::Mutex};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

enum Place {
    /// Open, with this number of clients.
    Open(Arc<Engine>, usize),
    /// About to be opened or closed; the channel ends, or says `true`, when that is over.
    Busy(watch::Receiver<bool>),
}

static PLACES: LazyLock<Mutex<HashMap<PathBuf, Place>>> = LazyLock::new(Mutex::default);

/// One opening of a file: until it is closed or dropped the file stays open.
#[derive(Debug)]
pub(crate) struct Client {
    engine: Arc<Engine>,
    open: AtomicBool,
}

impl Client {
    fn new(engine: Arc<Engine>) -> Self {
        Self { engine, open: AtomicBool::new(true) }
    }

    /// Returns the engine, while this client is open.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>> {
        if self.open.load(Ordering::Acquire) { Ok(&self.engine) } else { Err(error::closed()) }
    }

    /// Returns the path of the file, also when this client is closed.
    pub(crate) fn path(&self) -> &Path {
        &self.engine.path
    }

    /// Closes this client. If it was the last one, returns a channel that tells the end of the
    /// engine.
    pub(crate) fn close(&self) -> Option<watch::Receiver<bool>> {
        let mut places = PLACES.lock();
        if !self.open.swap(false, Ordering::AcqRel) {
            // It was closed before: whoever closes it again waits just the same.
            return match places.get(&self.engine.path) {
                Some(Place::Busy(gone)) => Some(gone.clone()),
                _ => None,
            };
        }
        let Some(Place::Open(engine, clients)) = places.get_mut(&self.engine.path) else { return None };
        if !Arc::ptr_eq(engine, &self.engine) {
            // The writer ended by itself, and the file was opened anew.
            return None;
        }
        *clients -= 1;
        if *clients > 0 {
            return None;
        }
        let gone = engine.gone.subscribe();
        engine.stop.notify_one();
        places.insert(self.engine.path.clone(), Place::Busy(gone.clone()));
        Some(gone)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// Notes that a writer has ended, so that its file can be opened again.
pub(super) fn gone(path: &Path) {
    PLACES.lock().remove(path);
}

/// A guard that frees the place when opening fails or is never begun.
struct Opening {
    path: PathBuf,
    done: bool,
    #[expect(dead_code, reason = "its end wakes who waits for the place")]
    over: watch::Sender<bool>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done {
            PLACES.lock().remove(&self.path);
        }
    }
}

/// Opens a client of the file at this path, by `start` when no other client has it open.
pub(super) async fn open(
    given: PathBuf,
    start: impl FnOnce(PathBuf) -> Result<Arc<Engine>> + Send + 'static,
) -> Result<Client> {
    let path = blocking(move || file::canonical(&given)).await?;
    let opening = loop {
        let mut busy = {
            let mut places = PLACES.lock();
            match places.get_mut(&path) {
                Some(Place::Open(engine, clients)) => {
                    engine.check_place()?;
                    *clients += 1;
                    return Ok(Client::new(engine.clone()));
                }
                Some(Place::Busy(over)) => over.clone(),
                None => {
                    let (over, busy) = watch::channel(false);
                    places.insert(path.clone(), Place::Busy(busy));
                    break Opening { path, done: false, over };
                }
            }
        };
        let _ = busy.wait_for(|over| *over).await;
    };
    blocking(move || {
        let mut opening = opening;
        let engine = start(opening.path.clone())?;
        PLACES.lock().insert(opening.path.clone(), Place::Open(engine.clone(), 1));
        opening.done = true;
        Ok(Client::new(engine))
    })
    .await
}
