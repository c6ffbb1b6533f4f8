//! Updates: read, compute, compare-and-swap, and what becomes of lost answers.

mod common;

use common::Silent;
use kv_core::{Entry, Error, ErrorKind, Kv, Next, Result, Updated, backend::Clock};
use kv_memory::{Calls, Config, Faults, Memory};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Counts up.
fn count(found: Option<&Entry>) -> Result<String> {
    let number = found.and_then(Entry::text).unwrap_or("0").parse::<u64>();
    let number = number.map_err(|e| Error::new(ErrorKind::Corrupt, "no number").with_cause(e))?;
    Ok((number + 1).to_string())
}

/// Makes a handle with its faults, and another handle on the same store.
fn pair() -> (Kv, Faults, Kv) {
    let memory = Memory::new();
    let kv = Kv::new(memory.clone());
    (kv.clone(), Faults::of(&kv).unwrap(), Kv::new(memory.with_prefix("")))
}

async fn text(kv: &Kv, key: &str) -> Option<String> {
    kv.get(key).await.unwrap().and_then(|entry| entry.text().map(str::to_owned))
}

#[track_caller]
fn refused<T>(answer: Result<T>, kind: ErrorKind, says: &str) {
    let e = answer.err().expect("refused");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(says), "{e}");
}

#[tokio::test]
async fn it_says_what_was_there_and_what_it_left() {
    let kv = kv_memory::open("memory://").await.unwrap();
    let made = kv.update("n", count).await.unwrap();
    let there = kv.get("n").await.unwrap().unwrap();
    assert_eq!((made.before, made.value.as_deref()), (None, Some(&b"1"[..])));
    assert_eq!(made.written.map(|w| w.version), Some(there.version));

    let kept = kv.update("n", |_| Ok(Next::Keep)).await.unwrap();
    assert_eq!((kept.before.as_ref(), kept.text(), kept.written), (Some(&there), Some("1"), None));
    assert_eq!(kv.get("n").await.unwrap(), Some(there.clone()), "nothing was written");

    let failed = kv.update("n", |_| Err::<Next, _>(Error::new(ErrorKind::Other, "mine"))).await;
    refused(failed, ErrorKind::Other, r#"update "n" on memory: mine"#);
    assert_eq!(kv.get("n").await.unwrap(), Some(there.clone()), "nothing was written");

    for exactly_once in [false, true] {
        let delete = |kv: &Kv| {
            let delete = kv.update("n", |_| Ok(Next::Delete));
            if exactly_once { delete.exactly_once() } else { delete }
        };
        kv.put("n", "1").await.unwrap();
        let deleted = delete(&kv).await.unwrap();
        assert_eq!((deleted.before.is_some(), deleted.value, deleted.written), (true, None, None));
        let missing = delete(&kv).await.unwrap();
        assert_eq!((missing.before, missing.value, missing.written), (None, None, None));
        assert_eq!(text(&kv, "n").await, None);
    }
}

#[tokio::test]
async fn its_options_are_those_of_a_put() {
    let clock = Clock::manual();
    let kv = Config::new().clock(clock.clone()).open().await.unwrap();
    let guard = kv.new_lock("l").acquire().await.unwrap();
    let lease = kv.lease(60 * SECOND).await.unwrap();
    for exactly_once in [false, true] {
        let update = |key: &str| {
            let update = kv.update(key, count);
            if exactly_once { update.exactly_once() } else { update }
        };
        let short = update("short").ttl(SECOND).await.unwrap();
        assert_eq!(short.written.unwrap().ttl, Some(SECOND));
        update("leased").lease(&lease).await.unwrap();
        update("fenced").fenced(&guard).await.unwrap();
        refused(
            update("n").ttl(SECOND).lease(&lease).await,
            ErrorKind::InvalidArgument,
            "together with a lease",
        );
    }
    clock.advance(SECOND);
    assert_eq!(text(&kv, "short").await, None);
    lease.revoke().await.unwrap();
    assert_eq!((text(&kv, "leased").await, text(&kv, "fenced").await.as_deref()), (None, Some("2")));
    let fence = guard.fence().clone();
    guard.release().await.unwrap();
    refused(kv.update("fenced", count).fenced(&fence).await, ErrorKind::LockLost, "update \"fenced\"");
    let late = kv.update("fenced", count).fenced(&fence).exactly_once().await;
    refused(late, ErrorKind::LockLost, "no longer held");
    assert_eq!(text(&kv, "fenced").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn what_the_store_cannot_do_is_refused_before_any_io() {
    let mut store = Silent::able();
    let kv = Kv::new(store.clone());
    refused(kv.update("a/../b", count).await, ErrorKind::InvalidKey, "update on silent");
    refused(kv.update("a", count).ttl(101 * SECOND).await, ErrorKind::InvalidArgument, "greatest");
    refused(kv.update("a", count).exactly_once_in("..").await, ErrorKind::InvalidKey, "update \"a\"");
    let guarded = kv.update("a", count).fenced(kv_core::Fence::new("l".parse().unwrap(), 1, ""));
    refused(guarded.exactly_once().await, ErrorKind::Unsupported, "no transactions of 5 operations");
    store.capabilities.max_txn_ops = 0;
    let kv = Kv::new(store.clone());
    refused(kv.update("a", count).exactly_once().await, ErrorKind::Unsupported, "no transactions");
    (store.capabilities.max_txn_ops, store.capabilities.ttl) = (4, None);
    let kv = Kv::new(store.clone());
    refused(kv.update("a", count).exactly_once().await, ErrorKind::Unsupported, "no TTLs");
    assert_eq!(store.count(), 0, "nothing reached the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_none_is_lost() {
    const CALLERS: u64 = 16;
    const EACH: u64 = 50;
    let kv = kv_memory::open("memory://").await.unwrap();
    let callers = (0..CALLERS).map(|n| {
        let kv = kv.clone().with_deadline(60 * SECOND);
        tokio::spawn(async move {
            for _ in 0..EACH {
                let update = kv.update("n", count);
                if n % 2 == 0 {
                    update.exactly_once().await.unwrap()
                } else {
                    update.await.unwrap()
                };
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(text(&kv, "n").await, Some((CALLERS * EACH).to_string()));
    let store = kv.store().clone();
    kv.close().await.unwrap();
    let left = Kv::from(store).list("kv-updates").await.unwrap();
    assert!(left.is_empty(), "no marker stays when all answers have come: {left:?}");
}

/// Whoever meets others all the time says so in the end, and writes nothing.
#[tokio::test(start_paused = true)]
async fn one_that_never_comes_first_ends_in_time() {
    for exactly_once in [false, true] {
        let memory = Memory::new();
        let (kv, others) = (Kv::new(memory.clone()), memory.clone());
        let update = kv.update("n", move |_| {
            others.raw_put("n", "another's");
            Ok("mine")
        });
        let update = if exactly_once { update.exactly_once() } else { update };
        let began = tokio::time::Instant::now();
        let ended = update.deadline(3 * SECOND).await;
        refused(ended, ErrorKind::Timeout, "others wrote the key");
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(text(&kv, "n").await.as_deref(), Some("another's"));
    }
}

#[tokio::test]
async fn a_lost_answer_is_passed_on() {
    let (kv, faults, other) = pair();
    faults.lose_answers(1);
    refused(kv.update("n", count).await, ErrorKind::OutcomeUnknown, "update \"n\" on memory");
    assert_eq!(text(&other, "n").await.as_deref(), Some("1"), "it was done once");
    faults.fail(Calls::Writes, ErrorKind::Unavailable, 1);
    refused(kv.update("n", count).await, ErrorKind::Unavailable, "update \"n\"");
    assert_eq!(text(&other, "n").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_lost_answer_is_found_out() {
    let (kv, faults, other) = pair();
    for n in 1..=20_u32 {
        // Every second one is not done at first, and is done when it is sent again.
        if n.is_multiple_of(2) {
            faults.fail_next(ErrorKind::OutcomeUnknown);
        }
        faults.lose_answers(1);
        let Updated { value, written, .. } = kv.update("n", count).exactly_once().await.unwrap();
        assert_eq!(value.as_deref(), Some(n.to_string().as_bytes()));
        assert_eq!(written, None, "the marker knows no version");
        assert_eq!(text(&other, "n").await, Some(n.to_string()));
        assert_eq!(faults.planned(), 0, "all were met");
    }
    faults.fail_next(ErrorKind::OutcomeUnknown);
    let sent_again = kv.update("n", count).exactly_once().await.unwrap();
    assert_eq!(sent_again.written.unwrap().version, other.get("n").await.unwrap().unwrap().version);
    assert_eq!(text(&other, "n").await.as_deref(), Some("21"));
}

/// A lasting error while the answer is looked for leaves the outcome unknown.
#[tokio::test]
async fn a_failure_after_a_lost_answer_says_that_it_may_be_done() {
    let (kv, faults, other) = pair();
    faults.lose_answers(1);
    let update = kv.update("n", move |found| {
        // The read behind the lost answer is refused.
        faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
        count(found)
    });
    let e = update.exactly_once().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert!(e.to_string().contains("the test asked for this failure"), "{e}");
    assert_eq!(text(&other, "n").await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_found_out_is_unknown() {
    let open = || Config::new().name("update-unknown").clock(Clock::tokio()).open();
    let (kv, other) = (open().await.unwrap(), open().await.unwrap());
    let faults = Faults::of(&kv).unwrap();
    faults.lose_answers(1);
    let update = kv.update("n", {
        let faults = faults.clone();
        move |found| {
            faults.fail(Calls::Reads, ErrorKind::Unavailable, 1000);
            count(found)
        }
    });
    let began = tokio::time::Instant::now();
    refused(update.exactly_once().await, ErrorKind::OutcomeUnknown, "update \"n\"");
    assert_eq!(began.elapsed().as_secs(), 5, "the deadline");
    assert_eq!(text(&other, "n").await.as_deref(), Some("1"));
}

/// A marker has the TTL of its key, or one that the server grants.
#[tokio::test]
async fn a_marker_ends_by_itself() {
    let clock = Clock::manual();
    let kv = Config::new().clock(clock.clone()).open().await.unwrap();
    let faults = Faults::of(&kv).unwrap();
    faults.lose_answers(1);
    kv.update("n", count).exactly_once_in("app/marks").await.unwrap();
    assert_eq!(kv.list("app/marks").await.unwrap().len(), 1, "a late request must find it");
    clock.advance(60 * SECOND);
    assert!(kv.list("app/marks").await.unwrap().is_empty());
}
