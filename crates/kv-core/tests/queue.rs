//! The fair lock on a server that keeps a queue, over a server in memory and requests that fail.

#[path = "queue/client.rs"]
mod client;
#[path = "queue/faults.rs"]
mod faults;
#[path = "queue/lines.rs"]
mod lines;
#[path = "queue/loss.rs"]
mod loss;
#[path = "queue/own.rs"]
mod own;
#[path = "queue/server.rs"]
mod server;

use client::{Client, Count, Fault, PATIENCE};
use futures::future::join_all;
use kv_core::{
    ErrorKind, Result,
    backend::{
        Clock,
        queue::{Lines, lock},
    },
    driver::Acquired,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// Waits for the lock on a task.
fn waits(client: &Arc<Client>) -> JoinHandle<Result<Option<Acquired>>> {
    let queue = client.lock(true);
    tokio::spawn(async move { lock(&queue, true).await })
}

/// Holds the lock, which nobody else wants.
async fn holds(client: &Arc<Client>) -> Acquired {
    lock(&client.lock(true), true).await.unwrap().unwrap()
}

/// Returns the result of a wait.
async fn ended(waits: JoinHandle<Result<Option<Acquired>>>) -> Result<Option<Acquired>> {
    tokio::time::timeout(PATIENCE, waits).await.expect("it waits for ever").unwrap()
}

async fn got(waits: JoinHandle<Result<Option<Acquired>>>) -> Acquired {
    ended(waits).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_free_lock_takes_one_request_and_a_handover_one_position() {
    let client = Client::alone();
    let held = holds(&client).await;
    assert_eq!(client.count(), Count { enter: 1, ..Count::default() });
    assert!(held.release.run().await.unwrap());
    assert_eq!(client.count(), Count { enter: 1, leave: 1, ..Count::default() });
    let mut held = holds(&client).await;
    let mut all = Vec::new();
    for waiting in 0..100 {
        all.push(waits(&client));
        client.until_members(waiting + 2).await;
    }
    for next in all {
        let (before, token) = (client.count(), held.fence.token());
        assert!(held.release.run().await.unwrap());
        held = got(next).await;
        assert!(held.fence.token() > token);
        let after = client.count();
        assert_eq!((after.position - before.position, after.leave - before.leave), (1, 1));
    }
    assert!(held.release.run().await.unwrap());
    client.tasks.finish().await.unwrap();
    assert_eq!((client.names().len(), client.count().cancel), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_overtakes_nobody_and_stays_nowhere() {
    let client = Client::alone();
    let held = holds(&client).await;
    let others = client.names();
    assert!(lock(&client.lock(false), false).await.unwrap().is_none());
    assert_eq!((client.names(), client.count().leave), (others.clone(), 0));
    // Where the request to enter depends on nothing, the server tells only in the queue that it is
    // taken.
    assert!(lock(&client.lock(true), false).await.unwrap().is_none());
    assert_eq!((client.names(), client.count().leave), (others, 1));
    drop(held);
    client.tasks.finish().await.unwrap();
    let got = lock(&client.lock(false), false).await.unwrap().unwrap();
    assert!(got.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_lost_is_taken_anew() {
    let client = Client::alone();
    let held = holds(&client).await;
    let waiting = waits(&client);
    client.until_members(2).await;
    let lost = client.names()[1];
    client.takes_out(lost);
    assert!(held.release.run().await.unwrap());
    let next = got(waiting).await;
    assert_ne!(client.names(), [lost]);
    assert!(next.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_a_waiter_nothing_and_a_lasting_error_ends_it() {
    use ErrorKind::{LockLost, NoSpace, Other, OutcomeUnknown, Timeout, Unavailable};
    let client = Client::alone();
    let held = holds(&client).await;
    let waiting = waits(&client);
    client.until_members(2).await;
    let place = client.names()[1];
    client.faults(|faults| {
        faults.position.extend([Unavailable, Timeout, Other, OutcomeUnknown, NoSpace, LockLost])
    });
    assert!(held.release.run().await.unwrap());
    let held = got(waiting).await;
    assert_eq!((client.names(), client.count().position), (vec![place], 7));
    assert!(held.release.run().await.unwrap());
    for lasting in [ErrorKind::PermissionDenied, ErrorKind::Unauthenticated, ErrorKind::Corrupt] {
        let held = holds(&client).await;
        let ends = waits(&client);
        client.until_members(2).await;
        client.faults(|faults| faults.position.push_back(lasting));
        assert!(held.release.run().await.unwrap());
        assert_eq!(ended(ends).await.unwrap_err().kind(), lasting);
        client.tasks.finish().await.unwrap();
        assert!(client.names().is_empty());
    }
}

/// Numbers by a seed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(start_paused = true)]
async fn one_holder_at_a_time_in_the_order_of_entering_whatever_fails_and_whoever_gives_up() {
    for seed in 0..60 {
        let server = tokio::sync::watch::Sender::default();
        // The contenders of the last one stand in no line.
        let lines = [Some(Lines::default()), Some(Lines::default()), None];
        let clients = lines.map(|lines| Client::with(&server, Clock::tokio(), lines));
        let (inside, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut all = Vec::new();
        for n in 0..24 {
            let (client, mut dice) = (clients[n % 3].clone(), Dice(seed * 1000 + n as u64));
            let (inside, last) = (inside.clone(), last.clone());
            all.push(tokio::spawn(async move {
                for _ in 0..6 {
                    client.faults(|faults| fault(faults, &mut dice));
                    client.arrive();
                    let patience = Duration::from_millis(1 << dice.roll(12));
                    let queue = client.lock(dice.roll(4) > 0);
                    let wait = dice.roll(4) > 0;
                    let Ok(Ok(Some(got))) = tokio::time::timeout(patience, lock(&queue, wait)).await else {
                        continue;
                    };
                    let token = got.fence.token();
                    assert!(!inside.swap(true, SeqCst), "seed {seed}: two hold it");
                    assert!(last.swap(token, SeqCst) < token, "seed {seed}: not in the order of entering");
                    assert!(got.alive.is_held());
                    tokio::time::sleep(Duration::from_millis(dice.roll(50))).await;
                    inside.store(false, SeqCst);
                    match dice.roll(2) {
                        0 => drop(got),
                        _ => drop(got.release.run().await),
                    }
                }
            }));
        }
        join_all(all).await.into_iter().for_each(|ended| ended.unwrap());
        for client in &clients {
            client.faults(|faults| *faults = client::Faults::default());
            client.arrive();
            // A contender that could not leave before leaves now.
            let _ = client.tasks.finish().await;
            client.tasks.finish().await.unwrap();
            client.arrive();
        }
        let names = clients[0].names();
        assert!(names.is_empty(), "seed {seed}: {names:?} stay in the queue");
    }
}

fn fault(faults: &mut client::Faults, dice: &mut Dice) {
    let enter = [
        Fault::AnswerLost,
        Fault::RepeatRefused,
        Fault::Late,
        Fault::AnsweredByRepeat,
        Fault::Refused(ErrorKind::Unavailable),
        Fault::Hidden,
        Fault::Unsent,
        Fault::HangsLate,
        Fault::HangsApplied,
    ];
    if dice.roll(2) == 0 {
        faults.enter.push_back(enter[dice.roll(enter.len() as u64) as usize]);
    }
    if dice.roll(3) == 0 {
        faults.position.push_back(ErrorKind::Unavailable);
    }
    if dice.roll(4) == 0 {
        faults.leave.push_back([None, Some(ErrorKind::Unavailable)][dice.roll(2) as usize]);
    }
}
