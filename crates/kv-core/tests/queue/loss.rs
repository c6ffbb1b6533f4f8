//! Sessions that are lost, and lives that end.

use crate::{
    client::{Client, Fault, PATIENCE},
    ended, got, holds,
    server::{LATE, TTL},
    waits,
};
use kv_core::{
    Error, ErrorKind,
    backend::{Alive, Clock, Session, Sessions, Undo, queue::lock},
    driver::Deadline,
};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

fn sessions(client: &Client) -> Vec<u64> {
    client.server.borrow().members.iter().map(|member| member.session).collect()
}

/// Returns why a life is over.
async fn lost(lost: impl Future<Output = Error>) -> String {
    tokio::time::timeout(PATIENCE, lost).await.expect("nobody hears of it").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_session_is_lost_enters_anew() {
    let holder = Client::alone();
    let held = holds(&holder).await;
    let client = Client::new(&holder.server, Clock::tokio());
    let waiting = waits(&client);
    client.until_members(2).await;
    let lost = sessions(&client)[1];
    client.ends(lost);
    // It hears of that by its next renewal, and waits under another session then.
    client.until(|server| server.members.get(1).is_some_and(|there| there.session != lost)).await;
    assert!(held.release.run().await.unwrap());
    assert!(got(waiting).await.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_session_is_lost_is_never_given() {
    let client = Client::new(&tokio::sync::watch::Sender::default(), Clock::manual());
    // The server still has the place, and says that it is the first.
    client.faults(|faults| faults.enter.push_back(Fault::Takes(TTL)));
    let held = lock(&client.lock(true), true).await.unwrap().unwrap();
    assert!(held.alive.is_held(), "a lock was given that nobody keeps");
    assert_eq!(client.count().enter, 2);
    client.tasks.finish().await.unwrap();
    assert_eq!(client.names().len(), 1);
    assert!(held.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_cut_off_is_given_nothing_by_what_it_hears_later() {
    let holder = Client::alone();
    let held = holds(&holder).await;
    let client = Client::new(&holder.server, Clock::tokio());
    let waiting = waits(&client);
    client.until_members(2).await;
    let cut_off = sessions(&client)[1];
    client.is_down.store(true, SeqCst);
    // Its life is over on its own side, and not on the server's.
    tokio::time::sleep(TTL - SECOND / 2).await;
    assert_eq!(sessions(&client)[1], cut_off);
    assert!(held.release.run().await.unwrap());
    let failed = ended(waiting).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "it was given a lock that it does not keep");
    client.is_down.store(false, SeqCst);
    let next = holds(&client).await;
    assert_ne!(sessions(&client), [cut_off]);
    assert!(next.release.run().await.unwrap());
    client.until(|server| server.members.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_hears_that_its_session_or_its_contender_is_gone() {
    let client = Client::alone();
    let held = holds(&client).await;
    let session = sessions(&client)[0];
    client.server.send_modify(|server| _ = server.sessions.remove(&session));
    assert!(lost(held.alive.lost()).await.contains("the server ended its session"));
    assert!(!held.alive.is_held());
    client.ends(session);
    assert!(!held.release.run().await.unwrap());
    let (held, began) = (holds(&client).await, tokio::time::Instant::now());
    let name = *client.names().last().unwrap();
    client.takes_out(name);
    assert!(lost(held.alive.lost()).await.contains("by an administrator"));
    // The contender is looked at from here on; a renewal comes much later.
    assert_eq!(began.elapsed(), Duration::from_millis(20), "it was seen by no renewal");
    assert!(!held.release.run().await.unwrap());
    // One that gives it back is told so, and not that an administrator did it.
    let held = holds(&client).await;
    let lost = held.alive.lost();
    assert!(held.release.run().await.unwrap());
    assert!(self::lost(lost).await.contains("given back"));
}

#[tokio::test(start_paused = true)]
async fn what_a_wait_for_the_end_holds_is_let_go_behind_what_the_holder_hears() {
    let client = Client::alone();
    let held = holds(&client).await;
    let (alive, (tell, told)) = (held.alive.clone(), tokio::sync::oneshot::channel());
    *client.own_dropped.lock().unwrap() = Some(Box::new(move || _ = tell.send(alive.is_held())));
    client.takes_out(client.names()[0]);
    let was_held = tokio::time::timeout(PATIENCE, told).await.expect("nobody hears of it").unwrap();
    assert!(!was_held, "another could get the lock before its holder hears that it is lost");
    assert!(!held.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_enters_under_a_session_that_the_server_has_ended_enters_under_another() {
    let client = Client::alone();
    let held = holds(&client).await;
    let ended = sessions(&client)[0];
    client.ends(ended);
    // No renewal has told the client yet.
    let next = holds(&client).await;
    assert!(sessions(&client)[0] != ended && client.count().enter == 3);
    assert_eq!(client.count().cancel, 0, "what cannot enter any more is taken out");
    assert!(next.release.run().await.unwrap());
    drop(held);
    client.tasks.finish().await.unwrap();
}

#[tokio::test]
async fn a_guard_that_nobody_looks_after_is_not_held() {
    let client = Client::new(&tokio::sync::watch::Sender::default(), Clock::system());
    // The session of this runtime lives on.
    assert!(holds(&client).await.release.run().await.unwrap());
    let elsewhere = client.clone();
    let acquired = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(holds(&elsewhere))
    });
    let held = tokio::task::spawn_blocking(|| acquired.join().unwrap()).await.unwrap();
    assert_eq!(client.server.borrow().sessions.len(), 2, "each runtime renews its own session");
    assert!(!held.alive.is_held(), "nobody hears of what becomes of its contender");
    assert!(lost(held.alive.lost()).await.contains("has ended"));
    assert!(held.release.run().await.unwrap());
}

#[test]
fn a_runtime_ends_though_one_holds_and_others_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (runtime, client) = (runtime.unwrap(), Client::alone());
    let held = runtime.block_on(async {
        let held = holds(&client).await;
        (0..3).for_each(|_| drop(waits(&client)));
        client.until_members(4).await;
        held
    });
    drop(runtime);
    assert!(!held.alive.is_held());
}

#[tokio::test(start_paused = true)]
async fn one_holder_at_a_time_also_when_the_first_is_cut_off() {
    let holder = Client::alone();
    let held = holds(&holder).await;
    let next = waits(&Client::new(&holder.server, Clock::tokio()));
    holder.until_members(2).await;
    let began = tokio::time::Instant::now();
    holder.is_down.store(true, SeqCst);
    lost(held.alive.lost()).await;
    assert!(!next.is_finished(), "two hold it");
    let next = got(next).await;
    assert!(began.elapsed() >= LATE && next.alive.is_held() && !held.alive.is_held());
    assert!(next.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn sessions_that_were_ended_give_no_new_one() {
    let client = Client::alone();
    let held = holds(&client).await;
    client.sessions.end().await.unwrap();
    assert!(client.names().is_empty());
    let refused = lock(&client.lock(true), true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    drop(held);
    assert!(client.server.borrow().sessions.is_empty(), "a session was made behind the end");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_granted_behind_the_end_is_ended() {
    let clock = Clock::tokio();
    let (sessions, ended) = (Arc::new(Sessions::new(clock.clone())), Arc::new(AtomicU32::new(0)));
    let (asked, granting) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let grant = || async {
        asked.notify_one();
        granting.notified().await;
        let (alive, ended) = (Alive::keep(&clock, TTL, clock.now(), || async { Ok(()) }), ended.clone());
        let end = Undo::new(async move { Ok(ended.fetch_add(1, SeqCst) == 0) });
        Ok(Session { session: (), alive, end })
    };
    let ends = async {
        asked.notified().await;
        sessions.end().await.unwrap();
        granting.notify_one();
    };
    let (got, ()) = tokio::join!(sessions.get(TTL, grant), ends);
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Closed);
    tokio::task::yield_now().await;
    assert_eq!(ended.load(SeqCst), 1, "the session is kept on the server");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_has_a_deadline_and_one_that_hangs_leaves_time_for_another() {
    let (clock, given) = (Clock::tokio(), Arc::new(Mutex::new(Vec::new())));
    let (all, asked) = (given.clone(), AtomicU32::new(0));
    let alive = Alive::keep_by(&clock, TTL, clock.now(), move |deadline: Deadline| {
        all.lock().unwrap().push(deadline.remaining());
        let hangs = asked.fetch_add(1, SeqCst) == 0;
        async move { if hangs { pending().await } else { Err(Error::new(ErrorKind::Unavailable, "no")) } }
    });
    alive.lost().await;
    let given = given.lock().unwrap();
    assert!(given.len() > 2 && given[0] == TTL / 5, "{given:?}");
    assert!(given.last().unwrap() < &(TTL / 5), "the last one ends with the life: {given:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_comes_behind_the_time_brings_no_life_back() {
    let clock = Clock::manual();
    let (asked, answering) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (asks, answers) = (asked.clone(), answering.clone());
    let alive = Alive::keep(&clock, TTL, clock.now(), move || {
        let (asks, answers) = (asks.clone(), answers.clone());
        async move {
            asks.notify_one();
            answers.notified().await;
            Ok(())
        }
    });
    clock.advance(TTL / 3);
    asked.notified().await;
    // The machine slept, and finds the answer when it wakes.
    answering.notify_one();
    clock.advance(TTL * 2 / 3);
    assert!(!alive.is_held());
    let why = lost(alive.lost()).await;
    assert!(why.contains("came after its time"), "{why}");
}
