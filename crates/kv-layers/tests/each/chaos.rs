//! `Chaos` does by chance what its counts then tell.

use kv_core::{Entry, ErrorKind, Kv, Result, WatchEvent};
use kv_layers::Chaos;
use std::time::Duration;

async fn under(chaos: &Chaos) -> Result<(Kv, Kv)> {
    let store = kv_memory::open("memory://").await?;
    Ok((store.clone(), store.layer(chaos.clone())))
}

/// Puts 200 keys, and tells of each how the put ended.
async fn endings(kv: &Kv) -> Vec<Option<ErrorKind>> {
    let mut endings = Vec::new();
    for n in 0..200 {
        endings.push(kv.put(format!("d/{n}"), "").await.err().map(|e| e.kind()));
    }
    endings
}

#[tokio::test]
async fn the_same_seed_does_the_same() -> Result<()> {
    let mut all = Vec::new();
    for seed in [1, 1, 2] {
        let (_, kv) = under(&Chaos::new(seed).failures(0.2).lost_answers(0.3)).await?;
        all.push(endings(&kv).await);
    }
    assert_eq!(all[0], all[1]);
    assert_ne!(all[0], all[2]);
    Ok(())
}

#[tokio::test]
async fn what_fails_was_not_done_and_what_is_lost_was_or_was_not() -> Result<()> {
    let chaos = Chaos::new(3).failures(0.2).lost_answers(0.3);
    let (store, kv) = under(&chaos).await?;
    let endings = endings(&kv).await;
    let (mut done, mut undone) = (0, 0);
    for (n, ended) in endings.iter().enumerate() {
        let is_there = store.exists(format!("d/{n}")).await?;
        match ended {
            None => assert!(is_there, "{n} was answered"),
            Some(ErrorKind::Unavailable) => assert!(!is_there, "{n} failed"),
            Some(ErrorKind::OutcomeUnknown) if is_there => done += 1,
            Some(ErrorKind::OutcomeUnknown) => undone += 1,
            Some(other) => panic!("{n} ended as {other}"),
        }
    }
    let counts = chaos.counts();
    assert_eq!((counts.lost_done, counts.lost_undone), (done, undone));
    assert!(done > 10 && undone > 10 && counts.failed > 10, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn a_pause_stops_it() -> Result<()> {
    let chaos = Chaos::new(5).failures(1.0);
    let (_, kv) = under(&chaos).await?;
    chaos.pause();
    kv.put("a", "1").await?;
    chaos.resume();
    assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(chaos.counts().failed, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_held_back_until_its_deadline_was_not_sent() -> Result<()> {
    let (store, kv) = under(&Chaos::new(7).delays(1.0, Duration::from_secs(3600))).await?;
    let mut late = 0;
    for n in 0..20 {
        let put = kv.put(format!("d/{n}"), "").deadline(Duration::from_secs(1)).await;
        if let Err(e) = put {
            assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
            assert!(!store.exists(format!("d/{n}")).await?);
            late += 1;
        }
    }
    assert!(late > 10, "{late}");
    Ok(())
}

#[tokio::test]
async fn locks_and_leases_whose_answers_are_lost_are_given_back() -> Result<()> {
    let chaos = Chaos::new(11).lost_answers(0.5);
    let (store, kv) = under(&chaos).await?;
    let ttl = Duration::from_secs(60);
    for _ in 0..20 {
        // The wait rides the losses out.
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        assert_eq!(store.lock_holder("l").await?.map(|holder| holder.token), Some(guard.token()));
        assert!(guard.release().await?);
        match kv.lease(ttl).await {
            Ok(lease) => assert!(lease.revoke().await?),
            Err(e) => assert_eq!(e.kind(), ErrorKind::OutcomeUnknown, "{e}"),
        }
    }
    assert!(chaos.counts().lost_done > 5, "{:?}", chaos.counts());
    // Closing waits until all of it is given back.
    store.close().await
}

fn count(found: Option<&Entry>) -> Result<String> {
    let number: u64 = found.and_then(Entry::text).map_or(0, |text| text.parse().expect("a number"));
    Ok((number + 1).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_are_made_exactly_once_under_it() -> Result<()> {
    let chaos = Chaos::new(13).failures(0.1).lost_answers(0.2).delays(0.2, Duration::from_millis(2));
    let (store, kv) = under(&chaos).await?;
    let mut watch = kv.watch_tree("").await?;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let kv = kv.clone().with_deadline(Duration::from_secs(60));
            tokio::spawn(async move {
                for _ in 0..10 {
                    // A read that fails before anything was written says that nothing was.
                    while let Err(e) = kv.update("n", count).exactly_once().await {
                        assert!(e.is_transient(), "{e}");
                    }
                }
                Ok::<_, kv_core::Error>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("it does not panic")?;
    }
    assert_eq!(store.get("n").await?.unwrap().text(), Some("80"));
    let counts = chaos.counts();
    assert!(counts.lost_done > 0 && counts.lost_undone > 0 && counts.delayed > 0, "{counts:?}");
    chaos.pause();
    // The watch was held back, and comes to what is there.
    loop {
        if let WatchEvent::Put(entry) = watch.event().await?
            && entry.key.as_str() == "n"
            && entry.value == "80"
        {
            return Ok(());
        }
    }
}
