//! `list`.

use super::{Does, Kv, Listing, awaitable};
use crate::{
    Consistency, Directory, Entry, Item, Key, Position, Result,
    driver::{Cursor, ListOptions, NotesLeftOut},
};
use std::time::Duration;

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
    pub fn entries(self) -> Listing<Entry> {
        self.with(true, false).stream(entry)
    }

    /// Returns all descendants, without their values, which are not sent where the server can
    /// leave them out.
    pub fn keys(self) -> Listing<Key> {
        self.with(true, true).stream(|item| match item {
            Item::Key(key, _) => Some(key),
            Item::Entry(entry) => Some(entry.key),
            Item::Directory(_) => None,
        })
    }

    /// Returns the immediate children, keys and directories told apart; a name that is both gives
    /// two items.
    #[doc(alias = "ls")]
    #[doc(alias = "read_dir")]
    pub fn children(self) -> Listing<Item> {
        self.with(false, false).stream(Some)
    }

    /// Returns the immediate children without their values, which are not sent where the server
    /// can leave them out.
    pub fn child_keys(self) -> Listing<Item> {
        self.with(false, true).stream(Some)
    }

    fn with(mut self, recursive: bool, keys_only: bool) -> Self {
        (self.options.recursive, self.options.keys_only) = (recursive, keys_only);
        self
    }

    fn stream<T: Send + 'static>(mut self, pick: fn(Item) -> Option<T>) -> Listing<T> {
        if !self.options.recursive {
            // What lies deeper is skipped, so that nobody could tell.
            self.options.left_out = NotesLeftOut::default();
        }
        Listing::of_pages(self.options.left_out.clone(), |out| async move {
            let mut pages = Pages::new(self)?;
            while let Some(page) = pages.next().await? {
                out.send(page.into_iter().filter_map(pick).collect()).await;
            }
            Ok(())
        })
    }

    /// Lists all entries, without a stream between the pages and the vector.
    async fn run(mut self) -> Result<Vec<Entry>> {
        // Nobody could read them.
        self.options.left_out = NotesLeftOut::default();
        let mut pages = Pages::new(self.with(true, false))?;
        let mut all = Vec::new();
        while let Some(page) = pages.next().await? {
            let entries = page.into_iter().filter_map(entry);
            if all.is_empty() {
                // In the place of the page.
                all = entries.collect();
            } else {
                all.extend(entries);
            }
        }
        Ok(all)
    }
}
awaitable!(List => Vec<Entry>, List::run);

fn entry(item: Item) -> Option<Entry> {
    if let Item::Entry(entry) = item { Some(entry) } else { None }
}

/// The pages of one listing.
struct Pages {
    kv: Kv,
    /// The directory by its own name, and by its name in the whole tree.
    directory: Directory,
    whole: Directory,
    options: ListOptions,
    within: Duration,
    from: Option<Cursor>,
    is_over: bool,
}

impl Pages {
    fn new(list: List) -> Result<Self> {
        let List { kv, directory, mut options, within } = list;
        let directory = directory.map_err(|e| kv.in_call(e, "list", None))?;
        let part = kv.part();
        let whole = part.whole_directory(&directory).and_then(|whole| {
            options.start_after =
                options.start_after.take().map(|place| part.whole_place(place)).transpose()?;
            Ok(whole.into_owned())
        });
        let whole = whole.map_err(|e| kv.in_call(e, "list", Some(directory.as_str())))?;
        Ok(Self { kv, directory, whole, options, within, from: None, is_over: false })
    }

    /// Returns the items of the next page; `None` behind the last one.
    async fn next(&mut self) -> Result<Option<Vec<Item>>> {
        if self.is_over || self.options.limit == Some(0) {
            return Ok(None);
        }
        let name = Some(self.directory.as_str());
        let (store, deadline) = self.kv.begin(self.within);
        self.options.read.deadline = deadline;
        let list = async {
            store.capabilities().check_consistency(self.options.read.consistency)?;
            store.list(&self.whole, self.from.as_ref(), &self.options).await
        };
        let page = self.kv.call("list", name, Does::Read, deadline, list).await?;
        let mut items = page.items;
        if let Some(left) = &mut self.options.limit {
            items.truncate(*left);
            *left -= items.len();
        }
        let part = self.kv.part();
        if !part.is_whole_tree() {
            let own = items.into_iter().map(|item| part.own_item(item)).collect::<Result<_>>();
            items = own.map_err(|e| self.kv.in_call(e, "list", name))?;
        }
        self.from = page.next;
        self.is_over = self.from.is_none();
        Ok(Some(items))
    }
}
