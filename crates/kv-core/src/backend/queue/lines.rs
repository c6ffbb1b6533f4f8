//! The local lines of contenders: those of one handle, on one lock, in one runtime. Only the
//! foremost of a line asks the server who is before it.

use super::Position;
use crate::{Key, backend::lock};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::{
    runtime::{Handle, Id},
    sync::Notify,
};

/// Sets after how long the second of a line looks at the server by itself: the foremost may be a
/// future that nobody polls, whose contender is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of one store, each for one lock and one runtime, for a runtime that stands still must
/// hold up no other. A line is there as long as somebody holds it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{Key, backend::queue::Lines};
/// use std::sync::Arc;
///
/// let (lines, lock) = (Lines::<u64>::default(), Key::parse("leader")?);
/// let line = lines.line(&lock);
/// assert!(Arc::ptr_eq(&line, &lines.line(&lock)));
/// # Ok(()) }
/// ```
pub struct Lines<P>(Arc<Places<P>>);

/// The lines by runtime and lock. A runtime's number may be given out again once it has ended.
type Places<P> = Mutex<HashMap<(Option<Id>, Key), Weak<Line<P>>>>;

impl<P> Lines<P> {
    /// Returns the line of this lock in the current runtime.
    #[must_use]
    pub fn line(&self, name: &Key) -> Arc<Line<P>> {
        let at = (Handle::try_current().ok().map(|here| here.id()), name.clone());
        let mut places = lock(&self.0);
        if let Some(there) = places.get(&at).and_then(Weak::upgrade) {
            return there;
        }
        let places_of = Arc::downgrade(&self.0);
        let line = Arc::new(Line { at: at.clone(), places: places_of, state: Mutex::default() });
        places.insert(at, Arc::downgrade(&line));
        line
    }
}

impl<P> Default for Lines<P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<P> fmt::Debug for Lines<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({} locks)", lock(&self.0).len())
    }
}

/// The contenders of one handle on one lock, in the order in which they entered on the server, and
/// what the last listing of the queue told of those before them.
///
/// The listing makes a handover cheap on a server that can only list a queue whole. New contenders
/// come behind those that are there, so whoever was in a listing knows all that can be before it:
/// those in front of it in that listing, but for the ones that are known to be gone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{Key, backend::queue::{Lines, Position}};
///
/// let lines = Lines::default();
/// let line = lines.line(&Key::parse("leader")?);
/// assert_eq!(line.nearest(&7), None, "it was in no listing");
/// line.learn([3, 5, 7]);
/// assert_eq!(line.nearest(&7), Some(Position::Behind(5)));
/// line.gone(&5);
/// line.gone(&3);
/// assert_eq!(line.nearest(&7), Some(Position::First));
/// line.learn([1, 3, 5, 7]);
/// line.passed(&5, &7);
/// assert_eq!(line.nearest(&7), None, "1 and 3 are most likely gone as well: another listing tells");
/// # Ok(()) }
/// ```
pub struct Line<P> {
    at: (Option<Id>, Key),
    places: Weak<Places<P>>,
    state: Mutex<State<P>>,
}

struct State<P> {
    /// The contenders by their tokens. The second number tells those apart that have one token: a
    /// server that was put back gives out tokens again.
    standing: BTreeMap<(u64, u64), Arc<Notify>>,
    entered: u64,
    /// Counts those that are about to enter.
    entering: usize,
    /// The last listing, without those that are known to be gone.
    listed: BTreeSet<P>,
}

impl<P> Default for State<P> {
    fn default() -> Self {
        Self { standing: BTreeMap::new(), entered: 0, entering: 0, listed: BTreeSet::new() }
    }
}

impl<P> State<P> {
    /// Has the first two look where they stand.
    fn call(&self) {
        self.standing.values().take(2).for_each(|turn| turn.notify_one());
    }
}

impl<P> Line<P> {
    /// Returns whether one contender at most is in the line or about to enter it: its request to
    /// enter may well list the queue, while others shall not.
    pub fn is_alone(&self) -> bool {
        let state = lock(&self.state);
        state.standing.is_empty() && state.entering <= 1
    }

    /// Drops the last listing.
    pub fn forget(&self) {
        lock(&self.state).listed = BTreeSet::new();
    }

    /// Counts one that is about to enter, until the answer is dropped.
    pub(super) fn entering(self: &Arc<Self>) -> Entering<P> {
        lock(&self.state).entering += 1;
        Entering(self.clone())
    }

