//! Waits for a lock that ride outages out, ends that are true, and the store's last word on a
//! write.

use futures::poll;
use kv_core::{driver::*, *};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

/// A store whose locks fail with these errors, one after another, are then granted too late so
/// many times, and are then held. Its releases take a second.
#[derive(Debug)]
struct Troubled {
    capabilities: Capabilities,
    errors: Mutex<Vec<ErrorKind>>,
    late: AtomicU32,
    tried: AtomicU32,
    released: Arc<AtomicBool>,
    releases: Arc<AtomicU32>,
    refuses_release: bool,
    releases_at_once: bool,
    /// Tells whether requests for a lock are never answered.
    is_silent: bool,
    tasks: backend::Tasks,
}

impl Troubled {
    /// Makes a store whose locks fail with these errors, the last one first.
    fn new(errors: &[ErrorKind]) -> Self {
        let mut capabilities = Capabilities::new("troubled");
        capabilities.lock = Some(Locking::new(TtlRange::new(SECOND, 100 * SECOND)));
        let errors = Mutex::new(errors.to_vec());
        let (late, tried, released) = (AtomicU32::new(0), AtomicU32::new(0), Arc::default());
        let (releases, tasks) = (Arc::default(), backend::Tasks::default());
        Self {
            capabilities,
            errors,
            late,
            tried,
            released,
            releases,
            refuses_release: false,
            releases_at_once: false,
            is_silent: false,
            tasks,
        }
    }
}

#[async_trait]
impl Store for Troubled {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.tried.fetch_add(1, SeqCst);
        if let Some(kind) = self.errors.lock().unwrap().pop() {
            return Err(Error::new(kind, "no"));
        }
        let clock = backend::Clock::tokio();
        let alive = backend::Alive::keep(&clock, options.ttl, clock.now(), || async { Ok(()) });
        if self.late.try_update(SeqCst, SeqCst, |late| late.checked_sub(1)).is_ok() {
            alive.end("the session ended while it waited");
        }
        let (released, refuses) = (self.released.clone(), self.refuses_release);
        let at_once = self.releases_at_once;
        let releases = self.releases.clone();
        let release = self.tasks.undo(async move {
            if !at_once {
                tokio::time::sleep(SECOND).await;
            }
            released.store(true, SeqCst);
            releases.fetch_add(1, SeqCst);
            if refuses { Err(Error::new(ErrorKind::Unavailable, "the server is gone")) } else { Ok(true) }
        });
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        Ok(Some(Acquired { fence: Fence::new(name.clone(), 1, ""), alive, release }))
    }
    async fn get(&self, _: &Key, _: &ReadOptions) -> Result<Option<Entry>> {
        unreachable!()
    }
    async fn put(&self, _: &Key, _: Bytes, _: Expect, _: &PutOptions) -> Result<Written> {
        unreachable!()
    }
    /// Sends nothing, and says so as late as on a machine that stood still.
    async fn delete(&self, _: &Key, _: Expect, options: &WriteOptions) -> Result<bool> {
        tokio::time::sleep(options.deadline.remaining() + SECOND / 50).await;
        Err(Error::new(ErrorKind::Unavailable, "no connection"))
    }
    async fn list(&self, _: &Directory, _: Option<&Cursor>, _: &ListOptions) -> Result<Page> {
        unreachable!()
    }
    async fn watch(&self, _: &Target, _: &WatchOptions) -> Result<WatchStream> {
        unreachable!()
    }
    async fn close(&self) -> Result<()> {
        self.tasks.finish().await?;
        assert!(self.released.load(SeqCst), "the connections ended before the lock was released");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_before_it_came_is_never_given() {
    let store = Arc::new(Troubled::new(&[]));
    store.late.store(2, SeqCst);
    let kv = Kv::new(store.clone());
    let guard = kv.new_lock("l").acquire().await.unwrap();
    assert!(guard.is_held(), "a lock that nobody holds any more was given");
    assert_eq!(store.tried.load(SeqCst), 3);
    store.late.store(1, SeqCst);
    let lost = kv.new_lock("m").try_acquire().await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LockLost, "{lost}");
    drop(guard);
    kv.close().await.unwrap();
    assert_eq!(store.releases.load(SeqCst), 4, "what came too late stays in line");
}

