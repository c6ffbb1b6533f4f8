//! The mechanics that backends share.

use futures::{StreamExt, TryStreamExt};
use kv_core::{
    Directory, Entry, Error, ErrorKind, Key, Result, Version, WatchEvent,
    backend::{Alive, Change, Clock, Hub, Session, Sessions, Tasks, Undo, stream},
    driver::{Deadline, Page, Target},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

fn entry(name: &str, version: u64) -> Entry {
    Entry::new(Key::parse(name).unwrap(), "v", Version::new(version, 0))
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "away")
}

/// Lets the other tasks of a current-thread runtime run until all of them wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn renewals_keep_it_alive_and_stop_with_it() {
    let (clock, renewed) = (Clock::manual(), Arc::new(AtomicU32::new(0)));
    let count = renewed.clone();
    let alive = Alive::keep(&clock, 9 * SECOND, clock.now(), move || {
        count.fetch_add(1, SeqCst);
        async { Ok(()) }
    });
    for n in 1..=20 {
        settle().await;
        clock.advance(3 * SECOND);
        settle().await;
        assert!(alive.is_held());
        assert_eq!(renewed.load(SeqCst), n, "one renewal a third of the TTL");
    }
    let lost = alive.lost();
    drop(alive);
    settle().await;
    clock.advance(60 * SECOND);
    settle().await;
    assert_eq!(renewed.load(SeqCst), 20, "waiting for the loss must not keep it alive");
    assert_eq!(lost.await.kind(), ErrorKind::LockLost);
}

#[tokio::test]
async fn one_failed_renewal_is_no_loss() {
    let (clock, tried) = (Clock::manual(), Arc::new(AtomicU32::new(0)));
    let count = tried.clone();
    let alive = Alive::keep(&clock, 9 * SECOND, clock.now(), move || {
        let first = count.fetch_add(1, SeqCst) < 3;
        async move { if first { Err(unavailable()) } else { Ok(()) } }
    });
    for _ in 0..200 {
        settle().await;
        clock.advance(SECOND / 10);
        assert!(alive.is_held());
    }
    assert!(tried.load(SeqCst) >= 5, "retried soon, then renewed by thirds: {tried:?}");
}

#[tokio::test]
async fn a_renewal_that_hangs_leaves_time_for_another() {
    let (clock, tried) = (Clock::manual(), Arc::new(AtomicU32::new(0)));
    let count = tried.clone();
    let alive = Alive::keep(&clock, 8 * SECOND, clock.now(), move || {
        let hangs = count.fetch_add(1, SeqCst) == 0;
        async move { if hangs { std::future::pending().await } else { Ok(()) } }
    });
    for _ in 0..300 {
        settle().await;
        clock.advance(SECOND / 10);
        assert!(alive.is_held());
    }
}

#[tokio::test]
async fn it_is_over_a_tenth_before_its_ttl() {
    let clock = Clock::manual();
    let alive = Alive::keep(&clock, 10 * SECOND, clock.now(), || async { Err(unavailable()) });
    clock.advance(9 * SECOND - SECOND / 1000);
    assert!(alive.is_held());
    clock.advance(SECOND / 1000);
    assert!(!alive.is_held(), "by the clock alone, before any task ran");
    assert!(alive.lost().await.to_string().contains("not renewed"));
}

#[tokio::test]
async fn the_servers_word_ends_it_at_once() {
    let clock = Clock::manual();
    let alive = Alive::keep(&clock, 9 * SECOND, clock.now(), || async {
        Err(Error::new(ErrorKind::LockLost, "an administrator ended the session"))
    });
    settle().await;
    clock.advance(3 * SECOND);
    assert!(alive.lost().await.to_string().contains("administrator"));
    assert!(!alive.is_held());
}

