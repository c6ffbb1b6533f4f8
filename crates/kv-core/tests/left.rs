//! Things that a release could not give back: closing tries once more, and tells what fails then.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Fence, Key, Kv, Locking, Result, TtlRange,
    Written,
    backend::{Alive, Clock, Tasks},
    driver::{
        Acquired, Cursor, Expect, ListOptions, LockOptions, Page, PutOptions, ReadOptions, Store, Target,
        WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use std::{
    future::Ready,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

/// A thing on the server, which refuses so many times to delete it.
#[derive(Debug, Default)]
struct Kept {
    refusals: AtomicU32,
    tries: AtomicU32,
}

impl Kept {
    fn refused(times: u32) -> Arc<Self> {
        Arc::new(Self { refusals: AtomicU32::new(times), ..Self::default() })
    }

    fn delete(&self) -> Result<()> {
        self.tries.fetch_add(1, SeqCst);
        match self.refusals.try_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(Error::new(ErrorKind::PermissionDenied, "no right to delete it")),
            Err(_) => Ok(()),
        }
    }

    fn tries(&self) -> u32 {
        self.tries.load(SeqCst)
    }

    /// Has closing try it once more, as long as somebody else knows of it.
    fn left_in(self: &Arc<Self>, tasks: &Tasks) {
        let left = Arc::downgrade(self);
        tasks.left(move || {
            let kept = left.upgrade()?;
            Some(async move { kept.delete() })
        });
    }
}

/// A store whose locks are all free, and whose releases delete the same thing.
#[derive(Debug)]
struct Refusing {
    capabilities: Capabilities,
    kept: Arc<Kept>,
    tasks: Tasks,
}

fn open(kept: &Arc<Kept>) -> Kv {
    let mut capabilities = Capabilities::new("refusing");
    capabilities.lock = Some(Locking::new(TtlRange::new(SECOND, 100 * SECOND)));
    Kv::new(Refusing { capabilities, kept: kept.clone(), tasks: Tasks::default() })
}

#[async_trait]
impl Store for Refusing {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let clock = Clock::tokio();
        let alive = Alive::keep(&clock, options.ttl, clock.now(), || async { Ok(()) });
        let (kept, tasks) = (self.kept.clone(), self.tasks.clone());
        let release = self.tasks.undo(async move {
            let answer = kept.delete();
            if answer.is_err() {
                kept.left_in(&tasks);
            }
            answer.map(|()| true)
        });
        Ok(Some(Acquired { fence: Fence::new(name.clone(), 1, ""), alive, release }))
    }
    async fn get(&self, _: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        unreachable!()
    }
    async fn put(&self, _: &Key, _: Bytes, _: Expect, _: &PutOptions) -> Result<Written> {
        unreachable!()
    }
    async fn delete(&self, _: &Key, _: Expect, _: &WriteOptions) -> Result<bool> {
        unreachable!()
    }
    async fn list(&self, _: &Directory, _: Option<&Cursor>, _: &ListOptions) -> Result<Page> {
        unreachable!()
    }
    async fn watch(&self, _: &Target, _: &WatchOptions) -> Result<WatchStream> {
        unreachable!()
    }
    async fn close(&self) -> Result<()> {
        self.tasks.finish().await
    }
}

async fn refused_release(kv: &Kv, lock: &str) {
    let guard = kv.new_lock(lock).acquire().await.unwrap();
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn closing_tries_once_more_what_a_release_could_not_give_back() {
    let still_refused = Err("close on refusing: no right to delete it".to_owned());
    for (refusals, expected) in [(1, Ok(())), (2, still_refused)] {
        let kept = Kept::refused(refusals);
        let kv = open(&kept);
        refused_release(&kv, "l").await;
        assert_eq!(kept.tries(), 1, "it is tried again before anybody closes");
        for _ in ["closes", "asks again"] {
            assert_eq!(kv.close().await.map_err(|e| e.to_string()), expected, "{refusals} refusals");
            assert_eq!(kept.tries(), 2, "{refusals} refusals");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_tries_all_that_is_left_whatever_becomes_of_the_others() {
    let kept = Kept::refused(4);
    let kv = open(&kept);
    for lock in ["a", "b", "c"] {
        refused_release(&kv, lock).await;
    }
    assert_eq!(kv.close().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(kept.tries(), 6);
}

/// One store may have many releases refused in its life.
#[tokio::test]
async fn what_is_done_meanwhile_is_not_kept_and_nothing_that_is_left_is_forgotten() {
    let (tasks, kept, done) = (Tasks::default(), Kept::refused(0), Arc::new(()));
    for n in 0..1000 {
        if n % 100 == 0 {
            kept.left_in(&tasks);
        }
        let held = done.clone();
        tasks.left(move || {
            let _held = &held;
            None::<Ready<Result<()>>>
        });
    }
    let many = Arc::strong_count(&done) - 1;
    assert!(many < 200, "{many} of a thousand that are done are kept");
    tasks.finish().await.unwrap();
    assert_eq!(kept.tries(), 10);
    assert_eq!(Arc::strong_count(&done), 1, "closing keeps what it has tried");
}
