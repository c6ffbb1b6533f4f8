//! Something between us and the agents answers in their place: nothing of that is believed.

mod common;

use common::{Asked, single};
use kv_consul::Config;
use kv_core::{
    Error, ErrorKind, Kv, WatchEvent,
    observe::{Observer, Renewal},
};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Lists answers as reverse proxies, ingresses, gateways and portals give them.
const ANSWERS: [(&str, &str, &str); 20] = [
    ("404 Not Found", "text/plain; charset=utf-8", "404 page not found\n"),
    ("404 Not Found", "text/html", "<html><h1>404 Not Found</h1></html>"),
    ("404 Not Found", "application/json", "{}"),
    ("200 OK", "text/html", "<html>welcome</html>"),
    ("200 OK", "application/json", r#"{"status": "ok"}"#),
    ("200 OK", "application/json", "[]"),
    ("200 OK", "text/plain", ""),
    ("302 Found", "text/html", "<a href='/login'>log in</a>"),
    ("400 Bad Request", "text/plain; charset=utf-8", "Bad request\n"),
    ("400 Bad Request", "text/plain", ""),
    ("400 Bad Request", "text/html", "<html><h1>400 Bad Request</h1></html>"),
    ("401 Unauthorized", "text/plain", "Unauthorized"),
    ("403 Forbidden", "text/plain", "RBAC: access denied"),
    ("403 Forbidden", "text/plain", "Permission denied"),
    ("403 Forbidden", "text/html", "<html><h1>Permission denied</h1></html>"),
    ("413 Request Entity Too Large", "text/plain", "http: request body too large"),
    ("429 Too Many Requests", "text/plain", "slow down"),
    ("500 Internal Server Error", "text/plain", "write /var/spool/request: no space left on device"),
    ("502 Bad Gateway", "text/html", "<html><h1>502 Bad Gateway</h1></html>"),
    ("503 Service Unavailable", "text/plain", "upstream connect error or disconnect/reset before headers"),
];

fn refused<T>(call: &str, answer: Result<T, Error>) -> Error {
    match answer {
        Ok(_) => panic!("{call} believes it"),
        Err(e) => e,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_believed_without_the_mark_of_consul() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let direct = kv_consul::open(&format!("consul://{}/between/", node.address)).await?;
    let kv: Kv = kv_consul::open(&format!("consul://{}/between/", proxy.address())).await?;
    // This one is for calls that are meant to fail.
    let hasty = kv.clone().with_deadline(Duration::from_millis(200));
    for key in ["d/a", "d/b"] {
        kv.put(key, "1").await?;
    }
    let mut watches = [kv.watch_tree("d").await?, kv.watch("d/a").await?, kv.lock_holder("l").watch().await?];
    for watch in &mut watches {
        while watch.event().await? != WatchEvent::Synced {}
    }
    let ttl = Duration::from_secs(120);
    let guard = kv.new_lock("l").ttl(ttl).value("me").acquire().await?;
    let lease = kv.lease(ttl).await?;
    let waits = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire().into_future());
    for (n, (status, kind, body)) in ANSWERS.into_iter().enumerate() {
        let length = body.len();
        proxy
            .answer_for_server(format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ))
            .await;
        for e in [
            refused("get", hasty.get("d/a").await),
            refused("get of a name in the body", hasty.get("d/ключ").await),
            refused("get_many", hasty.get_many(["d/a", "d/b"]).await),
            refused("exists", hasty.exists("d/a").await),
            refused("list", hasty.list("d").await),
            refused("lock_holder", hasty.lock_holder("l").await),
            refused("health", hasty.health().await),
        ] {
            assert!(e.is_transient(), "{status} {body}: {e}");
        }
        let mut children = hasty.list("").children();
        let mut children =
            Box::pin(async move { futures::TryStreamExt::try_collect::<Vec<_>>(&mut children).await });
        assert!(refused("children", (&mut children).await).is_transient());
        for e in [
            refused("put", hasty.put("d/x", "").await),
            refused("delete", hasty.delete("d/x").await),
            refused("delete_tree", hasty.delete_tree("x").await),
            refused("transact", hasty.transact().when_exists("d/a").then(hasty.put("d/x", "")).await),
            refused("put with a TTL", hasty.put("d/x", "").ttl(ttl).await),
            refused("try_acquire", hasty.new_lock("l").ttl(ttl).try_acquire().await),
        ] {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{status} {body}: {e}");
        }
        assert!(
            refused(
                "open",
                Config::new([proxy.address().to_string()]).deadline(Duration::from_millis(200)).open().await
            )
            .is_transient()
        );
        let mut begun = kv.watch_tree("d").await?;
        let told = tokio::time::timeout(Duration::from_millis(300), begun.event()).await;
        assert!(told.is_err(), "{status} {body}: a watch begins with {told:?}");
        assert!(guard.is_held() && lease.is_held() && !waits.is_finished(), "{status} {body}");
        proxy.heal().await;

        let version = direct.put("d/a", n.to_string()).await?.version;
        for watch in [&mut begun].into_iter().chain(&mut watches[..2]) {
            soon("the watches to go on", async {
                loop {
                    match watch.event().await? {
                        WatchEvent::Put(entry) if entry.version == version => return Ok::<_, Failure>(()),
                        event => assert!(!matches!(event, WatchEvent::Delete { .. }), "{status}: {event:?}"),
                    }
                }
            })
            .await??;
        }
        // The outages are long, and the times between them short: nothing is lost by their number.
        soon("a renewal", async {
            while guard.remaining().min(lease.remaining()) < ttl / 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?;
    }
    assert_eq!(kv.get("d/x").await?, None);
    kv.put("d/fenced", "").fenced(&guard).await?;
    assert!(lease.revoke().await? && guard.release().await?);
    assert!(soon("the lock", waits).await???.is_held());
    Ok(())
}

/// Lists refusals in Consul's own words, by something that compresses as agents do.
const WORDS: [(&str, &str); 7] = [
    ("403 Forbidden", "Permission denied"),
    ("403 Forbidden", "ACL not found"),
    ("400 Bad Request", "Bad request"),
    ("413 Request Entity Too Large", "Request body too large"),
    ("429 Too Many Requests", "rate limit exceeded, try again later"),
    ("500 Internal Server Error", "Invalid Session TTL"),
    ("500 Internal Server Error", "write /var/spool/request: no space left on device"),
];

/// `Vary` stands in the answers of agents and of proxies: only an agent that is heard is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_proxies_have_too_is_no_mark() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let direct = kv_consul::open(&format!("consul://{}/vary/", node.address)).await?;
    let kv: Kv = kv_consul::open(&format!("consul://{}/vary/", proxy.address())).await?;
    // This one is for calls that are meant to fail.
    let hasty = kv.clone().with_deadline(Duration::from_millis(300));
    kv.put("d/a", "1").await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let ttl = Duration::from_secs(120);
    let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
    let waits = tokio::spawn(kv.new_lock("l").ttl(ttl).acquire().into_future());
    for (n, (status, body)) in WORDS.into_iter().enumerate() {
        proxy
            .answer_for_server(format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nVary: Accept-Encoding\r\nContent-Length: \
                 {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ))
            .await;
        for e in [
            refused("get", hasty.get("d/a").await),
            refused("list", hasty.list("d").await),
            refused("lock_holder", hasty.lock_holder("l").await),
        ] {
            assert!(e.is_transient(), "{status} {body}: {e}");
        }
        for e in [
            refused("put", hasty.put("d/x", "").await),
            refused("put with a TTL", hasty.put("d/x", "").ttl(ttl).await),
            refused("delete", hasty.delete("d/x").await),
            refused("try_acquire", hasty.new_lock("l").ttl(ttl).try_acquire().await),
        ] {
            assert!(e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown, "{status} {body}: {e}");
        }
        let told = tokio::time::timeout(Duration::from_millis(300), watch.event()).await;
        // The end of the outage before this one may be told late.
        assert!(matches!(told, Err(_) | Ok(Ok(WatchEvent::Synced))), "{status} {body}: {told:?}");
        assert!(guard.is_held() && !waits.is_finished(), "{status} {body}");
        proxy.heal().await;
        let version = direct.put("d/a", n.to_string()).await?.version;
        soon("the watch to go on", async {
            loop {
                match watch.event().await? {
                    WatchEvent::Put(entry) if entry.version == version => return Ok::<_, Failure>(()),
                    event => assert!(!matches!(event, WatchEvent::Delete { .. }), "{status}: {event:?}"),
                }
            }
        })
        .await??;
    }
    assert!(guard.release().await?);
    assert!(soon("the lock", waits).await???.is_held());
    Ok(())
}

/// The agent refuses a path that it takes for unprintable by an empty 400, without a mark. Where
/// something else says the same, no watch ends, and none polls more than it watches from then on.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_400_ends_no_watch_and_widens_no_poll() -> Result<(), Failure> {
    let node = single().await?;
    let asked = Asked::of(node.address).await?;
    let proxy = Proxy::start(asked.address).await;
    let at = |address: SocketAddr, prefix: &str| Config::new([address.to_string()]).prefix(prefix).open();
    for prefix in ["plain", "café"] {
        let (kv, direct) = (at(proxy.address(), prefix).await?, at(node.address, prefix).await?);
        let mut before = kv.watch("d/before").await?;
        assert_eq!(before.event().await?, WatchEvent::Synced);
        proxy
            .answer_for_server("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        let mut begun = kv.watch("d/begun").await?;
        let told = async {
            tokio::select! {
                told = before.event() => told,
                told = begun.event() => told,
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(1), told).await;
        assert!(told.is_err(), "{prefix}: {told:?}");
        proxy.heal().await;
        for (watch, key) in [(&mut before, "d/before"), (&mut begun, "d/begun")] {
            let version = direct.put(key, "1").await?.version;
            let told = soon("the watch to go on", async {
                loop {
                    match watch.event().await? {
                        WatchEvent::Put(entry) => return Ok::<_, Error>(entry.version),
                        event => assert_eq!(event, WatchEvent::Synced),
                    }
                }
            });
            assert_eq!(told.await??, version, "{prefix}: {key}");
        }
        let wide: Vec<_> = asked.all().into_iter().filter(|line| line.contains("recurse")).collect();
        assert_eq!(wide, Vec::<String>::new(), "{prefix}");
        kv.close().await?;
    }
    Ok(())
}

/// Notes whether a renewal has failed.
#[derive(Default)]
struct Missed(AtomicBool);

impl Observer for Missed {
    fn renewed(&self, renewal: &Renewal<'_>) {
        if renewal.error.is_some() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// One renewal is missed, and the next one is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_renewed_once_the_agent_is_heard_again() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let missed = Arc::new(Missed::default());
    let kv = kv_consul::open(&format!("consul://{}/between/", proxy.address())).await?;
    let kv = kv.with_observer(missed.clone());
    let guard = kv.new_lock("l").ttl(Duration::from_secs(15)).acquire().await?;
    proxy
        .answer_for_server("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone")
        .await;
    soon("a renewal to fail", async {
        while !missed.0.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    assert!(guard.is_held());
    proxy.heal().await;
    let before = guard.remaining();
    soon("the next renewal", async {
        while guard.remaining() <= before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    assert!(guard.release().await?);
    Ok(())
}

/// A sender that is not believed hears the same question again, and not all the time.
#[tokio::test(flavor = "multi_thread")]
async fn what_answers_in_the_agents_place_is_not_flooded() -> Result<(), Failure> {
    let node = single().await?;
    let proxy = Proxy::start(node.address).await;
    let url = format!("consul://{}/between/", proxy.address());
    let kv = kv_consul::open(&url).await?.with_deadline(Duration::from_secs(3));
    let ttl = Duration::from_secs(120);
    proxy
        .answer_for_server("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    let before = proxy.traffic().connections;
    for e in [refused("lease", kv.lease(ttl).await), refused("put", kv.put("k", "").ttl(ttl).await)] {
        assert!(e.is_transient(), "{e}");
    }
    // A session that was asked for in vain is looked for meanwhile.
    let asked = proxy.traffic().connections - before;
    assert!(asked < 100, "{asked} connections");
    proxy.heal().await;
    kv.lease(ttl).await?.revoke().await?;
    Ok(())
}
