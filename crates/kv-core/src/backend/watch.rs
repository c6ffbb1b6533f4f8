//! The engine of watches: lists, follows the changes, and lists again where some were lost.
//!
//! A backend says by a [`Source`] what its server can tell; [`start`] makes a [`WatchStream`] of
//! it. The engine remembers what it delivered ([`WatchState`]), and decides from that which events
//! are owed. A source may tell the same thing twice, tell a change that the list had already, or
//! lose changes, as long as it says that it lost some.
//!
//! ```text
//! subscribe ──▶ list a page ──▶ fetch its values ──▶ follow ──▶ read a key that changed
//!     ▲             ▲                 │                │  ▲              │
//!     │             └── next page ◀───┘                │  └──────────────┘
//!     └───────────── lagged, restored, failed ◀────────┘
//! ```
//!
//! - *Subscribe* comes before the list, so that nothing is missed: changes from then on wait in
//!   the source, best in an [`Inbox`](super::Inbox), which is bounded.
//! - *List*: pages are handed on as they come. The first list gives values; later ones may give
//!   versions, and the engine *fetches* the values of those that differ. A key that was delivered
//!   and is not in the list is told as deleted. Then comes `Synced`.
//! - *Follow*: each [`Change`] becomes an event, or none where it is known already.
//! - A watch that is polled in *another runtime* than before is subscribed and listed anew there.
//! - `Lagged` has the engine subscribe and list again, after a pause at random (full jitter, 50 ms
//!   at first) that grows while this repeats within 5 s.
//! - *Errors*: one that [lasts](crate::Error::is_lasting) ends the watch. Any other is ridden out
//!   with [`Backoff`](super::Backoff), and logged once when the outage begins and once when the
//!   list is complete again. A page that fails is asked for once more, a key that changed three
//!   times more; then all is subscribed and listed anew. So is all after an error of `next`, for
//!   nobody knows what was not told.
//! - *A server that goes back* (restored from a copy, wiped, failed over to an older member) shows
//!   a version that does not follow the one delivered, or another value under the same version.
//!   The key is told as deleted and put. Where other keys were taken for unchanged by their
//!   versions alone, all is listed again with [`Detail::Values`].
//!
//! Nothing runs while the stream is not polled, and dropping the stream drops the source.
//!
//! # How a backend becomes a source
//! This server tells each change in order, and lists values:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use futures::StreamExt;
//! use kv_core::backend::watch::{self, Change, Listed, Listing, Source, WatchState};
//! use kv_core::backend::Inbox;
//! use kv_core::{Entry, Key, Result, Version, WatchEvent};
//! use std::{collections::BTreeMap, sync::{Arc, Mutex}};
//!
//! /// A server, which counts its writes.
//! #[derive(Default)]
//! struct Server {
//!     data: Mutex<BTreeMap<Key, Entry>>,
//!     watches: Mutex<Vec<Arc<Inbox<WatchEvent>>>>,
//! }
//!
//! impl Server {
//!     fn put(&self, key: &Key, value: &'static str, version: u64) {
//!         let entry = Entry::new(key.clone(), value, Version::new(version, 0));
//!         self.data.lock().unwrap().insert(key.clone(), entry.clone());
//!         for watch in &*self.watches.lock().unwrap() {
//!             watch.push(WatchEvent::Put(entry.clone()), value.len());
//!         }
//!     }
//! }
//!
//! struct All {
//!     server: Arc<Server>,
//!     inbox: Arc<Inbox<WatchEvent>>,
//! }
//!
//! impl Source for All {
//!     /// Where a page begins.
//!     type Token = Key;
//!
//!     fn backend(&self) -> &'static str {
//!         "example"
//!     }
//!
//!     async fn subscribe(&mut self) -> Result<()> {
//!         // The changes that waited are older than the list that comes now.
//!         self.inbox.clear();
//!         *self.server.watches.lock().unwrap() = vec![self.inbox.clone()];
//!         Ok(())
//!     }
//!
//!     async fn list(&mut self, _: &WatchState, from: Option<&Key>) -> Result<Listing<Key>> {
//!         let data = self.server.data.lock().unwrap();
//!         let there = data.values().filter(|entry| from.is_none_or(|from| entry.key >= *from));
//!         let mut page: Vec<_> = there.take(3).cloned().collect();
//!         let next = (page.len() == 3).then(|| page.pop().unwrap().key);
//!         let entries = page.into_iter().map(Listed::Entry).collect();
//!         Ok(Listing::Page { entries, position: None, next })
//!     }
//!
//!     async fn next(&mut self, _: &WatchState) -> Result<Change> {
//!         Ok(self.inbox.next().await?.map_or(Change::Lagged, Change::Event))
//!     }
//! }
//!
//! let (server, a) = (Arc::new(Server::default()), Key::parse("a")?);
//! server.put(&a, "one", 1);
//! let mut watch = watch::start(All { server: server.clone(), inbox: Arc::default() });
//! let mut next = async || watch.next().await.expect("a watch has no end").map(|event| {
//!     match event {
//!         WatchEvent::Put(entry) => entry.text().unwrap_or_default().to_owned(),
//!         WatchEvent::Delete { key, .. } => format!("{key} is gone"),
//!         WatchEvent::Synced => "synced".to_owned(),
//!     }
//! });
//! assert_eq!((next().await?, next().await?), ("one".into(), "synced".into()));
//! server.put(&a, "two", 2);
//! assert_eq!(next().await?, "two");
//!
//! // The link breaks; meanwhile `a` is deleted, and nobody tells.
//! server.data.lock().unwrap().clear();
//! server.watches.lock().unwrap()[0].lag();
//! assert_eq!((next().await?, next().await?), ("a is gone".into(), "synced".into()));
//! # Ok(()) }
//! ```
//!
//! Sources of other kinds of servers:
//!
//! - A server that lists at one revision, counts its writes and tells each (etcd): `position` is
//!   the revision. A list by versions gives `Name` for a key whose version may have been given out
//!   twice, else `Version`; it is `Restored` where the server's history is another. Values that it
//!   did not compare come later, as `Found`.
//! - A server that answers whole, again and again (Consul): watches share one query by a
//!   [`Hub`](super::Hub). Each pair is an `Entry`; the changes are those of the hub's
//!   [`Subscription`](super::Subscription), which become a [`Change`] by `into`.
//! - A server that publishes names and lists versions (Redis): `Version` once something was
//!   delivered, and a `fetch`; `Changed` for a key that was published without its value, `Gone`
//!   for one that expired, and an [`ExpiryQueue`](super::ExpiryQueue) for when to look. Where the
//!   changes of a tree are to come in their order
//!   ([`watch_ordered`](crate::Capabilities::watch_ordered)), the source reads such a key itself,
//!   and leaves a later write that it finds there to the message of that write.
//! - A server with a stream of records, to which others write without a version (DynamoDB): `Name`
//!   for those entries; `Changed` for a record of such a write, and for any record of a key that
//!   was [delivered](WatchState::version) from one, since nobody knows which is the older; and
//!   [`follows`](Source::follows), since such writes follow anything.
//! - A server whose events name what changed, and one reader for all watches of a runtime
//!   (ZooKeeper): the reader publishes to a [`Hub`](super::Hub), and `Entry`s are listed.
//! - This process (memory, redb): [`Hub::watch`](super::Hub::watch).

