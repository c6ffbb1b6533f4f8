//! Blocking queries, each shared by all who wait for changes of the same names.
//!
//! A poll asks the server for a range again and again, each time as soon as it may have changed, tells what differs from the
//! answer before, and gives whoever joins the newest answer, of which all that is told afterwards is the continuation.

use crate::{
    api::{Listing, Range},
    asker::Asker,
    names::{is_plain, lock_of, parent},
    pool::Pool,
    store::Inner,
};
use kv_core::{
    backend::{Backoff, Change, Hub, Subscription},
    *,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::AbortHandle,
};

#[cfg(test)]
mod tests;

/// How many polls all stores of a process have at one agent: of the very names that are wanted, of the directories of the
/// others, and of top-level directories of the rest. Each store may poll the whole of itself besides.
const MOST: [usize; 3] = [20, 8, 4];
const WIDEST: usize = MOST.len();

/// The polls of one store.
#[derive(Default)]
pub(crate) struct Polls {
    open: Mutex<HashMap<Range, Arc<Poll>>>,
    /// The store is given up: a poll that nobody has any use for ends at once.
    is_dismissed: AtomicBool,
}

/// How wide a poll may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// The wider the more of them there are, this many steps at least.
    AtLeast(usize),
    /// What was asked for: for a token that may not read more.
    Exact,
}

impl Polls {
    fn lock(&self) -> MutexGuard<'_, HashMap<Range, Arc<Poll>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    fn of(&self, inner: &Arc<Inner>, range: &Range, width: Width) -> Result<Used> {
        let (mut polls, pool) = (self.lock(), inner.client.pool()?);
        // Those whose runtime has ended.
        polls.retain(|_, poll| !poll.task.is_finished());
        let widths = widths(inner.names.prefix(), range);
        let (at, place) = match width {
            Width::Exact => (0, Place::beyond(&pool)),
            Width::AtLeast(least) => {
                let mut narrower = (least.min(WIDEST)..WIDEST).filter_map(|at| {
                    let there = polls.contains_key(&widths[at]).then(|| Place::beyond(&pool));
                    Some((at, there.or_else(|| Place::take(&pool, at))?))
                });
                narrower.next().unwrap_or_else(|| (WIDEST, Place::beyond(&pool)))
            }
        };
        let poll = polls
            .entry(widths[at].clone())
            .or_insert_with(|| Arc::new(Poll::start(inner, widths[at].clone(), place)));
        poll.users.fetch_add(1, Ordering::AcqRel);
        Ok(Used { poll: poll.clone(), inner: inner.clone() })
    }

    pub(crate) fn is_unused(&self, range: &Range) -> bool {
        self.lock().get(range).is_none_or(|poll| poll.users.load(Ordering::Acquire) == 0)
    }

    /// Takes a poll away that nobody uses; whether it did.
    pub(crate) fn end_unused(&self, range: &Range) -> bool {
        let mut polls = self.lock();
        let is_unused = polls.get(range).is_none_or(|poll| poll.users.load(Ordering::Acquire) == 0);
        if is_unused {
            polls.remove(range);
        }
        is_unused
    }

    /// From now on no poll outlives its users.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.lock().retain(|_, poll| poll.users.load(Ordering::Acquire) > 0);
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }
}

/// One of the places that there are for polls of a width.
struct Place(Arc<Pool>, usize);

impl Place {
    fn take(pool: &Arc<Pool>, width: usize) -> Option<Self> {
        let one_more = |count| (count < MOST[width]).then_some(count + 1);
        pool.widths[width].fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(pool.clone(), width))
    }

    /// One that is not counted: of the whole store, or of what a narrow token may read.
    fn beyond(pool: &Arc<Pool>) -> Self {
        Self(pool.clone(), WIDEST)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.0.widths.get(self.1) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A poll in use.
struct Used {
    poll: Arc<Poll>,
    inner: Arc<Inner>,
}

/// The server goes on with what it was asked until something changes or the wait is over, so a poll goes on too, its place stays
/// taken, and who wants the same meanwhile has it.
impl Drop for Used {
    fn drop(&mut self) {
        let polls = &self.inner.polls;
        let mut open = polls.lock();
        let is_last = self.poll.users.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && polls.is_dismissed.load(Ordering::Acquire) {
            open.remove(&self.poll.range);
        }
    }
}

/// The range, and ever wider ones.
fn widths(prefix: &str, range: &Range) -> [Range; 4] {
    let name = match range {
        Range::Name(name) | Range::Tree(name) => name,
    };
    let below = &name[prefix.len()..];
    let parent = format!("{prefix}{}", parent(below));
    let top = match below.split_once('/') {
        // The locks are apart from each other there.
        Some((".kv", _)) => format!("{prefix}.kv/lock/"),
        Some((top, _)) => format!("{prefix}{top}/"),
        None => prefix.to_owned(),
    };
    let tree = |name: String| Range::Tree(name.into());
    [range.clone(), tree(parent), tree(top), tree(prefix.to_owned())]
}

/// One range under watch.
struct Poll {
    range: Range,
    hub: Hub,
    refusals: broadcast::Sender<Refusal>,
    joins: mpsc::UnboundedSender<Join>,
    users: AtomicUsize,
    task: AbortHandle,
    _place: Place,
}

/// A request for a listing, and where it goes.
pub(crate) type Join = oneshot::Sender<Result<Arc<Listing>, Refusal>>;

impl Drop for Poll {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why nothing is told any more: of some keys, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    keys: Option<Arc<[Key]>>,
    kind: ErrorKind,
    why: Arc<str>,
}

impl Refusal {
    pub(crate) fn of_all(error: &Error) -> Self {
        Self { keys: None, kind: error.kind(), why: error.message().into() }
    }

    pub(crate) fn of(keys: Vec<Key>) -> Self {
        let why = "the token may no longer read what is watched, which looks like a deletion and is none";
        Self { keys: Some(keys.into()), kind: ErrorKind::PermissionDenied, why: why.into() }
    }

    fn concerns(&self, target: &Target) -> bool {
        let is_concerned = |key: &Key| match target {
            Target::Holder(name) => lock_of(key).as_ref() == Some(name),
            _ => target.concerns(key),
        };
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(is_concerned))
    }

    fn error(&self) -> Error {
        Error::new(self.kind, self.why.to_string())
    }
}

