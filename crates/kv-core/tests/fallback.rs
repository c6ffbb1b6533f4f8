//! The lock made of put-if-missing, TTL and watch, on a store that has locks of its own and does
//! not use them here.

use futures::FutureExt;
use kv_core::{
    backend::{Clock, Tasks, fallback},
    driver::*,
    *,
};
use kv_memory::{Config, Memory};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// A store as a minimal backend has it: its own locks are not there. Its time is the runtime's, which
/// stands still in most tests, and jumps to the next timer when nobody has anything to do.
#[derive(Clone, Debug)]
struct Minimal {
    inner: Memory,
    clock: Clock,
    tasks: Tasks,
    /// The time that each call takes before it does anything, and takes again behind it.
    slow: Duration,
    capabilities: Arc<Capabilities>,
}

impl Minimal {
    fn new() -> Self {
        let clock = Clock::tokio();
        let inner = Config::new().clock(clock.clone()).build().now_or_never();
        let inner = inner.expect("it does not wait").expect("a store of its own");
        let mut capabilities = inner.capabilities().clone();
        if let Some(locking) = &mut capabilities.lock {
            (locking.fair, locking.fenced_writes) = (false, false);
        }
        let (tasks, slow) = (Tasks::default(), Duration::ZERO);
        Self { inner, clock, tasks, slow, capabilities: Arc::new(capabilities) }
    }

    /// Makes the call, as far away as a server.
    async fn away<T>(&self, call: impl Future<Output = T>) -> T {
        if self.slow.is_zero() {
            return call.await;
        }
        tokio::time::sleep(self.slow).await;
        let answer = call.await;
        tokio::time::sleep(self.slow).await;
        answer
    }
}

