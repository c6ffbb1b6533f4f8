//! Ticks: one of us, each period.

mod common;

use common::{Pair, S, pair, until};
use kv_core::{ErrorKind, Kv, Result};
use kv_memory::Calls;
use kv_recipes::{Tick, Ticks};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

const PERIOD: u32 = 60;

/// One run of a tick: who ran it, when it began, and when it ended, or was dropped.
#[derive(Clone, Debug)]
struct Run {
    member: &'static str,
    number: u64,
    is_again: bool,
    began: Instant,
    ended: Option<Instant>,
}

type Runs = Arc<Mutex<Vec<Run>>>;

/// Notes the end of a run, also of one that is dropped.
struct Ends(Runs, usize);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().unwrap()[self.1].ended = Some(Instant::now());
    }
}

/// Starts a member, whose work takes this long.
fn member(kv: &Kv, name: &'static str, runs: &Runs, takes: u32) -> JoinHandle<ErrorKind> {
    let (ticks, runs) = (Ticks::every(kv, "tick", PERIOD * S).ttl(9 * S), runs.clone());
    tokio::spawn(async move {
        let work = |tick: Tick| {
            let (number, is_again) = (tick.number(), tick.is_again());
            let run = Run { member: name, number, is_again, began: Instant::now(), ended: None };
            let mut all = runs.lock().unwrap();
            all.push(run);
            let ends = Ends(runs.clone(), all.len() - 1);
            drop(all);
            async move {
                let _ends = ends;
                tokio::time::sleep(takes * S).await;
            }
        };
        ticks.run(work).await.kind()
    })
}

/// Checks that one ran at a time, and each tick so long behind the begin of the one before.
fn assert_one_at_a_time(runs: &Runs, apart: Duration) -> Vec<Run> {
    let runs = runs.lock().unwrap().clone();
    for two in runs.windows(2) {
        let [last, next] = two else { unreachable!() };
        assert!(last.ended.expect("it ended") <= next.began, "two run at once: {two:?}");
        if next.is_again {
            assert_eq!(next.number, last.number);
        } else {
            assert_eq!(next.number, last.number + 1);
            let first = runs.iter().find(|run| run.number == last.number).unwrap();
            assert!(next.began - first.began >= apart, "too early: {first:?} {next:?}");
        }
    }
    runs
}

async fn runs_are(runs: &Runs, number: usize) {
    until("the ticks run", async || runs.lock().unwrap().len() >= number).await;
}

async fn done(p: &Pair, members: impl IntoIterator<Item = JoinHandle<ErrorKind>>) {
    for member in members {
        member.abort();
        assert!(member.await.unwrap_err().is_cancelled());
    }
    p.only_left(&["tick"]).await;
}

#[tokio::test(start_paused = true)]
async fn each_tick_is_run_by_one_of_them_a_period_apart() -> Result<()> {
    let (p, runs) = (pair().await, Runs::default());
    let names = ["a", "b", "c", "d"];
    let members = names.map(|name| member(if name < "c" { &p.kv } else { &p.other }, name, &runs, 10));
    tokio::time::sleep(3600 * S).await;
    let all = assert_one_at_a_time(&runs, PERIOD * S);
    assert!((55..=60).contains(&all.len()), "{}", all.len());
    assert!(all.iter().all(|run| !run.is_again));
    done(&p, members).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_dies_or_is_cut_off_while_it_runs_is_followed_by_another() -> Result<()> {
    let (p, runs) = (pair().await, Runs::default());
    let first = member(&p.kv, "first", &runs, 30);
    runs_are(&runs, 1).await;
    let others = ["x", "y"].map(|name| member(&p.other, name, &runs, 5));
    tokio::time::sleep(S).await;
    p.faults.pause();
    runs_are(&runs, 2).await;
    {
        let runs = runs.lock().unwrap();
        assert!(runs[1].is_again && runs[1].number == 1 && runs[1].member != "first");
        assert!(runs[1].began - runs[0].began < 12 * S, "within the TTL and its lateness");
    }
    p.faults.resume();
    tokio::time::sleep(600 * S).await;
    done(&p, others.into_iter().chain([first])).await;
    assert_one_at_a_time(&runs, PERIOD * S);

    // One that is dropped while it runs.
    let runs = Runs::default();
    let first = member(&p.kv, "first", &runs, 30);
    runs_are(&runs, 1).await; // a period after the others, though nobody told it when that was
    let next = member(&p.other, "next", &runs, 5);
    tokio::time::sleep(S).await;
    first.abort();
    runs_are(&runs, 2).await;
    let all = runs.lock().unwrap().clone();
    assert!(all[1].is_again && all[1].member == "next" && all[1].began - all[0].began < 3 * S);
    done(&p, [next]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_run_no_tick_twice() -> Result<()> {
    let (p, runs) = (pair().await, Runs::default());
    let members = ["a", "b", "c"].map(|name| member(&p.kv, name, &runs, 1));
    for turn in 0..300 {
        match turn % 3 {
            0 => p.faults.lose_answers(1),
            1 => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 1),
            _ => p.faults.fail(Calls::Reads, ErrorKind::Unavailable, 1),
        }
        if turn % 10 == 0 {
            p.faults.cut_watches();
        }
        tokio::time::sleep(15 * S).await;
    }
    // Who runs a tick may hear later than the others that it has begun.
    let all = assert_one_at_a_time(&runs, (PERIOD - 5) * S);
    assert!(all.len() > 50 && all.iter().all(|run| !run.is_again), "{all:?}");
    p.faults.clear();
    done(&p, members).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_ends_it_is_returned() -> Result<()> {
    let p = pair().await;
    let ends = async |ticks: Ticks| ticks.run(|_| async {}).await.kind();
    assert_eq!(ends(Ticks::every(&p.kv, "..", S)).await, ErrorKind::InvalidKey);
    assert_eq!(ends(Ticks::every(&p.kv, "tick", Duration::ZERO)).await, ErrorKind::InvalidArgument);
    let last = r#"{"v":1,"number":18446744073709551615,"ended":true,"id":"x"}"#;
    for junk in ["no record", last] {
        p.kv.put("tick", junk).await?;
        assert_eq!(ends(Ticks::every(&p.kv, "tick", S)).await, ErrorKind::Corrupt);
        assert_eq!(p.other.get("tick").await?.unwrap().text(), Some(junk), "it is left alone");
    }
    let runs = Runs::default();
    let member = member(&p.kv, "a", &runs, 1);
    p.kv.close().await?;
    assert!([ErrorKind::Closed, ErrorKind::Corrupt].contains(&member.await.unwrap()));
    Ok(())
}
