//! Counters and ids, whatever answers are lost.

mod common;

use common::{S, layer::Layer, pair, polled};
use futures::future::{join_all, try_join_all};
use kv_core::{Error, ErrorKind, Result};
use kv_memory::Calls;
use kv_recipes::{Counter, IdBlocks};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// 64 callers, each with a counter of its own, while every tenth answer is lost: half of the writes
/// behind those were done.
#[tokio::test(start_paused = true)]
async fn every_change_counts_once_though_every_tenth_answer_is_lost() -> Result<()> {
    const CALLERS: usize = 64;
    const CHANGES: usize = 50;
    let (p, calls) = (pair().await, Arc::new(AtomicUsize::new(0)));
    let callers = (0..CALLERS).map(|_| {
        let (kv, faults, calls) = (p.kv.clone(), p.faults.clone(), calls.clone());
        async move {
            let hits = Counter::new(&kv, "hits").deadline(600 * S);
            for _ in 0..CHANGES {
                match calls.fetch_add(1, SeqCst) % 20 {
                    3 => faults.lose_answers(1),
                    13 => faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 1),
                    _ => {}
                }
                hits.add(1).await?;
            }
            Ok::<_, Error>(())
        }
    });
    let callers = callers.map(tokio::spawn).map(|caller| async move { caller.await.unwrap() });
    try_join_all(callers).await?;
    p.faults.clear();
    assert_eq!(Counter::new(&p.other, "hits").get().await?, (CALLERS * CHANGES) as i64);
    assert_eq!(p.other.get("hits").await?.unwrap().text(), Some("3200"));
    p.only_left(&["hits"]).await;
    Ok(())
}

/// One counts as fast as it can, and knows the number by its own last change; another has to read it first,
/// and would be late each time. Writes take a moment on their way.
#[tokio::test(start_paused = true)]
async fn who_counts_without_a_pause_leaves_others_their_turn() -> Result<()> {
    let p = pair().await;
    let far = || Layer::busy(&p.memory, |_| Box::pin(tokio::time::sleep(Duration::from_millis(2))));
    let (fast, slow) = (Counter::new(&far(), "hits"), Counter::new(&far(), "hits"));
    fast.add(1).await?;
    let counts = async {
        loop {
            fast.add(1).await?;
        }
    };
    let counts_beside = async {
        for _ in 0..5 {
            slow.add(1).await?;
        }
        Ok(())
    };
    tokio::select! {
        failed = counts => failed,
        done = counts_beside => done,
    }
}

#[tokio::test(start_paused = true)]
async fn many_answers_of_one_change_may_be_lost() -> Result<()> {
    for lost in 0..12 {
        let p = pair().await;
        let hits = Counter::new(&p.kv, "hits").deadline(600 * S);
        assert_eq!(hits.add(-7).await?, -7);
        for turn in 0..lost {
            match turn % 2 {
                0 => p.faults.lose_answers(1),
                _ => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 1),
            }
            p.faults.fail(Calls::Reads, ErrorKind::Unavailable, 1);
        }
        assert_eq!(hits.add(10).await?, 3, "{lost}");
        p.faults.clear();
        assert_eq!((hits.add(1).await?, hits.get().await?), (4, 4));
    }
    Ok(())
}

