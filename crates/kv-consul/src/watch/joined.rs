//! Joins a poll, for a user who waits for changes.

use super::{
    poller::Poller,
    polls::{Poll, Width, Within},
    refusal::Refusal,
    widths::{Permit, WIDEST},
};
use crate::{
    client::api::{Listing, Range},
    core::Core,
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{AbortOnDrop, Change, Hub, Subscription},
    driver::Target,
};
use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{
        broadcast::{self, error::TryRecvError},
        mpsc, oneshot,
    },
};

/// One use of a poll.
struct Used {
    poll: Arc<Poll>,
    core: Arc<Core>,
}

impl Used {
    fn new(core: &Arc<Core>, range: &Range, width: Width, within: Duration) -> Result<Self> {
        let (client, prefix) = (&core.client, core.names.prefix());
        let start = |range, permit| start(core, range, permit);
        let poll = core.polls.of(client, prefix, range, width, within, start)?;
        Ok(Self { poll, core: core.clone() })
    }
}

/// Leaves the poll, which goes on: the server goes on with what it was asked until something
/// changes or the wait is over. So the permit stays taken, and others who want the same names
/// meanwhile share the poll.
impl Drop for Used {
    fn drop(&mut self) {
        self.core.polls.leave(&self.poll);
    }
}

/// One user of a poll, who waits for changes: [`listing`](Self::listing) asks what is there, and
/// [`news`](Self::news) waits for what changes afterwards.
pub(crate) struct Joined {
    core: Arc<Core>,
    range: Range,
    target: Target,
    /// Limits the time of each request.
    within: Duration,
    width: Width,
    news: Subscription,
    refusals: broadcast::Receiver<Refusal>,
    used: Used,
}

impl Joined {
    /// Joins a poll of this range.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the store is closed.
    pub(crate) fn new(core: &Arc<Core>, range: Range, target: &Target, within: Duration) -> Result<Self> {
        Self::with(core, range, target, within, Width::AtLeast(0))
    }

    fn with(core: &Arc<Core>, range: Range, target: &Target, within: Duration, width: Width) -> Result<Self> {
        let used = Used::new(core, &range, width, within)?;
        let (news, refusals) = (used.poll.hub.subscribe(target), used.poll.refusals.subscribe());
        Ok(Self { core: core.clone(), range, target: target.clone(), within, width, news, refusals, used })
    }

    /// Tells whether the poll is one of this runtime, and still runs.
    pub(crate) fn is_told(&self) -> bool {
        let poll = &self.used.poll;
        Handle::try_current().is_ok_and(|here| here.id() == poll.runtime) && !poll.joins.is_closed()
    }

    /// Drops the changes that wait, for a user that is about to ask what is there. Refusals stay:
    /// what is refused is not in the listing, and was not deleted.
    pub(crate) fn clear(&self) {
        self.news.clear();
    }

    /// Asks what is there, in this range or a wider one. Events that come afterwards are of what
    /// changed since, but for some that are older. Waits for a server that is away.
    ///
    /// # Errors
    /// The server's refusal, [`Unsupported`](ErrorKind::Unsupported) where no poll is wide enough,
    /// and [`Unavailable`](ErrorKind::Unavailable) when the poll has ended with its runtime.
    pub(crate) async fn listing(&mut self) -> Result<Arc<Listing>> {
        loop {
            let (join, answer) = oneshot::channel();
            // A poll that has ended does not answer either.
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
            let core = self.core.clone();
            *self = Self::with(&core, self.range.clone(), &self.target, self.within, width)?;
        }
    }

    /// Returns how wide another poll is to be, which is not refused in this way.
    ///
    /// # Errors
    /// The refusal, where there is no such width.
    fn other_width(&self, refusal: &Refusal) -> Result<Width> {
        match (refusal.kind, self.width) {
            // The server takes no path with a character that it holds for unprintable: the path of
            // a directory above may have none.
            (ErrorKind::InvalidKey, Width::AtLeast(width)) if width < WIDEST => Ok(Width::AtLeast(width + 1)),
            (ErrorKind::InvalidKey, _) => {
                let why = format!("{}, and nothing wider may be watched in its place", refusal.why);
                Err(Error::new(ErrorKind::Unsupported, why))
            }
            (ErrorKind::PermissionDenied, Width::AtLeast(0)) if self.used.poll.range != self.range => {
                Ok(Width::Exact)
            }
            _ => Err(refusal.error()),
        }
    }

    /// Looks for a refusal: what was refused before a listing came is not in the listing, and was
    /// not deleted.
    fn unrefused(&mut self) -> Result<()> {
        loop {
            match self.refusals.try_recv() {
                // The server has answered since then.
                Ok(refusal) if refusal.is_of_all() => {}
                Ok(refusal) if refusal.concerns(&self.target) => return Err(refusal.error()),
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// The server's refusal, which ends a watch.
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
                // This poll tells nothing any more: another one is needed, which begins with a
                // listing.
                () = self.used.poll.joins.closed() => return Ok(Change::Missed),
                change = self.news.next() => return Ok(change),
            }
        }
    }
}

/// Begins a poll.
fn start(core: &Arc<Core>, range: Range, permit: Permit) -> Poll {
    let (hub, refusals, (joins, joining)) =
        (Hub::new(), broadcast::Sender::new(16), mpsc::unbounded_channel());
    let (users, within) = (AtomicUsize::new(0), Within::default());
    let poller =
        Poller::new(core.clone(), range.clone(), hub.clone(), refusals.clone(), within.clone(), joining);
    let (runtime, task) = (Handle::current().id(), tokio::spawn(poller.run()));
    let task = AbortOnDrop::new(task.abort_handle());
    Poll { runtime, range, hub, refusals, joins, users, within, _task: task, _permit: permit }
}
