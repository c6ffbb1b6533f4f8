//! A client of the server, as a source of watches.

use super::server::{Data, Random, Server, Style, is_foreign};
use futures::FutureExt;
use kv_core::{
    Entry, Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::watch::{Change, Detail, Listed, Listing, Source, WatchState},
};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::Notify;

/// The number of keys that a page and a fetch have at most.
const PAGE: usize = 3;

/// The kinds of errors that pass.
const PASSING: [ErrorKind; 6] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Other,
    ErrorKind::InvalidArgument,
    ErrorKind::NoSpace,
    ErrorKind::TooLarge,
];

/// The test's knowledge of a source.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) lists: AtomicU64,
    /// The number of answers that are worth a new list.
    pub(super) reasons: AtomicU64,
    pub(super) fetched: AtomicU64,
    /// The place in the history at which the last list with a position began.
    pub(super) positioned: AtomicUsize,
    /// Notified when nothing happens any more, and all was told.
    pub(super) quiet: Notify,
}

pub(super) struct Client {
    pub(super) server: Arc<Mutex<Server>>,
    pub(super) seen: Arc<Seen>,
    /// The error by which it ends, once nothing happens any more.
    pub(super) end: Option<ErrorKind>,
    /// The list that is taken, where it is one moment's.
    snapshot: Data,
    /// The greatest revision of a list, and what that list did not compare by value.
    revision: u64,
    uncompared: Vec<Key>,
    is_compacted: bool,
}

impl Client {
    pub(super) fn new(server: Arc<Mutex<Server>>, end: Option<ErrorKind>) -> Self {
        let (seen, snapshot, uncompared) = (Arc::default(), Data::new(), Vec::new());
        Self { server, seen, end, snapshot, revision: 0, uncompared, is_compacted: false }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// Makes a request: things happen before it is answered, or it fails.
    fn request(&self) -> Result<MutexGuard<'_, Server>> {
        let mut server = self.server();
        server.live();
        if server.failing == 0 {
            return Ok(server);
        }
        server.failing -= 1;
        let kind = PASSING[server.random.below(PASSING.len() as u64) as usize];
        self.failed(kind)
    }

    fn failed<T>(&self, kind: ErrorKind) -> Result<T> {
        self.seen.reasons.fetch_add(1, SeqCst);
        Err(Error::new(kind, "the server is away"))
    }

    /// Takes the snapshot that a list begins with, and returns whether the server is seen to have
    /// gone back.
    fn begin(&mut self) -> Result<bool> {
        let (data, counter, is_compacted) = {
            let mut server = self.request()?;
            if server.style.has_position() {
                self.seen.positioned.store(server.past.now(), SeqCst);
            }
            (server.data.clone(), server.counter, server.random.one_in(20))
        };
        let went_back = counter < self.revision;
        (self.snapshot, self.revision, self.is_compacted) = (data, counter, is_compacted);
        self.uncompared.clear();
        Ok(went_back)
    }

    fn listed(&mut self, entry: Entry, detail: Detail) -> Listed {
        let style = self.server().style;
        let is_recent = entry.version.parts().0 + 3 > self.revision;
        match (style, detail) {
            (Style::Whole, _) | (_, Detail::Values) => Listed::Entry(entry),
            (Style::Revision, _) if is_recent => Listed::Name(entry.key),
            (Style::Records, _) if is_foreign(entry.version) => Listed::Name(entry.key),
            _ => {
                self.uncompared.push(entry.key.clone());
                Listed::Version(entry.key, entry.version)
            }
        }
    }

    /// Returns a value that the list took for known, as it is now, unless a change tells it.
    fn compare(&mut self) -> Option<Change> {
        let server = self.server.lock().unwrap();
        if server.style != Style::Revision {
            return None;
        }
        loop {
            let found = server.data.get(&self.uncompared.pop()?);
            let found = found.filter(|entry| entry.version.parts().0 <= self.revision);
            if let Some(entry) = found {
                return Some(Change::Found(entry.clone()));
            }
        }
    }
}