#[tokio::test]
async fn lives_on_one_session_end_alone_or_together() {
    let clock = Clock::manual();
    let session = Alive::keep(&clock, 9 * SECOND, clock.now(), || async { Err(unavailable()) });
    let (one, two) = (session.another(), session.another());
    one.end("its node was deleted");
    one.end("said twice");
    assert!(!one.is_held() && two.is_held() && session.is_held());
    assert!(one.lost().await.to_string().contains("its node was deleted"));
    clock.advance(9 * SECOND);
    assert!(!two.is_held());
    assert!(two.lost().await.to_string().contains("not renewed"));
}

#[tokio::test]
async fn the_loss_is_known_in_real_time() {
    let clock = Clock::system();
    let (ttl, began) = (SECOND, clock.now());
    let alive = Alive::keep(&clock, ttl, began, std::future::pending);
    alive.lost().await;
    let after = clock.now().since(began);
    assert!(after >= ttl * 9 / 10 && after < ttl * 9 / 10 + SECOND / 4, "{after:?}");
}

#[tokio::test]
async fn an_undo_happens_once() {
    let done = Arc::new(AtomicU32::new(0));
    let undo = |done: &Arc<AtomicU32>| {
        let done = done.clone();
        Undo::new(async move {
            done.fetch_add(1, SeqCst);
            Ok(true)
        })
    };
    assert!(undo(&done).run().await.unwrap());
    assert_eq!(done.load(SeqCst), 1);
    drop(undo(&done));
    settle().await;
    assert_eq!(done.load(SeqCst), 2);
    undo(&done).forget();
    settle().await;
    assert_eq!(done.load(SeqCst), 2);
    assert!(!Undo::nothing().run().await.unwrap());
}

#[tokio::test]
async fn an_undo_goes_on_without_its_caller() {
    let ((go, gate), (told, seen)) = (oneshot::channel::<()>(), oneshot::channel());
    let undo = Undo::new(async move {
        let _ = gate.await;
        Ok(told.send(()).is_ok())
    });
    let waiting = Deadline::after(Duration::from_millis(1)).limit(undo.run()).await;
    assert!(waiting.is_none());
    go.send(()).unwrap();
    seen.await.expect("it went on");
}

#[test]
fn an_undo_outside_of_a_runtime_does_not_panic() {
    drop(Undo::new(async { Ok(true) }));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let undo = runtime.block_on(async { Undo::new(async { Ok(true) }) });
    drop(runtime);
    drop(undo);
}