#[async_trait]
impl Store for Minimal {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn get(&self, key: &Key, o: &ReadOptions) -> Result<Option<Entry>> {
        self.away(self.inner.get(key, o)).await
    }
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, o: &PutOptions) -> Result<Written> {
        self.away(self.inner.put(key, value, expect, o)).await
    }
    async fn delete(&self, key: &Key, expect: Expect, o: &WriteOptions) -> Result<bool> {
        self.away(self.inner.delete(key, expect, o)).await
    }
    async fn list(&self, dir: &Directory, from: Option<&Cursor>, o: &ListOptions) -> Result<Page> {
        self.inner.list(dir, from, o).await
    }
    async fn watch(&self, target: &Target, o: &WatchOptions) -> Result<WatchStream> {
        match target {
            Target::Holder(name) => fallback::watch_holder(self, name, o).await,
            _ => self.inner.watch(target, o).await,
        }
    }
    async fn lock(&self, name: &Key, o: &LockOptions) -> Result<Option<Acquired>> {
        fallback::lock(self, &self.clock, &self.tasks, name, o).await
    }
    async fn lock_holder(&self, name: &Key, o: &ReadOptions) -> Result<Option<Holder>> {
        fallback::lock_holder(self, name, o).await
    }
    async fn set_holder(&self, _: &Key, fence: &Fence, value: Bytes, o: &WriteOptions) -> Result<bool> {
        fallback::set_holder(self, fence, value, o).await
    }
    async fn break_lock(&self, name: &Key, token: u64, o: &WriteOptions) -> Result<bool> {
        fallback::break_lock(self, name, token, o).await
    }
    async fn close(&self) -> Result<()> {
        self.tasks.finish().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_holder_at_a_time_with_growing_tokens() {
    let kv = Kv::new(Minimal::new());
    let (inside, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let contend = |n: u64| {
        let (kv, inside, last) = (kv.clone(), inside.clone(), last.clone());
        async move {
            let guard = kv.new_lock("l").value(n.to_string()).acquire().await.unwrap();
            assert_eq!(inside.fetch_add(1, SeqCst), 0, "two hold it");
            assert!(last.swap(guard.token(), SeqCst) < guard.token(), "a token that did not grow");
            tokio::task::yield_now().await;
            let holder = kv.lock_holder("l").await.unwrap().unwrap();
            assert_eq!((holder.token, holder.value), (guard.token(), n.to_string().into()));
            inside.fetch_sub(1, SeqCst);
            assert!(guard.release().await.unwrap());
        }
    };
    let all: Vec<_> = (0..32).map(|n| tokio::spawn(contend(n))).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(last.load(SeqCst), 32);
    assert!(kv.lock_holder("l").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn it_is_kept_alive_and_freed_when_its_holder_is_gone() {
    let ttl = Duration::from_millis(600);
    let kv = Kv::new(Minimal::new());
    let guard = kv.new_lock("l").ttl(ttl).acquire().await.unwrap();
    assert!(kv.new_lock("l").try_acquire().await.unwrap().is_none());
    assert!(kv.new_lock("l").acquire_within(3 * ttl).await.unwrap().is_none(), "held over three TTLs");
    assert!(guard.is_held());
    // Another tool ends it.
    let key = Key::internal("lock", &Key::parse("l").unwrap());
    kv.store().as_ref().delete(&key, Expect::Anything, &WriteOptions::default()).await.unwrap();
    let next = kv.new_lock("l").acquire().await.unwrap();
    assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    assert!(!guard.release().await.unwrap(), "what another holds is not released");
    assert!(next.is_held());
}

#[tokio::test]
async fn a_dropped_wait_leaves_nothing() {
    let kv = Kv::new(Minimal::new());
    for polls in 0..40 {
        let mut acquire = Box::pin(kv.new_lock("l").acquire());
        let mut got = None;
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(acquire.as_mut().poll(cx))).await;
            if let std::task::Poll::Ready(guard) = polled {
                got = Some(guard.unwrap());
                break;
            }
        }
        drop((acquire, got));
        let free = kv.new_lock("l").acquire_within(Duration::from_secs(5)).await.unwrap();
        free.expect("free again").release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_holder_is_watched_without_its_renewals() {
    let kv = Kv::new(Minimal::new());
    let mut watch = kv.lock_holder("l").watch().await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    let guard = kv.new_lock("l").ttl(Duration::from_millis(300)).value("me").acquire().await.unwrap();
    let (name, version) = (Key::parse("l").unwrap(), Version::new(guard.token(), 0));
    let entry = Entry::new(name.clone(), "me", version);
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Put(entry));
    tokio::time::sleep(Duration::from_millis(700)).await;
    guard.release().await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Delete { key: name, version });
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_changed_outlives_renewals() {
    let kv = Kv::new(Minimal::new());
    let mut watch = kv.lock_holder("l").watch().await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    let guard = kv.new_lock("l").ttl(Duration::from_millis(300)).value("first").acquire().await.unwrap();
    guard.set_value("second").await.unwrap();
    guard.set_value("second").await.unwrap();
    let name = Key::parse("l").unwrap();
    for (changes, value) in [(0, "first"), (1, "second"), (2, "second")] {
        let entry = Entry::new(name.clone(), value, Version::new(guard.token(), changes));
        assert_eq!(watch.event().await.unwrap(), WatchEvent::Put(entry));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let holder = kv.lock_holder("l").await.unwrap().unwrap();
    assert_eq!((holder.value, holder.changes), ("second".into(), 2));
    let fence = guard.fence().clone();
    assert!(guard.release().await.unwrap());
    let next = kv.new_lock("l").value("next").acquire().await.unwrap();
    let late = kv
        .store()
        .as_ref()
        .set_holder(&Key::parse("l").unwrap(), &fence, "late".into(), &WriteOptions::default())
        .await;
    assert!(!late.unwrap(), "another holds it");
    let holder = kv.lock_holder("l").await.unwrap().unwrap();
    assert_eq!((holder.value, holder.token), ("next".into(), next.token()));
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_is_ended_by_its_token_alone() {
    let kv = Kv::new(Minimal::new());
    let guard = kv.new_lock("l").ttl(Duration::from_millis(300)).acquire().await.unwrap();
    let first = guard.token();
    assert!(!kv.break_lock("l").token(first + 1).await.unwrap());
    assert!(guard.is_held());
    // A renewal may come between at any time.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(kv.break_lock("l").token(first).await.unwrap());
    assert!(kv.lock_holder("l").await.unwrap().is_none());
    assert!(!kv.break_lock("l").token(first).await.unwrap());
    let next = kv.new_lock("l").acquire().await.unwrap();
    assert!(!kv.break_lock("l").token(first).await.unwrap());
    assert_eq!(guard.lost().await.kind(), ErrorKind::LockLost);
    assert!(next.is_held() && next.release().await.unwrap());
    let e = kv.break_lock("l").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

/// A renewal is under way whenever the lock is released: at a third of the TTL, and as long as
/// four calls take.
#[tokio::test(start_paused = true)]
async fn a_release_that_meets_a_renewal_releases() {
    let slow = Duration::from_millis(30);
    let kv = Kv::new(Minimal { slow, ..Minimal::new() });
    for part in 0..6 {
        let guard = kv.new_lock("l").ttl(Duration::from_millis(900)).acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(150) + slow * part).await;
        assert!(guard.release().await.unwrap(), "{part}");
        assert!(kv.lock_holder("l").await.unwrap().is_none(), "{part}: released, and held");
    }
}

#[tokio::test(start_paused = true)]
async fn it_lives_for_what_was_granted() {
    let mut minimal = Minimal::new();
    let mut capabilities = (*minimal.capabilities).clone();
    let range = TtlRange::new(Duration::from_secs(1), Duration::from_secs(100));
    (capabilities.ttl, capabilities.lock) = (Some(range.clone()), Some(Locking::new(range)));
    (minimal.capabilities, minimal.slow) = (Arc::new(capabilities), Duration::from_millis(60));
    let kv = Kv::new(minimal);
    let guard =
        kv.new_lock("l").ttl(Duration::from_millis(100)).acquire_within(Duration::from_secs(10)).await;
    let guard = guard.unwrap().expect("a lock that nobody holds");
    assert!(guard.remaining() > Duration::from_millis(200), "{:?}", guard.remaining());
}

/// The request of the acquisition is under way when nobody waits for it any more, and nothing of
/// it is left when the handle is closed.
#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_dropped_is_not_overtaken_by_its_undoing() {
    let minimal = Minimal { slow: Duration::from_millis(40), ..Minimal::new() };
    let there = Kv::new(Minimal { slow: Duration::ZERO, ..minimal.clone() });
    for part in 1..14 {
        let kv = Kv::new(Minimal { tasks: Tasks::default(), ..minimal.clone() });
        let given_up = Duration::from_millis(15) * part;
        assert!(tokio::time::timeout(given_up, kv.new_lock("l").acquire()).await.is_err(), "{part}");
        kv.close().await.unwrap();
        let key = Key::internal("lock", &Key::parse("l").unwrap());
        let left = there.store().as_ref().get(&key, &ReadOptions::default()).await.unwrap();
        assert!(left.is_none(), "{part}: {left:?}");
    }
}
