//! Elections of candidates that wait in the order of asking.

mod common;

use common::{MS, S, pair, polled, until};
use kv_core::{ErrorKind, Kv, Result};
use kv_memory::{Calls, Memory};
use kv_recipes::{Election, Leadership};
use std::time::Duration;

const NAME: &str = "app/leader";

fn candidate(kv: &Kv, name: &str) -> Election {
    Election::new(kv, NAME).candidate(name).value(format!("{name}:80")).ttl(9 * S)
}

#[tokio::test(start_paused = true)]
async fn one_leads_at_a_time_and_is_seen_from_the_present_one_on() -> Result<()> {
    let p = pair().await;
    let first = candidate(&p.kv, "a").campaign().await?;
    let mut leaders = candidate(&p.other, "sees").observe().await?;
    let seen = leaders.next().await?;
    let seen = seen.leader().expect("the first news is who leads now");
    assert_eq!((seen.term, &*seen.candidate, &*seen.value), (first.number(), "a", &b"a:80"[..]));

    let waits = tokio::spawn({
        let b = candidate(&p.other, "b");
        async move { b.campaign().await }
    });
    tokio::time::sleep(60 * S).await;
    assert!(first.is_held() && !waits.is_finished());
    first.proclaim("a:81").await?;
    assert_eq!(leaders.next().await?.leader().unwrap().value, "a:81");
    assert!(first.resign().await?);
    let second = waits.await.unwrap()?;
    assert!(second.number() > seen.term);
    loop {
        match leaders.next().await? {
            Leadership::Vacant => {}
            Leadership::Leader(leader) => {
                assert_eq!((leader.term, &*leader.candidate), (second.number(), "b"));
                break;
            }
        }
    }
    assert_eq!(candidate(&p.kv, "sees").leader().await?.unwrap().term, second.number());
    second.resign().await?;
    assert_eq!(leaders.next().await?, Leadership::Vacant, "the end is told");
    assert!(candidate(&p.kv, "sees").leader().await?.is_none());
    drop(leaders);
    p.only_left(&["app/leader/leader"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_candidate_whose_future_is_dropped_never_leads() -> Result<()> {
    let p = pair().await;
    let first = candidate(&p.kv, "a").campaign().await?;
    let gone = candidate(&p.other, "b");
    assert!(tokio::time::timeout(30 * S, gone.campaign()).await.is_err());
    first.resign().await?;
    tokio::time::sleep(30 * S).await;
    assert!(p.other.lock_holder(NAME).await?.is_none(), "nobody holds what nobody waits for");
    p.only_left(&["app/leader/leader"]).await;
    Ok(())
}

#[test]
fn a_killed_leader_is_followed_within_the_ttl() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (memory, killed, stays) = (Memory::new(), runtime(), runtime());
    let ttl = Duration::from_secs(5);
    let dead = Election::new(&Kv::new(memory.clone()), NAME).ttl(ttl);
    let term = killed.block_on(dead.campaign()).unwrap();
    let number = term.number();
    drop(killed); // and with the runtime every task that renewed
    assert!(!term.is_held());
    let next = Election::new(&Kv::new(memory.with_prefix("")), NAME).ttl(ttl);
    let next = stays.block_on(async { tokio::time::timeout(30 * S, next.campaign()).await });
    assert!(next.unwrap().unwrap().number() > number);
}

#[tokio::test(start_paused = true)]
async fn the_store_refuses_what_a_deposed_leader_writes() -> Result<()> {
    let p = pair().await;
    let old = candidate(&p.kv, "a").campaign().await?;
    p.faults.evict_lock(NAME)?;
    let new = candidate(&p.other, "b").campaign().await?;
    p.other.put("plan", "new").fenced(&new).await?;
    let late = p.kv.put("plan", "old").fenced(&old).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LockLost);
    assert_eq!(old.proclaim("old").await.unwrap_err().kind(), ErrorKind::LockLost);
    assert_eq!(old.lost().await.kind(), ErrorKind::LockLost);
    assert_eq!(candidate(&p.kv, "sees").leader().await?.unwrap().value, "b:80");
    assert!(!old.resign().await?, "it led no longer");
    assert!(new.is_held(), "the old one resigns for itself alone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_give_one_term_and_the_newest_words() -> Result<()> {
    for (lost, done) in (0..6).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        let plan = |times| match done {
            true => p.faults.lose_answers(times),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, times),
        };
        plan(lost);
        let term = candidate(&p.kv, "a").campaign().await?;
        plan(lost);
        term.proclaim("two").await?;
        p.faults.clear();
        let leader = candidate(&p.other, "sees").leader().await?.expect("it leads");
        assert_eq!((leader.term, &*leader.value), (term.number(), &b"two"[..]), "{lost} {done}");
        assert!(p.other.new_lock(NAME).try_acquire().await?.is_none());
        term.resign().await?;
        p.only_left(&["app/leader/leader"]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_said_later_stays() -> Result<()> {
    let p = pair().await;
    let term = candidate(&p.kv, "a").campaign().await?;
    for polls in 1..12 {
        drop(polled(term.proclaim("dropped"), polls).await);
        term.proclaim(format!("{polls}")).await?;
        tokio::time::sleep(S).await;
        let said = candidate(&p.other, "sees").leader().await?.unwrap().value;
        assert_eq!(said, format!("{polls}"));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_an_error_and_not_nobody() -> Result<()> {
    let p = pair().await;
    p.kv.put("app/leader/leader", "not ours").await?;
    let refused = candidate(&p.kv, "a").campaign().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains("app/leader/leader"), "{refused}");
    assert_eq!(p.kv.get("app/leader/leader").await?.unwrap().text(), Some("not ours"), "it is left alone");

    let mut leaders = candidate(&p.other, "sees").observe().await?;
    assert_eq!(leaders.next().await.unwrap_err().kind(), ErrorKind::Corrupt);
    p.kv.delete("app/leader/leader").await?;
    let term = candidate(&p.kv, "a").campaign().await?;
    until("it goes on", async || leaders.next().await.unwrap().leader().is_some()).await;
    term.resign().await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_is_cut_off_goes_on_and_says_nothing_false() -> Result<()> {
    let p = pair().await;
    let first = candidate(&p.other, "a").campaign().await?;
    let mut leaders = candidate(&p.kv, "sees").observe().await?;
    assert_eq!(leaders.next().await?.leader().unwrap().term, first.number());
    p.faults.pause();
    first.resign().await?;
    let second = candidate(&p.other, "b").campaign().await?;
    assert!(tokio::time::timeout(60 * S, leaders.next()).await.is_err(), "it hears nothing");
    p.faults.resume();
    p.faults.cut_watches();
    loop {
        if let Leadership::Leader(leader) = leaders.next().await? {
            assert_eq!(leader.term, second.number(), "a term that is over is not told again");
            break;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_campaign_that_is_dropped_at_any_poll_leaves_nothing() -> Result<()> {
    let mut finished = false;
    for polls in 1.. {
        let p = pair().await;
        p.faults.lose_answers(1);
        p.faults.fail(Calls::Writes, ErrorKind::Unavailable, 1);
        match polled(candidate(&p.kv, "a").campaign(), polls).await {
            Some(term) => {
                finished = true;
                drop(term?);
            }
            None => assert!(!finished),
        }
        p.only_left(&["app/leader/leader"]).await;
        assert!(p.other.lock_holder(NAME).await?.is_none());
        if finished {
            break;
        }
        assert!(polls < 1000);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn closing_ends_campaigns_terms_and_observers() -> Result<()> {
    let p = pair().await;
    let term = candidate(&p.kv, "a").campaign().await?;
    let mut leaders = candidate(&p.kv, "sees").observe().await?;
    leaders.next().await?;
    let waits = tokio::spawn({
        let b = candidate(&p.kv, "b");
        async move { b.lead(|_| std::future::pending::<Result<()>>()).await }
    });
    tokio::time::sleep(S).await;
    p.kv.close().await?;
    assert!(!term.is_held());
    assert_eq!(term.lost().await.kind(), ErrorKind::Closed);
    assert_eq!(waits.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let ended = async {
        loop {
            if let Err(e) = leaders.next().await {
                return e.kind();
            }
        }
    };
    assert_eq!(tokio::time::timeout(S, ended).await.unwrap(), ErrorKind::Closed);
    assert!(p.other.new_lock(NAME).acquire_within(10 * MS).await?.is_some(), "it was given back");
    Ok(())
}
