//! Servers that are full, take no more connections, or serve reads alone; and servers that are no
//! ZooKeeper.

mod common;

use common::{Node, Setup, nodes, single, start};
use kv_core::ErrorKind;
use kv_testsuite::{Failure, Proxy, own, process::run};
use kv_zookeeper::Config;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(20);

fn quota(node: &Node, count: usize) -> Result<(), Failure> {
    let mut set = node.zkcli();
    set.args(["setquota", "-N", &count.to_string(), "/full"]);
    run(set, b"").map(drop)
}

/// Beyond a quota every request that makes no node works, and one that makes a node fails with
/// `NoSpace`.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_a_quota_there_is_a_way_out() -> Result<(), Failure> {
    let mut setup = Setup::new("zookeeper");
    setup.more = vec!["enforceQuota=true".into()];
    let node = start(&setup).await?;
    let url = format!("zookeeper://{}/full/", node.address);
    let kv = kv_zookeeper::open(&url).await?;
    for n in 0..10 {
        kv.put(format!("d/{n}"), "v").await?;
        kv.put(format!("t/{n}"), "v").await?;
    }
    let lease = kv.lease(Duration::from_secs(10)).await?;
    kv.put("leased", "v").lease(&lease).await?;
    kv.put("ttl", "v").ttl(Duration::from_secs(30)).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(10)).acquire().await?;
    let mut watch = kv.watch_tree("").await?;
    while kv_core::WatchEvent::Synced != watch.event().await? {}
    quota(&node, 20)?;

    let none = async {
        // The server counts with a delay.
        loop {
            match kv.put("new", "v").await {
                Err(e) => return e,
                Ok(_) => drop(kv.delete("new").await),
            }
        }
    };
    let e = timeout(SOON, none).await?;
    assert_eq!(e.kind(), ErrorKind::NoSpace, "{e}");
    assert!(e.to_string().contains("quota"), "{e}");
    for e in [
        kv.atomic_put("new", "v", None).await.err(),
        kv.put("new", "v").ttl(Duration::from_secs(5)).await.err(),
        kv.put("new", "v").lease(&lease).await.err(),
        kv.transact().then(kv.put("d/0", "w")).then(kv.put("new", "v")).await.err(),
        kv.new_lock("other").try_acquire().await.err(),
    ] {
        let e = e.ok_or("there is no space")?;
        assert_eq!(e.kind(), ErrorKind::NoSpace, "{e}");
    }
    assert_eq!(kv.get("d/0").await?.ok_or("it is there")?.text(), Some("v"), "nothing was written");

    let again = kv_zookeeper::open(&url).await?;
    assert_eq!(again.list("d").await?.len(), 10);
    again.put("d/0", "as long").await?;
    assert!(again.health().await.is_ok());
    assert!(guard.is_held() && lease.is_held());
    again.put("d/0", "fenced").fenced(&guard).await?;
    let seen = again.get("d/1").await?.ok_or("it is there")?.version;
    again.atomic_delete("d/1", seen).await?;
    assert!(again.delete("d/2").await?);
    assert!(again.transact().when_exists("d/3").then(again.delete("d/3")).await?.is_committed());
    assert_eq!(again.delete_tree("d").await?, Some(7));
    assert!(guard.release().await?);
    assert!(lease.revoke().await?);
    assert!(!again.exists("leased").await?);
    assert_eq!(again.delete_tree("").await?, Some(11));
    again.close().await?;
    kv.close().await?;
    Ok(())
}

/// The server counts connections by the client's address, and ends further ones without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_named() -> Result<(), Failure> {
    let mut setup = Setup::new("zookeeper");
    setup.more = vec!["maxClientCnxns=4".into()];
    let node = start(&setup).await?;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/many/", node.address)).await?;
    kv.put("k", "v").await?;
    let (mut leases, ttl) = (Vec::new(), Duration::from_secs(10));
    let e = loop {
        match kv.lease(ttl).deadline(Duration::from_secs(5)).await {
            Ok(lease) => leases.push(lease),
            Err(e) => break e,
        }
    };
    assert_eq!(leases.len(), 3, "each has a connection of its own");
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("`maxClientCnxns`"), "{e}");
    let second = Config::new([node.address.to_string()]).deadline(Duration::from_secs(5)).open().await;
    let e = second.err().ok_or("there is a place")?;
    assert!(e.to_string().contains("`maxClientCnxns`"), "{e}");
    // Connections that exist are kept, and the place of one that ended can be taken.
    assert!(kv.exists("k").await? && leases.iter().all(|lease| lease.is_held()));
    assert!(leases.pop().ok_or("there are three")?.revoke().await?);
    leases.push(kv.lease(ttl).await?);
    Ok(kv.close().await?)
}