#[tokio::test]
async fn a_stream_runs_only_while_it_is_read() {
    let sent = Arc::new(AtomicU32::new(0));
    let count = sent.clone();
    let mut numbers = stream(|out| async move {
        for n in 0..10 {
            count.fetch_add(1, SeqCst);
            out.send(n).await;
        }
        Err(unavailable())
    });
    assert_eq!(numbers.next().await.unwrap().unwrap(), 0);
    settle().await;
    assert_eq!(sent.load(SeqCst), 1, "nothing ahead of the reader");
    let rest: Result<Vec<i32>> = numbers.by_ref().try_collect().await;
    assert_eq!(rest.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(numbers.next().await.is_none());
}

#[tokio::test]
async fn a_change_reaches_its_watchers_and_nobody_else() {
    let hub = Hub::new();
    let targets = [
        Target::Key(Key::parse("app/a").unwrap()),
        Target::Tree(Directory::parse("app").unwrap()),
        Target::Tree(Directory::root()),
        Target::Tree(Directory::parse("app/a").unwrap()),
        Target::Tree(Directory::parse("ap").unwrap()),
        Target::Key(Key::parse("app").unwrap()),
        Target::Holder(Key::parse("app/a").unwrap()),
    ];
    let mut subscriptions: Vec<_> = targets.iter().map(|t| hub.subscribe(t)).collect();
    assert_eq!(hub.subscribers(), 7);
    hub.publish(&WatchEvent::Put(entry("app/a", 1)));
    for (n, subscription) in subscriptions.iter_mut().enumerate() {
        let got = Deadline::after(Duration::from_millis(1)).limit(subscription.next()).await;
        assert_eq!(got.is_some(), n < 3, "{:?}", targets[n]);
    }
    hub.publish_holder(&WatchEvent::Put(entry("app/a", 2)));
    assert!(matches!(subscriptions[6].next().await, Change::Event(_)));
    drop(subscriptions);
    assert_eq!(hub.subscribers(), 0);
}

#[tokio::test]
async fn what_was_missed_of_one_key_is_read_again_by_its_watchers_and_nobody_else() {
    let hub = Hub::new();
    let key = |name: &str| Key::parse(name).unwrap();
    let tree = |name: &str| Target::Tree(Directory::parse(name).unwrap());
    let targets = [
        Target::Key(key("app/a")),
        tree("app"),
        tree(""),
        Target::Holder(key("app/a")),
        tree("app/a"),
        tree("ap"),
        Target::Key(key("app")),
        Target::Holder(key("app")),
    ];
    let mut subscriptions: Vec<_> = targets.iter().map(|target| hub.subscribe(target)).collect();
    for of_holder in [false, true] {
        match of_holder {
            true => hub.missed_holder(&key("app/a")),
            false => hub.missed_key(&key("app/a")),
        }
        for (n, subscription) in subscriptions.iter_mut().enumerate() {
            let got = Deadline::after(Duration::from_millis(1)).limit(subscription.next()).await;
            let is_its = if of_holder { n == 3 } else { n < 3 };
            assert_eq!(got, is_its.then_some(Change::Missed), "{:?}", targets[n]);
        }
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_what_differs() {
    let hub = Hub::new();
    let tree = Target::Tree(Directory::root());
    let state = Arc::new(AtomicU32::new(1));
    let read = state.clone();
    let mut watch = hub.watch("model", &tree, move |_| {
        let now = entry("a", read.load(SeqCst).into());
        async move { Ok(Page { items: vec![kv_core::Item::Entry(now)], next: None }) }
    });
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Put(entry("a", 1)));
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Synced);
    for n in 2..10_000 {
        state.store(n, SeqCst);
        hub.publish(&WatchEvent::Put(entry("a", n.into())));
    }
    let mut last = 0;
    while last < 9_999 {
        if let WatchEvent::Put(e) = watch.next().await.unwrap().unwrap() {
            assert!(e.version.parts().0 > last, "versions only go up");
            last = e.version.parts().0;
        }
    }
}

#[tokio::test]
async fn who_watches_a_source_that_was_cut_is_told_what_differs() {
    let hub = Hub::new();
    let there = Arc::new(Mutex::new(vec![entry("a", 1), entry("b", 1)]));
    let read = there.clone();
    let mut watch = hub.watch("model", &Target::Tree(Directory::root()), move |_| {
        let items = read.lock().unwrap().iter().cloned().map(kv_core::Item::Entry).collect();
        async move { Ok(Page { items, next: None }) }
    });
    for _ in 0..2 {
        assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Put(_)));
    }
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Synced);
    *there.lock().unwrap() = vec![entry("b", 1), entry("c", 2)];
    hub.missed();
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Put(entry("c", 2)));
    let gone = WatchEvent::Delete { key: "a".parse().unwrap(), version: Version::new(1, 0) };
    assert_eq!(watch.next().await.unwrap().unwrap(), gone);
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Synced);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_polls_first() {
    let passed = Deadline::after(Duration::ZERO);
    assert!(passed.has_passed());
    assert_eq!(passed.limit(async { 7 }).await, Some(7), "what is there at once is no late answer");
    assert_eq!(passed.limit(std::future::pending::<()>()).await, None);
    assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
    assert_eq!(Deadline::NEVER.remaining(), Duration::MAX);
    assert_eq!(Deadline::default().within(), Deadline::DEFAULT);
}

/// Makes something on a runtime that ends then, and returns it.
fn elsewhere<T>(make: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(make)
}

