//! The sessions on which locks, leases and TTLs hang: what a server says of them that has only
//! just begun, and how they are renewed.

mod common;

use common::{Node, base64, http, single, txn, with};
use kv_core::{
    ErrorKind, Kv,
    observe::{Attempt, Observer, Renewal},
};
use kv_testsuite::{Failure, OwnServer, Proxy, failover::soon};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

async fn open(address: SocketAddr) -> kv_core::Result<Kv> {
    kv_consul::open(&format!("consul://{address}/sessions/")).await
}

/// Notes how often attempts to renew a session fail, and why the renewals do.
#[derive(Default)]
struct Failing {
    attempts: AtomicUsize,
    renewals: Mutex<Vec<String>>,
}

impl Observer for Failing {
    fn attempted(&self, attempt: &Attempt<'_>) {
        if attempt.operation == "renew" && attempt.error.is_some() {
            self.attempts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn renewed(&self, renewal: &Renewal<'_>) {
        if let Some(error) = renewal.error {
            self.renewals.lock().expect("nobody panics").push(error.to_string());
        }
    }
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) -> Result<(), Failure> {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Writes as much as the server needs a while to read again: it keeps all of it in its log.
async fn fill(node: &Node) -> Result<(), Failure> {
    let writes = |at: usize| {
        (0..64).map(move |n| {
            let (key, value) = (format!("log/{n}"), base64(at.to_string().as_bytes()));
            json!({ "KV": { "Verb": "set", "Key": key, "Value": value } })
        })
    };
    let fill = async |from: usize| {
        for at in (from..600).step_by(20) {
            assert_eq!(txn(node.address, writes(at).collect()).await?.status, 200);
        }
        Ok::<_, Failure>(())
    };
    futures::future::try_join_all((0..20).map(fill)).await.map(drop)
}

/// A server that has become the leader answers renewals before it has read its log, in which the
/// sessions are: it says that they are not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_still_reads_its_log_ends_no_session() -> Result<(), Failure> {
    let node = with(&json!({ "raft_snapshot_threshold": 1_000_000 })).await?;
    fill(&node).await?;
    let failing = Arc::new(Failing::default());
    let kv = open(node.address).await?.with_deadline(Duration::from_secs(60)).with_observer(failing.clone());
    let ttls = [48, 50, 52].map(Duration::from_secs);
    let mut locks = Vec::new();
    for ttl in ttls {
        locks.push(kv.new_lock(format!("of {ttl:?}")).ttl(ttl).acquire().await?);
    }
    let lease = kv.lease(ttls[0]).await?;
    let mut revoked = Vec::new();
    for _ in 0..8 {
        revoked.push(kv.lease(Duration::from_secs(600)).await?);
    }
    node.daemon.kill();
    // Each session is asked for again and again by now.
    until("the renewals to fail", || failing.attempts.load(Ordering::Relaxed) > 20).await?;
    let begins = async {
        node.daemon.spawn()?;
        let revoked = revoked.into_iter().map(|lease| async {
            let said = lease.revoke().await;
            assert_ne!(said.as_ref().ok(), Some(&false), "the lease was alive");
        });
        tokio::join!(node.ready(), futures::future::join_all(revoked)).0
    };
    begins.await?;
    for guard in &locks {
        assert!(guard.is_held(), "{:?}: {}", guard.ttl(), guard.lost().await);
        kv.put("fenced", "").fenced(guard).await?;
    }
    assert!(lease.is_held(), "{}", lease.lost().await);
    kv.put("leased", "").lease(&lease).await?;
    assert!(lease.revoke().await?);
    Ok(())
}

/// The session of a TTL is that of the first lock, which was given little time: locks that come
/// later hang on it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_for_all_of_its_locks() -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(40);
    const LITTLE: Duration = Duration::from_secs(3);
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let kv = open(proxy.address()).await?;
    let first = kv.new_lock("a").ttl(TTL).deadline(LITTLE).try_acquire().await?;
    let second = kv.new_lock("b").ttl(TTL).acquire().await?;
    assert!(first.ok_or("it is free")?.release().await?);
    // No answer comes within the time of the first one, there and back.
    proxy.delay(LITTLE / 2 + Duration::from_millis(100));
    let (before, since) = (second.remaining(), Instant::now());
    soon("a renewal", async {
        while second.remaining() + since.elapsed() < before + TTL / 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    proxy.heal().await;
    assert!(second.release().await?);
    Ok(())
}

/// Leases are given back while the server is away: each asks for as long as it may, and takes the
/// turn of no renewal.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_waits_for_nothing_that_is_given_back() -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(3);
    let node = single().await?;
    let failing = Arc::new(Failing::default());
    let kv = open(node.address).await?.with_deadline(Duration::from_secs(60)).with_observer(failing.clone());
    let mut leases = Vec::new();
    for _ in 0..12 {
        leases.push(kv.lease(Duration::from_secs(600)).await?);
    }
    let _guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    node.daemon.kill();
    let revoked = futures::future::join_all(leases.into_iter().map(kv_core::Lease::revoke));
    tokio::select! {
        revoked = revoked => return Err(format!("without a server: {revoked:?}").into()),
        failed = until("a renewal to fail", || !failing.renewals.lock().expect("nobody panics").is_empty()) => failed?,
    }
    let why = failing.renewals.lock().expect("nobody panics").concat();
    assert!(!why.contains("under way at once"), "{why}");
    Ok(())
}

/// Ends the sessions of TTLs on the server.
async fn end_ttls(node: &Node) -> Result<usize, Failure> {
    let all = http(node.address, "GET /v1/session/list", b"").await?.json()?;
    let all = all.as_array().ok_or("a list of sessions")?;
    let of_ttls =
        all.iter().filter(|session| session["Name"].as_str().is_some_and(|n| n.starts_with("kv ttl")));
    let mut ended = 0;
    for id in of_ttls.filter_map(|session| session["ID"].as_str()) {
        http(node.address, &format!("PUT /v1/session/destroy/{id}"), b"").await?;
        ended += 1;
    }
    Ok(ended)
}

/// The session of a TTL is the library's own affair, whatever else a transaction hangs on. A lease
/// that has ended is its owner's.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_not_blamed_for_the_session_of_a_ttl() -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(3600);
    let node = single().await?;
    let kv = open(node.address).await?;
    let lease = kv.lease(TTL).await?;
    let both = || kv.transact().then(kv.put("a", "").ttl(TTL)).then(kv.put("b", "").lease(&lease));
    kv.put("a", "").ttl(TTL).await?;
    assert_eq!(end_ttls(&node).await?, 1);
    assert!(both().await?.is_committed());
    assert!(kv.exists("a").await? && kv.exists("b").await?);

    http(node.address, &format!("PUT /v1/session/destroy/{}", lease.id().as_str()), b"").await?;
    assert_eq!(both().await.map_err(|e| e.kind()), Err(ErrorKind::LeaseLost));
    assert!(end_ttls(&node).await? > 0);
    assert_eq!(both().await.map_err(|e| e.kind()), Err(ErrorKind::LeaseLost));
    Ok(())
}
