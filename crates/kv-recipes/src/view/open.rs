//! The opening of a view.

use super::{
    Shared, View,
    state::{State, dropped},
};
use crate::{names::in_recipe, needs};
use futures_core::future::BoxFuture;
use kv_core::{
    Directory, Entry, Error, ErrorKind, Kv, Result, Watch, WatchEvent,
    backend::{AbortOnDrop, Clock, Mutex},
    driver::Deadline,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The most bytes of a view, unless told otherwise.
const MOST: usize = 64 << 20;

/// [`View::open`] and its like, to be awaited. It waits until the view holds everything that was
/// there; outages are ridden out.
///
/// # Errors
/// Before any I/O [`InvalidKey`](kv_core::ErrorKind::InvalidKey) and
/// [`Unsupported`](kv_core::ErrorKind::Unsupported); [`TooLarge`](kv_core::ErrorKind::TooLarge) for
/// more than [`bytes`](Self::bytes); what ends a [watch](Watch::event).
///
/// # Cancel safety
/// A future that is dropped leaves no watch behind.
#[must_use = "a view is open when this is awaited"]
pub struct OpenView<T> {
    kv: Kv,
    directory: Result<Directory>,
    decode: Arc<super::Decode<T>>,
    most: usize,
    within: Duration,
    check_every: Option<Duration>,
}

impl<T> OpenView<T> {
    pub(super) fn new<D>(kv: &Kv, directory: Result<Directory>, decode: D) -> Self
    where
        D: Fn(&Entry) -> Result<T> + Send + Sync + 'static,
    {
        let (most, within) = (MOST, Deadline::DEFAULT);
        Self { kv: kv.clone(), directory, decode: Arc::new(decode), most, within, check_every: None }
    }

    /// Sets the most bytes of keys and stored values, together, that the view may hold: 64 MiB
    /// unless it is set. Past it the view is not opened, or ends, with
    /// [`TooLarge`](kv_core::ErrorKind::TooLarge).
    pub fn bytes(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Sets the time that [`View::synced_now`] and [`View::wait_for`] have: five seconds unless it
    /// is set.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Has the view make sure in the background, with this pause in between, that it holds
    /// everything: each time it reads the directory once, and [`View::age`] begins anew.
    pub fn check_every(mut self, pause: Duration) -> Self {
        self.check_every = Some(pause);
        self
    }
}

impl<T: Send + Sync + 'static> OpenView<T> {
    async fn run(self) -> Result<View<T>> {
        let Self { kv, directory, decode, most, within, check_every } = self;
        let directory = directory.map_err(|e| in_recipe(e, &kv, "view", None))?;
        needs::watches(&kv).map_err(|e| in_recipe(e, &kv, "view", None))?;
        let clock = Clock::system();
        let state = Mutex::new(State::new(most, clock.now()));
        let mut watch = kv.watch_tree(&directory).await?;
        let changed = watch::Sender::new(0);
        let shared = Arc::new(Shared { kv, directory, decode, clock, within, state, changed });
        loop {
            match watch.event().await? {
                WatchEvent::Synced => break,
                event => shared.apply(event)?,
            }
        }
        let mut tasks = vec![follow(shared.clone(), watch)];
        tasks.extend(check_every.map(|pause| check(shared.clone(), pause)));
        Ok(View { shared, tasks: Arc::new(tasks) })
    }
}

/// Ends the view with the task that follows its watch, whatever ends that: a view that nobody
/// follows must not look like one that has nothing to tell.
struct Following<T>(Arc<Shared<T>>);

impl<T> Drop for Following<T> {
    fn drop(&mut self) {
        self.0.end(match std::thread::panicking() {
            true => Error::new(ErrorKind::Other, "the function that decodes the values has panicked"),
            false => dropped(),
        });
    }
}

/// Has the view follow its watch, until that ends.
fn follow<T: Send + Sync + 'static>(shared: Arc<Shared<T>>, mut watch: Watch) -> AbortOnDrop {
    let following = Following(shared);
    let task = tokio::spawn(async move {
        let Following(shared) = &following;
        let over = loop {
            if let Err(over) = watch.event().await.and_then(|event| shared.apply(event)) {
                break over;
            }
        };
        drop(watch);
        shared.end(over);
    });
    AbortOnDrop::new(task.abort_handle())
}

/// Has the view make sure that it holds everything, again and again.
fn check<T: Send + Sync + 'static>(shared: Arc<Shared<T>>, pause: Duration) -> AbortOnDrop {
    let task = tokio::spawn(async move {
        while shared.state.lock().over().is_none() {
            tokio::time::sleep(pause).await;
            // When it fails, the age tells.
            drop(shared.synced_now().await);
        }
    });
    AbortOnDrop::new(task.abort_handle())
}

impl<T: Send + Sync + 'static> IntoFuture for OpenView<T> {
    type Output = Result<View<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for OpenView<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenView").field("directory", &self.directory).finish_non_exhaustive()
    }
}
