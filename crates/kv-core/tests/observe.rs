//! Observers: what they are told of calls, attempts, renewals, watches and losses.

mod common;

use common::Silent;
use kv_core::{
    Bytes, Capabilities, Directory, Entry, Error, ErrorKind, Key, Kv, Result, WatchEvent, Written,
    backend::{
        Clock,
        retry::{Effect, RequestError, RetrySafety, Servers},
    },
    driver::{
        Cursor, Expect, ListOptions, Page, PutOptions, ReadOptions, Store, Target, WatchOptions, WatchStream,
        WriteOptions, async_trait,
    },
    observe::{Attempt, Call, End, Lag, Loss, Observer, Renewal},
};
use kv_memory::{Config, Faults};
use std::{
    future::IntoFuture,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

const SECOND: Duration = Duration::from_secs(1);

/// Writes down what it is told, a line each.
struct Told(UnboundedSender<String>);

impl Told {
    fn tell(&self, line: String) {
        // The test may have ended.
        let _ = self.0.send(line);
    }
}

fn ended(error: Option<&Error>) -> &'static str {
    error.map_or("ok", |error| error.kind().as_str())
}

impl Observer for Told {
    fn call_began(&self, call: &Call<'_>) {
        self.tell(format!("{} {}", call.operation, call.key.unwrap_or("-")));
    }
    fn call_ended(&self, call: &Call<'_>, end: End<'_>, _: Duration) {
        let end = match end {
            End::Answered => "ok",
            End::Failed(error) => error.kind().as_str(),
            End::Dropped => "dropped",
        };
        self.tell(format!("{}: {end}", call.operation));
    }
    fn attempted(&self, attempt: &Attempt<'_>) {
        let Attempt { operation, number, error, .. } = attempt;
        self.tell(format!("{operation} attempt {number}: {}", ended(*error)));
    }
    fn renewed(&self, renewal: &Renewal<'_>) {
        let Renewal { operation, ttl, slack, error, .. } = renewal;
        self.tell(format!("{operation} of {ttl:?} renewed with {slack:?} left: {}", ended(*error)));
    }
    fn resynced(&self, watch: &Call<'_>) {
        self.tell(format!("{} {} again", watch.operation, watch.key.unwrap_or("-")));
    }
    fn lost(&self, loss: &Loss<'_>) {
        let Loss { operation, lock, error, cause, .. } = loss;
        self.tell(format!("{operation} {} lost: {}, {}", lock.unwrap_or("-"), error.kind(), cause.as_str()));
    }
}

fn observed(kv: Kv) -> (Kv, UnboundedReceiver<String>) {
    let (tell, told) = unbounded_channel();
    (kv.with_observer(Told(tell)), told)
}

