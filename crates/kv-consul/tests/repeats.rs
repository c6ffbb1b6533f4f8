//! Requests that are done while their answers are lost, and what their repeats hear.

mod common;

use common::{
    Node,
    guarded::{Guarded, MINE, ROOT},
    http, names, single, with,
};
use kv_consul::Config;
use kv_core::{ErrorKind, Tls, driver::WriteOptions};
use kv_testsuite::{Certificates, Failure, Proxy, failover::soon};
use serde_json::json;
use std::{io::Write, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Sets a TTL that is longer than a test takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(120);
/// Leaves time for the rights to go before a request is taken for lost.
const DEADLINE: Duration = Duration::from_secs(40);

/// The repeat is refused, the token is exchanged for it, and the next repeat finds nothing: the
/// first attempt may have released the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_repeated_with_another_token_says_that_it_does_not_know() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let (first, second) = (guarded.token("first", MINE).await?, guarded.token("second", MINE).await?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, &first)?;
    let proxy = Proxy::start(guarded.0.address).await;
    let config = Config::new([proxy.address().to_string()]).prefix("mine/").token_file(&file);
    let kv = config.open().await?.with_deadline(DEADLINE);
    let root = guarded.config(ROOT).open().await?;
    let old = guarded.config(&first).open().await?;
    // The session of both locks goes on.
    let other = kv.new_lock("other").ttl(TTL).acquire().await?;
    let guard = kv.new_lock("l").ttl(TTL).acquire().await?;
    proxy.hold_answer_to("delete");
    let releases = tokio::spawn(guard.release());
    soon("the release", async {
        while root.lock_holder("l").await?.is_some() {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    soon("its answer to be held", proxy.trapped()).await?;
    guarded
        .change("first", r#"key_prefix "mine/" { policy = "read" } session_prefix "" { policy = "write" }"#)
        .await?;
    soon("the right to write to be gone", async { while old.put("k", "").await.is_ok() {} }).await?;
    std::fs::write(&file, &second)?;
    proxy.reset().await;
    proxy.heal().await;
    let released = soon("what is known", releases).await??;
    assert_eq!(released.map_err(|e| e.kind()), Err(ErrorKind::OutcomeUnknown));
    assert!(other.release().await?);
    Ok(())
}

/// A way to a server that, when it is told to, swallows the answers, and then says something else
/// in their place.
struct Spoils {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fine,
    Swallows,
    Spoils,
}

impl Spoils {
    async fn of(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, state) = (listener.local_addr()?, watch::Sender::new(State::Fine));
        let told = state.clone();
        let task = tokio::spawn(async move {
            let mut links = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                links.spawn(relay(client, server, told.subscribe()));
            }
        });
        Ok(Self { address, state, task })
    }
}

impl Drop for Spoils {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asks, mut hears) = client.split();
    let (mut answers, mut takes) = server.split();
    let back = async {
        let (mut piece, mut until) = (vec![0; 16 << 10], state.clone());
        loop {
            tokio::select! {
                read = answers.read(&mut piece) => match read? {
                    0 => return hears.shutdown().await,
                    read if *state.borrow() == State::Fine => hears.write_all(&piece[..read]).await?,
                    _ => {}
                },
                () = async { drop(until.wait_for(|state| *state == State::Spoils).await) } => {
                    return hears.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        }
    };
    tokio::try_join!(tokio::io::copy(&mut asks, &mut takes), back).map(drop)
}

/// After a rotation the files differ from those by which a connection that goes on was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_not_sent_again_because_its_answer_was_no_tls() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| ours.file(name));
    let node = with(&json!({ "cert_file": cert, "key_file": key, "ca_file": &ca })).await?;
    let spoils = Spoils::of(node.tls_address()).await?;
    let config = Config::new([spoils.address.to_string()]).prefix("mine/").tls(Tls::new().ca(&ca));
    let kv = config.open().await?.with_deadline(DEADLINE);
    let other = kv_consul::open(&format!("consul://{}/mine/", node.address)).await?;
    kv.put("k", "").await?;
    writeln!(std::fs::OpenOptions::new().append(true).open(&ca)?, "# another one")?;
    spoils.state.send_replace(State::Swallows);
    let put = tokio::spawn(kv.put("k", "ours").into_future());
    soon("its effect", async {
        while other.get("k").await?.is_none_or(|entry| entry.text() != Some("ours")) {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    let theirs = other.put("k", "theirs").await?.version;
    spoils.state.send_replace(State::Spoils);
    let put = soon("the end", put).await??;
    spoils.state.send_replace(State::Fine);
    assert_eq!(put.map(drop).map_err(|e| e.kind()), Err(ErrorKind::OutcomeUnknown));
    assert_eq!(kv.get("k").await?.ok_or("it is there")?.version, theirs);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_writes_does_not_stay_with_an_agent_that_hangs() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let url = format!("consul://{},{}/hangs/", proxy.address(), node.address);
    let kv = kv_consul::open(&url).await?.with_deadline(Duration::from_secs(4));
    kv.put("k", "1").await?;
    proxy.freeze();
    let lost = kv.put("k", "2").await.map(drop).map_err(|e| e.kind());
    assert_eq!(lost, Err(ErrorKind::OutcomeUnknown));
    kv.put("k", "3").await?;
    Ok(())
}

/// Counts the transactions that the server has answered, by its own counters.
async fn transactions(node: &Node) -> Result<u64, Failure> {
    let all = http(node.address, "GET /v1/agent/metrics?format=prometheus", b"").await?;
    let all = String::from_utf8(all.body)?;
    let count = all.lines().find_map(|line| line.strip_prefix("consul_http_PUT_v1_txn_count "));
    Ok(count.unwrap_or("0").parse()?)
}

/// An agent stands still with a request for a lock, another one is asked, and the lock is given
/// back before the first one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_a_request_for_a_lock_takes_no_place() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let url = format!("consul://{},{}/late/", proxy.address(), node.address);
    let other = kv_consul::open(&format!("consul://{}/late/", node.address)).await?;
    for waits in [false, true] {
        // The agent that stands still is asked first again.
        let kv = kv_consul::open(&url).await?.with_deadline(Duration::from_secs(4));
        // The session goes on with this lock.
        let keeps = kv.new_lock("other").ttl(TTL).acquire().await?;
        let theirs = match waits {
            true => Some(other.new_lock("l").ttl(TTL).acquire().await?),
            false => None,
        };
        proxy.freeze_requests();
        let (before, acquires) =
            (transactions(&node).await?, kv.new_lock("l").ttl(TTL).acquire().into_future());
        let fence = match theirs {
            None => {
                let guard = soon("the lock", acquires).await??;
                let fence = guard.fence().clone();
                assert!(guard.release().await?);
                Some(fence)
            }
            Some(theirs) => {
                let line = "late/.kv/lock/1/l/";
                let waiting = tokio::spawn(acquires);
                soon("its place", async {
                    while names(node.address, line).await?.len() < 2 {}
                    Ok::<_, Failure>(())
                })
                .await??;
                waiting.abort();
                soon("its place to be left", async {
                    while names(node.address, line).await?.len() > 1 {}
                    Ok::<_, Failure>(())
                })
                .await??;
                assert!(theirs.release().await?);
                None
            }
        };
        let done = transactions(&node).await?;
        assert!(done > before);
        proxy.thaw();
        soon("the late one", async {
            while transactions(&node).await? == done {}
            Ok::<_, Failure>(())
        })
        .await??;
        let next = soon("a lock that nobody holds", other.new_lock("l").ttl(TTL).acquire()).await??;
        assert!(keeps.is_held(), "it was free because the session had ended");
        if let Some(fence) = fence {
            assert!(
                kv.put("k", "").fenced(&fence).await.is_err(),
                "a fence that was given back is true again"
            );
        }
        assert!(next.release().await? && keeps.release().await?);
        kv.close().await?;
    }
    Ok(())
}

/// An agent stands still with a request for a lock, another one is asked, and the holder changes
/// its value before the first one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_a_request_for_a_lock_brings_no_earlier_value_back() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let other = kv_consul::open(&format!("consul://{}/value/", node.address)).await?;
    // The agent that stands still is asked first.
    let kv = kv_consul::open(&format!("consul://{},{}/value/", proxy.address(), node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(4));
    // The session goes on with this lock.
    let keeps = kv.new_lock("other").ttl(TTL).acquire().await?;
    proxy.freeze_requests();
    let guard = soon("the lock", kv.new_lock("l").ttl(TTL).value("first").acquire()).await??;
    let write = WriteOptions::default();
    assert!(other.store().as_ref().set_holder(guard.name(), guard.fence(), "second".into(), &write).await?);
    let done = transactions(&node).await?;
    proxy.thaw();
    soon("the late one", async {
        while transactions(&node).await? == done {}
        Ok::<_, Failure>(())
    })
    .await??;
    let holder = other.lock_holder("l").await?.ok_or("it is held")?;
    assert_eq!((holder.value, holder.token), ("second".into(), guard.token()));
    assert!(guard.release().await? && keeps.release().await?);
    kv.close().await?;
    Ok(())
}

/// A session may have been ended by a request to whose answer nobody came to listen.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_whose_answer_was_lost_says_that_it_does_not_know() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let url = format!("consul://{}/revoked/", proxy.address());
    let kv = kv_consul::open(&url).await?.with_deadline(Duration::from_secs(2));
    let lease = kv.lease(TTL).await?;
    proxy.hold_answer_to("/v1/session/destroy/");
    let revokes = tokio::spawn(async move { lease.revoke().await });
    soon("the request", proxy.trapped()).await?;
    proxy.cut().await;
    let revoked = soon("what is known", revokes).await??;
    assert_eq!(revoked.map_err(|e| e.kind()), Err(ErrorKind::OutcomeUnknown));
    Ok(())
}
