//! A directory in memory.

mod catch_up;
mod changes;
mod open;
mod range;
mod state;

pub use changes::{Change, Changes};
pub use open::OpenView;
pub use state::ViewEntry;

use crate::json;
use kv_core::{
    Bytes, Directory, Entry, Error, IntoKey, Key, Kv, Result, Version, WatchEvent,
    backend::{AbortOnDrop, Clock, Mutex},
};
use serde::de::DeserializeOwned;
use state::State;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::sync::watch;

/// A directory in memory, sorted, with decoded values: reading it is no I/O. It follows the store
/// by a watch, so that a change costs one event, and it serves what it has through outages.
///
/// Clones are one view; its work ends with the last of them. Names are those below the directory,
/// in normal form: `a/b` for `routes/a/b` in a view of `routes`.
///
/// - It never goes back in time, and is never empty because of an outage.
/// - A value that cannot be decoded is an error in its place, which names its key. The others are
///   not affected.
/// - [`wait_for`](Self::wait_for) waits for one's own writes, [`synced_now`](Self::synced_now) for
///   everybody's; [`age`](Self::age) tells how old it may be.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::ErrorKind;
/// use kv_recipes::View;
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("routes/a", r#"{"to":"10.0.0.1"}"#).await?;
/// kv.put("routes/bad", "{").await?;
///
/// #[derive(serde::Deserialize)]
/// struct Route {
///     to: String,
/// }
/// let view: View<Route> = View::open(&kv, "routes").await?;
/// assert_eq!(view.get("a")?.unwrap().to, "10.0.0.1"); // no I/O
/// assert_eq!(view.get("bad").err().unwrap().kind(), ErrorKind::Corrupt);
/// assert!(view.get("c")?.is_none());
///
/// let written = kv.put("routes/c", r#"{"to":"10.0.0.3"}"#).await?;
/// view.wait_for("c", written.version).await?;
/// assert_eq!(view.get("c")?.unwrap().to, "10.0.0.3");
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the process is | then |
/// |---|---|
/// | paused | the view catches up by what differs |
/// | killed | nothing is left on the server but its watch, which ends with the connection |
/// | cut off from the server | the view serves what it has, and its [`age`](Self::age) grows |
/// | there while the server restarts | as when it is cut off |
/// | told nothing, because an answer was lost | the watch reads again |
/// | no longer interested (the last clone is dropped) | all its work ends, on the server too |
///
/// # Layout
/// A view writes nothing. [`open`](Self::open) reads JSON; [`raw`](Self::raw) reads any bytes, and
/// [`decoded`](Self::decoded) whatever a function makes of an entry.
#[doc(alias = "cache")]
#[doc(alias = "informer")]
#[doc(alias = "reflector")]
pub struct View<T> {
    shared: Arc<Shared<T>>,
    tasks: Arc<Vec<AbortOnDrop>>,
}

/// The state that the view and its tasks share.
struct Shared<T> {
    kv: Kv,
    directory: Directory,
    decode: Arc<Decode<T>>,
    clock: Clock,
    within: Duration,
    state: Mutex<State<T>>,
    /// Counts the changes, and the end.
    changed: watch::Sender<u64>,
}

type Decode<T> = dyn Fn(&Entry) -> Result<T> + Send + Sync;

impl<T: DeserializeOwned + Send + Sync + 'static> View<T> {
    /// Opens a view of a directory whose values are JSON. It is open when it is awaited: it then
    /// holds everything that was there.
    pub fn open(kv: &Kv, directory: impl IntoKey) -> OpenView<T> {
        OpenView::new(kv, directory.into_directory(), |entry| json::read(&entry.key, &entry.value))
    }
}

impl View<Bytes> {
    /// Opens a view of a directory whose values are any bytes.
    pub fn raw(kv: &Kv, directory: impl IntoKey) -> OpenView<Bytes> {
        OpenView::new(kv, directory.into_directory(), |entry| Ok(entry.value.clone()))
    }
}

