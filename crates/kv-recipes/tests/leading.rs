//! Work that is run by whoever leads.

mod common;

use common::{S, pair, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_recipes::Election;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

const NAME: &str = "app/leader";

fn candidate(kv: &Kv, name: &str) -> Election {
    Election::new(kv, NAME).candidate(name).ttl(9 * S)
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
async fn a_term_that_is_handed_on_ends_when_leading_is_given_up() -> Result<()> {
    let p = pair().await;
    let (election, kept) = (candidate(&p.kv, "a"), Arc::new(Mutex::new(None)));
    let led = election.lead(|term| {
        let kept = kept.clone();
        async move {
            *kept.lock().unwrap() = Some(term);
            std::future::pending::<Result<()>>().await
        }
    });
    assert!(tokio::time::timeout(S, led).await.is_err());
    let term = kept.lock().unwrap().take().unwrap();
    assert!(!term.is_held());
    until("the next can lead", async || p.other.lock_holder(NAME).await.unwrap().is_none()).await;
    assert_eq!(term.proclaim("late").await.unwrap_err().kind(), ErrorKind::LockLost);
    Ok(())
}