impl Source for Client {
    type Token = Key;

    fn backend(&self) -> &'static str {
        "model"
    }

    async fn subscribe(&mut self) -> Result<()> {
        let mut server = self.request()?;
        server.inbox.clear();
        (server.is_connected, server.is_broken) = (true, false);
        server.live();
        Ok(())
    }

    async fn list(&mut self, delivered: &WatchState, from: Option<&Key>) -> Result<Listing<Key>> {
        let style = self.server().style;
        if from.is_none() {
            self.seen.lists.fetch_add(1, SeqCst);
            let went_back = self.begin()?;
            if style == Style::Revision && went_back && delivered.detail() == Detail::Versions {
                self.seen.reasons.fetch_add(1, SeqCst);
                return Ok(Listing::Restored);
            }
        } else if style == Style::Revision && self.is_compacted {
            return self.failed(ErrorKind::Other);
        }
        let now = match style {
            Style::Revision | Style::Whole => self.snapshot.clone(),
            Style::Names | Style::Records => self.request()?.data.clone(),
        };
        let there = now.into_values().filter(|entry| from.is_none_or(|from| entry.key >= *from));
        let mut page: Vec<_> = there.take(PAGE + 1).collect();
        let next = (page.len() > PAGE).then(|| page.pop().unwrap().key);
        let entries = page.into_iter().map(|entry| self.listed(entry, delivered.detail())).collect();
        let position = style.has_position().then(|| Version::new(self.revision, u64::MAX));
        self.server().live();
        Ok(Listing::Page { entries, position, next })
    }

    async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let mut server = self.request()?;
        let part = &keys[..keys.len().min(1 + server.random.below(PAGE as u64) as usize)];
        self.seen.fetched.fetch_add(part.len() as u64, SeqCst);
        let data = if server.style == Style::Revision { &self.snapshot } else { &server.data };
        Ok(part.iter().map(|key| data.get(key).cloned()).collect())
    }

    async fn next(&mut self, delivered: &WatchState) -> Result<Change> {
        loop {
            let (is_over, wants_compare) = {
                let mut server = self.server();
                server.live();
                if server.is_broken {
                    return self.failed(ErrorKind::Unavailable);
                }
                if let Some(change) = server.inbox.next().now_or_never() {
                    let change = change?.unwrap_or(Change::Lagged);
                    let is_lagged = matches!(change, Change::Lagged);
                    self.seen.reasons.fetch_add(is_lagged.into(), SeqCst);
                    return Ok(ordered(change, delivered));
                }
                (server.budget == 0, server.random.one_in(4))
            };
            if (is_over || wants_compare)
                && let Some(found) = self.compare()
            {
                return Ok(found);
            }
            if is_over {
                if let Some(kind) = self.end {
                    return self.failed(kind);
                }
                self.seen.quiet.notify_one();
                std::future::pending::<()>().await;
            }
        }
    }

    fn follows(&self, delivered: Version, found: Version) -> bool {
        found > delivered || is_foreign(found)
    }
}

/// Has the key read where a write has no version of ours, beside which nobody knows which change
/// is old.
fn ordered(change: Change, delivered: &WatchState) -> Change {
    let (key, version) = match &change {
        Change::Event(WatchEvent::Put(entry)) => (&entry.key, entry.version),
        Change::Event(WatchEvent::Delete { key, version }) => (key, *version),
        _ => return change,
    };
    let is_unordered = is_foreign(version) || delivered.version(key).is_some_and(is_foreign);
    if is_unordered { Change::Changed(key.clone()) } else { change }
}

/// Returns the end of a history: sometimes an error that lasts.
pub(super) fn any_end(seed: u64) -> Option<ErrorKind> {
    let lasting = [
        ErrorKind::PermissionDenied,
        ErrorKind::Unauthenticated,
        ErrorKind::Unsupported,
        ErrorKind::Closed,
        ErrorKind::Corrupt,
    ];
    let mut random = Random(seed ^ 0xe4d);
    random.one_in(4).then(|| lasting[random.below(5) as usize])
}
