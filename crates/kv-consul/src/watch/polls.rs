//! Keeps the polls of a store: blocking queries, each shared by all who wait for changes of the
//! same names in the same runtime. Another runtime may end, or stand still.
//!
//! A poll asks the server for a range again and again, each time as soon as it may have changed.
//! It tells what differs from the answer before, and gives each user that joins the newest answer,
//! of which everything that is told afterwards is the continuation.

use super::{
    refusal::Refusal,
    widths::{Permit, WIDEST, widths},
};
use crate::client::{
    Client,
    api::{Listing, Range},
};
use kv_core::{
    Result,
    backend::{AbortOnDrop, Hub, Mutex},
    driver::Deadline,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::{Handle, Id},
    sync::{broadcast, mpsc, oneshot},
};

/// Limits how long a poll waits for an answer.
const LONGEST: Duration = Duration::from_secs(3600);

/// The polls of one store.
#[derive(Default)]
pub(crate) struct Polls {
    open: Mutex<HashMap<(Id, Range), Arc<Poll>>>,
    /// Tells whether the store is given up: then a poll that nobody uses ends at once.
    is_dismissed: AtomicBool,
}

/// The width that a poll may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// As many steps as this, at least: the more polls there are, the wider the poll.
    AtLeast(usize),
    /// The range that was asked for, for a token that may not read more.
    Exact,
}

impl Polls {
    /// Returns the poll that this runtime has of this range or of a wider one, to one more user.
    /// Where there is none yet, `start` begins it.
    ///
    /// # Errors
    /// [`Closed`](kv_core::ErrorKind::Closed) once the store is closed.
    pub(super) fn of(
        &self,
        client: &Client,
        prefix: &str,
        range: &Range,
        width: Width,
        within: Duration,
        start: impl FnOnce(Range, Permit) -> Poll,
    ) -> Result<Arc<Poll>> {
        let (mut polls, pool, here) = (self.open.lock(), client.pool()?, Handle::current().id());
        // Polls whose runtime has ended are dropped.
        polls.retain(|_, poll| !poll.joins.is_closed());
        let widths = widths(prefix, range).map(|range| (here, range));
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
        let range = || widths[at].1.clone();
        let poll = polls.entry(widths[at].clone()).or_insert_with(|| Arc::new(start(range(), permit)));
        poll.users.fetch_add(1, Ordering::AcqRel);
        poll.within.at_least(within);
        Ok(poll.clone())
    }

    /// Takes back what [`of`](Self::of) gave to one user.
    pub(super) fn leave(&self, poll: &Poll) {
        let mut open = self.open.lock();
        let is_last = poll.users.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && self.is_dismissed.load(Ordering::Acquire) {
            open.remove(&(poll.runtime, poll.range.clone()));
        }
    }

    /// Removes the poll that this runtime has of this range if nobody uses it, and tells whether it
    /// did.
    pub(super) fn end_unused(&self, range: &Range) -> bool {
        let place = (Handle::current().id(), range.clone());
        let mut polls = self.open.lock();
        let is_unused = polls.get(&place).is_none_or(|poll| poll.users.load(Ordering::Acquire) == 0);
        if is_unused {
            polls.remove(&place);
        }
        is_unused
    }

    /// Lets no poll outlive its users from now on.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.open.lock().retain(|_, poll| poll.users.load(Ordering::Acquire) > 0);
    }

    /// Ends all polls.
    pub(crate) fn end(&self) {
        self.open.lock().clear();
    }
}

/// One poll: a range under watch.
pub(super) struct Poll {
    /// The runtime in which it polls.
    pub(super) runtime: Id,
    pub(super) range: Range,
    pub(super) hub: Hub,
    pub(super) refusals: broadcast::Sender<Refusal>,
    pub(super) joins: mpsc::UnboundedSender<Join>,
    pub(super) users: AtomicUsize,
    pub(super) within: Within,
    pub(super) _task: AbortOnDrop,
    pub(super) _permit: Permit,
}

/// The time that each request of a poll has: the longest of those that its users gave.
#[derive(Clone, Default)]
pub(super) struct Within(Arc<AtomicU64>);

impl Within {
    fn at_least(&self, within: Duration) {
        self.0.fetch_max(u64::try_from(within.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed)).clamp(Deadline::DEFAULT, LONGEST)
    }
}

/// A request for a listing, and where it goes.
pub(super) type Join = oneshot::Sender<Result<Arc<Listing>, Refusal>>;