/// Each member grants by its own settings, also when a session is resumed: if it grants less, its
/// locks and leases are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_granted_less_is_counted_on_no_more() -> Result<(), Failure> {
    let (node, long) = (single("zookeeper").await?, Duration::from_secs(40));
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/less/", proxy.address())).await?;
    let guard = kv.new_lock("l").ttl(long).acquire().await?;
    let lease = kv.lease(long).await?;
    kv.put("leased", "").lease(&lease).await?;
    let owners: Vec<_> = node.sessions().await?.into_iter().filter(|(_, owns)| !owns.is_empty()).collect();
    assert_eq!(owners.len(), 2, "{owners:?}");
    node.daemon.stop();
    node.grants_at_most(Duration::from_secs(4))?;
    node.start().await?;
    // If they were connected, they would be renewed for ever.
    timeout(SOON, async { tokio::join!(guard.lost(), lease.lost()) }).await?;
    // Left alone, the server would keep them longer than this test waits.
    let other = kv_zookeeper::open(&format!("zookeeper://{}/less/", node.address)).await?;
    let next = timeout(SOON, other.new_lock("l").ttl(Duration::from_secs(2)).acquire()).await??;
    assert!(!guard.is_held(), "two hold the lock");
    assert!(next.token() > guard.token());
    let gone = async {
        while other.exists("leased").await? {}
        Ok::<_, Failure>(())
    };
    timeout(SOON, gone).await??;
    assert!(!lease.is_held());
    other.close().await?;
    Ok(kv.close().await?)
}

/// The member's answer would be lost, so that the owner would count on the time that it had
/// before.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_given_to_a_member_that_grants_it_less() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/less/", proxy.address())).await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(40)).acquire().await?;
    let owner = node.owner().await?;
    node.daemon.stop();
    node.grants_at_most(Duration::from_secs(4))?;
    proxy.hold_answer_to(owner.to_be_bytes());
    node.start().await?;
    timeout(SOON, proxy.trapped()).await?;
    // The session is given to the server to be ended, once nobody counts on it.
    assert!(!guard.is_held(), "the member was asked for a session that is counted on");
    proxy.cut().await;
    let other = kv_zookeeper::open(&format!("zookeeper://{}/less/", node.address)).await?;
    let next = timeout(SOON, other.new_lock("l").ttl(Duration::from_secs(2)).acquire()).await??;
    assert!(!guard.is_held(), "two hold the lock");
    assert!(next.token() > guard.token());
    other.close().await?;
    // The server of this handle is out of reach.
    drop(kv.close().await);
    Ok(())
}

/// The settings of members are changed one by one. Calls say that another time may do, and whoever
/// waits for a lock waits until its session is granted.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_grants_for_a_while_is_asked_for_again() -> Result<(), Failure> {
    let (node, long) = (single("zookeeper").await?, Duration::from_secs(40));
    let kv = kv_zookeeper::open(&format!("zookeeper://{}/while/", node.address)).await?;
    node.daemon.stop();
    node.grants_at_most(Duration::from_secs(4))?;
    node.start().await?;
    for e in [
        kv.lease(long).await.err(),
        kv.put("k", "v").ttl(long).await.err(),
        kv.new_lock("l").ttl(long).try_acquire().await.err(),
    ] {
        let e = e.ok_or("it was granted")?;
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
        assert!(e.to_string().contains("`maxSessionTimeout`"), "{e}");
    }
    let mut wait = tokio::spawn(kv.new_lock("l").ttl(long).acquire());
    let early = timeout(Duration::from_secs(2), &mut wait).await;
    assert!(early.is_err(), "the wait ended: {early:?}");
    node.daemon.stop();
    node.grants_at_most(Duration::from_secs(60))?;
    node.start().await?;
    let guard = timeout(SOON, wait).await???;
    assert!(guard.is_held() && guard.release().await?);
    Ok(kv.close().await?)
}

