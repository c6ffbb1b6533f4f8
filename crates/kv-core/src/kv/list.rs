//! `list`.

use super::{Does, Kv, awaitable};
use crate::{
    Consistency, Directory, Entry, Item, Key, LeftOut, Position, Result, backend,
    driver::{ListOptions, NotesLeftOut},
};
use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

/// [`Kv::list`]. Awaited it is a `Vec` of entries; its methods give streams, whose pages are
/// fetched as they are read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// let kv = kv_memory::open("memory://").await?;
/// for key in ["app/a", "app/b/c", "app/b", "application"] {
///     kv.put(key, "").await?;
/// }
/// let mut children = kv.list("app").child_keys();
/// let mut names = Vec::new();
/// while let Some(item) = children.next().await {
///     names.push(item?.position().start());
/// }
/// assert_eq!(names, ["app/a", "app/b", "app/b/"]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`InvalidKey`](crate::ErrorKind::InvalidKey) before any I/O,
/// [`Timeout`](crate::ErrorKind::Timeout) for a page that takes longer than the deadline, and the
/// server's refusals. A stream ends with its first error.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct List {
    kv: Kv,
    directory: Result<Directory>,
    options: ListOptions,
    within: Duration,
}

impl List {
    pub(super) fn new(kv: &Kv, directory: Result<Directory>) -> Self {
        Self { kv: kv.clone(), directory, options: ListOptions::default(), within: kv.deadline }
    }
    /// Lists at most so many items.
    #[doc(alias = "take")]
    pub fn limit(mut self, most: usize) -> Self {
        self.options.limit = Some(most);
        self
    }
    /// Lists only what comes behind this key or directory.
    #[doc(alias = "cursor")]
    #[doc(alias = "offset")]
    pub fn start_after(mut self, place: impl Into<Position>) -> Self {
        self.options.start_after = Some(place.into());
        self
    }
    /// Lets any member answer, from the past.
    #[doc(alias = "eventual")]
    #[doc(alias = "serializable")]
    pub fn stale(mut self) -> Self {
        self.options.read.consistency = Consistency::Stale;
        self
    }
    /// Has [`Listing::left_out`] of all descendants tell the names on the server that are no keys,
    /// such as a directory of Consul (`dir/`) or a name with white space at its end, and that the
    /// listing therefore leaves out. On Redis the keys that no call has [adopted](Kv::adopt) are among them: there, and
    /// nowhere else, this costs further requests, a `SCAN` behind the last key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// let kv = kv_memory::open("memory://").await?;
    /// let memory = kv.store().find::<kv_memory::Memory>().expect("that is what was opened");
    /// memory.raw_put("app/", "as another tool does");
    /// let mut listing = kv.list("app").tell_left_out().keys();
    /// assert!(listing.next().await.is_none());
    /// assert_eq!(listing.left_out().names, ["app/"]);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "skipped")]
    #[doc(alias = "foreign")]
    pub fn tell_left_out(mut self) -> Self {
        self.options.left_out = NotesLeftOut::wanted();
        self
    }
    /// Sets the time that each page has, in place of the handle's.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Returns all descendants, with their values.
    #[doc(alias = "scan")]
    pub fn entries(mut self) -> Listing<Entry> {
        (self.options.recursive, self.options.keys_only) = (true, false);
        self.stream(|item| if let Item::Entry(entry) = item { Some(entry) } else { None })
    }

    /// Returns all descendants, without their values, which are not sent where the server can
    /// leave them out.
    pub fn keys(mut self) -> Listing<Key> {
        (self.options.recursive, self.options.keys_only) = (true, true);
        self.stream(|item| match item {
            Item::Key(key, _) => Some(key),
            Item::Entry(entry) => Some(entry.key),
            Item::Directory(_) => None,
        })
    }

    /// Returns the immediate children, keys and directories told apart; a name that is both gives
    /// two items.
    #[doc(alias = "ls")]
    #[doc(alias = "read_dir")]
    pub fn children(mut self) -> Listing<Item> {
        (self.options.recursive, self.options.keys_only) = (false, false);
        self.stream(Some)
    }

    /// Returns the immediate children without their values, which are not sent where the server
    /// can leave them out.
    pub fn child_keys(mut self) -> Listing<Item> {
        (self.options.recursive, self.options.keys_only) = (false, true);
        self.stream(Some)
    }

    fn stream<T: Send + 'static>(mut self, pick: fn(Item) -> Option<T>) -> Listing<T> {
        if !self.options.recursive {
            // What lies deeper is skipped, so that nobody could tell.
            self.options.left_out = NotesLeftOut::default();
        }
        let left_out = self.options.left_out.clone();
        let listing = Listing::new(backend::stream(|out| async move {
            let directory = self.directory.map_err(|e| self.kv.in_call(e, "list", None))?;
            let (name, part) = (Some(directory.as_str()), self.kv.part());
            let in_call = |e| self.kv.in_call(e, "list", name);
            let whole = part.whole_directory(&directory).map_err(in_call)?;
            let after = self.options.start_after.take().map(|place| part.whole_place(place));
            self.options.start_after = after.transpose().map_err(in_call)?;
            let mut from = None;
            while self.options.limit != Some(0) {
                let (store, deadline) = self.kv.begin(self.within);
                self.options.read.deadline = deadline;
                let list = async {
                    store.capabilities().check_consistency(self.options.read.consistency)?;
                    store.list(&whole, from.as_ref(), &self.options).await
                };
                let page = self.kv.call("list", name, Does::Read, deadline, list).await?;
                let most = self.options.limit.unwrap_or(usize::MAX);
                for item in page.items.into_iter().take(most) {
                    self.options.limit = self.options.limit.map(|left| left - 1);
                    if let Some(item) = pick(part.own_item(item).map_err(in_call)?) {
                        out.send(item).await;
                    }
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            Ok(())
        }));
        Listing { left_out, ..listing }
    }

    async fn run(self) -> Result<Vec<Entry>> {
        self.entries().await
    }
}
awaitable!(List => Vec<Entry>, List::run);

/// A stream of what a listing finds; also a [`Stream`]. Awaited it is a `Vec` of all.
#[must_use = "a stream does nothing until it is read"]
pub struct Listing<T> {
    // The mutex is never locked: it makes the type `Sync`, so that structs that hold one can be
    // shared.
    stream: Mutex<BoxStream<'static, Result<T>>>,
    left_out: NotesLeftOut,
}

impl<T> Listing<T> {
    pub(super) fn new(stream: BoxStream<'static, Result<T>>) -> Self {
        Self { stream: Mutex::new(stream), left_out: NotesLeftOut::default() }
    }

    /// Returns what the listing has left out so far, of the pages that were read: all of it at the
    /// end. It is empty unless [`List::tell_left_out`] asked for it.
    pub fn left_out(&self) -> LeftOut {
        self.left_out.noted()
    }

    /// Returns the next item; `None` at the end. Cancel safe: an item that was not given is given
    /// by the next call.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: Send + 'static> IntoFuture for Listing<T> {
    type Output = Result<Vec<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;
    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut all = Vec::new();
            while let Some(item) = self.next().await {
                all.push(item?);
            }
            Ok(all)
        })
    }
}

impl<T> Stream for Listing<T> {
    type Item = Result<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}