mod engine;
mod state;

pub use state::{Detail, WatchState};

use super::stream;
use crate::{Entry, Error, ErrorKind, Key, Result, Version, WatchEvent, driver::WatchStream};
use std::future::Future;

/// Starts a watch of a source: what is there as `Put`s, then `Synced`, then every change; after an
/// outage what differs, then `Synced`. It ends with the first error that lasts. Nothing runs
/// before the stream is polled; dropping it drops the source.
pub fn start<S: Source>(source: S) -> WatchStream {
    stream(|out| engine::Watch::new(source, out).run())
}

/// Says what a server tells of the keys of one watch. All keys that it gives are those of the
/// watch.
///
/// The engine calls one method at a time, and drops a call half-way only with the whole source, or
/// where the source [is bound](Self::is_bound) to a runtime and the watch is polled in another one:
/// then it subscribes anew. So no method has to be cancel safe. Each single request has a deadline
/// of its own.
///
/// # Errors
/// An error that [lasts](Error::is_lasting) ends the watch. A source whose server refuses for a
/// while (credentials that are about to be exchanged) gives another kind until it is certain that
/// the refusal lasts. Any other error is ridden out, as the [module](self) says.
pub trait Source: Send + 'static {
    /// The place at which a page of the list begins, as the page before it said.
    type Token: Send + Sync;

    /// Returns the name of the backend, for the log.
    fn backend(&self) -> &'static str;

    /// Returns whether the changes come by what lives in the runtime in which
    /// [`subscribe`](Self::subscribe) was called, such as a connection. Once the watch is polled in
    /// another runtime, the engine subscribes and lists anew there: the first one may have ended,
    /// or stand still.
    ///
    /// Provided: `true`.
    fn is_bound(&self) -> bool {
        true
    }

    /// Sees to it that every change from now on comes out of [`next`](Self::next), or `Lagged` in
    /// its place. It is called before each list. A subscription that stands already may be kept;
    /// the changes that waited so far are dropped ([`Inbox::clear`](super::Inbox::clear)), since
    /// the list is taken after them. A watch whose source keeps them may tell an old change anew,
    /// unless the list has a position.
    fn subscribe(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Reads one page of what is there, as of now or later, never from the past. The whole list
    /// holds once each key that is there all the while. The first call of a list has no token; a
    /// call that failed may be made again with the same one.
    ///
    /// `delivered` says what the list has to give: values where its [`detail`](WatchState::detail)
    /// is [`Detail::Values`]; otherwise versions, where they are cheaper.
    fn list(
        &mut self,
        delivered: &WatchState,
        from: Option<&Self::Token>,
    ) -> impl Future<Output = Result<Listing<Self::Token>>> + Send;

    /// Reads the values of the first of these keys, as many as the server gives at once, and one
    /// at least. It returns an answer for each, in their order; `None` for a key that is gone by
    /// now. The values are as of now or of the list, never of an earlier time. When the list is
    /// complete, the watch tells which of its keys are gone.
    ///
    /// Provided: for sources whose lists and changes give values.
    ///
    /// # Errors
    /// The provided one fails with [`Unsupported`](ErrorKind::Unsupported).
    fn fetch(&mut self, keys: &[Key]) -> impl Future<Output = Result<Vec<Option<Entry>>>> + Send {
        let why = format!("{:?} has to be fetched, and this source has no fetch", keys.first());
        async { Err(Error::new(ErrorKind::Unsupported, why)) }
    }

    /// Waits for the next change, for as long as there is none. The changes that wait for a slow
    /// reader are bounded, best by an [`Inbox`](super::Inbox).
    ///
    /// # Errors
    /// After an error that does not last the engine subscribes and lists anew. A request whose
    /// failure loses no change (it asks whether a key has expired) is better made again inside.
    fn next(&mut self, delivered: &WatchState) -> impl Future<Output = Result<Change>> + Send;

    /// Returns whether a key can have come from the delivered version to the found one by writes
    /// alone. Where it cannot, a change of that version is an old one, and an entry that was read
    /// is of a server that went back. The two versions differ.
    ///
    /// Provided: it returns whether the found one is greater. For versions that have no order, as
    /// those made of a value that another tool wrote, a backend returns `true`.
    fn follows(&self, delivered: Version, found: Version) -> bool {
        found > delivered
    }
}