/// The answer of a change is lost, and then the marker with its lease, in an outage that is longer
/// than the TTL.
#[tokio::test(start_paused = true)]
async fn without_the_marker_it_says_that_it_does_not_know_or_knows_that_nothing_was_added() -> Result<()> {
    for (done, others_change) in [(true, false), (false, false), (false, true)] {
        let p = pair().await;
        let hits = Counter::new(&p.kv, "hits").ttl(2 * S).deadline(600 * S);
        hits.add(1).await?;
        match done {
            true => p.faults.lose_answers(1),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 1),
        }
        let cut_off = async {
            while p.faults.planned() > 0 {
                tokio::task::yield_now().await;
            }
            p.faults.pause();
            tokio::time::sleep(30 * S).await;
            if others_change {
                Counter::new(&p.other, "hits").add(100).await.unwrap();
            }
            p.faults.resume();
        };
        let (added, ()) = tokio::join!(hits.add(10), cut_off);
        let now = Counter::new(&p.other, "hits").get().await?;
        match (done, others_change) {
            (true, _) => {
                assert_eq!(added.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
                assert_eq!(now, 11);
            }
            (false, true) => {
                assert_eq!(added.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
                assert_eq!(now, 101);
            }
            (false, false) => assert_eq!((added?, now), (11, 11), "nothing was added, so it was tried again"),
        }
        assert_eq!(hits.add(1).await?, now + 1, "the counter goes on");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_within_the_deadline_and_says_whether_it_may_be_done() -> Result<()> {
    let p = pair().await;
    let hits = Counter::new(&p.kv, "hits").deadline(4 * S);
    hits.add(1).await?;
    p.faults.pause();
    let began = tokio::time::Instant::now();
    assert_eq!(hits.add(1).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown, "it may have been sent");
    let fresh = Counter::new(&p.kv, "hits").deadline(4 * S);
    assert_ne!(fresh.get().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert!(began.elapsed() < 9 * S, "{:?}", began.elapsed());
    p.faults.resume();
    p.faults.fail(Calls::Any, ErrorKind::Unavailable, 1000);
    assert_eq!(hits.add(1).await.unwrap_err().kind(), ErrorKind::Unavailable, "nothing was sent");
    p.faults.clear();
    p.faults.fail(Calls::Writes, ErrorKind::PermissionDenied, 1);
    assert_eq!(hits.add(1).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(Counter::new(&p.other, "hits").get().await?, 1, "the paused ones were not done");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_dropped_happens_once_or_not_and_confuses_nobody() -> Result<()> {
    let p = pair().await;
    let hits = Counter::new(&p.kv, "hits").deadline(600 * S);
    let mut sum = 0;
    for polls in 1..40 {
        p.faults.lose_answers(polls % 3);
        let done = polled(hits.add(1), polls).await.transpose()?;
        p.faults.clear();
        let now = hits.get().await?;
        assert!(done.map_or(now == sum || now == sum + 1, |done| done == now && now == sum + 1), "{polls}");
        assert_eq!(hits.add(1).await?, now + 1);
        sum = now + 1;
    }
    drop(hits);
    p.only_left(&["hits"]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_number_is_left_alone_and_sums_do_not_wrap() -> Result<()> {
    let p = pair().await;
    p.kv.put("hits", "many").await?;
    let hits = Counter::new(&p.kv, "hits");
    let refused = hits.add(1).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Corrupt && refused.to_string().contains("\"hits\""), "{refused}");
    assert_eq!(hits.get().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(p.kv.get("hits").await?.unwrap().text(), Some("many"));
    p.kv.put("hits", i64::MAX.to_string()).await?;
    assert_eq!(hits.add(1).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(hits.add(-1).await?, i64::MAX - 1);
    p.kv.delete("hits").await?; // somebody begins anew
    assert_eq!(hits.add(5).await?, 5);
    Ok(())
}

/// Another process has died in the line of those who were too late often.
#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_move_holds_up_nobody() -> Result<()> {
    let (p, left) = (pair().await, AtomicUsize::new(6));
    let _dead = p.other.new_lock("hits/callers").acquire().await?;
    let other = p.other.clone();
    let kv = Layer::busy(&p.memory, move |key| {
        let is_first = key.as_str() == "hits" && left.load(SeqCst) > 0;
        let others = is_first.then(|| other.put("hits", left.fetch_sub(1, SeqCst).to_string()));
        Box::pin(async move {
            if let Some(put) = others {
                put.await.unwrap();
            }
        })
    });
    assert_eq!(Counter::new(&kv, "hits").add(10).await?, 11, "though six times another was first");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_sum_is_too_great_only_if_the_number_of_now_makes_it_so() -> Result<()> {
    let p = pair().await;
    let hits = Counter::new(&p.kv, "hits");
    assert_eq!(hits.add(i64::MAX).await?, i64::MAX);
    p.other.put("hits", "5").await?;
    assert_eq!(hits.add(1).await?, 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_block_of_another_is_told_in_time() -> Result<()> {
    let p = pair().await;
    let ids = IdBlocks::new(&p.kv, "ids").deadline(4 * S);
    p.faults.pause();
    let began = tokio::time::Instant::now();
    for answer in join_all((0..9).map(|_| ids.next())).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(began.elapsed() < 5 * S, "{:?}", began.elapsed());
    p.faults.resume();
    assert!(ids.next().await? >= 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_id_comes_twice() -> Result<()> {
    let (p, calls) = (pair().await, Arc::new(AtomicUsize::new(0)));
    let callers = (0..16).map(|n: u64| {
        let ids = IdBlocks::new(&p.kv, "ids").size(1 + n % 5).deadline(600 * S);
        let (faults, calls) = (p.faults.clone(), calls.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..100 {
                match calls.fetch_add(1, SeqCst) % 10 {
                    3 => faults.lose_answers(1),
                    8 => faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, 1),
                    _ => {}
                }
                mine.push(ids.next().await?);
            }
            assert!(mine.is_sorted(), "the ids of one process grow");
            Ok::<_, Error>(mine)
        })
    });
    let all = try_join_all(callers.map(|caller| async move { caller.await.unwrap() })).await?.concat();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1600);
    p.faults.clear();
    let ids = IdBlocks::new(&p.kv, "ids");
    let next = ids.block(3).await?;
    assert!(all.iter().all(|id| *id < next.start));
    p.kv.put("ids", u64::MAX.to_string()).await?;
    assert_eq!(ids.block(1).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    Ok(())
}
