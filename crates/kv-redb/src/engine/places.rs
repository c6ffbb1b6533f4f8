//! Which files are open in this process: the clients of one file share one engine.

use super::{Engine, file};
use crate::config::Config;
use kv_core::{
    Error, ErrorKind, Result,
    backend::{Hub, Mutex},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

enum Place {
    /// Open, with so many clients.
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

    /// The engine, while this is open.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>> {
        if self.open.load(Ordering::Acquire) { Ok(&self.engine) } else { Err(crate::error::closed()) }
    }

    /// Also when it is closed.
    pub(crate) fn path(&self) -> &Path {
        &self.engine.path
    }

    /// Closes it; the end of the engine, if this was its last client.
    pub(crate) fn close(&self) -> Option<watch::Receiver<bool>> {
        let mut places = PLACES.lock();
        if !self.open.swap(false, Ordering::AcqRel) {
            // Closed before: whoever closes again waits just the same.
            return match places.get(&self.engine.path) {
                Some(Place::Busy(gone)) => Some(gone.clone()),
                _ => None,
            };
        }
        let Some(Place::Open(engine, clients)) = places.get_mut(&self.engine.path) else { return None };
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

/// For the writer: its file can be opened again.
pub(crate) fn gone(path: &Path) {
    PLACES.lock().remove(path);
}

/// Frees the place when opening fails or is never begun.
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

/// A client of the file of this configuration.
pub(crate) async fn open(config: &Config) -> Result<Client> {
    let given = config.path.clone();
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
    let config = config.clone();
    blocking(move || {
        let mut opening = opening;
        let engine = Engine::start(opening.path.clone(), &config)?;
        PLACES.lock().insert(opening.path.clone(), Place::Open(engine.clone(), 1));
        opening.done = true;
        Ok(Client::new(engine))
    })
    .await
}

/// Runs what blocks on a thread for it. It runs to its end also when the caller is gone.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(if e.is_panic() {
            Error::new(ErrorKind::Corrupt, "redb panicked on what it read; restore the file from a copy")
                .with_cause(e)
        } else {
            Error::new(ErrorKind::Closed, "the runtime has ended").with_cause(e)
        })
    })
}

/// A view of these keys: the one that other clients of this prefix have, or a new one.
pub(crate) fn view(engine: &Engine, prefix: &str) -> Arc<super::event::View> {
    let mut views = engine.views.lock();
    views.retain(|view| view.strong_count() > 0);
    if let Some(view) = views.iter().filter_map(Weak::upgrade).find(|view| &*view.prefix == prefix) {
        return view;
    }
    let view = Arc::new(super::event::View { prefix: prefix.into(), hub: Hub::new() });
    views.push(Arc::downgrade(&view));
    view
}