fn lines(told: &mut UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

async fn next(told: &mut UnboundedReceiver<String>) -> String {
    timeout(5 * SECOND, told.recv()).await.expect("it is told soon").expect("the observer lives")
}

#[tokio::test]
async fn calls_are_told_by_operation_key_and_end() {
    let plain = kv_memory::open("memory://").await.unwrap();
    let (kv, mut told) = observed(plain.clone());
    kv.put("a", "1").if_missing().await.unwrap();
    assert_eq!(lines(&mut told), ["put a", "put: ok"]);
    kv.put("a", "1").if_missing().await.unwrap_err();
    assert_eq!(lines(&mut told), ["put a", "put: key_exists"]);
    kv.within("d").unwrap().get("x").await.unwrap();
    assert_eq!(lines(&mut told), ["get x", "get: ok"], "the name in the part");
    kv.get_many(["a", "b"]).await.unwrap();
    assert_eq!(lines(&mut told), ["get_many -", "get_many: ok"]);
    kv.list("d").await.unwrap();
    assert_eq!(lines(&mut told), ["list d", "list: ok"]);
    kv.update("n", |_| Ok("1")).await.unwrap();
    assert_eq!(lines(&mut told), ["update n", "update: ok", "update n", "update: ok"], "its read and write");
    kv.get("..").await.unwrap_err();
    plain.get("a").await.unwrap();
    assert_eq!(lines(&mut told), [""; 0], "what never began, and what another handle does");
    drop(kv.get("a"));
    assert_eq!(lines(&mut told), [""; 0], "nor does a call that is not awaited");
}

#[tokio::test]
async fn calls_that_are_cut_off_and_dropped_have_an_end() {
    let (kv, mut told) = observed(Kv::new(Silent::able()));
    let moment = SECOND / 100;
    kv.get("a").deadline(moment).await.unwrap_err();
    assert_eq!(lines(&mut told), ["get a", "get: timeout"]);
    timeout(moment, kv.put("a", "").into_future()).await.unwrap_err();
    assert_eq!(lines(&mut told), ["put a", "put: dropped"]);
}

#[tokio::test]
async fn what_is_given_back_is_not_lost() {
    let (kv, mut told) = observed(kv_memory::open("memory://").await.unwrap());
    let guard = kv.new_lock("l").acquire().await.unwrap();
    assert_eq!(lines(&mut told), ["acquire l", "acquire: ok"]);
    assert!(guard.release().await.unwrap());
    assert_eq!(lines(&mut told), ["release l", "release: ok"]);
    let lease = kv.lease(60 * SECOND).await.unwrap();
    assert!(lease.revoke().await.unwrap());
    assert_eq!(lines(&mut told), ["lease -", "lease: ok", "revoke -", "revoke: ok"]);
    drop(kv.new_lock("l").acquire().await.unwrap());
    let held = (kv.new_lock("l").acquire().await.unwrap(), kv.lease(60 * SECOND).await.unwrap());
    lines(&mut told);
    kv.close().await.unwrap();
    assert!(!held.0.is_held() && !held.1.is_held());
    drop(held);
    assert_eq!(lines(&mut told), ["close -", "close: ok"]);
    kv.get("a").await.unwrap_err();
    assert_eq!(lines(&mut told), ["get a", "get: closed"]);
}

#[tokio::test]
async fn a_loss_is_told_once_however_it_is_heard_of() {
    let (kv, mut told) = observed(kv_memory::open("memory://").await.unwrap());
    let faults = Faults::of(&kv).unwrap();
    let (kept, dropped) =
        (kv.new_lock("kept").acquire().await.unwrap(), kv.new_lock("dropped").acquire().await.unwrap());
    let lease = kv.lease(60 * SECOND).await.unwrap();
    lines(&mut told);
    assert!(faults.evict_lock("kept").unwrap());
    assert_eq!(next(&mut told).await, "lock kept lost: lock_lost, ended_there");
    drop(kept);
    assert!(faults.evict_lock("dropped").unwrap());
    drop(dropped); // before any task has heard of it
    assert_eq!(next(&mut told).await, "lock dropped lost: lock_lost, ended_there");
    assert!(faults.evict_lease(lease.id()));
    assert_eq!(next(&mut told).await, "lease - lost: lease_lost, ended_there");
    assert!(!lease.revoke().await.unwrap());
    assert_eq!(lines(&mut told), ["revoke -", "revoke: ok"]);
    tokio::task::yield_now().await;
    assert_eq!(lines(&mut told), [""; 0]);
}

#[tokio::test]
async fn a_loss_by_time_is_told_with_its_cause() {
    let clock = Clock::manual();
    let opened = Config::new().clock(clock.clone()).open().await.unwrap();
    let (kv, mut told) = observed(opened);
    let (guard, lease) =
        (kv.new_lock("l").ttl(9 * SECOND).acquire().await.unwrap(), kv.lease(9 * SECOND).await.unwrap());
    lines(&mut told);
    clock.advance(20 * SECOND); // as where the machine was suspended
    let mut lost = [next(&mut told).await, next(&mut told).await];
    lost.sort();
    assert_eq!(lost, ["lease - lost: lease_lost, stood_still", "lock l lost: lock_lost, stood_still"]);
    drop((guard, lease));
}

#[tokio::test(start_paused = true)]
async fn a_loss_by_renewals_that_failed_is_told_with_its_cause() {
    let opened = Config::new().clock(Clock::tokio()).open().await.unwrap();
    let faults = Faults::of(&opened).unwrap();
    let (kv, mut told) = observed(opened);
    let guard = kv.new_lock("l").ttl(9 * SECOND).acquire().await.unwrap();
    faults.pause();
    guard.lost().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(lines(&mut told).pop().unwrap(), "lock l lost: lock_lost, renewals_failed");
}

#[test]
fn a_loss_by_the_end_of_a_runtime_is_told_with_its_cause() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stays, ends) = (runtime(), runtime());
    let (kv, mut told) = observed(stays.block_on(kv_memory::open("memory://")).unwrap());
    let guard = ends.block_on(kv.new_lock("l").acquire()).unwrap();
    drop(ends);
    lines(&mut told);
    stays.block_on(async { drop(guard) });
    assert_eq!(lines(&mut told), ["lock l lost: lock_lost, runtime_ended"]);
}