/// One who waits for changes: what is there is asked for by [`listing`](Self::listing), what changes afterwards by
/// [`news`](Self::news).
pub(crate) struct Joined {
    inner: Arc<Inner>,
    range: Range,
    target: Target,
    width: Width,
    news: Subscription,
    refusals: broadcast::Receiver<Refusal>,
    used: Used,
}

impl Joined {
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    pub(crate) fn new(inner: &Arc<Inner>, range: Range, target: &Target) -> Result<Self> {
        Self::with(inner, range, target, Width::AtLeast(0))
    }

    fn with(inner: &Arc<Inner>, range: Range, target: &Target, width: Width) -> Result<Self> {
        let used = inner.polls.of(inner, &range, width)?;
        let (news, refusals) = (used.poll.hub.subscribe(target), used.poll.refusals.subscribe());
        Ok(Self { inner: inner.clone(), range, target: target.clone(), width, news, refusals, used })
    }

    /// What is there, of this range or a wider one. Events that come afterwards are of what changed since, but for some that
    /// are older. Waits for a server that is away.
    ///
    /// # Errors
    /// What ends a watch: the server's lasting refusal.
    pub(crate) async fn listing(&mut self) -> Result<Arc<Listing>> {
        let mut backoff = Backoff::default();
        loop {
            let (join, answer) = oneshot::channel();
            let answer = match self.used.poll.joins.send(join) {
                Ok(()) => answer.await.ok(),
                Err(_) => None,
            };
            let width = match answer {
                Some(Ok(listing)) => return Ok(listing),
                Some(Err(refusal)) => match (refusal.kind, self.width) {
                    // The server takes no path with a character that it holds for unprintable: a directory above may have none.
                    (ErrorKind::InvalidArgument, Width::AtLeast(width)) if width < WIDEST => {
                        Width::AtLeast(width + 1)
                    }
                    (ErrorKind::InvalidArgument, _) if !is_plain(self.inner.names.prefix()) => {
                        let why = format!(
                            "the server takes no path with the prefix {:?}, so nothing below can be watched: {}",
                            self.inner.names.prefix(),
                            refusal.why
                        );
                        return Err(Error::new(ErrorKind::Unsupported, why));
                    }
                    (ErrorKind::PermissionDenied, Width::AtLeast(0))
                        if self.used.poll.range != self.range =>
                    {
                        Width::Exact
                    }
                    _ if refusal.error().is_lasting() => return Err(refusal.error()),
                    (_, width) => {
                        backoff.pause().await;
                        width
                    }
                },
                // Its runtime has ended; this one has not.
                None => {
                    backoff.pause().await;
                    self.width
                }
            };
            let inner = self.inner.clone();
            *self = Self::with(&inner, self.range.clone(), &self.target, width)?;
        }
    }

    /// The next change. Cancel safe.
    ///
    /// # Errors
    /// What ends a watch: the server's refusal.
    pub(crate) async fn news(&mut self) -> Result<Change> {
        loop {
            tokio::select! {
                biased;
                refusal = self.refusals.recv() => match refusal {
                    Ok(refusal) if refusal.keys.is_none() => return Ok(Change::Missed),
                    Ok(refusal) if refusal.concerns(&self.target) => return Err(refusal.error()),
                    Ok(_) => {}
                    Err(_) => return Ok(Change::Missed),
                },
                // Nothing will be told any more: another poll is needed, which begins with a listing.
                () = self.used.poll.joins.closed() => return Ok(Change::Missed),
                change = self.news.next() => return Ok(change),
            }
        }
    }
}

/// Waits until the contender of a lock is gone, or released by hand (`true`), or until one has to look (`false`).
pub(crate) async fn gone(inner: &Arc<Inner>, contender: &Key) -> bool {
    let name = inner.names.name(contender.as_str());
    let range = Range::Name(name.as_str().into());
    let Ok(mut joined) = Joined::new(inner, range, &Target::Key(contender.clone())) else { return false };
    loop {
        let Ok(listing) = joined.listing().await else { return false };
        if !listing.pairs.iter().any(|pair| pair.name == name && pair.is_held) {
            return true;
        }
        drop(listing);
        match joined.news().await {
            Ok(Change::Event(WatchEvent::Delete { .. })) => return true,
            // Nobody of ours writes it again.
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

impl Poll {
    fn start(inner: &Arc<Inner>, range: Range, place: Place) -> Self {
        let (hub, refusals, (joins, joining)) =
            (Hub::new(), broadcast::Sender::new(16), mpsc::unbounded_channel());
        let asker = Asker::new(inner.clone(), range.clone(), hub.clone(), refusals.clone(), joining);
        let task = tokio::spawn(asker.run()).abort_handle();
        Self { range, hub, refusals, joins, users: AtomicUsize::new(0), task, _place: place }
    }
}
