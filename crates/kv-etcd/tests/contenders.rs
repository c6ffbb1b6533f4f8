//! Acquisitions that are over, and what they leave in a lock's queue.

mod common;

use common::{Node, single};
use kv_core::driver::WriteOptions;
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::{Duration, Instant};

/// Sets a TTL that is longer than a test takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(120);

/// Marks the request by which a contender asks who is before it: one name, the last created, no
/// value, up to a revision.
const WHO_IS_BEFORE: [u8; 9] = [0x18, 1, 0x28, 2, 0x30, 2, 0x40, 1, 0x68];

/// Counts the names in the queue of the lock `l`.
async fn in_line(node: &Node, prefix: &str) -> Result<usize, Failure> {
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let all = etcd_client::GetOptions::new().with_prefix().with_keys_only();
    Ok(tool.kv_client().get(format!("{prefix}\u{1}lock/l\u{1}"), Some(all)).await?.kvs().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_after_the_answer_to_its_repeat_puts_nobody_in_line() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let other = kv_etcd::open(&format!("etcd://{}/late/", node.address)).await?;
    for round in 0..10 {
        // The member behind the proxy is asked first.
        let kv = kv_etcd::open(&format!("etcd://{},{}/late/", proxy.address(), node.address)).await?;
        let kv = kv.with_deadline(Duration::from_secs(6));
        let held = kv.new_lock("held").ttl(TTL).acquire().await?;
        let holder = other.new_lock("l").ttl(TTL).acquire().await?;
        proxy.freeze_requests();
        assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none());
        holder.release().await?;
        proxy.thaw();
        // This request comes to the server behind the one that was held.
        let again = kv_etcd::open(&format!("etcd://{}/late/", proxy.address())).await?;
        again.get("a").await?;
        let next = soon("a lock that nobody holds", other.new_lock("l").ttl(TTL).acquire()).await?;
        next.map_err(|e| format!("round {round}: {e}"))?.release().await?;
        assert!(held.release().await?, "round {round}: it was free because the session had ended");
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_late_brings_no_earlier_value_back() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let other = kv_etcd::open(&format!("etcd://{}/value/", node.address)).await?;
    // The member behind the proxy is asked first.
    let kv = kv_etcd::open(&format!("etcd://{},{}/value/", proxy.address(), node.address)).await?;
    let kv = kv.with_deadline(Duration::from_millis(1500));
    let held = kv.new_lock("held").ttl(TTL).acquire().await?;
    proxy.freeze_requests();
    let guard = soon("the lock", kv.new_lock("l").ttl(TTL).value("first").acquire()).await??;
    let write = WriteOptions::default();
    assert!(other.store().as_ref().set_holder(guard.name(), guard.fence(), "second".into(), &write).await?);
    proxy.thaw();
    // This request comes to the server behind the one that was held.
    let again = kv_etcd::open(&format!("etcd://{}/value/", proxy.address())).await?;
    again.get("a").await?;
    let holder = other.lock_holder("l").await?.ok_or("it is held")?;
    assert_eq!((holder.value, holder.token, holder.changes), ("second".into(), guard.token(), 1));
    assert!(guard.release().await? && held.release().await?);
    kv.close().await?;
    Ok(())
}

/// Queues that are longer than what one request reads.
#[tokio::test(flavor = "multi_thread")]
async fn locks_with_long_queues_are_listed() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let kv = kv_etcd::open(&format!("etcd://{}/long/", node.address)).await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let lease = tool.lease_client().grant(600, None).await?.id();
    let queues = [("a", 1500_u64), ("b", 1), ("c", 2300), ("d", 999)];
    for (lock, count) in queues {
        let names: Vec<_> = (0..count).map(|id| format!("long/\u{1}lock/{lock}\u{1}{id:016x}")).collect();
        for names in names.chunks(100) {
            let put = |name: &String| {
                let options = etcd_client::PutOptions::new().with_lease(lease);
                etcd_client::TxnOp::put(name.as_str(), lock, Some(options))
            };
            let puts: Vec<_> = names.iter().map(put).collect();
            tool.kv_client().txn(etcd_client::Txn::new().and_then(puts)).await?;
        }
    }
    let found = kv.locks("").await?;
    let found: Vec<_> =
        found.iter().map(|lock| (lock.name.as_str(), &lock.holder.value[..], lock.waiters)).collect();
    assert_eq!(found, queues.map(|(lock, count)| (lock, lock.as_bytes(), Some(count - 1))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_see_its_place_in_line_keeps_it() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    tool.kv_client().put("unseen/\u{1}lock/l\u{1}no contender", "", None).await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/unseen/", proxy.address())).await?;
    let kv = kv.with_deadline(Duration::from_secs(2));
    let held = kv.new_lock("held").ttl(TTL).acquire().await?;
    for wait in [true, false] {
        proxy.hold_answer_to(WHO_IS_BEFORE);
        let lock = kv.new_lock("l").ttl(TTL);
        let asks = tokio::spawn(async move {
            match wait {
                true => lock.acquire().await.map(Some),
                false => lock.try_acquire().await,
            }
        });
        soon("the look at the line", proxy.trapped()).await?;
        assert_eq!(in_line(node, "unseen/").await?, 2);
        tokio::time::sleep(Duration::from_secs(3)).await; // longer than its deadline
        proxy.heal().await;
        match soon("the lock", asks).await?? {
            Ok(guard) => assert!(guard.ok_or("nobody holds it")?.release().await?),
            Err(e) => assert!(!wait && e.is_transient(), "{e}"),
        }
        soon("nobody in line", async {
            while in_line(node, "unseen/").await? > 1 {}
            Ok::<_, Failure>(())
        })
        .await??;
    }
    assert!(held.release().await?);
    Ok(())
}

/// The server tells a watch that begins in the past of what happens only ten times a second.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_while_others_write_gets_a_lock_at_once() -> Result<(), Failure> {
    const ROUNDS: usize = 40;
    const AT_ONCE: Duration = Duration::from_millis(20);
    let node = &single("etcd").await?;
    let url = format!("etcd://{}/busy/", node.address);
    let (kv, other, writer) =
        (kv_etcd::open(&url).await?, kv_etcd::open(&url).await?, kv_etcd::open(&url).await?);
    let writes = writer.clone();
    // The times of the puts tell how fast the machine is at the moment.
    let writes = tokio::spawn(async move {
        let mut times = Vec::new();
        loop {
            let begun = Instant::now();
            if writes.put("k", "").await.is_err() {
                return times;
            }
            times.push(begun.elapsed());
        }
    });
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let holder = other.new_lock("l").ttl(TTL).acquire().await?;
        let lock = kv.new_lock("l").ttl(TTL);
        let waits = tokio::spawn(async move { (lock.acquire().await, Instant::now()) });
        soon("one who waits", async {
            while in_line(node, "busy/").await? < 2 {}
            Ok::<_, Failure>(())
        })
        .await??;
        let released = Instant::now();
        holder.release().await?;
        let (guard, at) = soon("the lock", waits).await??;
        took.push(at.saturating_duration_since(released));
        guard?.release().await?;
    }
    writer.close().await?;
    let mut puts = writes.await?;
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (handover, put) = (median(&mut took), median(&mut puts));
    assert!(handover < AT_ONCE.max(8 * put), "{took:?}, and {put:?} for a put");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_waited_for_leaves_no_watch() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let url = format!("etcd://{}/watches/", node.address);
    let (kv, other) = (kv_etcd::open(&url).await?, kv_etcd::open(&url).await?);
    let _held = kv.new_lock("held").ttl(TTL).acquire().await?;
    for _ in 0..50 {
        let holder = other.new_lock("l").ttl(TTL).acquire().await?;
        let waits = tokio::spawn(kv.new_lock("l").ttl(TTL).acquire().into_future());
        soon("one who waits", async {
            while in_line(node, "watches/").await? < 2 {}
            Ok::<_, Failure>(())
        })
        .await??;
        holder.release().await?;
        assert!(soon("the lock", waits).await???.release().await?);
    }
    soon("the watch of the lock that is held, alone", async {
        while node.metric("etcd_debugging_mvcc_watcher_total", &[]).await? != 1.0 {}
        Ok::<_, Failure>(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_full_of_what_are_no_contenders_keeps_nobody_from_a_lock() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    for n in 0..300 {
        tool.kv_client().put(format!("full/\u{1}lock/l\u{1}{n:016x}"), "", None).await?;
    }
    let kv = kv_etcd::open(&format!("etcd://{}/full/", node.address)).await?;
    let before = node.metric("grpc_server_started_total", &["etcdserverpb.KV"]).await?;
    let guard = kv.new_lock("l").ttl(TTL).try_acquire().await?.ok_or("nobody holds it")?;
    let asked = node.metric("grpc_server_started_total", &["etcdserverpb.KV"]).await? - before;
    assert!(asked < 20.0, "{asked} requests to see that nobody is in line");
    assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none());
    assert!(guard.release().await?);
    Ok(())
}

/// The key of a session that keeps late requests out holds a number; whatever another program
/// writes there keeps nobody from a free lock.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_over_a_floor_keeps_nobody_from_a_lock() -> Result<(), Failure> {
    let node = &single("etcd").await?;
    let tool = etcd_client::Client::connect([node.address.to_string()], None).await?;
    let kv = kv_etcd::open(&format!("etcd://{}/floor/", node.address)).await?;
    for junk in ["junk", "ffffffffffffffff", "0000000000001000", ""] {
        let held = kv.new_lock("held").ttl(TTL).acquire().await?;
        let all = etcd_client::GetOptions::new().with_prefix().with_keys_only();
        let floors = tool.kv_client().get("floor/\u{1}floor/", Some(all)).await?;
        assert!(!floors.kvs().is_empty(), "each session has one");
        for floor in floors.kvs() {
            tool.kv_client().put(floor.key(), junk, None).await?;
        }
        let guard = soon("a free lock", kv.new_lock("l").ttl(TTL).acquire()).await?;
        let guard = guard.map_err(|e| format!("{junk:?}: {e}"))?;
        assert!(kv.new_lock("l").ttl(TTL).try_acquire().await?.is_none(), "{junk:?}");
        assert!(guard.release().await?, "{junk:?}");
        let guard = kv.new_lock("l").ttl(TTL).try_acquire().await?;
        assert!(guard.ok_or("it is free")?.release().await?, "{junk:?}");
        assert!(held.release().await?, "{junk:?}: it was free because its session had ended");
    }
    kv.close().await?;
    Ok(())
}