impl<T: Send + Sync + 'static> View<T> {
    /// Opens a view of a directory whose entries this function decodes. An error that it gives
    /// stands in the place of the entry; it is best [`Corrupt`](kv_core::ErrorKind::Corrupt), and
    /// names the key.
    pub fn decoded<D>(kv: &Kv, directory: impl IntoKey, decode: D) -> OpenView<T>
    where
        D: Fn(&Entry) -> Result<T> + Send + Sync + 'static,
    {
        OpenView::new(kv, directory.into_directory(), decode)
    }

    /// Returns the value of a name; `None` when it is not there. No I/O.
    ///
    /// # Errors
    /// [`Corrupt`](kv_core::ErrorKind::Corrupt) for a value that cannot be decoded.
    pub fn get(&self, name: &str) -> Result<Option<Arc<T>>> {
        let state = self.shared.state.lock();
        state.get(name).map(|entry| entry.value.clone()).transpose()
    }

    /// Returns a name with its version and value. No I/O.
    pub fn entry(&self, name: &str) -> Option<ViewEntry<T>> {
        self.shared.state.lock().get(name).cloned()
    }

    /// Returns everything, sorted by name. No I/O. Values are shared, not copied.
    #[doc(alias = "iter")]
    #[doc(alias = "list")]
    pub fn entries(&self) -> Vec<ViewEntry<T>> {
        self.shared.state.lock().entries().cloned().collect()
    }

    /// Returns everything below a directory of the view, sorted by name. No I/O.
    ///
    /// # Errors
    /// [`InvalidKey`](kv_core::ErrorKind::InvalidKey) for the directory.
    #[doc(alias = "prefix")]
    #[doc(alias = "scan")]
    pub fn below(&self, directory: impl IntoKey) -> Result<Vec<ViewEntry<T>>> {
        let directory = directory.into_directory()?;
        Ok(self.shared.state.lock().below(&directory).cloned().collect())
    }

    /// Returns how many names there are. No I/O.
    pub fn len(&self) -> usize {
        self.shared.state.lock().len()
    }

    /// Tells whether nothing is there. No I/O.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the directory that is viewed.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Returns the value that can be decoded whose turn it is.
    pub(crate) fn good_in_turn(&self, turn: usize) -> Option<Arc<T>> {
        let state = self.shared.state.lock();
        let good = || state.entries().filter_map(|entry| entry.value.as_ref().ok());
        good().nth(turn.checked_rem(good().count())?).cloned()
    }

    /// Returns the changes from now on; [`Changes`] says how they come.
    pub fn changes(&self) -> Changes<T> {
        Changes::new(self)
    }

    /// Returns how old the view may be: it holds every write that was acknowledged longer ago than
    /// this. No I/O.
    ///
    /// The age is counted from the last [`synced_now`](Self::synced_now), or the opening, on a
    /// clock that counts suspend. A view that is asked for its age should
    /// [check](OpenView::check_every) now and then: a watch that tells nothing may have nothing to
    /// tell, or be cut off, and only a question to the store decides which.
    pub fn age(&self) -> Duration {
        self.shared.clock.now().since(self.shared.state.lock().holds_all_since())
    }

    /// Waits until the view holds this version of a name, or what came after it: for one's own
    /// writes. It is immediate when the view holds it already.
    ///
    /// # Errors
    /// [`Timeout`](kv_core::ErrorKind::Timeout) when it was not there within the view's
    /// [deadline](OpenView::deadline); [`InvalidKey`](kv_core::ErrorKind::InvalidKey) for the name;
    /// the error with which the view has [ended](Self::ended).
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub async fn wait_for(&self, name: impl IntoKey, version: Version) -> Result<()> {
        self.shared.wait_for(name.into_key()?, version).await
    }

    /// Waits until the view holds every write that was acknowledged before this call: for each name
    /// it then shows what the store had at some moment after the call began. It reads the directory
    /// once.
    ///
    /// # Errors
    /// [`Timeout`](kv_core::ErrorKind::Timeout) when that was not so within the view's
    /// [deadline](OpenView::deadline); those of [`Kv::list`]; the error with which the view has
    /// [ended](Self::ended).
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::View;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let view = View::raw(&kv, "flags").await?;
    /// kv.put("flags/new", "on").await?; // by whomever, on whatever machine
    /// view.synced_now().await?;
    /// assert_eq!(view.get("new")?.as_deref().map(|v| &**v), Some(&b"on"[..]));
    /// # Ok(()) }
    /// ```
    pub async fn synced_now(&self) -> Result<()> {
        self.shared.synced_now().await
    }

    /// Waits until the view has ended, and returns the reason: the handle was
    /// [closed](Kv::close), the server refuses to go on, the runtime in which the view was opened
    /// has ended, or the values have become more than [`OpenView::bytes`] allows. A view that has
    /// ended serves what it had. The future keeps nothing alive.
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub fn ended(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut changed = self.shared.changed.subscribe();
        let shared = Arc::downgrade(&self.shared);
        async move {
            loop {
                let over = match shared.upgrade() {
                    Some(shared) => shared.state.lock().over(),
                    None => Some(state::dropped()),
                };
                if let Some(why) = over {
                    return why;
                }
                // It fails when the view is gone, which the next round sees.
                let _ = changed.changed().await;
            }
        }
    }
}

impl<T> Shared<T> {
    /// Takes up what the watch tells. An error ends the view.
    fn apply(&self, event: WatchEvent) -> Result<()> {
        let (key, entry) = match event {
            WatchEvent::Synced => return Ok(()),
            WatchEvent::Put(entry) => (entry.key.clone(), Some(entry)),
            WatchEvent::Delete { key, .. } => (key, None),
        };
        let Some(name) = self.directory.strip(&key) else { return Ok(()) };
        let new = entry.map(|entry| {
            let value = (self.decode)(&entry).map(Arc::new);
            ViewEntry::new(name.clone(), value, entry.version, key.as_str().len() + entry.value.len())
        });
        self.state.lock().set(name, new)?;
        self.tell();
        Ok(())
    }

    fn end(&self, why: Error) {
        self.state.lock().end(why);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Returns the whole key of a name.
    fn key(&self, name: &Key) -> Result<Key> {
        self.directory.join(name)
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), tasks: self.tasks.clone() }
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.shared.state.lock().len();
        let mut view = f.debug_struct("View");
        view.field("directory", &self.shared.directory).field("names", &names).finish_non_exhaustive()
    }
}
