//! Blocking queries, each shared by all who wait for changes of the same names.
//!
//! A poll asks the server for a range again and again, each time as soon as it may have changed, tells what differs from the
//! answer before, and gives whoever joins the newest answer, of which all that is told afterwards is the continuation.

use crate::{
    asker::Asker,
    client::api::{Listing, Range},
    names::is_plain,
    refusal::Refusal,
    store::Inner,
};
use kv_core::{
    backend::{AbortOnDrop, Change, Hub, Mutex, Subscription},
    *,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{
    broadcast::{self, error::TryRecvError},
    mpsc, oneshot,
};

use widths::{Permit, WIDEST, widths};

#[cfg(test)]
mod tests;
mod widths;

/// What a poll waits for an answer at the longest.
const LONGEST: Duration = Duration::from_secs(3600);
/// After so long without a listing one who waits for a lock looks by itself.
const LONG: Duration = Duration::from_secs(30);

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
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    fn of(&self, inner: &Arc<Inner>, range: &Range, width: Width, within: Duration) -> Result<Used> {
        let (mut polls, pool) = (self.open.lock(), inner.client.pool()?);
        // Those whose runtime has ended.
        polls.retain(|_, poll| !poll.joins.is_closed());
        let widths = widths(inner.names.prefix(), range);
        let (at, permit) = match width {
            Width::Exact => (0, Permit::beyond(&pool)),
            Width::AtLeast(least) => {
                let mut narrower = (least.min(WIDEST)..WIDEST).filter_map(|at| {
                    let there = polls.contains_key(&widths[at]).then(|| Permit::beyond(&pool));
                    Some((at, there.or_else(|| Permit::take(&pool, at))?))
                });
                narrower.next().unwrap_or_else(|| (WIDEST, Permit::beyond(&pool)))
            }
        };
        let poll = polls
            .entry(widths[at].clone())
            .or_insert_with(|| Arc::new(Poll::start(inner, widths[at].clone(), permit)));
        poll.users.fetch_add(1, Ordering::AcqRel);
        poll.within.at_least(within);
        Ok(Used { poll: poll.clone(), inner: inner.clone() })
    }

    pub(crate) fn is_unused(&self, range: &Range) -> bool {
        self.open.lock().get(range).is_none_or(|poll| poll.users.load(Ordering::Acquire) == 0)
    }

    /// Takes a poll away that nobody uses; whether it did.
    pub(crate) fn end_unused(&self, range: &Range) -> bool {
        let mut polls = self.open.lock();
        let is_unused = polls.get(range).is_none_or(|poll| poll.users.load(Ordering::Acquire) == 0);
        if is_unused {
            polls.remove(range);
        }
        is_unused
    }

    /// From now on no poll outlives its users.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.open.lock().retain(|_, poll| poll.users.load(Ordering::Acquire) > 0);
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        self.open.lock().clear();
    }
}

/// A poll in use.
struct Used {
    poll: Arc<Poll>,
    inner: Arc<Inner>,
}

/// The server goes on with what it was asked until something changes or the wait is over, so a poll goes on too, its permit stays
/// taken, and who wants the same meanwhile has it.
impl Drop for Used {
    fn drop(&mut self) {
        let polls = &self.inner.polls;
        let mut open = polls.open.lock();
        let is_last = self.poll.users.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && polls.is_dismissed.load(Ordering::Acquire) {
            open.remove(&self.poll.range);
        }
    }
}

/// One range under watch.
struct Poll {
    range: Range,
    hub: Hub,
    refusals: broadcast::Sender<Refusal>,
    joins: mpsc::UnboundedSender<Join>,
    users: AtomicUsize,
    within: Within,
    _task: AbortOnDrop,
    _permit: Permit,
}

/// The time that each request of a poll has: the longest of those that its users gave.
#[derive(Clone, Default)]
pub(crate) struct Within(Arc<AtomicU64>);

impl Within {
    fn at_least(&self, within: Duration) {
        self.0.fetch_max(u64::try_from(within.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed)).clamp(Deadline::DEFAULT, LONGEST)
    }
}

/// A request for a listing, and where it goes.
pub(crate) type Join = oneshot::Sender<Result<Arc<Listing>, Refusal>>;

/// One who waits for changes: what is there is asked for by [`listing`](Self::listing), what changes afterwards by
/// [`news`](Self::news).
pub(crate) struct Joined {
    inner: Arc<Inner>,
    range: Range,
    target: Target,
    /// The time of each request.
    within: Duration,
    width: Width,
    news: Subscription,
    refusals: broadcast::Receiver<Refusal>,
    used: Used,
}

