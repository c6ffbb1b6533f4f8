//! Barriers, and what happens once.

mod common;

use common::{S, layer::Layer, pair, polled, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_memory::Calls;
use kv_recipes::{Barrier, DoubleBarrier, Effects, Inside, Once, Ran};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};
use tokio::{sync::watch, task::JoinHandle};

#[tokio::test(start_paused = true)]
async fn a_barrier_holds_all_who_wait_until_it_is_lifted() -> Result<()> {
    let p = pair().await;
    let here = Barrier::new(&p.kv, "b");
    here.lift().await?; // what nobody raised
    here.wait().await?;
    here.raise().await?;
    here.raise().await?;
    let waits: Vec<_> = [&p.kv, &p.other]
        .map(|kv| {
            let barrier = Barrier::new(kv, "b");
            tokio::spawn(async move { barrier.wait().await })
        })
        .into();
    p.faults.pause();
    tokio::time::sleep(60 * S).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    Barrier::new(&p.other, "b").lift().await?;
    p.faults.resume();
    for wait in waits {
        wait.await.unwrap()?;
    }
    assert!(!here.is_raised().await?);
    p.only_left(&["b"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_barrier_is_as_it_was_set_last_whatever_answers_are_lost() -> Result<()> {
    for (lost, done) in (0..6).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        let barrier = Barrier::new(&p.kv, "b").deadline(600 * S);
        for raised in [true, false, false, true, true] {
            match done {
                true => p.faults.lose_answers(lost),
                false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
            }
            match raised {
                true => barrier.raise().await?,
                false => barrier.lift().await?,
            }
            p.faults.clear();
            assert_eq!(Barrier::new(&p.other, "b").is_raised().await?, raised);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_late_request_changes_no_barrier_that_was_set_since() -> Result<()> {
    let p = pair().await;
    let barrier = Barrier::new(&p.kv, "b");
    barrier.raise().await?;
    let seen = p.kv.get("b").await?.unwrap();
    barrier.lift().await?;
    barrier.lift().await?; // it changes nothing, but the version
    let late = p.kv.put("b", &seen.value).if_version(seen.version).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::KeyModified);
    assert!(p.kv.put("b", &seen.value).if_missing().await.is_err());
    p.kv.put("b", "no barrier").await?;
    for refused in [barrier.raise().await, barrier.wait().await, barrier.is_raised().await.map(drop)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    p.faults.pause();
    let short = barrier.deadline(S);
    assert_ne!(short.is_raised().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(short.raise().await.unwrap_err().kind(), ErrorKind::Timeout, "nothing was sent");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_behind_a_lost_answer_does_not_say_that_nothing_was_changed() -> Result<()> {
    let p = pair().await;
    let barrier = Barrier::new(&p.kv, "b");
    p.faults.lose_answers(1);
    let refuses = async {
        while p.faults.planned() > 0 {
            tokio::task::yield_now().await;
        }
        p.faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    };
    let (raised, ()) = tokio::join!(barrier.raise(), refuses);
    assert_eq!(raised.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert!(barrier.is_raised().await?);
    p.faults.fail(Calls::Reads, ErrorKind::PermissionDenied, 1);
    assert_eq!(barrier.lift().await.unwrap_err().kind(), ErrorKind::PermissionDenied, "nothing was sent");
    Ok(())
}

fn step(kv: &Kv) -> DoubleBarrier {
    DoubleBarrier::new(kv, "step", 3).ttl(9 * S)
}

fn enters(kv: &Kv) -> JoinHandle<Result<Inside>> {
    let step = step(kv);
    tokio::spawn(async move { step.enter().await })
}

#[tokio::test(start_paused = true)]
async fn members_go_in_together_and_come_out_together_again_and_again() -> Result<()> {
    let p = pair().await;
    let (inside, rounds) = (Arc::new(AtomicU32::new(0)), 20);
    let members: Vec<_> = (0..3)
        .map(|n| {
            let (step, inside) = (step(if n == 0 { &p.kv } else { &p.other }), inside.clone());
            tokio::spawn(async move {
                for round in 1..=rounds {
                    tokio::time::sleep(n * S).await;
                    let here = step.enter().await?;
                    assert_eq!(here.round(), round);
                    inside.fetch_add(1, SeqCst);
                    tokio::time::sleep(n * S).await;
                    here.leave().await?;
                    assert!(inside.load(SeqCst) as u64 >= 3 * round, "all were in before one is out");
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for member in members {
        member.await.unwrap()?;
    }
    assert_eq!(u64::from(inside.load(SeqCst)), 3 * rounds);
    p.only_left(&["step/opened"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_gone_is_waited_for_no_longer() -> Result<()> {
    let p = pair().await;
    let (one, two) = (enters(&p.other), enters(&p.kv));
    tokio::time::sleep(S).await;
    p.faults.pause(); // before the round opens: another must come in its place
    tokio::time::sleep(30 * S).await;
    let three = enters(&p.other);
    tokio::time::sleep(S).await;
    assert!(!one.is_finished() && !three.is_finished());
    p.faults.resume();
    let (one, two, three) = (one.await.unwrap()?, two.await.unwrap()?, three.await.unwrap()?);
    assert_eq!((one.round(), two.round(), three.round()), (1, 1, 1));

    p.faults.pause(); // inside: the others do not wait for it
    let next = enters(&p.other);
    let (one, three) = tokio::join!(one.leave(), three.leave());
    one?;
    three?;
    assert!(!two.is_held());
    assert_eq!(two.lost().await.kind(), ErrorKind::LeaseLost);
    p.faults.resume();
    let more = [enters(&p.other), enters(&p.kv)];
    for member in more.into_iter().chain([next]) {
        assert_eq!(member.await.unwrap()?.round(), 2);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_keep_no_member_out() -> Result<()> {
    for (lost, done) in (0..8).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        match done {
            true => p.faults.lose_answers(lost),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
        }
        let members = [enters(&p.kv), enters(&p.other), enters(&p.kv)];
        let mut inside = Vec::new();
        for member in members {
            inside.push(member.await.unwrap()?);
        }
        assert!(inside.iter().all(|inside| inside.round() == 1), "{lost} {done}: {inside:?}");
        assert_eq!(p.other.list("step/members").await?.len(), 3, "{lost} {done}");
        drop(inside);
        p.only_left(&["step/opened"]).await;
    }
    for polls in 1..50 {
        let p = pair().await;
        p.faults.lose_answers(2);
        drop(polled(step(&p.kv).enter(), polls).await);
        p.only_left(&["step/opened"]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_member_that_comes_behind_the_opening_waits_for_the_next_round() -> Result<()> {
    let p = pair().await;
    let (go, held_up) = watch::channel(false);
    let late = Layer::busy(&p.memory, move |key| {
        let (mut held_up, is_member) = (held_up.clone(), key.as_str().starts_with("step/members/"));
        Box::pin(async move {
            if is_member {
                drop(held_up.wait_for(|go| *go).await);
            }
        })
    });
    let late = enters(&late);
    tokio::time::sleep(S).await; // it knows which round is open, and is not there yet
    let mut inside = Vec::new();
    for member in [enters(&p.other), enters(&p.other), enters(&p.kv)] {
        inside.push(member.await.unwrap()?);
    }
    go.send_replace(true);
    tokio::time::sleep(S).await;
    assert!(!late.is_finished(), "the round was opened without it");
    let leaving: Vec<_> = inside.into_iter().map(|inside| tokio::spawn(inside.leave())).collect();
    for member in leaving {
        member.await.unwrap()?;
    }
    let next = [enters(&p.other), enters(&p.kv), late];
    for member in next {
        assert_eq!(member.await.unwrap()?.round(), 2);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_round_is_told_and_left_alone() -> Result<()> {
    for junk in ["junk", r#"{"v":1,"round":18446744073709551615,"members":[]}"#] {
        let p = pair().await;
        p.other.put("step/opened", junk).await?;
        let refused = step(&p.kv).enter().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.to_string().contains("step/opened"), "{refused}");
        assert_eq!(p.other.get("step/opened").await?.unwrap().text(), Some(junk));
        p.only_left(&["step/opened"]).await;
    }
    Ok(())
}

/// Counts how often the function ran, and writes what two keys show if it happens twice.
async fn migrate(kv: &Kv, runs: &AtomicU32) -> Result<Ran> {
    let count = |effects: Effects| async move {
        runs.fetch_add(1, SeqCst);
        let seen = kv.get("count").await?;
        let now = seen.as_ref().and_then(|entry| entry.text()?.parse::<u32>().ok()).unwrap_or(0) + 1;
        Ok::<_, Error>(effects.then(kv.put("count", now.to_string())).then(kv.put("done", "yes")))
    };
    Once::new(kv, "migration").ttl(9 * S).run(count).await
}

#[tokio::test(start_paused = true)]
async fn it_happens_once_whoever_tries_and_whatever_answers_are_lost() -> Result<()> {
    for (lost, done) in (0..8).flat_map(|lost| [(lost, true), (lost, false)]) {
        let (p, runs) = (pair().await, AtomicU32::new(0));
        match done {
            true => p.faults.lose_answers(lost),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
        }
        let (one, two, three) =
            tokio::join!(migrate(&p.kv, &runs), migrate(&p.other, &runs), migrate(&p.kv, &runs));
        let ran = [one?, two?, three?];
        assert_eq!(ran.iter().filter(|ran| **ran == Ran::Now).count(), 1, "{lost} {done}");
        assert_eq!(p.other.get("count").await?.unwrap().text(), Some("1"));
        assert_eq!(migrate(&p.other, &runs).await?, Ran::Before);
        assert!(Once::new(&p.other, "migration").is_done().await?);
        p.only_left(&["migration", "count", "done"]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_paused_is_followed_and_its_writes_come_too_late() -> Result<()> {
    let (p, runs) = (pair().await, AtomicU32::new(0));
    let slow = Once::new(&p.kv, "migration").ttl(9 * S);
    let (kv, faults) = (&p.kv, &p.faults);
    let slow = slow.run(|effects: Effects| async move {
        faults.pause();
        tokio::time::sleep(5 * S).await;
        Ok::<_, Error>(effects.then(kv.put("count", "slow")))
    });
    let other = async {
        tokio::time::sleep(S).await;
        let ran = migrate(&p.other, &runs).await;
        p.faults.resume();
        ran
    };
    let (slow, other) = tokio::join!(slow, other);
    assert_eq!((slow?, other?), (Ran::Before, Ran::Now));
    assert_eq!(p.other.get("count").await?.unwrap().text(), Some("1"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_condition_leaves_it_to_be_done() -> Result<()> {
    let (p, runs) = (pair().await, AtomicU32::new(0));
    let once = Once::new(&p.kv, "migration");
    let failed = once.run(|_| async { Err(Error::new(ErrorKind::Other, "mine")) }).await;
    assert_eq!(failed.unwrap_err().message(), "mine");
    p.kv.put("there", "").await?;
    let kv = &p.kv;
    let late = |all: Effects| async move { Ok::<_, Error>(all.then(kv.put("there", "").if_missing())) };
    let refused = once.run(late).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyModified);
    assert!(refused.to_string().contains("\"there\""), "{refused}");
    assert!(!once.is_done().await?);
    for polls in 1..30 {
        p.faults.lose_answers(2);
        let dropped = polled(migrate(&p.kv, &runs), polls).await;
        p.faults.clear();
        let count = p.other.get("count").await?;
        assert_eq!(count.is_some(), once.is_done().await?, "not half done");
        drop(dropped);
    }
    assert_eq!(p.other.get("count").await?.unwrap().text(), Some("1"));
    until("the lock is free", async || p.other.lock_holder("migration").await.unwrap().is_none()).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_key_is_deleted_knows_it_inside_and_comes_again_outside() -> Result<()> {
    let p = pair().await;
    let step = |kv: &Kv| DoubleBarrier::new(kv, "step", 2).ttl(9 * S);
    let (one, two) = (step(&p.kv), step(&p.other));
    let waits = tokio::spawn(async move { one.enter().await });
    tokio::time::sleep(S).await;
    p.other.delete_tree("step/members").await?;
    let both = async { tokio::join!(two.enter(), waits) };
    let (two, one) = tokio::time::timeout(60 * S, both).await.expect("it comes again");
    let (one, two) = (one.unwrap()?, two?);
    let losses = Box::pin(async { tokio::join!(one.lost(), two.lost()) });
    let deleted = Box::pin(async {
        tokio::time::sleep(S).await;
        p.other.delete_tree("step/members").await
    });
    let told = tokio::time::timeout(60 * S, async { tokio::join!(losses, deleted).0 }).await;
    let (why, other) = told.expect("they are told");
    assert_eq!((why.kind(), other.kind()), (ErrorKind::LeaseLost, ErrorKind::LeaseLost));
    assert!(!one.is_held() && !two.is_held());
    one.leave().await?;
    two.leave().await?;
    p.only_left(&["step/opened"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_the_effects_that_has_ended_is_told() -> Result<()> {
    let p = pair().await;
    let lease = p.kv.lease(9 * S).await?;
    assert!(p.faults.evict_lease(lease.id()));
    let (once, kv, lease) = (Once::new(&p.kv, "migration"), &p.kv, &lease);
    let made = |all: Effects| async move { Ok::<_, Error>(all.then(kv.put("there", "").lease(lease))) };
    let ran = tokio::time::timeout(60 * S, once.run(made)).await;
    let refused = ran.expect("it is not tried again and again").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost, "{refused}");
    assert!(!once.is_done().await? && p.other.get("there").await?.is_none());
    until("the lock is free", async || p.other.lock_holder("migration").await.unwrap().is_none()).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_marker_does_not_count_as_done() -> Result<()> {
    let p = pair().await;
    let once = Once::new(&p.kv, "migration");
    assert!(!once.is_done().await?);
    p.other.put("migration", "junk").await?;
    assert_eq!(once.is_done().await.unwrap_err().kind(), ErrorKind::Corrupt);
    let ran = once.run(|all: Effects| async move { Ok::<_, Error>(all) }).await;
    assert_eq!(ran.unwrap_err().kind(), ErrorKind::Corrupt);
    Ok(())
}
