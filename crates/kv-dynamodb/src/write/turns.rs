//! Makes puts and deletions of one key take turns within a process.
//!
//! The service refuses a put where something newer is there, and the put is sent again with a
//! newer version. A deletion leaves nothing to compare with: a put that was under way meanwhile
//! could bring a version older than the deleted one. So a deletion waits for the puts of its key
//! that are under way, and later puts wait for the deletion. Puts do not wait for other puts.
//!
//! Nobody waits for long: a write that takes longer than [`PATIENCE`] is left behind, by all who
//! wait for it and by all who come later.

use kv_core::{Key, backend::Mutex, driver::Deadline};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// The longest time for which a write holds up others: one that takes longer has most likely lost
/// its answer, and may take effect at any time, or its program does not poll it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The places of one line: a put takes one of them, and a deletion all.
const PLACES: u32 = 1 << 16;

type Busy = HashMap<u64, Arc<Line>>;

/// The keys of one store that are being written, by their hashes. Two keys with the same hash wait
/// for each other, which does no other harm.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: Mutex<Busy>,
    hasher: RandomState,
}

impl Turns {
    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock()
    }

    fn line(&self, hash: u64) -> Arc<Line> {
        self.busy().entry(hash).or_default().clone()
    }

    /// Leaves a line behind: who waits in it goes to a new one, and those who come later too.
    fn leave(&self, hash: u64, line: &Arc<Line>) {
        let mut busy = self.busy();
        if busy.get(&hash).is_some_and(|there| Arc::ptr_eq(there, line)) {
            busy.remove(&hash);
        }
        line.places.close();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TurnOf {
    Deletes,
    Puts,
}

/// The line of the writes of one key, which get places in the order in which they came. It is
/// closed when it is left behind.
#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The moments at which the writes that have places got them.
    since: Vec<Instant>,
    /// The moment at which a place was last given back: from then on the next in line may have it,
    /// whose program perhaps does not poll it.
    free_since: Instant,
}

impl Default for Line {
    fn default() -> Self {
        let state = State { since: Vec::new(), free_since: Instant::now() };
        Self { places: Arc::new(Semaphore::new(PLACES as usize)), state: Mutex::new(state) }
    }
}

impl Line {
    /// Returns for how long the writes that are under way may still hold up others: the newest of
    /// them too has its time, and nobody comes behind it while somebody waits.
    fn time_left(&self) -> Duration {
        let state = self.state.lock();
        let since = state.since.iter().max().unwrap_or(&state.free_since);
        PATIENCE.saturating_sub(since.elapsed())
    }
}

/// The places of one write, until they are dropped.
struct Held {
    line: Arc<Line>,
    since: Instant,
    _places: OwnedSemaphorePermit,
}

impl Held {
    fn new(line: &Arc<Line>, places: OwnedSemaphorePermit) -> Self {
        let since = Instant::now();
        line.state.lock().since.push(since);
        Self { line: line.clone(), since, _places: places }
    }

    /// Begins its time anew.
    fn begin(&mut self) {
        let mut state = self.line.state.lock();
        let now = Instant::now();
        if let Some(since) = state.since.iter_mut().find(|since| **since == self.since) {
            *since = now;
        }
        self.since = now;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.line.state.lock();
        let at = state.since.iter().position(|since| *since == self.since);
        if let Some(at) = at {
            state.since.swap_remove(at);
        }
        state.free_since = Instant::now();
    }
}

/// The turn of one write, until it is dropped.
pub(crate) struct Turn(Vec<KeyTurn>);

struct KeyTurn {
    turns: Arc<Turns>,
    hash: u64,
    line: Arc<Line>,
    held: Option<Held>,
}

impl Drop for KeyTurn {
    fn drop(&mut self) {
        self.held = None;
        let mut busy = self.turns.busy();
        // It is let go under the lock: of two that end at once, the second one sees to it.
        drop(std::mem::take(&mut self.line));
        if busy.get(&self.hash).is_some_and(|there| Arc::strong_count(there) == 1) {
            busy.remove(&self.hash);
        }
    }
}

impl KeyTurn {
    fn new(turns: &Arc<Turns>, hash: u64) -> Self {
        Self { turns: turns.clone(), hash, line: turns.line(hash), held: None }
    }

    /// Waits for the places of a write; until this deadline, when the write goes on without them.
    async fn wait(&mut self, what: TurnOf, deadline: Deadline) {
        let count = match what {
            TurnOf::Puts => 1,
            TurnOf::Deletes => PLACES,
        };
        loop {
            let places = self.wait_in_line(count, deadline).await;
            let is_over = places.is_none() && deadline.has_passed();
            if is_over || places.is_some_and(|places| self.has(places)) {
                return;
            }
            self.turns.leave(self.hash, &self.line);
            self.line = self.turns.line(self.hash);
        }
    }

    /// Notes the places, and returns whether they are worth anything: who was not polled may have
    /// some in a line that was left behind.
    fn has(&mut self, places: OwnedSemaphorePermit) -> bool {
        // Lines are left behind under this lock.
        let _busy = self.turns.busy.lock();
        let is_open = !self.line.places.is_closed();
        self.held = is_open.then(|| Held::new(&self.line, places));
        is_open
    }

    /// Begins the time of the places anew, or takes others where the line was left behind.
    async fn begin(&mut self, what: TurnOf, deadline: Deadline) {
        if self.line.places.is_closed() {
            self.held = None;
            self.line = self.turns.line(self.hash);
            self.wait(what, deadline).await;
        } else if let Some(held) = &mut self.held {
            held.begin();
        }
    }

    /// Waits for places in the line; `None` when it is, or must be, left behind, and after the
    /// deadline.
    async fn wait_in_line(&self, count: u32, deadline: Deadline) -> Option<OwnedSemaphorePermit> {
        let mut places = pin!(self.line.places.clone().acquire_many_owned(count));
        loop {
            let left = self.line.time_left();
            let within = Deadline::after(left.min(deadline.remaining()));
            match within.limit(places.as_mut()).await {
                Some(places) => return places.ok(),
                None if left.is_zero() || deadline.has_passed() => return None,
                None => {}
            }
        }
    }
}

impl Turn {
    /// Waits for the turn of a write of these keys. Cancel safe.
    pub(crate) async fn of<'k>(
        turns: &Arc<Turns>,
        writes: impl IntoIterator<Item = (&'k Key, TurnOf)>,
        deadline: Deadline,
    ) -> Self {
        let hash = |key: &Key| turns.hasher.hash_one(key.as_str());
        let mut wanted: Vec<_> = writes.into_iter().map(|(key, what)| (hash(key), what)).collect();
        // One order for all, so that no two writes wait for each other. Of one hash a deletion
        // comes first, and is enough.
        wanted.sort_unstable();
        wanted.dedup_by_key(|(hash, _)| *hash);
        let patience = Deadline::after(deadline.remaining() / 2);
        let mut turn = Self(Vec::with_capacity(wanted.len()));
        for &(hash, what) in &wanted {
            // This is there before the wait, so that a dropped wait tidies up.
            turn.0.push(KeyTurn::new(turns, hash));
            if let Some(key) = turn.0.last_mut() {
                key.wait(what, patience).await;
            }
        }
        if let [firsts @ .., _] = &mut turn.0[..] {
            // The wait for later keys is no part of the time of the write.
            for (key, (_, what)) in firsts.iter_mut().zip(wanted) {
                key.begin(what, patience).await;
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests;