    /// Puts one that has entered in the line, by its token.
    pub(super) fn join(self: &Arc<Self>, token: u64) -> Standing<P> {
        let mut state = lock(&self.state);
        state.entered += 1;
        let (at, turn) = ((token, state.entered), Arc::new(Notify::new()));
        state.standing.insert(at, turn.clone());
        Standing { line: self.clone(), at, turn }
    }
}

impl<P: Ord + Clone> Line<P> {
    /// Notes a listing of the whole queue.
    pub fn learn(&self, listed: impl IntoIterator<Item = P>) {
        let listed = listed.into_iter().collect();
        lock(&self.state).listed = listed;
    }

    /// Returns what the last listing tells of the position of this contender: the nearest before
    /// it that is not known to be gone. `None` where the contender was not in the listing. That it
    /// is still in the queue itself, the listing cannot tell.
    pub fn nearest(&self, own: &P) -> Option<Position<P>> {
        let state = lock(&self.state);
        let before = state.listed.contains(own).then(|| state.listed.range(..own).next_back().cloned())?;
        Some(before.map_or(Position::First, Position::Behind))
    }

    /// Notes that this contender has certainly left the queue, for good, or never was one.
    pub fn gone(&self, who: &P) {
        lock(&self.state).listed.remove(who);
    }

    /// Notes the same of the one before `own`, as the server told. Those before that one were
    /// served before it, and are most likely gone too, with nobody here to say so: where the listing
    /// has several, it is dropped, and one listing tells of all who would be asked one by one.
    pub fn passed(&self, who: &P, own: &P) {
        let mut state = lock(&self.state);
        if state.listed.remove(who) && state.listed.range(..own).nth(1).is_some() {
            state.listed = BTreeSet::new();
        }
    }
}

impl<P> Drop for Line<P> {
    fn drop(&mut self) {
        let Some(places) = self.places.upgrade() else { return };
        let mut places = lock(&places);
        // Another line may have taken the place.
        if places.get(&self.at).is_some_and(|line| line.strong_count() == 0) {
            places.remove(&self.at);
        }
    }
}

impl<P> fmt::Debug for Line<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} contenders)", lock(&self.state).standing.len())
    }
}

/// One that is about to enter.
pub(super) struct Entering<P>(Arc<Line<P>>);

impl<P> Drop for Entering<P> {
    fn drop(&mut self) {
        lock(&self.0.state).entering -= 1;
    }
}

/// The place of one contender in its line, until it leaves or this is dropped.
pub(super) struct Standing<P> {
    line: Arc<Line<P>>,
    at: (u64, u64),
    turn: Arc<Notify>,
}

/// The place of a contender in its line, as far as it matters.
enum Rank {
    Foremost,
    Second,
    Behind,
}

impl<P> Standing<P> {
    /// Returns whether nobody of the line is before it.
    pub(super) fn is_foremost(&self) -> bool {
        matches!(self.rank(), Rank::Foremost)
    }

    fn rank(&self) -> Rank {
        let state = lock(&self.line.state);
        if !state.standing.contains_key(&self.at) {
            // One behind it found that it is out of the queue, and it looks by itself.
            return Rank::Foremost;
        }
        match state.standing.range(..self.at).take(2).count() {
            0 => Rank::Foremost,
            1 => Rank::Second,
            _ => Rank::Behind,
        }
    }

    /// Waits until it is the foremost of its line, or has stood behind the foremost for so long
    /// that it shall look by itself. Cancel safe.
    pub(super) async fn turn(&self) {
        loop {
            match self.rank() {
                Rank::Foremost => return,
                Rank::Second => {
                    if tokio::time::timeout(PATIENCE, self.turn.notified()).await.is_err() {
                        return;
                    }
                }
                Rank::Behind => self.turn.notified().await,
            }
        }
    }

    /// Takes all out of the line that stand before this one, which the server says is first.
    pub(super) fn is_first(&self) {
        let mut state = lock(&self.line.state);
        let rest = state.standing.split_off(&self.at);
        let out = std::mem::replace(&mut state.standing, rest);
        out.values().for_each(|turn| turn.notify_one());
        state.call();
    }

    /// Leaves the line, unless it has. Leaving early is safe: whoever is next asks the server.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.line.state);
        if state.standing.remove(&self.at).is_some() {
            state.call();
        }
    }
}

impl<P> Drop for Standing<P> {
    fn drop(&mut self) {
        self.leave();
    }
}
