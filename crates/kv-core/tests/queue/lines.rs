//! The lines in which the contenders of one handle stand.

use crate::{
    client::{Client, Count},
    got, holds, waits,
};
use futures::{StreamExt, stream::FuturesUnordered};
use kv_core::backend::queue::lock;
use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

#[tokio::test(start_paused = true)]
async fn the_foremost_alone_looks_and_a_queue_is_listed_once_for_all_in_it() {
    const WAITING: usize = 200;
    let client = Client::alone();
    let mut held = holds(&client).await;
    let mut all = Vec::new();
    for waiting in 0..WAITING {
        all.push(waits(&client));
        client.until_members(waiting + 2).await;
    }
    let entered = client.count();
    assert_eq!((entered.enter, entered.position), (1 + WAITING as u32, 0));
    // The holder alone watches its place; whoever is behind it hears of it in the line.
    assert_eq!(client.server.receiver_count(), 1);
    for next in all {
        assert!(held.release.run().await.unwrap());
        held = got(next).await;
    }
    let Count { position, list, .. } = client.count();
    assert_eq!((position, list), (WAITING as u32, 1), "a look of each at its own place");
    // Who comes now was in no listing.
    let next = waits(&client);
    client.until_members(2).await;
    assert!(held.release.run().await.unwrap());
    assert!(got(next).await.release.run().await.unwrap());
    assert_eq!(client.count().list, 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_polls_holds_up_nobody_once_it_is_out_of_the_queue() {
    let client = Client::alone();
    let held = holds(&client).await;
    let queue = client.lock(true);
    let mut idle = pin!(lock(&queue, true));
    while client.names().len() < 2 {
        poll_fn(|cx| Poll::Ready(_ = idle.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
    }
    let second = waits(&client);
    client.until_members(3).await;
    let third = waits(&client);
    client.until_members(4).await;
    client.takes_out(client.names()[1]);
    assert!(held.release.run().await.unwrap());
    let began = tokio::time::Instant::now();
    let second = got(second).await;
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    assert!(second.release.run().await.unwrap());
    let third = got(third).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(third.release.run().await.unwrap());
    // It takes its place anew as soon as it is polled.
    assert!(idle.await.unwrap().unwrap().release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_release_without_an_answer_holds_up_nobody() {
    let client = Client::alone();
    let held = holds(&client).await;
    let next = waits(&client);
    client.until_members(2).await;
    client.faults(|faults| faults.leave_hangs = true);
    drop(held);
    let began = tokio::time::Instant::now();
    let next = got(next).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(next.release.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_line_goes_on_when_a_holder_is_taken_out_or_its_session_ends() {
    let client = Client::alone();
    let mut held = holds(&client).await;
    let mut waiting = Vec::new();
    for others in 1..4 {
        waiting.push(waits(&client));
        client.until_members(1 + others).await;
    }
    for next in waiting {
        client.takes_out(client.names()[0]);
        let next = got(next).await;
        assert!(next.fence.token() > held.fence.token());
        held = next;
    }
    let others = [waits(&client), waits(&client)];
    client.until_members(3).await;
    let session = client.server.borrow().members[0].session;
    client.ends(session);
    // The two take places under a session of their own, in any order.
    let mut taken = FuturesUnordered::from_iter(others.map(got));
    while let Some(got) = taken.next().await {
        assert!(got.fence.token() > held.fence.token());
        assert!(got.release.run().await.unwrap());
    }
    client.tasks.finish().await.unwrap();
}
