//! Requests that fail, come late, or are given up: nobody may stay in the queue.

use crate::{
    client::{Client, Count, Fault},
    got, holds,
    server::{LATE, TTL},
    waits,
};
use kv_core::{ErrorKind, backend::queue::lock};
use std::{sync::Arc, time::Duration};

/// Checks that nobody is in the queue, and nobody comes.
async fn nobody(client: &Arc<Client>) {
    client.tasks.finish().await.unwrap();
    assert!(client.names().is_empty(), "{:?} stay in the queue", client.names());
    client.arrive();
    assert!(client.names().is_empty(), "{:?} came late", client.names());
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_an_answer_is_taken_out_also_when_its_repeat_was_refused() {
    for fault in [Fault::AnswerLost, Fault::RepeatRefused, Fault::Late] {
        let client = Client::alone();
        client.faults(|faults| faults.enter.push_back(fault));
        let failed = lock(&client.lock(true), true).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown, "{fault:?}");
        nobody(&client).await;
        assert_eq!(client.count(), Count { enter: 1, cancel: 1, ..Count::default() }, "{fault:?}");
        assert!(holds(&client).await.release.run().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_whose_answer_cannot_be_used_is_taken_out() {
    let client = Client::alone();
    client.faults(|faults| faults.enter.push_back(Fault::Hidden));
    let failed = lock(&client.lock(true), true).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    nobody(&client).await;
    assert_eq!(client.count().leave, 1);
}

#[tokio::test(start_paused = true)]
async fn what_certainly_did_nothing_is_not_taken_out() {
    use ErrorKind::{PermissionDenied, Timeout, Unavailable};
    for kind in [PermissionDenied, Timeout, Unavailable] {
        let client = Client::alone();
        client.faults(|faults| faults.enter.push_back(Fault::Refused(kind)));
        assert_eq!(lock(&client.lock(true), true).await.unwrap_err().kind(), kind);
        client.tasks.finish().await.unwrap();
        assert_eq!(client.count(), Count { enter: 1, ..Count::default() });
    }
    // A server may have done what it has no room for.
    let client = Client::alone();
    client.faults(|faults| faults.enter.push_back(Fault::Refused(ErrorKind::NoSpace)));
    assert_eq!(lock(&client.lock(true), true).await.unwrap_err().kind(), ErrorKind::NoSpace);
    client.tasks.finish().await.unwrap();
    assert_eq!(client.count().cancel, 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_arrives_behind_the_release_enters_no_more() {
    let client = Client::alone();
    client.faults(|faults| faults.enter.push_back(Fault::AnsweredByRepeat));
    let held = holds(&client).await;
    assert!(held.release.run().await.unwrap());
    nobody(&client).await;
    // Nor behind an answer that nobody entered.
    let held = holds(&client).await;
    client.faults(|faults| faults.enter.push_back(Fault::AnsweredByRepeat));
    assert!(lock(&client.lock(false), false).await.unwrap().is_none());
    assert!(held.release.run().await.unwrap());
    nobody(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_leaves_nobody_wherever_it_stood() {
    let client = Client::alone();
    for (fault, was_sent) in [(Fault::Unsent, 0), (Fault::HangsLate, 1), (Fault::HangsApplied, 1)] {
        let before = client.count();
        client.faults(|faults| faults.enter.push_back(fault));
        let queue = client.lock(true);
        let asks = tokio::time::timeout(Duration::from_secs(1), lock(&queue, true));
        assert!(asks.await.is_err(), "{fault:?}");
        nobody(&client).await;
        let after = client.count();
        assert_eq!((after.enter - before.enter, after.cancel - before.cancel), (was_sent, was_sent));
        assert_eq!(after.leave, before.leave, "{fault:?}: what was never sent is taken out");
    }
    // The same in the queue, and with the lock in hand.
    let held = holds(&client).await;
    let waiting = waits(&client);
    client.until_members(2).await;
    waiting.abort();
    client.until_members(1).await;
    drop(held);
    nobody(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_was_lost_says_that_it_does_not_know() {
    let client = Client::alone();
    let held = holds(&client).await;
    client.faults(|faults| faults.leave.push_back(None));
    assert_eq!(held.release.run().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    nobody(&client).await;
    // One that was taken out by another is not held any more.
    let held = holds(&client).await;
    let name = client.names()[0];
    client.takes_out(name);
    assert!(!held.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_leave_is_tried_again_and_nobody_new_gets_its_session() {
    let client = Client::alone();
    let (held, other) = (holds(&client).await, waits(&client));
    client.until_members(2).await;
    client.faults(|faults| faults.leave.push_back(Some(ErrorKind::Unavailable)));
    assert_eq!(held.release.run().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let session = client.server.borrow().members[0].session;
    // It leaves in the background, while the other one keeps the session alive.
    let other = got(other).await;
    assert_eq!(client.server.borrow().members[0].session, session);
    let next = waits(&client);
    client.until_members(2).await;
    assert_ne!(client.server.borrow().members[1].session, session);
    assert!(other.release.run().await.unwrap() && got(next).await.release.run().await.unwrap());
    client.tasks.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_not_leave_is_told_by_close_and_tried_as_long_as_the_server_may_have_it() {
    let client = Client::alone();
    let held = holds(&client).await;
    let session = client.server.borrow().members[0].session;
    client.faults(|faults| faults.leaves = Some(ErrorKind::PermissionDenied));
    assert_eq!(held.release.run().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    drop(held.alive);
    assert_eq!(client.tasks.finish().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // Nobody else uses the session, so it was ended; the engine cannot know whether it was.
    client.until(|server| !server.sessions.contains_key(&session)).await;
    let began = client.count().leave;
    tokio::time::sleep(TTL + LATE - Duration::from_secs(3)).await;
    let before_the_end = client.count().leave;
    assert!(before_the_end > began + 3, "it is not tried again");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let behind_the_end = client.count().leave;
    tokio::time::sleep(TTL).await;
    assert_eq!(client.count().leave, behind_the_end, "it is tried for ever");
    // Nothing is left of it then, and nothing is told.
    client.tasks.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_what_a_dropped_future_began_and_tells_what_stays() {
    let client = Client::alone();
    let others = holds(&client).await;
    client.faults(|faults| faults.leaves = Some(ErrorKind::PermissionDenied));
    let waiting = waits(&client);
    client.until_members(2).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let told = client.tasks.finish().await.unwrap_err();
    assert_eq!((told.kind(), client.names().len()), (ErrorKind::PermissionDenied, 2));
    client.faults(|faults| faults.leaves = None);
    client.until_members(1).await;
    assert!(others.release.run().await.unwrap());
}
