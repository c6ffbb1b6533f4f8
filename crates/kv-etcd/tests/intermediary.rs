//! Something stands between us and the server, or in its place, and answers for it.

mod common;

use common::single;
use kv_core::{ErrorKind, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::time::{Duration, Instant};

/// The frame with which each side of an HTTP/2 connection begins.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Makes the answer of an HTTP/2 proxy to the first request of a connection, without a word of
/// gRPC.
fn http(status: &str) -> Vec<u8> {
    let mut answer = SETTINGS.to_vec();
    answer.extend([0, 0, 5, 1, 5, 0, 0, 0, 1]); // HEADERS, whole and last, of stream 1
    answer.extend([8, 3]); // :status
    answer.extend(status.as_bytes());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_proxy_is_not_the_servers() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    let kv = kv_etcd::open(&format!("etcd://{}/between/", proxy.address())).await?;
    let kv = kv.with_deadline(Duration::from_secs(1));
    let other = kv_etcd::open(&format!("etcd://{}/between/", node.address)).await?;
    kv.put("a", "1").await?;
    let guard = kv.new_lock("l").ttl(Duration::from_secs(60)).acquire().await?;
    let (mut watch, mut holder) = (kv.watch_tree("").await?, kv.lock_holder("l").watch().await?);
    for watch in [&mut watch, &mut holder] {
        while !matches!(watch.event().await?, WatchEvent::Synced) {}
    }
    for (n, status) in ["401", "403", "404", "429", "503"].into_iter().enumerate() {
        proxy.answer_for_server(http(status)).await;
        for (what, error) in [
            ("get", kv.get("a").await.map(drop)),
            ("list", kv.list("").await.map(drop)),
            ("holder", kv.lock_holder("l").await.map(drop)),
            ("put", kv.put("a", "never").await.map(drop)),
            ("delete", kv.delete("a").await.map(drop)),
        ] {
            let error = error.expect_err(what);
            let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown];
            assert!(kinds.contains(&error.kind()), "{status}, {what}: {error}");
        }
        let mut begun = kv.watch_tree("").await?;
        assert!(tokio::time::timeout(Duration::from_millis(500), begun.event()).await.is_err(), "{status}");
        assert!(guard.is_held(), "{status}");
        proxy.heal().await;
        let value = n.to_string();
        other.put("a", value.clone()).await?;
        for watch in [&mut watch, &mut begun] {
            soon("the change", async {
                loop {
                    if let WatchEvent::Put(e) = watch.event().await?
                        && e.text() == Some(&value)
                    {
                        return Ok::<_, Failure>(());
                    }
                }
            })
            .await??;
        }
    }
    assert!(guard.release().await?);
    soon("the release", async {
        while !matches!(holder.event().await?, WatchEvent::Delete { .. }) {}
        Ok::<_, Failure>(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_etcd_is_named_as_such() -> Result<(), Failure> {
    let node = single("etcd").await?;
    let proxy = Proxy::start(node.address).await;
    for (what, answer) in [
        ("Redis", b"-ERR unknown command 'PRI', with args beginning with: '*' 'HTTP/2.0' \r\n".to_vec()),
        ("HTTP/1", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        ("HTTP/2", http("404")),
        ("HTTP/2 that hangs up", SETTINGS.to_vec()),
    ] {
        proxy.answer_for_server(answer).await;
        let config = kv_etcd::Config::new([proxy.address().to_string()]).deadline(Duration::from_secs(1));
        let e = config.open().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{what}: {e}");
        assert!(e.to_string().contains("does not answer as an etcd does; is it one?"), "{what}: {e}");
        assert!(e.to_string().contains(&proxy.address().to_string()), "{what}: {e}");
    }
    Ok(())
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_refused_at_once() {
    for (url, names) in [
        ("etcd://127.0.0.1:notaport", "notaport"),
        ("etcd://127.0.0.1:0/", ":0"),
        ("etcd://127.0.0.1:70000/", "70000"),
        ("etcd://h1:2379,127.0.0.1:-1/", "-1"),
        ("etcd://[::1:2379/", "[::1:2379"),
    ] {
        let begun = Instant::now();
        let e = kv_etcd::open(url).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{url}: {e}");
        assert!(e.to_string().contains(names), "{url}: {e}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{url}");
    }
}

#[tokio::test]
async fn causes_say_nothing_twice() {
    let config = kv_etcd::Config::new(["127.0.0.1:1"]).deadline(Duration::from_millis(200));
    let e = config.open().await.unwrap_err();
    let mut said = vec![e.to_string()];
    let mut cause = std::error::Error::source(&e);
    while let Some(e) = cause {
        said.push(e.to_string());
        cause = e.source();
    }
    assert!(said.len() <= 2 && !said.join(" ").contains("grpc request error"), "{said:?}");
}
