//! Calls of recipes that nobody polls: others of the same handle do not wait for them.

use futures::poll;
use kv_core::{Kv, Result};
use kv_memory::Faults;
use kv_recipes::{Counter, Election, IdBlocks};
use std::{fmt::Debug, future::Future, pin::pin, time::Duration};

/// Begins the first, has the second done before the first is polled again, and returns what both
/// answered.
async fn both<T: Debug>(
    kv: &Kv,
    first: impl Future<Output = Result<T>>,
    second: impl Future<Output = Result<T>>,
) -> Result<(T, T)> {
    let faults = Faults::of(kv).expect("a store in memory");
    let mut first = pin!(first);
    faults.pause();
    assert!(poll!(first.as_mut()).is_pending(), "it waits for the store");
    faults.resume();
    let second = tokio::time::timeout(Duration::from_secs(5), second).await;
    let second = second.expect("it waits for no other")?;
    Ok((first.await?, second))
}

#[tokio::test]
async fn changes_of_a_counter() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let counter = Counter::new(&kv, "visits");
    assert_eq!(both(&kv, counter.add(1), counter.add(2)).await?, (1, 3));
    Ok(())
}

#[tokio::test]
async fn ids_of_blocks() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let ids = IdBlocks::new(&kv, "ids");
    assert_eq!(both(&kv, ids.next(), ids.next()).await?, (1, 2));
    Ok(())
}

#[tokio::test]
async fn what_a_leader_proclaims_and_whom_it_nominates() -> Result<()> {
    let kv = kv_memory::open("memory://").await?;
    let election = Election::new(&kv, "leader").priority(0);
    let term = election.campaign().await?;
    both(&kv, term.proclaim("one"), term.proclaim("two")).await?;
    assert_eq!(election.leader().await?.expect("a leader").value, "two");
    let candidate = election.clone().candidate("other");
    let waits = tokio::spawn(async move { candidate.campaign().await });
    let within = Duration::from_secs(1);
    while !term.nominate("other", within).await? {}
    assert_eq!(
        both(&kv, term.nominate("other", within), term.nominate("other", within)).await?,
        (true, true)
    );
    waits.abort();
    Ok(())
}
