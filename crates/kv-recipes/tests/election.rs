//! Elections of candidates that wait in the order of asking.

mod common;

use common::{MS, S, pair, polled, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_memory::{Calls, Memory};
use kv_recipes::{Election, Leadership};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

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
    let ttl = Duration::from_millis(600);
    let dead = Election::new(&Kv::new(memory.clone()), NAME).ttl(ttl);
    let term = killed.block_on(dead.campaign()).unwrap();
    let number = term.number();
    drop(killed); // and with the runtime every task that renewed
    assert!(!term.is_held());
    let next = Election::new(&Kv::new(memory.with_prefix("")), NAME).ttl(ttl);
    let next = stays.block_on(async { tokio::time::timeout(5 * S, next.campaign()).await }).unwrap().unwrap();
    assert!(next.number() > number);
}

/// Counts who leads at one moment.
#[derive(Clone, Default)]
struct Account(Arc<(AtomicU32, AtomicU32)>);

struct Inside(Account);

impl Account {
    fn enter(&self) -> Inside {
        assert_eq!(self.0.0.fetch_add(1, SeqCst), 0, "two lead at once");
        self.0.1.fetch_add(1, SeqCst);
        Inside(self.clone())
    }
    fn terms(&self) -> u32 {
        self.0.1.load(SeqCst)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_before_another_leads_and_runs_again_after_a_reconnect() -> Result<()> {
    let (p, account) = (pair().await, Account::default());
    let leads = |kv: &Kv, name: &str| {
        let (election, account) = (candidate(kv, name), account.clone());
        tokio::spawn(async move {
            let lead = election.lead(|_| {
                let account = account.clone();
                async move {
                    let _inside = account.enter();
                    std::future::pending::<Result<()>>().await
                }
            });
            lead.await
        })
    };
    let a = leads(&p.kv, "a");
    until("the first leads", async || account.terms() == 1).await;
    let b = leads(&p.other, "b");
    for round in 0..5 {
        let before = account.terms();
        p.faults.pause(); // of the first alone
        tokio::time::sleep(30 * S).await;
        p.faults.resume();
        tokio::time::sleep(10 * S).await;
        // The second leads now, and the first waits in line: there are not two.
        let leader = candidate(&p.kv, "sees").leader().await?.expect("somebody leads");
        assert_eq!(&*leader.candidate, "b", "round {round}");
        assert!(account.terms() > before);
        p.faults.evict_lock(NAME)?; // so that the first leads again
        let by_a = async || {
            let leader = candidate(&p.other, "sees").leader().await.unwrap();
            leader.is_some_and(|leader| leader.candidate == "a")
        };
        until("the first leads again", by_a).await;
    }
    a.abort();
    b.abort();
    assert!(a.await.unwrap_err().is_cancelled() && b.await.unwrap_err().is_cancelled());
    p.only_left(&["app/leader/leader"]).await;
    Ok(())
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
async fn an_error_that_is_the_loss_does_not_end_the_candidate() -> Result<()> {
    let (p, runs) = (pair().await, AtomicU32::new(0));
    let election = candidate(&p.kv, "a");
    let led = election.lead(|term| {
        let (kv, faults, run) = (p.kv.clone(), p.faults.clone(), runs.fetch_add(1, SeqCst));
        async move {
            if run < 3 {
                faults.evict_lock(NAME)?; // nobody here has heard of it when the write is sent
            }
            kv.put("plan", format!("{run}")).fenced(&term).await
        }
    });
    led.await?;
    assert_eq!(runs.load(SeqCst), 4);
    assert_eq!(p.kv.get("plan").await?.unwrap().text(), Some("3"));
    assert!(p.kv.lock_holder(NAME).await?.is_none(), "it has resigned");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_work_ends_it_and_resigns() -> Result<()> {
    let p = pair().await;
    let election = candidate(&p.kv, "a");
    let failed = election.lead(|_| async { Err::<(), _>(Error::new(ErrorKind::Other, "mine")) });
    assert_eq!(failed.await.unwrap_err().message(), "mine");
    assert!(p.other.new_lock(NAME).try_acquire().await?.is_some());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_term_that_is_handed_on_ends_with_the_work() -> Result<()> {
    let p = pair().await;
    let (election, kept) = (candidate(&p.kv, "a"), Arc::new(Mutex::new(None)));
    let led = election.lead(|term| {
        let kept = kept.clone();
        async move {
            *kept.lock().unwrap() = Some(term);
            Ok::<_, Error>(())
        }
    });
    led.await?;
    let term = kept.lock().unwrap().take().unwrap();
    assert!(!term.is_held() && term.remaining().is_zero());
    assert_eq!(term.lost().await.kind(), ErrorKind::LockLost);
    assert!(p.other.new_lock(NAME).try_acquire().await?.is_some(), "though somebody still has the term");
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
