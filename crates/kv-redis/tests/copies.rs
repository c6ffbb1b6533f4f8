//! Copies of requests that arrive late: a connection that was given up still delivered them.

mod common;

use common::{Reply, Resp, single};
use kv_testsuite::{Failure, failover::soon};
use std::time::Duration;

/// Reads what the server is asked for, as its `MONITOR` tells, until a later step of a renewal
/// comes, and returns the words of that request.
async fn later_step(monitor: &mut Resp) -> Result<Vec<String>, Failure> {
    loop {
        let line = monitor.next().await?.text();
        let Some((_, words)) = line.split_once("] ") else { continue };
        let words: Vec<_> = words.trim_matches('"').split("\" \"").map(str::to_owned).collect();
        // The TTL, the end that the first step gave, and where to go on.
        if let [command, .., order, _, till, from] = &*words
            && (command.as_str(), order.as_str()) == ("EVALSHA", "renew")
            && !till.is_empty()
            && from != "0"
        {
            return Ok(words);
        }
    }
}

/// A step of an earlier renewal, which names an end that is over by now, ends no key of a lease
/// that was renewed since.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_step_of_a_renewal_ends_nothing() -> Result<(), Failure> {
    const KEYS: usize = 4000;
    let node = single("redis").await?;
    let kv = kv_redis::open(&format!("redis://{}/late/", node.address)).await?;
    let (mut resp, mut monitor) = (node.resp().await?, node.resp().await?);
    let lease = kv.lease(Duration::from_secs(8)).await?;
    let names: Vec<_> = (0..KEYS).map(|n| format!("d/{n}")).collect();
    for names in names.chunks(500) {
        let steps =
            names.iter().fold(kv.transact(), |steps, name| steps.then(kv.put(name, "v").lease(&lease)));
        assert!(steps.await?.is_committed());
    }
    monitor.say("MONITOR").await?;
    let step = soon("a renewal", later_step(&mut monitor)).await??;
    drop(monitor);
    let till: u64 = step[step.len() - 2].parse()?;
    soon("the end that it names", async {
        loop {
            let time = resp.say("TIME").await?.list();
            if time[0].text().parse::<u64>()? * 1000 > till {
                break Ok::<_, Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await??;
    let step: Vec<_> = step.iter().map(String::as_bytes).collect();
    let answer = resp.ask(&step).await?;
    assert!(matches!(&answer, Reply::List(parts) if parts.len() == 2), "{answer:?}");
    let there = resp.ask(&[b"EVAL", b"return #redis.call('KEYS', 'late/d/*')", b"0"]).await?;
    assert_eq!((there, lease.is_held()), (Reply::Number(KEYS as i64), true));
    assert!(lease.revoke().await?);
    Ok(())
}