#[tokio::test]
async fn renewals_are_told_with_the_time_that_was_left() {
    let clock = Clock::manual();
    let opened = Config::new().clock(clock.clone()).open().await.unwrap();
    let (kv, mut told) = observed(opened);
    let guard = kv.new_lock("l").ttl(9 * SECOND).acquire().await.unwrap();
    assert_eq!(lines(&mut told), ["acquire l", "acquire: ok"]);
    clock.advance(3 * SECOND);
    assert_eq!(next(&mut told).await, "acquire of 9s renewed with 5.1s left: ok");
    clock.advance(4 * SECOND); // a second late
    assert_eq!(next(&mut told).await, "acquire of 9s renewed with 4.1s left: ok");
    assert!(guard.is_held());
}

#[tokio::test]
async fn a_watch_that_reads_everything_again_is_told() {
    let (kv, mut told) = observed(kv_memory::open("memory://").await.unwrap());
    let mut watch = kv.watch_tree("d").await.unwrap();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    assert_eq!(lines(&mut told), ["watch_tree d", "watch_tree: ok"]);
    Faults::of(&kv).unwrap().cut_watches();
    assert_eq!(watch.event().await.unwrap(), WatchEvent::Synced);
    assert_eq!(lines(&mut told), ["watch_tree d again"]);
}

/// A store whose first attempt at a read fails.
#[derive(Debug)]
struct Flaky {
    capabilities: Capabilities,
    servers: Servers<()>,
    tries: AtomicU32,
}

#[async_trait]
impl Store for Flaky {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn get(&self, _: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let attempt = |_| {
            let is_first = self.tries.fetch_add(1, SeqCst) == 0;
            async move {
                if is_first {
                    let error = Error::new(ErrorKind::Unavailable, "no connection");
                    return Err(RequestError::new(Effect::None, error));
                }
                Ok(None)
            }
        };
        Ok(self.servers.run(RetrySafety::Read, options.deadline, attempt).await?.answer)
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
}

#[tokio::test(start_paused = true)]
async fn attempts_are_told_with_their_call() {
    let (capabilities, servers) = (Capabilities::new("flaky"), Servers::one(()));
    let (kv, mut told) = observed(Kv::new(Flaky { capabilities, servers, tries: AtomicU32::new(0) }));
    assert_eq!(kv.get("a").await.unwrap(), None);
    assert_eq!(lines(&mut told), ["get a", "get attempt 1: unavailable", "get attempt 2: ok", "get: ok"]);
}

/// Tells how long changes have waited.
struct Waits(UnboundedSender<Duration>);

impl Observer for Waits {
    fn lagged(&self, lag: &Lag) {
        // The test may have ended.
        let _ = self.0.send(lag.waited);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_waits_for_its_reader_is_told_with_its_wait() {
    let (tell, mut waits) = unbounded_channel();
    let plain = kv_memory::open("memory://").await.unwrap();
    let mut watch = plain.clone().with_observer(Waits(tell)).watch_tree("d").await.unwrap();
    while watch.event().await.unwrap() != WatchEvent::Synced {}
    assert!(timeout(SECOND, watch.event()).await.is_err(), "nothing has changed");
    plain.put("d/a", "1").await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    watch.event().await.unwrap();
    assert_eq!(waits.recv().await.unwrap().as_secs(), 3);
}