/// The answer of [`Source::list`].
#[derive(Debug)]
pub enum Listing<T> {
    /// One page.
    Page {
        /// The keys that are there.
        entries: Vec<Listed>,
        /// The greatest version that had been given out before the list was taken. For a key that
        /// is not in the list, a change of this version or an older one is known to be over. The
        /// position of the first page counts. `None` where the versions of different keys have no
        /// order.
        position: Option<Version>,
        /// The place at which the next page begins; `None` at the end.
        next: Option<T>,
    },
    /// The server is seen to go on with another history than the one delivered (restored, wiped),
    /// in which the same version may be another write: all is listed again, by [`Detail::Values`].
    Restored,
}

/// One key of a list.
#[derive(Debug)]
pub enum Listed {
    /// The key with its value.
    Entry(Entry),
    /// The key by its version, which alone tells whether it was delivered: the value is fetched
    /// where the version differs.
    Version(Key, Version),
    /// The key by its name: the entry is fetched, and compared by its version and value.
    Name(Key),
}

/// The answer of [`Source::next`].
#[derive(Debug)]
pub enum Change {
    /// A whole change, in the order of the changes of its key. One that was delivered, or is
    /// older, gives no event, nor does a `Synced`, which is the engine's.
    Event(WatchEvent),
    /// An entry that was read after every change that this source gave before: it is newer than
    /// what was delivered, or the same, whatever its version. Where the version does not follow,
    /// the server went back.
    Found(Entry),
    /// A key that is gone, where the server tells no version of its end.
    Gone {
        /// The key.
        key: Key,
        /// The version of its last write, at most; this says nothing of a newer write. `None`
        /// where the key was seen to be gone after every change that this source gave before.
        last: Option<Version>,
    },
    /// This key has changed: it is fetched.
    Changed(Key),
    /// Changes were lost: the engine subscribes and lists again.
    Lagged,
}

impl From<super::Change> for Change {
    fn from(change: super::Change) -> Self {
        match change {
            super::Change::Event(event) => Self::Event(event),
            super::Change::Missed => Self::Lagged,
        }
    }
}
