//! The loop that sends requests: what the table of its rules does not say.

mod table;

use futures::future::join_all;
use kv_core::backend::retry::RetrySafety::{self, Read, Repeatable, Write};
use kv_core::backend::retry::{Attempt, Effect, RequestError, Servers, before, outcome_unknown};
use kv_core::backend::{Backoff, Mutex, catch_up, unique};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, advance, sleep};

const MS: Duration = Duration::from_millis(1);
/// More attempts than any call makes in the times that it is given here.
const MANY: usize = 500;

fn failed(effect: Effect) -> RequestError {
    RequestError::new(effect, Error::new(ErrorKind::Unavailable, "a:1: as the test wants it"))
}

/// Polls the work once.
async fn begin<F: Future>(mut work: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn no_call_overruns_its_deadline_whatever_its_attempts_do() {
    let servers = Servers::new(0..3).unwrap();
    for safety in [Read, Repeatable, Write] {
        for effect in [Effect::None, Effect::RefusedHere, Effect::Unknown] {
            for takes in [0, 1, 7, 60, 1000, u64::MAX] {
                for within in [0, 1, 2, 5, 20, 50, 51, 100, 333, 1000, 5000].map(Duration::from_millis) {
                    let (deadline, began) = (Deadline::after(within), Instant::now());
                    let mut attempts = 0;
                    let run = servers.run(safety, deadline, |_| {
                        attempts += 1;
                        assert!(attempts < MANY, "no end: {within:?} {safety:?} {effect:?} {takes}");
                        async move {
                            sleep(Duration::from_millis(takes)).await;
                            Err::<(), _>(failed(effect))
                        }
                    });
                    let kind = run.await.unwrap_err().kind();
                    // The timer counts milliseconds, and rounds up.
                    let took = began.elapsed();
                    assert!(took <= within.max(MS), "{took:?} of {within:?}: {safety:?} {effect:?} {takes}");
                    let is_known = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
                    assert!(is_known || kind == ErrorKind::OutcomeUnknown, "{kind}");
                    assert!(safety != Read || is_known, "a read, {kind}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_until_its_time_is_nearly_over() {
    let (servers, within) = (Servers::one(()), Duration::from_secs(2));
    let (began, mut last, mut attempts) = (Instant::now(), Duration::ZERO, 0);
    let run = servers.run(Write, Deadline::after(within), |_| {
        attempts += 1;
        assert!(attempts < MANY, "no end");
        last = began.elapsed();
        async { Err::<(), _>(failed(Effect::None)) }
    });
    run.await.unwrap_err();
    // Nine tenths of what is left without the last moment, but for the last short pauses.
    assert!((1700 * MS..=1764 * MS).contains(&last), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_leaves_time_for_the_others_and_a_write_has_all_of_it() {
    let servers = Servers::new(0..2).unwrap();
    let attempt = async |attempt: Attempt<'_, usize>| match attempt.server {
        0 => {
            let silence = pending::<Result<(), _>>();
            before(attempt.patience(), silence).await.unwrap_or(Err(failed(Effect::Unknown)))
        }
        _ => Ok(()),
    };
    let ask = async |safety: RetrySafety| {
        let began = Instant::now();
        let run = servers.run(safety, Deadline::after(Duration::from_secs(1)), attempt);
        (run.await.map(|answered| answered.is_repeat).map_err(|e| e.kind()), began.elapsed())
    };
    for (safety, is_repeat) in [(Read, false), (Repeatable, true)] {
        let (answer, took) = ask(safety).await;
        assert_eq!(answer, Ok(is_repeat));
        assert!((487 * MS..=488 * MS).contains(&took), "{took:?}");
        // The other one is asked first from now on, until it fails.
        assert_eq!(*servers.preferred(), 1);
        let run = servers.run(Read, Deadline::after(MS * 100), |attempt: Attempt<'_, usize>| {
            let answer = if *attempt.server == 1 { Err(failed(Effect::None)) } else { Ok(()) };
            async { answer }
        });
        run.await.unwrap();
        assert_eq!(*servers.preferred(), 0);
    }
    let (answer, took) = ask(Write).await;
    assert_eq!(answer, Err(ErrorKind::OutcomeUnknown));
    assert!((975 * MS..=976 * MS).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn patience_is_counted_when_it_is_asked_for_and_never_behind_the_deadline() {
    let servers = Servers::one(());
    for within in (1..300).map(Duration::from_millis) {
        for waits in [0, 1, 40].map(Duration::from_millis) {
            let run = servers.run(Read, Deadline::after(within), async |attempt: Attempt<'_, ()>| {
                sleep(waits).await;
                let (patience, left) = (attempt.patience().remaining(), attempt.deadline.remaining());
                assert!(patience <= left, "{patience:?} of {left:?}");
                assert_eq!(patience, left.min((left / 2).max(50 * MS)));
                assert_eq!(patience, attempt.connect_patience().remaining());
                Ok(())
            });
            let _ = run.await;
        }
    }
}

#[tokio::test]
async fn without_a_deadline_a_call_goes_on() {
    let (servers, mut attempts) = (Servers::one(()), 0);
    let servers = servers.with_backoff(Backoff::new(MS, MS));
    let run = servers.run(Repeatable, Deadline::NEVER, |attempt: Attempt<'_, ()>| {
        attempts += 1;
        let is_last = attempts == 20;
        async move {
            assert_eq!(attempt.patience().remaining(), Duration::MAX);
            if is_last { Ok(()) } else { Err(failed(Effect::None)) }
        }
    });
    assert!(!run.await.unwrap().is_repeat);
}

/// Returns how long 2000 calls pause before their attempt of this number, where all before it
/// failed.
async fn pauses_before(attempt: usize, within: Duration) -> Vec<Duration> {
    let calls = (0..2000).map(|_| async move {
        let (servers, mut attempts, mut last) = (Servers::one(()), 0, Instant::now());
        let run = servers.run(Write, Deadline::after(within), |_| {
            attempts += 1;
            let paused = last.elapsed();
            last = Instant::now();
            let is_over = attempts == attempt;
            async move { if is_over { Ok(paused) } else { Err(failed(Effect::RefusedHere)) } }
        });
        run.await.unwrap().answer
    });
    join_all(calls).await
}

#[tokio::test(start_paused = true)]
async fn clients_that_lost_one_server_do_not_come_back_together() {
    // The whole ceiling; and half of the 54 ms that are left for attempts, where the time is
    // short.
    for (within, most) in [(60_000, 40), (80, 27)] {
        let seconds = pauses_before(2, Duration::from_millis(within)).await;
        let fits =
            |eighth: u32, at: &Duration| (MS * most * eighth / 8..=MS * most * (eighth + 1) / 8).contains(at);
        for eighth in 0..8 {
            let among = seconds.iter().filter(|at| fits(eighth, at)).count();
            assert!((100..450).contains(&among), "{among} of 2000 in the eighth {eighth} of {most} ms");
        }
        assert!(seconds.iter().all(|at| *at <= MS * (most + 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_from_round_to_round() {
    for (attempt, ceiling) in [(1, 0), (2, 40), (3, 80), (4, 160), (5, 320), (6, 640), (7, 640)] {
        let longest = pauses_before(attempt, Duration::from_secs(60)).await.into_iter().max();
        // The timer counts milliseconds, and rounds up.
        let (from, to) = (MS * ceiling * 9 / 10, MS * ceiling + MS);
        assert!(longest.is_some_and(|longest| (from..=to).contains(&longest)), "{attempt}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_nothing_running() {
    struct Running(Arc<AtomicBool>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let (running, attempts) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let servers = Servers::one(());
    let run = |hangs: bool| {
        servers.run(Read, Deadline::default(), {
            let (running, attempts) = (running.clone(), &attempts);
            move |_| {
                attempts.fetch_add(1, Ordering::Relaxed);
                running.store(true, Ordering::Relaxed);
                let running = Running(running.clone());
                async move {
                    let _running = running;
                    if hangs { pending().await } else { Err::<(), _>(failed(Effect::None)) }
                }
            }
        })
    };
    // Once within an attempt, and once in the pause behind it.
    for hangs in [true, false] {
        attempts.store(0, Ordering::Relaxed);
        {
            let mut run = pin!(run(hangs));
            assert!(begin(run.as_mut()).await.is_pending());
            assert_eq!((attempts.load(Ordering::Relaxed), running.load(Ordering::Relaxed)), (1, hangs));
        }
        assert!(!running.load(Ordering::Relaxed));
        advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_takes_nobody_from_the_server_that_answers() {
    let (servers, proceed) = (Servers::new(0..3).unwrap(), Notify::new());
    let slow = async |attempt: Attempt<'_, usize>| {
        proceed.notified().await;
        if *attempt.server == 0 { Err(failed(Effect::None)) } else { Ok(*attempt.server) }
    };
    let mut slow = pin!(servers.run(Read, Deadline::default(), slow));
    assert!(begin(slow.as_mut()).await.is_pending());
    let fast = async |attempt: Attempt<'_, usize>| match attempt.server {
        2 => Ok(2),
        _ => Err(failed(Effect::None)),
    };
    assert_eq!(servers.run(Read, Deadline::default(), fast).await.unwrap().answer, 2);
    proceed.notify_one();
    assert!(begin(slow.as_mut()).await.is_pending());
    assert_eq!(*servers.preferred(), 2);
    // The slow call went on in its own order, and its server has answered last now.
    proceed.notify_one();
    assert_eq!(slow.await.unwrap().answer, 1);
    assert_eq!(*servers.preferred(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_of_many_threads_find_the_server_that_answers() {
    let servers = Arc::new(Servers::new(0..3).unwrap());
    let calls = (0..64).map(|_| {
        let servers = servers.clone();
        // As the methods of a store return it: boxed, borrowing, and for any thread.
        let call: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            for _ in 0..100 {
                let run = servers.run(Write, Deadline::default(), |attempt: Attempt<'_, usize>| async move {
                    tokio::task::yield_now().await;
                    if *attempt.server == 1 { Ok(()) } else { Err(failed(Effect::RefusedHere)) }
                });
                run.await.unwrap();
            }
        });
        tokio::spawn(call)
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    assert_eq!(*servers.preferred(), 1);
}

#[tokio::test]
async fn nothing_is_begun_behind_the_deadline() {
    let is_begun = AtomicBool::new(false);
    let work = async { is_begun.store(true, Ordering::Relaxed) };
    assert_eq!(before(Deadline::after(Duration::ZERO), work).await, None);
    assert!(!is_begun.load(Ordering::Relaxed));
    assert_eq!(before(Deadline::default(), async { 1 }).await, Some(1));
    assert_eq!(before(Deadline::after(MS), pending::<()>()).await, None);
}

#[test]
fn an_unknown_outcome_says_what_to_do_and_why_once() {
    let cause = Error::new(ErrorKind::PermissionDenied, "a:1: refuses it");
    let error = outcome_unknown(outcome_unknown(cause));
    let text = "the write may or may not have happened, so read before writing again: a:1: refuses it";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::OutcomeUnknown, text.into()));
}

#[test]
fn no_servers_are_an_error() {
    let error = Servers::<()>::new([]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_mutex_outlives_a_panic_of_its_holder() {
    let mutex = Mutex::new(1);
    let panicked = std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut value = mutex.lock();
            *value = 2;
            panic!("on purpose");
        });
        holder.join()
    });
    assert!(panicked.is_err());
    assert_eq!(format!("{mutex:?}"), "Mutex(2)");
    let held = mutex.lock();
    assert_eq!(format!("{mutex:?}"), "Mutex(<locked>)");
    drop(held);
    assert_eq!(mutex.into_inner(), 2);
}

#[test]
fn ids_of_many_threads_are_all_different() {
    let threads: Vec<_> =
        (0..8).map(|_| std::thread::spawn(|| (0..20_000).map(|_| unique()).collect::<Vec<_>>())).collect();
    let ids: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ids.len(), 8 * 20_000);
    // Each bit is as often set as not.
    for bit in 0..64 {
        let set = ids.iter().filter(|id| *id >> bit & 1 == 1).count();
        assert!((78_000..82_000).contains(&set), "bit {bit} is set in {set} of 160000");
    }
}

#[tokio::test]
async fn what_a_busy_runtime_held_up_before_it_was_sent_took_no_effect() {
    let busy = tokio::spawn(async {
        loop {
            // As other work of the same thread, or of a machine that has too much of it.
            std::thread::sleep(20 * MS);
            tokio::task::yield_now().await;
        }
    });
    let servers = Servers::one(());
    let was_sent = &AtomicBool::new(false);
    let run = servers.run(Write, Deadline::after(100 * MS), async |attempt: Attempt<'_, ()>| {
        catch_up(attempt.deadline, || false).await;
        let request = async {
            was_sent.store(true, Ordering::Relaxed);
            pending::<()>().await;
        };
        match before(attempt.patience(), request).await {
            Some(()) => Ok(()),
            None if was_sent.load(Ordering::Relaxed) => Err(failed(Effect::Unknown)),
            None => Err(failed(Effect::None)),
        }
    });
    let error = run.await.unwrap_err();
    busy.abort();
    assert!(!was_sent.load(Ordering::Relaxed), "the runtime was not busy enough for this test: {error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
