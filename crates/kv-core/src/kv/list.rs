//! `list`.

use super::*;
use crate::backend;
use futures_core::{Stream, stream::BoxStream};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

/// [`Kv::list`]: awaited a `Vec` of entries, or one of its streams, whose pages are fetched as they are read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// let kv = kv_memory::open("memory://").await?;
/// for key in ["app/a", "app/b/c", "app/b", "application"] {
///     kv.put(key, "").await?;
/// }
/// let mut children = kv.list("app").keys_only().children();
/// let mut names = Vec::new();
/// while let Some(item) = children.next().await {
///     names.push(item?.position().start());
/// }
/// assert_eq!(names, ["app/a", "app/b", "app/b/"]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`InvalidKey`](ErrorKind::InvalidKey) before any I/O, [`Timeout`](ErrorKind::Timeout) for a page that takes longer
/// than the deadline, and the server's refusals. A stream ends with its first error.
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
    /// At most so many.
    pub fn limit(mut self, most: usize) -> Self {
        self.options.limit = Some(most);
        self
    }
    /// Only what comes behind this key or directory.
    pub fn start_after(mut self, place: impl Into<Position>) -> Self {
        self.options.start_after = Some(place.into());
        self
    }
    /// Lets any member answer, from the past.
    pub fn stale(mut self) -> Self {
        self.options.read.consistency = Consistency::Stale;
        self
    }
    /// Has [`children`](Self::children) give keys in place of entries: no values on the wire where the server can.
    pub fn keys_only(mut self) -> Self {
        self.options.keys_only = true;
        self
    }
    /// The time that each page has, in place of the handle's.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// All descendants, with their values.
    pub fn entries(mut self) -> Listing<Entry> {
        (self.options.recursive, self.options.keys_only) = (true, false);
        self.stream(|item| if let Item::Entry(entry) = item { Some(entry) } else { None })
    }

    /// All descendants, without their values: none on the wire where the server can.
    pub fn keys(mut self) -> Listing<Key> {
        (self.options.recursive, self.options.keys_only) = (true, true);
        self.stream(|item| match item {
            Item::Key(key, _) => Some(key),
            Item::Entry(entry) => Some(entry.key),
            Item::Directory(_) => None,
        })
    }

    /// The immediate children, keys and directories told apart; a name that is both gives two items.
    pub fn children(mut self) -> Listing<Item> {
        self.options.recursive = false;
        self.stream(Some)
    }

    fn stream<T: Send + 'static>(mut self, pick: fn(Item) -> Option<T>) -> Listing<T> {
        Listing(backend::stream(|out| async move {
            let directory = self.directory.map_err(|e| self.kv.in_call(e, "list", None))?;
            let mut from = None;
            while self.options.limit != Some(0) {
                let (store, deadline) = self.kv.begin(self.within);
                self.options.read.deadline = deadline;
                let list = async {
                    store.capabilities().check_consistency(self.options.read.consistency)?;
                    store.list(&directory, from.as_ref(), &self.options).await
                };
                let name = Some(directory.as_str());
                let page = self.kv.call("list", name, Does::Read, deadline, list).await?;
                let most = self.options.limit.unwrap_or(usize::MAX);
                for item in page.items.into_iter().take(most) {
                    self.options.limit = self.options.limit.map(|left| left - 1);
                    if let Some(item) = pick(item) {
                        out.send(item).await;
                    }
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            Ok(())
        }))
    }

    async fn run(self) -> Result<Vec<Entry>> {
        let (mut entries, mut all) = (self.entries(), Vec::new());
        while let Some(entry) = entries.next().await {
            all.push(entry?);
        }
        Ok(all)
    }
}
awaitable!(List => Vec<Entry>, List::run);

/// A stream of what a listing finds; also a [`Stream`].
#[must_use = "a stream does nothing until it is read"]
pub struct Listing<T>(BoxStream<'static, Result<T>>);

impl<T> Listing<T> {
    /// The next one; `None` at the end. Cancel safe: what was not given is given by the next call.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl<T> Stream for Listing<T> {
    type Item = Result<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}
