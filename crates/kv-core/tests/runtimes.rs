//! Runtimes beside each other: what each has for itself, and what one that ends leaves to the next.

use futures::{StreamExt, poll};
use kv_core::{
    Bytes, Capabilities, Directory, Entry, ErrorKind, Fence, Key, Kv, Locking, Result, TtlRange, WatchEvent,
    Written,
    backend::{
        Alive, ByRuntime, Clock, Session, Sessions, Tasks, Undo,
        watch::{self, Change, Listing, Source, WatchState},
    },
    driver::{
        Acquired, Cursor, Expect, ListOptions, LockOptions, Page, PutOptions, ReadOptions, Store, Target,
        WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(8);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Lets the other tasks of a current-thread runtime run until all of them wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_a_runtime_has_goes_with_it_and_a_closed_store_makes_nothing() {
    let (places, made) = (ByRuntime::new(), AtomicU32::new(0));
    let here = || places.here(|| Arc::new(made.fetch_add(1, SeqCst)));
    let (one, other) = (runtime(), runtime());
    let first = one.block_on(async { here().unwrap() });
    assert_eq!((*first, *other.block_on(async { here().unwrap() })), (0, 1));
    drop(one);
    other.block_on(async { here().unwrap() });
    assert_eq!(Arc::strong_count(&first), 1, "it is kept behind the end of its runtime");
    assert_eq!(here().unwrap_err().kind(), ErrorKind::Closed, "there is no runtime here");
    assert_eq!((places.close().len(), places.all().len()), (1, 0));
    assert_eq!(other.block_on(async { here() }).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(made.load(SeqCst), 2);
}

#[test]
fn each_runtime_has_sessions_of_its_own_and_another_one_ends_those_of_one_that_ended() {
    let (clock, granted) = (Clock::manual(), AtomicU32::new(0));
    let (sessions, ended) = (Sessions::new(clock.clone()), Arc::new(Mutex::new(Vec::new())));
    let grant = || async {
        let (session, ended) = (granted.fetch_add(1, SeqCst), ended.clone());
        let alive = Alive::keep(&clock, TTL, clock.now(), || async { Ok(()) });
        let end = Undo::new(async move {
            ended.lock().unwrap().push(session);
            Ok(true)
        });
        Ok(Session { session, alive, end })
    };
    let (one, other) = (runtime(), runtime());
    let first = one.block_on(sessions.get(TTL, grant)).unwrap();
    let second = other.block_on(sessions.get(TTL, grant)).unwrap();
    assert_eq!((*first.session(), *second.session()), (0, 1));
    drop(one);
    assert!(!first.alive().is_held() && second.alive().is_held());
    other.block_on(async {
        assert_eq!(*sessions.get(TTL, grant).await.unwrap().session(), 1);
        settle().await;
    });
    assert_eq!(*ended.lock().unwrap(), [0], "nobody renews it, and it is left to its TTL");
    assert!(second.alive().is_held());
}

#[tokio::test]
async fn an_idle_session_ends_though_its_last_user_went_with_another_runtime() {
    let (clock, ended) = (Clock::manual(), Arc::new(AtomicU32::new(0)));
    let sessions = Sessions::new(clock.clone());
    let grant = || async {
        let ended = ended.clone();
        let alive = Alive::keep(&clock, TTL, clock.now(), || async { Ok(()) });
        let end = Undo::new(async move { Ok(ended.fetch_add(1, SeqCst) == 0) });
        Ok(Session { session: (), alive, end })
    };
    let used = sessions.get(TTL, grant).await.unwrap();
    std::thread::spawn(move || runtime().block_on(async move { drop(used) })).join().unwrap();
    settle().await;
    assert_eq!(ended.load(SeqCst), 0, "who locks again soon needs no new one");
    clock.advance(TTL / 4);
    settle().await;
    assert_eq!(ended.load(SeqCst), 1, "it is renewed for ever");
}

/// A store whose locks are all free, and whose releases hang so many times in the middle.
#[derive(Debug)]
struct Hanging {
    capabilities: Capabilities,
    hangs: u32,
    goes: Arc<AtomicU32>,
    tasks: Tasks,
}

impl Hanging {
    fn new(hangs: u32) -> Self {
        let mut capabilities = Capabilities::new("hanging");
        capabilities.lock = Some(Locking::new(TtlRange::new(SECOND, 100 * SECOND)));
        Self { capabilities, hangs, goes: Arc::default(), tasks: Tasks::default() }
    }
}

#[async_trait]
impl Store for Hanging {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        let clock = Clock::system();
        let alive = Alive::keep(&clock, options.ttl, clock.now(), || async { Ok(()) });
        let (goes, hangs) = (self.goes.clone(), self.hangs);
        let release = self.tasks.undo_repeatable(move || {
            let goes = goes.clone();
            async move {
                if goes.fetch_add(1, SeqCst) < hangs {
                    pending::<()>().await;
                }
                Ok(true)
            }
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

#[test]
fn what_the_end_of_a_runtime_cut_off_is_done_by_the_next_lock_and_by_close() {
    // It is cut off before it has begun, and in the middle, once and twice.
    for hangs in 0..3 {
        for closes in [false, true] {
            let store = Hanging::new(hangs);
            let (goes, kv) = (store.goes.clone(), Kv::new(store));
            for turn in 0..hangs.max(1) {
                runtime().block_on(async {
                    // From the second turn on, this also begins what was cut off before.
                    let guard = kv.new_lock("l").acquire().await.unwrap();
                    match turn {
                        0 => drop(guard),
                        _ => std::mem::forget(guard),
                    }
                    if hangs > 0 {
                        settle().await;
                    }
                });
            }
            assert_eq!(goes.load(SeqCst), hangs);
            let next = runtime();
            let held = next.block_on(async {
                let held = match closes {
                    true => None,
                    false => Some(kv.new_lock("l").acquire().await.unwrap()),
                };
                if closes {
                    // What is held by guards that were forgotten is released as well.
                    kv.close().await.unwrap();
                }
                settle().await;
                held
            });
            let forgotten = hangs.saturating_sub(1);
            let expected = hangs + 1 + if closes { forgotten } else { 0 };
            assert_eq!(goes.load(SeqCst), expected, "{hangs} hang, and the next one closes: {closes}");
            drop(held);
        }
    }
}

#[test]
fn what_is_dropped_outside_of_a_runtime_is_done_by_the_next_lock() {
    let store = Hanging::new(0);
    let (goes, kv) = (store.goes.clone(), Kv::new(store));
    let guard = runtime().block_on(async { kv.new_lock("l").acquire().await.unwrap() });
    drop(guard);
    assert_eq!(goes.load(SeqCst), 0);
    let next = runtime();
    let _held = next.block_on(async {
        let held = kv.new_lock("l").acquire().await.unwrap();
        settle().await;
        held
    });
    assert_eq!(goes.load(SeqCst), 1);
}

/// A source of no keys, which may live in the runtime in which it was asked.
struct Silent {
    is_bound: bool,
    subscribed: Arc<AtomicU32>,
}

impl Source for Silent {
    type Token = ();

    fn backend(&self) -> &'static str {
        "silent"
    }
    fn is_bound(&self) -> bool {
        self.is_bound
    }
    async fn subscribe(&mut self) -> Result<()> {
        self.subscribed.fetch_add(1, SeqCst);
        Ok(())
    }
    async fn list(&mut self, _: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        Ok(Listing::Page { entries: Vec::new(), position: None, next: None })
    }
    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        pending().await
    }
}

#[test]
fn a_watch_that_is_read_in_another_runtime_than_before_is_listed_anew_there() {
    for is_bound in [true, false] {
        let subscribed = Arc::new(AtomicU32::new(0));
        let mut watch = watch::start(Silent { is_bound, subscribed: subscribed.clone() });
        let stands_still = runtime();
        stands_still.block_on(async {
            assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Synced);
            assert!(poll!(watch.next()).is_pending());
        });
        let next = runtime().block_on(async { tokio::time::timeout(SECOND / 10, watch.next()).await });
        assert_eq!(next.ok().map(|event| event.unwrap().unwrap()), is_bound.then_some(WatchEvent::Synced));
        assert_eq!(subscribed.load(SeqCst), if is_bound { 2 } else { 1 });
    }
}