/// A member without a quorum may serve reads to clients that ask for it. Ours does not: the
/// answers may be old.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_serves_reads_alone_is_waited_for() -> Result<(), Failure> {
    let mut setup = Setup::new("zookeeper");
    setup.flags.push_str(" -Dreadonlymode.enabled=true");
    let nodes = nodes(&setup, 3)?;
    own::start(&nodes).await?;
    let hosts: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
    let kv = Config::new(hosts.clone()).prefix("ro").open().await?;
    kv.put("k", "v").await?;
    let mut watch = kv.watch_tree("").await?;
    while kv_core::WatchEvent::Synced != watch.event().await? {}
    nodes[1].daemon.kill();
    nodes[2].daemon.kill();
    let reads = || async { nodes[0].mode().await.is_ok_and(|mode| mode == "read-only") };
    nodes[0].daemon.serves(reads).await?;
    let begun = Instant::now();
    let opened = Config::new([&hosts[0]]).deadline(Duration::from_secs(2)).open().await;
    let e = opened.err().ok_or("it has no quorum")?;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("quorum"), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    for e in [
        kv.get("k").deadline(Duration::from_secs(1)).await.err(),
        kv.put("k", "w").deadline(Duration::from_secs(1)).await.err(),
    ] {
        let e = e.ok_or("it has no quorum")?;
        assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e}");
    }
    own::start(&nodes).await?;
    let told = async {
        loop {
            match kv.put("after", "v").await {
                Ok(written) => break written.version,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let last = timeout(SOON, told).await?;
    let reading = async {
        loop {
            if let kv_core::WatchEvent::Put(e) = watch.event().await?
                && e.version == last
            {
                return Ok::<_, Failure>(());
            }
        }
    };
    timeout(SOON, reading).await??;
    Ok(kv.close().await?)
}

/// Starts a server that answers every line with this, and returns its address.
async fn answering(answer: &'static [u8]) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut seen, mut piece) = (Vec::new(), [0; 256]);
                while !seen.contains(&b'\n') {
                    match stream.read(&mut piece).await {
                        Ok(n) if n > 0 => seen.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(answer).await;
                let _ = stream.read(&mut piece).await;
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_zookeeper_is_told_at_once() -> Result<(), Failure> {
    for answer in [
        &b"-ERR unknown command 'srvr', with args beginning with:\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let (host, begun) = (answering(answer).await?, Instant::now());
        let e =
            Config::new([&host]).deadline(Duration::from_secs(10)).open().await.err().ok_or("it is none")?;
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.to_string().contains(&host) && e.to_string().contains("is it one?"), "{e}");
        assert!(begun.elapsed() < Duration::from_secs(8), "at once, not after {:?}", begun.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_knows_is_named() -> Result<(), Failure> {
    let config = Config::new(["no-such-host.invalid"]).deadline(Duration::from_millis(700));
    let e = config.open().await.err().ok_or("there is none")?;
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(
        e.to_string().contains("no-such-host.invalid") && e.to_string().contains("name is not known"),
        "{e}"
    );
    // Beside a host that serves, such a host costs nothing.
    let node = single("zookeeper").await?;
    let hosts = ["no-such-host.invalid".to_owned(), node.address.to_string()];
    Ok(Config::new(hosts).open().await?.close().await?)
}

/// Opening ends at its deadline however many silent hosts there are, although each that is asked
/// takes its time.
#[tokio::test(flavor = "multi_thread")]
async fn silent_hosts_hold_no_opening_beyond_its_deadline() -> Result<(), Failure> {
    let (mut silent, mut hosts) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        hosts.push(listener.local_addr()?.to_string());
        silent.push(listener);
    }
    let begun = Instant::now();
    let opened = Config::new(hosts).deadline(Duration::from_secs(1)).open().await;
    let (e, took) = (opened.err().ok_or("nobody answers")?, begun.elapsed());
    assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}