#[tokio::test(start_paused = true)]
async fn a_wait_rides_out_all_that_does_not_last() {
    use ErrorKind::*;
    let passing =
        [Unavailable, Timeout, OutcomeUnknown, NoSpace, LockLost, LeaseLost, InvalidArgument, Other];
    let store = Arc::new(Troubled::new(&passing));
    let kv = Kv::new(store.clone());
    let guard = kv.new_lock("l").acquire().await.unwrap();
    assert_eq!(store.tried.load(SeqCst), 9);
    assert!(guard.release().await.unwrap());
    for lasting in [PermissionDenied, Unauthenticated, Unsupported, Closed, Corrupt, InvalidKey, TooLarge] {
        let kv = Kv::new(Troubled::new(&[lasting, Unavailable]));
        assert_eq!(kv.new_lock("l").acquire().await.unwrap_err().kind(), lasting);
    }
    let kv = Kv::new(Troubled::new(&[Other]));
    assert_eq!(kv.new_lock("l").try_acquire().await.unwrap_err().kind(), Other, "which does not wait");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_in_an_outage_says_so() {
    let kv = Kv::new(Troubled::new(&[ErrorKind::Unavailable; 1000]));
    let e = kv.new_lock("l").acquire_within(3 * SECOND).await.unwrap_err();
    assert_eq!(e.to_string(), r#"acquire_within "l" on troubled: no"#);
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_time_is_over_takes_nothing_though_nobody_polls_it() {
    let kv = kv_memory::open("memory://?clock=tokio").await.unwrap();
    let held = kv.new_lock("l").acquire().await.unwrap();
    let mut waits = pin!(kv.new_lock("l").acquire_within(SECOND));
    assert!(poll!(waits.as_mut()).is_pending());
    tokio::time::sleep(2 * SECOND).await; // its time passes
    held.release().await.unwrap();
    let next = kv.new_lock("l").acquire_within(SECOND).await.unwrap();
    assert!(next.is_some(), "it was granted to one that no longer waits");
    assert!(waits.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_sent_says_so_though_its_time_is_over() {
    let kv = Kv::new(Troubled::new(&[]));
    let e = kv.delete("a").deadline(SECOND).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_given_back_and_for_what_was_dropped() {
    for dropped in [false, true] {
        let kv = Kv::new(Troubled::new(&[]));
        let guard = kv.new_lock("l").acquire().await.unwrap();
        let held = (!dropped).then_some(guard); // else it is dropped here, and released in the background
        kv.close().await.unwrap(); // the store's own `close` looks
        assert!(held.is_none_or(|guard| !guard.is_held()));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_gives_back_what_is_being_acquired_though_nobody_polls_it() {
    for grants in [false, true] {
        let mut store = Troubled::new(&[]);
        store.is_silent = true;
        let releases = store.releases.clone();
        let kv = Kv::new(store);
        let mut acquire = pin!(kv.new_lock("l").acquire());
        assert!(poll!(acquire.as_mut()).is_pending());
        if grants {
            tokio::task::yield_now().await;
        }
        kv.close().await.unwrap(); // the store's own `close` looks
        assert_eq!(releases.load(SeqCst), 1);
        assert_eq!(acquire.await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_at_the_news_of_the_end_does_not_overtake_it() {
    let kv = Kv::new(Troubled::new(&[]));
    let guard = kv.new_lock("l").acquire().await.unwrap();
    let registration = tokio::spawn(async move {
        guard.lost().await;
        drop(guard);
    });
    tokio::task::yield_now().await;
    kv.close().await.unwrap();
    registration.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_says_what_could_not_be_given_back() {
    let mut store = Troubled::new(&[]);
    store.refuses_release = true;
    let kv = Kv::new(store);
    let _guard = kv.new_lock("l").acquire().await.unwrap();
    let e = kv.close().await.unwrap_err();
    assert_eq!(e.to_string(), "close on troubled: the server is gone");
    assert_eq!(kv.close().await.unwrap_err().kind(), ErrorKind::Unavailable, "by every clone");
}

/// Releases that fail at once fail before `close` waits for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_says_it_of_what_fails_at_once_too() {
    for round in 0..200 {
        let kv = Kv::new(Troubled { refuses_release: true, releases_at_once: true, ..Troubled::new(&[]) });
        let mut guards = Vec::new();
        for n in 0..20 {
            guards.push(kv.new_lock(format!("l{n}")).acquire().await.unwrap());
        }
        let closed = kv.close().await.map_err(|e| e.kind());
        assert_eq!(closed, Err(ErrorKind::Unavailable), "round {round}");
    }
}

#[test]
fn a_runtime_that_ends_before_closing_has_begun_is_told() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kv = Kv::new(Troubled::new(&[]));
    let begins = runtime();
    begins.block_on(async {
        let mut closing = pin!(kv.close());
        assert!(poll!(&mut closing).is_pending());
    });
    drop(begins);
    let ended = runtime().block_on(async { tokio::time::timeout(10 * SECOND, kv.close()).await });
    let kind = ended.expect("closing ends").map_err(|e| e.kind());
    assert_eq!(kind, Err(ErrorKind::Closed));
}

#[test]
fn closing_waits_no_longer_than_its_time_for_a_runtime_that_stands_still() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Troubled::new(&[]);
    store.released.store(true, SeqCst); // nothing is ever held
    let kv = Kv::new(store).with_deadline(SECOND / 10);
    let stands_still = runtime();
    stands_still.block_on(async {
        let mut closing = pin!(kv.close());
        assert!(poll!(&mut closing).is_pending());
    });
    let ended = runtime().block_on(async { tokio::time::timeout(10 * SECOND, kv.close()).await });
    let says = "close on troubled: not all was given back within 100ms; locks and leases that are left \
                end by their TTL";
    assert_eq!(ended.expect("closing ends").unwrap_err().to_string(), says);
    stands_still.block_on(kv.close()).unwrap(); // it goes on where it began
}

#[tokio::test(start_paused = true)]
async fn a_scope_closes_on_success_and_on_failure() {
    for fails in [false, true] {
        let store = Arc::new(Troubled::new(&[]));
        let kv = Kv::new(store.clone());
        let answer: Result<u64> = kv
            .scope(|kv| async move {
                let guard = kv.new_lock("l").acquire().await?;
                if fails { Err(Error::new(ErrorKind::Other, "mine")) } else { Ok(guard.token()) }
            })
            .await;
        assert_eq!(answer.map_err(|e| e.to_string()), if fails { Err("mine".into()) } else { Ok(1) });
        assert!(store.released.load(SeqCst));
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_dropped_closes_in_the_background() {
    let store = Arc::new(Troubled::new(&[]));
    let kv = Kv::new(store.clone());
    let scope = kv.clone().scope(|kv| async move {
        let _guard = kv.new_lock("l").acquire().await?;
        std::future::pending::<Result<()>>().await
    });
    assert!(tokio::time::timeout(SECOND, scope).await.is_err());
    kv.close().await.unwrap();
}

#[test]
fn a_store_that_answers_at_once_lets_timers_fire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let kv = kv_memory::open("memory://").await.unwrap();
        let fired = tokio::spawn(tokio::time::sleep(Duration::from_millis(20)));
        while !fired.is_finished() {
            kv.get("a").await.unwrap();
        }
    });
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_polls_holds_nobody_up() {
    let store = Troubled::new(&[ErrorKind::Unavailable; 1000]);
    store.released.store(true, SeqCst); // nothing is ever held
    let kv = Kv::new(store);
    let mut acquire = Box::pin(kv.new_lock("l").acquire());
    assert!(tokio::time::timeout(SECOND, &mut acquire).await.is_err());
    kv.new_lock("m").acquire_within(SECOND).await.unwrap_err();
    let began = tokio::time::Instant::now();
    kv.close().await.unwrap();
    assert!(began.elapsed() < SECOND);
    assert_eq!(acquire.await.unwrap_err().kind(), ErrorKind::Closed);
}
