//! Makes puts and deletions of one key take turns within a process.
//!
//! The service refuses a put where something newer is there, and the put is sent again with a
//! newer version. A deletion leaves nothing to compare with: a put that was under way meanwhile
//! could bring a version older than the deleted one. So a deletion waits for the puts of its key
//! that are under way, and later puts wait for the deletion. Puts do not wait for other puts.

use kv_core::{Key, backend::Mutex, driver::Deadline};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, MutexGuard},
    time::Duration,
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The longest wait for a write that is under way: one that takes longer has most likely lost its
/// answer, and may take effect at any time.
const PATIENCE: Duration = Duration::from_secs(2);

type Busy = HashMap<u64, Arc<RwLock<()>>>;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TurnOf {
    Deletes,
    Puts,
}

enum Held {
    Puts { _guard: OwnedRwLockReadGuard<()> },
    Deletes { _guard: OwnedRwLockWriteGuard<()> },
}

/// The turn of one write, until it is dropped.
pub(crate) struct Turn(Vec<KeyTurn>);

struct KeyTurn {
    turns: Arc<Turns>,
    hash: u64,
    held: Option<Held>,
}

impl Drop for KeyTurn {
    fn drop(&mut self) {
        self.held = None;
        let mut busy = self.turns.busy();
        if busy.get(&self.hash).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            busy.remove(&self.hash);
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
        let patience = Deadline::after(PATIENCE.min(deadline.remaining() / 2));
        let mut turn = Self(Vec::with_capacity(wanted.len()));
        for (hash, what) in wanted {
            let lock = turns.busy().entry(hash).or_default().clone();
            // This is there before the wait, so that a dropped wait tidies up.
            turn.0.push(KeyTurn { turns: turns.clone(), hash, held: None });
            let free = async {
                match what {
                    TurnOf::Puts => Held::Puts { _guard: lock.read_owned().await },
                    TurnOf::Deletes => Held::Deletes { _guard: lock.write_owned().await },
                }
            };
            let held = patience.limit(free).await;
            if let Some(key) = turn.0.last_mut() {
                key.held = held;
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::{
        TurnOf::{Deletes, Puts},
        *,
    };
    use futures::FutureExt;

    async fn turn(turns: &Arc<Turns>, writes: &[(&str, TurnOf)]) -> Turn {
        let writes: Vec<_> =
            writes.iter().map(|(key, what)| (Key::parse(key).expect("a key"), *what)).collect();
        let deadline = Deadline::after(Duration::from_secs(60));
        Turn::of(turns, writes.iter().map(|(key, what)| (key, *what)), deadline).await
    }

    #[tokio::test]
    async fn a_deletion_waits_for_puts_and_they_for_it() {
        let turns = Arc::default();
        let (one, two) =
            (turn(&turns, &[("a", Puts)]).await, turn(&turns, &[("a", Puts), ("b", Puts)]).await);
        let mut deletion = Box::pin(turn(&turns, &[("a", Deletes)]));
        drop(one);
        assert!(deletion.as_mut().now_or_never().is_none());
        let mut put = Box::pin(turn(&turns, &[("a", Puts)]));
        assert!(put.as_mut().now_or_never().is_none());
        drop(two);
        let deletion = deletion.await;
        assert!(put.as_mut().now_or_never().is_none());
        drop(deletion);
        put.await;
    }

    #[tokio::test]
    async fn other_keys_and_other_stores_do_not_wait() {
        let (turns, others) = (Arc::default(), Arc::default());
        let _deletion = turn(&turns, &[("a", Deletes), ("b", Deletes), ("a", Puts)]).await;
        assert!(turn(&turns, &[("c", Deletes)]).now_or_never().is_some());
        assert!(turn(&others, &[("a", Deletes)]).now_or_never().is_some());
        assert!(turn(&turns, &[("b", Puts)]).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_hangs() {
        let turns = Arc::default();
        let _hangs = turn(&turns, &[("a", Puts)]).await;
        let deletion = turn(&turns, &[("a", Deletes)]);
        assert!(deletion.await.0.iter().all(|key| key.held.is_none()));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_what_is_over() {
        let turns = Arc::<Turns>::default();
        let put = turn(&turns, &[("a", Puts)]).await;
        drop(Box::pin(turn(&turns, &[("a", Deletes)])).as_mut().now_or_never());
        assert_eq!(turns.busy().len(), 1);
        drop(put);
        assert!(turns.busy().is_empty());
    }
}
