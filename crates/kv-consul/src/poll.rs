//! Blocking queries, each shared by all who wait for changes of the same names.
//!
//! A poll asks the server for a range again and again, each time as soon as it may have changed, tells what differs from the
//! answer before, and gives whoever joins the newest answer, of which all that is told afterwards is the continuation.

use crate::{
    api::{self, Listing, Pair, Range},
    lease::unique,
    names::{lock_of, parent},
    store::Inner,
    txn::{self, Fate},
};
use kv_core::{
    backend::{Change, Hub, Subscription},
    *,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

/// How long the server holds a poll that nothing changes for. Not longer: it does not wake a poll of a directory when one above
/// is deleted whole and something was deleted in it before, and it never tells that a link is dead.
const WAIT: Duration = Duration::from_secs(10);
/// The same for the place in line of a lock: one name is always woken for, and the renewals of the session notice a dead link.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// The server adds a sixteenth of the wait, so that not all polls end at once.
const JITTER: u32 = 16;
/// A poll that is answered sooner than this is one of a range that changes constantly.
const SOON: Duration = Duration::from_millis(100);
/// How long such a range is left alone between two polls, at most.
const REST: Duration = Duration::from_millis(100);
/// How many polls there are at once: of the very names that are wanted, of the directories of the others, of top-level
/// directories of the rest, and of the whole store.
const MOST: [usize; 4] = [24, 12, 6, 1];

/// Pauses between attempts: longer and longer, and not all at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        let most = 50 << self.0.min(4);
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(most / 2 + unique() % (most / 2))).await;
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// The polls of one store.
#[derive(Default)]
pub(crate) struct Polls(Mutex<HashMap<Range, (usize, Weak<Poll>)>>);

/// How wide a poll may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// The wider the more of them there are, this many steps at least.
    AtLeast(usize),
    /// What was asked for: for a token that may not read more.
    Exact,
}