#[test]
fn a_life_whose_runtime_has_ended_is_over_by_every_word() {
    let clock = Clock::manual();
    let alive = elsewhere(async { Alive::keep(&clock, 9 * SECOND, clock.now(), || async { Ok(()) }) });
    assert!(!alive.is_held() && alive.remaining().is_zero());
    let lost = elsewhere(alive.lost());
    assert!(lost.to_string().contains("the runtime that renewed it has ended"), "{lost}");
}

#[test]
fn a_session_whose_runtime_has_ended_is_not_shared() {
    let (clock, granted) = (Clock::manual(), AtomicU32::new(0));
    let sessions = Sessions::new(clock.clone());
    let grant = || async {
        let session = granted.fetch_add(1, SeqCst);
        let alive = Alive::keep(&clock, 9 * SECOND, clock.now(), || async { Ok(()) });
        Ok(Session { session, alive, end: Undo::nothing() })
    };
    let first = elsewhere(async { sessions.get(9 * SECOND, grant).await.unwrap() });
    assert_eq!(*first.session(), 0);
    elsewhere(async {
        let second = sessions.get(9 * SECOND, grant).await.unwrap();
        assert!(*second.session() == 1 && second.alive().is_held() && !first.alive().is_held());
    });
}

#[tokio::test]
async fn a_session_whose_last_user_goes_outside_a_runtime_ends() {
    let (clock, ended) = (Clock::manual(), Arc::new(AtomicU32::new(0)));
    let sessions = Sessions::new(clock.clone());
    let grant = || async {
        let (alive, ended) =
            (Alive::keep(&clock, 8 * SECOND, clock.now(), || async { Ok(()) }), ended.clone());
        let end = Undo::new(async move {
            ended.fetch_add(1, SeqCst);
            Ok(true)
        });
        Ok(Session { session: (), alive, end })
    };
    let used = sessions.get(8 * SECOND, grant).await.unwrap();
    std::thread::spawn(move || drop(used)).join().unwrap();
    settle().await;
    assert_eq!(ended.load(SeqCst), 0, "who locks again soon needs no new one");
    clock.advance(2 * SECOND);
    settle().await;
    assert_eq!(ended.load(SeqCst), 1);
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_is_told_where_something_hangs_on_it() {
    let clock = Clock::manual();
    let grant = || async {
        let alive = Alive::keep(&clock, 9 * SECOND, clock.now(), || async { Ok(()) });
        let end = Undo::new(async { Err(unavailable()) });
        Ok(Session { session: (), alive, end })
    };
    let sessions = Sessions::new(clock.clone());
    let used = sessions.get(9 * SECOND, grant).await.unwrap();
    assert_eq!(sessions.end().await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(used);
    let sessions = Sessions::new(clock.clone());
    drop(sessions.get(9 * SECOND, grant).await.unwrap());
    sessions.end().await.unwrap();
}

#[test]
fn an_undo_whose_runtime_has_ended_happens_in_another() {
    let done = Arc::new(AtomicU32::new(0));
    let undo = || {
        let done = done.clone();
        async move {
            done.fetch_add(1, SeqCst);
            Ok(true)
        }
    };
    let (run, dropped) = elsewhere(async { (Undo::new(undo()), Undo::new(undo())) });
    elsewhere(async {
        assert!(run.run().await.unwrap());
        drop(dropped);
        settle().await;
    });
    assert_eq!(done.load(SeqCst), 2);
}

#[tokio::test]
async fn who_closes_waits_for_what_drops_began() {
    let tasks = Tasks::default();
    let (go, gate) = oneshot::channel::<()>();
    drop(tasks.undo(async move { Ok(gate.await.is_ok()) }));
    assert!(Deadline::after(SECOND / 100).limit(tasks.finish()).await.is_none(), "it still runs");
    go.send(()).unwrap();
    tasks.finish().await.unwrap();
    tasks.spawn(async { Err::<(), _>(unavailable()) });
    assert_eq!(tasks.finish().await.unwrap_err().kind(), ErrorKind::Unavailable);
    tasks.finish().await.unwrap();
}
