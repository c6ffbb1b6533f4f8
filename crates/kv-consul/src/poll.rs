//! Blocking queries, each shared by all who wait for changes of the same names.
//!
//! A poll asks the server for a range again and again, each time as soon as it may have changed, tells what differs from the
//! answer before, and gives whoever joins the newest answer, of which all that is told afterwards is the continuation.

use crate::{
    api::{Listing, Range},
    asker::Asker,
    lease::unique,
    names::{lock_of, parent},
    store::Inner,
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
};

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
        let asker = Asker::new(inner.clone(), range.clone(), hub.clone(), refusals.clone(), joining);
        let task = tokio::spawn(asker.run()).abort_handle();
        Self { range, hub, refusals, joins, task }
    }
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
