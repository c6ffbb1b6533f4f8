//! Elections of candidates with priorities, and how a leader hands over.

mod common;

use common::{Pair, S, pair, polled, until};
use kv_core::{ErrorKind, Kv, Result};
use kv_recipes::{Election, Term};
use tokio::task::JoinHandle;

const LEFT: [&str; 2] = ["app/leader/leader", "app/leader/nominee"];

fn candidate(kv: &Kv, name: &str, priority: i32) -> Election {
    Election::new(kv, "app/leader").candidate(name).ttl(9 * S).priority(priority)
}

fn campaigns(election: Election) -> JoinHandle<Result<Term>> {
    tokio::spawn(async move { election.campaign().await })
}

/// Waits until so many candidates are registered.
async fn registered(p: &Pair, candidates: usize) {
    let those = async || p.other.list("app/leader/candidates").await.unwrap().len() == candidates;
    until("the candidates are registered", those).await;
    tokio::time::sleep(S).await; // and have heard of each other
}

#[tokio::test(start_paused = true)]
async fn the_greatest_priority_leads_next_and_equals_in_the_order_of_asking() -> Result<()> {
    let p = pair().await;
    let first = candidate(&p.kv, "first", 0).campaign().await?;
    let low = campaigns(candidate(&p.kv, "low", 1));
    registered(&p, 1).await;
    let one = campaigns(candidate(&p.other, "one", 5));
    registered(&p, 2).await;
    let two = campaigns(candidate(&p.kv, "two", 5));
    registered(&p, 3).await;

    assert!(["low", "one", "two"].contains(&&*first.outranked().await?), "each of them has more than 0");
    first.resign().await?;
    let one = one.await.unwrap()?;
    tokio::time::sleep(60 * S).await;
    assert!(one.is_held() && !two.is_finished() && !low.is_finished());
    assert!(tokio::time::timeout(60 * S, one.outranked()).await.is_err(), "equals do not outrank");
    one.resign().await?;
    let two = two.await.unwrap()?;
    assert!(!low.is_finished());
    two.resign().await?;
    low.await.unwrap()?.resign().await?;
    p.only_left(&LEFT).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_better_candidate_that_dies_holds_nobody_up() -> Result<()> {
    let p = pair().await;
    let first = candidate(&p.other, "first", 0).campaign().await?;
    let low = campaigns(candidate(&p.other, "low", 1));
    let best = campaigns(candidate(&p.kv, "best", 9));
    registered(&p, 2).await;
    p.faults.pause(); // the best one is cut off: it is registered for a TTL more, and cannot lead
    first.resign().await?;
    let began = tokio::time::Instant::now();
    let low = low.await.unwrap()?;
    assert!(began.elapsed() < 12 * S, "within the TTL and its lateness: {:?}", began.elapsed());
    p.faults.resume();
    tokio::time::sleep(30 * S).await;
    assert!(low.is_held() && !best.is_finished(), "a leader is not ended by a priority");
    low.resign().await?;
    assert_eq!(best.await.unwrap()?.candidate(), "best");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_nominee_leads_next_though_others_asked_before_and_outrank_it() -> Result<()> {
    let p = pair().await;
    let old = candidate(&p.kv, "old", 0).campaign().await?;
    let first = campaigns(candidate(&p.other, "first", 0));
    registered(&p, 1).await;
    let best = campaigns(candidate(&p.other, "best", 9));
    let new = campaigns(candidate(&p.kv, "new", 0));
    registered(&p, 3).await;
    assert!(!old.nominate("nobody", 5 * S).await?);
    assert!(old.nominate("new", 5 * S).await?);
    old.resign().await?;
    let new = new.await.unwrap()?;
    assert!(!best.is_finished() && !first.is_finished());
    new.resign().await?; // the nomination is over with the term
    let best = best.await.unwrap()?;
    assert!(!first.is_finished());
    best.resign().await?;
    first.await.unwrap()?.resign().await?;
    p.only_left(&LEFT).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_nominee_that_does_not_answer_or_dies_is_forgotten() -> Result<()> {
    let p = pair().await;
    let old = candidate(&p.other, "old", 0).campaign().await?;
    let other = campaigns(candidate(&p.other, "other", 0));
    let cut_off = campaigns(candidate(&p.kv, "cut off", 0));
    registered(&p, 2).await;
    p.faults.pause();
    assert!(!old.nominate("cut off", 2 * S).await?, "it cannot answer");
    old.resign().await?;
    let other = other.await.unwrap()?;
    assert_eq!(other.candidate(), "other", "the nomination was taken back");
    p.faults.resume();
    registered(&p, 1).await;
    assert!(other.nominate("cut off", 5 * S).await?);
    cut_off.abort(); // it has answered, and dies
    other.resign().await?;
    let last = candidate(&p.other, "last", -5).campaign().await?;
    assert_eq!(last.candidate(), "last");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_leader_goes_on_speaking_while_it_waits_for_its_nominee() -> Result<()> {
    let p = pair().await;
    let old = candidate(&p.other, "old", 0).campaign().await?;
    let cut_off = campaigns(candidate(&p.kv, "cut off", 0));
    registered(&p, 1).await;
    p.faults.pause();
    let speaks = async {
        tokio::time::sleep(S).await;
        tokio::time::timeout(S, old.proclaim("still here")).await
    };
    let (nominated, said) = tokio::join!(old.nominate("cut off", 5 * S), speaks);
    assert!(!nominated?);
    said.expect("it does not wait for the nominee")?;
    cut_off.abort();
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_nominates_nobody() -> Result<()> {
    let p = pair().await;
    let old = candidate(&p.kv, "old", 0).campaign().await?;
    let waits = campaigns(candidate(&p.other, "new", 0));
    registered(&p, 1).await;
    p.faults.evict_lock("app/leader")?;
    let new = waits.await.unwrap()?;
    let late = old.nominate("new", S).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LockLost);
    assert_eq!(old.outranked().await.unwrap_err().kind(), ErrorKind::LockLost);
    assert!(new.is_held());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_campaign_that_is_dropped_at_any_poll_leaves_nothing() -> Result<()> {
    for polls in 1.. {
        assert!(polls < 1000);
        let p = pair().await;
        p.faults.lose_answers(2);
        let done = polled(candidate(&p.kv, "a", 1).campaign(), polls).await.transpose()?;
        let is_done = done.is_some();
        drop(done);
        p.only_left(&LEFT).await;
        assert!(p.other.lock_holder("app/leader").await?.is_none());
        if is_done {
            break;
        }
    }
    Ok(())
}