impl Joined {
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    pub(crate) fn new(inner: &Arc<Inner>, range: Range, target: &Target, within: Duration) -> Result<Self> {
        Self::with(inner, range, target, within, Width::AtLeast(0))
    }

    fn with(
        inner: &Arc<Inner>,
        range: Range,
        target: &Target,
        within: Duration,
        width: Width,
    ) -> Result<Self> {
        let used = inner.polls.of(inner, &range, width, within)?;
        let (news, refusals) = (used.poll.hub.subscribe(target), used.poll.refusals.subscribe());
        Ok(Self { inner: inner.clone(), range, target: target.clone(), within, width, news, refusals, used })
    }

    /// Returns whether the poll still tells: it ends with the runtime in which it began.
    pub(crate) fn is_told(&self) -> bool {
        !self.used.poll.joins.is_closed()
    }

    /// Drops the changes that wait, for one who is about to ask what is there. Refusals stay: what
    /// is refused is not in the listing, and was not deleted.
    pub(crate) fn clear(&self) {
        self.news.clear();
    }

    /// What is there, of this range or a wider one. Events that come afterwards are of what changed since, but for some that
    /// are older. Waits for a server that is away.
    ///
    /// # Errors
    /// The server's refusal, [`Unsupported`](ErrorKind::Unsupported) where no poll is wide enough,
    /// and [`Unavailable`](ErrorKind::Unavailable) when the poll has ended with its runtime.
    pub(crate) async fn listing(&mut self) -> Result<Arc<Listing>> {
        loop {
            let (join, answer) = oneshot::channel();
            // Who has ended does not answer either.
            let _ = self.used.poll.joins.send(join);
            let refusal = match answer.await {
                Ok(Ok(listing)) => return self.unrefused().map(|()| listing),
                Ok(Err(refusal)) => refusal,
                Err(_) => {
                    let why = "the runtime that polled for several watches has ended; another one polls on";
                    return Err(Error::new(ErrorKind::Unavailable, why));
                }
            };
            let width = self.other_width(&refusal)?;
            let inner = self.inner.clone();
            *self = Self::with(&inner, self.range.clone(), &self.target, self.within, width)?;
        }
    }

    /// How wide a poll is to be that is not refused so.
    ///
    /// # Errors
    /// The refusal, where none is.
    fn other_width(&self, refusal: &Refusal) -> Result<Width> {
        match (refusal.kind, self.width) {
            // The server takes no path with a character that it holds for unprintable: a directory above may have none.
            (ErrorKind::InvalidArgument, Width::AtLeast(width)) if width < WIDEST => {
                Ok(Width::AtLeast(width + 1))
            }
            (ErrorKind::InvalidArgument, _) if !is_plain(self.inner.names.prefix()) => {
                let why = format!(
                    "the server takes no path with the prefix {:?}, so nothing below can be watched: {}",
                    self.inner.names.prefix(),
                    refusal.why
                );
                Err(Error::new(ErrorKind::Unsupported, why))
            }
            (ErrorKind::PermissionDenied, Width::AtLeast(0)) if self.used.poll.range != self.range => {
                Ok(Width::Exact)
            }
            _ => Err(refusal.error()),
        }
    }

    /// What was refused before a listing came is no part of it, and was not deleted.
    fn unrefused(&mut self) -> Result<()> {
        loop {
            match self.refusals.try_recv() {
                // Since then the server has answered.
                Ok(refusal) if refusal.is_of_all() => {}
                Ok(refusal) if refusal.concerns(&self.target) => return Err(refusal.error()),
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return Ok(()),
            }
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
                    Ok(refusal) if refusal.is_of_all() => return Ok(Change::Missed),
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
pub(crate) async fn gone(inner: &Arc<Inner>, contender: &Key, within: Duration) -> bool {
    let name = inner.names.name(contender.as_str());
    let range = Range::Name(name.as_str().into());
    let Ok(mut joined) = Joined::new(inner, range, &Target::Key(contender.clone()), within) else {
        return false;
    };
    loop {
        // Who shares the poll of a large range may be told nothing for long.
        let Ok(Ok(listing)) = tokio::time::timeout(within.max(LONG), joined.listing()).await else {
            return false;
        };
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
    fn start(inner: &Arc<Inner>, range: Range, permit: Permit) -> Self {
        let (hub, refusals, (joins, joining)) =
            (Hub::new(), broadcast::Sender::new(16), mpsc::unbounded_channel());
        let (users, within) = (AtomicUsize::new(0), Within::default());
        let asker =
            Asker::new(inner.clone(), range.clone(), hub.clone(), refusals.clone(), within.clone(), joining);
        let task = AbortOnDrop::new(tokio::spawn(asker.run()).abort_handle());
        Self { range, hub, refusals, joins, users, within, _task: task, _permit: permit }
    }
}