impl Polls {
    fn of(&self, inner: &Arc<Inner>, range: &Range, width: Width) -> Arc<Poll> {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.retain(|_, (_, poll)| poll.strong_count() > 0);
        let widths = widths(inner.names.prefix(), range);
        let last = widths.len() - 1;
        let is_free = |at: usize| polls.values().filter(|(of, _)| *of == at).count() < MOST[at];
        let at = match width {
            Width::Exact => 0,
            Width::AtLeast(least) => (least.min(last)..last)
                .find(|&at| polls.contains_key(&widths[at]) || is_free(at))
                .unwrap_or(last),
        };
        if let Some(poll) = polls.get(&widths[at]).and_then(|(_, poll)| poll.upgrade()) {
            return poll;
        }
        let poll = Arc::new(Poll::start(inner, widths[at].clone()));
        polls.insert(widths[at].clone(), (at, Arc::downgrade(&poll)));
        poll
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

/// One range under watch; it ends with the last who holds it.
#[derive(Debug)]
pub(crate) struct Poll {
    range: Range,
    hub: Hub,
    refusals: broadcast::Sender<Refusal>,
    joins: mpsc::UnboundedSender<Join>,
    task: AbortHandle,
}

type Join = oneshot::Sender<Result<Arc<Listing>, Refusal>>;

impl Drop for Poll {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why nothing is told any more: of some keys, or of all.
#[derive(Clone, Debug)]
struct Refusal {
    keys: Option<Arc<[Key]>>,
    kind: ErrorKind,
    why: Arc<str>,
}

impl Refusal {
    fn of_all(error: &Error) -> Self {
        Self { keys: None, kind: error.kind(), why: error.message().into() }
    }

    fn of(keys: Vec<Key>) -> Self {
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
    poll: Arc<Poll>,
}

impl Joined {
    pub(crate) fn new(inner: &Arc<Inner>, range: Range, target: &Target) -> Self {
        Self::with(inner, range, target, Width::AtLeast(0))
    }

    fn with(inner: &Arc<Inner>, range: Range, target: &Target, width: Width) -> Self {
        let poll = inner.polls.of(inner, &range, width);
        let (news, refusals) = (poll.hub.subscribe(target), poll.refusals.subscribe());
        Self { inner: inner.clone(), range, target: target.clone(), width, news, refusals, poll }
    }

    /// What is there, of this range or a wider one. Events that come afterwards are of what changed since, but for some that
    /// are older. Waits for a server that is away.
    ///
    /// # Errors
    /// What ends a watch: the server's refusal.
    pub(crate) async fn listing(&mut self) -> Result<Arc<Listing>> {
        loop {
            let (join, answer) = oneshot::channel();
            let refusal = match self.poll.joins.send(join) {
                Ok(()) => match answer.await {
                    Ok(Ok(listing)) => return Ok(listing),
                    Ok(Err(refusal)) => refusal,
                    Err(_) => return Err(Error::new(ErrorKind::Closed, "the runtime has ended")),
                },
                Err(_) => return Err(Error::new(ErrorKind::Closed, "the runtime has ended")),
            };
            let width = match (refusal.kind, self.width) {
                // The server takes no path with a character that it holds for unprintable: a directory above may have none.
                (ErrorKind::InvalidArgument, Width::AtLeast(width)) if width + 1 < MOST.len() => {
                    Width::AtLeast(width + 1)
                }
                (ErrorKind::PermissionDenied, Width::AtLeast(0)) if self.poll.range != self.range => {
                    Width::Exact
                }
                _ => return Err(refusal.error()),
            };
            let inner = self.inner.clone();
            *self = Self::with(&inner, self.range.clone(), &self.target, width);
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
                    Err(broadcast::error::RecvError::Lagged(_)) => return Ok(Change::Missed),
                    Err(broadcast::error::RecvError::Closed) => {
                        return Err(Error::new(ErrorKind::Closed, "the runtime has ended"));
                    }
                },
                change = self.news.next() => return Ok(change),
            }
        }
    }
}

/// Waits until the contender of a lock is gone (`true`), or until one has to look (`false`).
pub(crate) async fn gone(inner: &Arc<Inner>, contender: &Key) -> bool {
    let name = inner.names.name(contender.as_str());
    let range = Range::Name(name.as_str().into());
    let mut joined = Joined::new(inner, range, &Target::Key(contender.clone()));
    loop {
        let Ok(listing) = joined.listing().await else { return false };
        if !listing.pairs.iter().any(|pair| pair.name == name) {
            return true;
        }
        drop(listing);
        loop {
            match joined.news().await {
                Ok(Change::Event(WatchEvent::Delete { .. })) => return true,
                Ok(Change::Event(_)) => {}
                Ok(Change::Missed) => break,
                Err(_) => return false,
            }
        }
    }
}

impl Poll {
    fn start(inner: &Arc<Inner>, range: Range) -> Self {
        let (hub, refusals, (joins, joining)) =
            (Hub::new(), broadcast::Sender::new(16), mpsc::unbounded_channel());
        let asker = Asker {
            inner: inner.clone(),
            range: range.clone(),
            hub: hub.clone(),
            refusals: refusals.clone(),
            joining,
            waiting: Vec::new(),
            known: HashMap::new(),
            holders: HashMap::new(),
            pass: 0,
            index: 0,
        };
        let task = tokio::spawn(asker.run()).abort_handle();
        Self { range, hub, refusals, joins, task }
    }
}

/// The task behind a poll.
struct Asker {
    inner: Arc<Inner>,
    range: Range,
    hub: Hub,
    refusals: broadcast::Sender<Refusal>,
    joining: mpsc::UnboundedReceiver<Join>,
    /// Who is owed a listing.
    waiting: Vec<Join>,
    known: HashMap<String, Known>,
    /// Who holds which lock.
    holders: HashMap<Key, u64>,
    pass: u64,
    /// The server's index of the newest answer.
    index: u64,
}

/// What was there in the newest answer.
struct Known {
    modified: u64,
    /// The newest answer in which it was.
    pass: u64,
}

impl Asker {
    async fn run(mut self) {
        let (mut backoff, mut is_first) = (Backoff::default(), true);
        loop {
            // After an outage one reads without an index: the server's may have gone back, and it would wait for ours.
            let mut ended = self.welcome(Telling::Nobody).await;
            if ended.is_ok() {
                backoff.reset();
                if !std::mem::take(&mut is_first) {
                    // All who listen are told that an outage is over, and what differs.
                    self.hub.missed();
                }
                ended = self.follow().await;
            }
            if let Err(e) = ended {
                tracing::debug!(range = ?self.range, error = %e, "a poll broke");
                self.refuse(&e);
            }
            backoff.pause().await;
        }
    }

    /// Asks for the range; with an index, as soon as it may have changed since.
    fn ask(&self, behind: Option<u64>) -> impl Future<Output = Result<Arc<Listing>>> + Send + 'static {
        let (inner, range) = (self.inner.clone(), self.range.clone());
        let wait = match &range {
            Range::Name(name) if name.starts_with(&inner.names.locks()) => LOCK_WAIT,
            _ => WAIT,
        };
        async move {
            let (wait, within) = match behind {
                Some(index) => (Some((index, wait)), wait + wait / JITTER + Deadline::DEFAULT),
                None => (None, Deadline::DEFAULT),
            };
            api::range(&inner.client, &range, wait, Deadline::after(within)).await.map(Arc::new)
        }
    }

    /// Polls until the link breaks.
    async fn follow(&mut self) -> Result<()> {
        let mut quick = 0_u32;
        loop {
            let began = Instant::now();
            let poll = self.ask(Some(self.index.max(1)));
            // An answer that may be older than one which was told meanwhile says nothing.
            let listing = self.until(poll).await?;
            let answered = Instant::now();
            if let Some(listing) = listing {
                let listing = listing?;
                self.tell(&listing, Telling::All).await?;
            }
            if answered - began > SOON {
                quick = 0;
                continue;
            }
            quick += 1;
            if quick > 2 {
                // What changes constantly is read a third of the time at most, and not many times a second.
                let rest = (REST / 16 * quick.min(16)).max(began.elapsed() * 2).min(REST * 20);
                self.until(tokio::time::sleep(rest)).await?;
            }
        }
    }

    /// Waits, and welcomes who joins meanwhile; `None` when one did.
    async fn until<T>(&mut self, ready: impl Future<Output = T> + Send) -> Result<Option<T>> {
        let mut ready = std::pin::pin!(ready);
        let mut is_overtaken = false;
        loop {
            tokio::select! {
                biased;
                done = &mut ready => return Ok(Some(done).filter(|_| !is_overtaken)),
                Some(join) = self.joining.recv() => {
                    self.waiting.push(join);
                    self.welcome(Telling::All).await?;
                    is_overtaken = true;
                }
            }
        }
    }

    /// Reads what is there now, for all who have just joined.
    async fn welcome(&mut self, telling: Telling) -> Result<()> {
        while let Ok(join) = self.joining.try_recv() {
            self.waiting.push(join);
        }
        let listing = self.ask(None).await?;
        self.tell(&listing, telling).await?;
        for join in self.waiting.drain(..) {
            // Who asked may have gone.
            let _ = join.send(Ok(listing.clone()));
        }
        Ok(())
    }

    /// Ends those who listen, unless the error passes by itself.
    fn refuse(&mut self, error: &Error) {
        if error.is_transient() {
            return;
        }
        let refusal = Refusal::of_all(error);
        while let Ok(join) = self.joining.try_recv() {
            self.waiting.push(join);
        }
        for join in self.waiting.drain(..) {
            let _ = join.send(Err(refusal.clone()));
        }
        // They ask again, and hear it.
        let _ = self.refusals.send(refusal);
    }

    /// Tells what differs from the answer before.
    async fn tell(&mut self, listing: &Listing, telling: Telling) -> Result<()> {
        self.pass += 1;
        for pair in &listing.pairs {
            if let Some(known) = self.known.get_mut(&pair.name) {
                known.pass = self.pass;
            }
        }
        // Nothing is changed here until the server has answered.
        self.forget_gone(telling).await?;
        let mut went_back = listing.index < self.index;
        let mut changed: Vec<&Pair> = Vec::new();
        for pair in &listing.pairs {
            let now = Known { modified: pair.modified, pass: self.pass };
            match self.known.get_mut(&pair.name) {
                Some(known) if known.modified == pair.modified => {}
                Some(known) => {
                    went_back |= pair.modified < known.modified;
                    *known = now;
                    changed.push(pair);
                }
                None => {
                    self.known.insert(pair.name.clone(), now);
                    changed.push(pair);
                }
            }
        }
        self.index = listing.index;
        self.tell_holders(listing, telling)?;
        if telling == Telling::Nobody {
            return Ok(());
        }
        changed.sort_by_key(|pair| pair.modified);
        for pair in changed {
            if let Some(key) = self.inner.names.parse(&pair.name) {
                self.hub.publish(&WatchEvent::Put(Entry::new(key, pair.value()?, pair.version())));
            }
        }
        if went_back {
            // The server was restored from a copy, or forgot old deletions: versions may be lower than those told.
            self.hub.missed();
        }
        Ok(())
    }

    /// Tells what was not in the answer, if it is gone: what a token may not read is left out as well.
    async fn forget_gone(&mut self, telling: Telling) -> Result<()> {
        let missing = self.known.iter().filter(|(_, known)| known.pass != self.pass);
        let missing: Vec<_> = missing.map(|(name, _)| name.clone()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let fates = txn::fates(&self.inner, &missing, Deadline::default()).await?;
        let mut hidden = Vec::new();
        for (name, fate) in missing.iter().zip(fates) {
            let (known, key) = (self.known.remove(name), self.inner.names.parse(name));
            let Some((known, key)) = known.zip(key) else { continue };
            match fate {
                Fate::Hidden => hidden.push(key),
                _ if telling == Telling::Nobody => {}
                // Gone for a moment at least.
                Fate::Gone | Fate::There => {
                    self.hub.publish(&WatchEvent::Delete { key, version: Version::new(known.modified, 0) });
                }
            }
        }
        if !hidden.is_empty() {
            // Nobody may listen.
            let _ = self.refusals.send(Refusal::of(hidden));
        }
        Ok(())
    }

    /// Tells which locks have another holder: the contender that was created first.
    fn tell_holders(&mut self, listing: &Listing, telling: Telling) -> Result<()> {
        let locks = self.inner.names.locks();
        let mut first: HashMap<Key, &Pair> = HashMap::new();
        for pair in listing.pairs.iter().filter(|pair| pair.name.starts_with(&locks)) {
            let Some(lock) = self.inner.names.parse(&pair.name).as_ref().and_then(lock_of) else { continue };
            let before = first.entry(lock).or_insert(pair);
            if pair.created < before.created {
                *before = pair;
            }
        }
        let before = std::mem::take(&mut self.holders);
        self.holders = first.iter().map(|(lock, pair)| (lock.clone(), pair.created)).collect();
        if telling == Telling::Nobody {
            return Ok(());
        }
        for (lock, token) in &before {
            if !first.contains_key(lock) {
                let version = Version::new(*token, 0);
                self.hub.publish_holder(&WatchEvent::Delete { key: lock.clone(), version });
            }
        }
        for (lock, pair) in first {
            if before.get(&lock) != Some(&pair.created) {
                self.hub.publish_holder(&WatchEvent::Put(held_by(lock, pair)?));
            }
        }
        Ok(())
    }
}

/// The event of who holds a lock.
pub(crate) fn held_by(lock: Key, first: &Pair) -> Result<Entry> {
    Ok(Entry::new(lock, first.value()?, Version::new(first.created, 0)))
}

/// Whether those who listen are told what differs, or read it all anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    All,
    Nobody,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_widen_within_the_store() {
        let name = |name: &str| Range::Name(name.into());
        let tree = |name: &str| Range::Tree(name.into());
        let wide = |range: &Range| widths("p/", range);
        assert_eq!(wide(&name("p/a/b/c")), [name("p/a/b/c"), tree("p/a/b/"), tree("p/a/"), tree("p/")]);
        assert_eq!(wide(&tree("p/a/")), [tree("p/a/"), tree("p/"), tree("p/a/"), tree("p/")]);
        assert_eq!(wide(&tree("p/")), [tree("p/"), tree("p/"), tree("p/"), tree("p/")]);
        assert_eq!(
            wide(&name("p/.kv/lock/1/l/7"))[1..],
            [tree("p/.kv/lock/1/l/"), tree("p/.kv/lock/"), tree("p/")]
        );
        assert_eq!(widths("p", &name("px"))[1..], [tree("p"), tree("p"), tree("p")]);
    }
}
