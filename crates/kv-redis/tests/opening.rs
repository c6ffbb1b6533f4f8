//! Wrong settings, addresses without a server, and servers that are no Redis or that break a
//! promise.

mod common;

use common::{
    Node, Reply, change,
    open::{refused, works},
    single, with,
};
use kv_core::{Durability, ErrorKind, Linearizable, Secret, Tls, WatchEvent};
use kv_redis::Config;
use kv_testsuite::{
    Failure,
    opening::{self, NOBODY},
};
use std::time::{Duration, Instant};

#[tokio::test]
async fn half_given_settings_are_refused_before_any_connection() -> Result<(), Failure> {
    for (url, names) in [
        ("redis://127.0.0.1:1/?cert=c.pem", "`cert` without `key`"),
        ("redis://127.0.0.1:1/?key=k.pem", "`key` without `cert`"),
        ("redis://127.0.0.1:1/?tls=false&server_name=n", "`tls` is off"),
        ("redis://127.0.0.1:1/?ca=/no/such/file", "/no/such/file"),
        ("rediss://127.0.0.1:1/?tls=false", "plain text"),
        ("redis://me@127.0.0.1:1/", "without a password"),
        ("redis:///prefix", "no host"),
        ("redis://127.0.0.1:1/?spread=4", "spread"),
        ("redis-cluster://127.0.0.1:1/?spread=1", "2 to 64"),
        ("redis-cluster://127.0.0.1:1/?spread=x", "2 to 64"),
        ("redis://127.0.0.1:1/?db=256", "0 to 255"),
        ("redis://127.0.0.1:1/?db=one", "\"one\""),
        ("redis://127.0.0.1:1/?tls=yes", "`true` or `false`"),
        ("redis://127.0.0.1:1/?allow_eviction=1", "`true` or `false`"),
        ("redis://127.0.0.1:notaport/", "notaport"),
        ("redis://127.0.0.1:0/", "127.0.0.1:0"),
        ("redis://127.0.0.1:99999/", "99999"),
        ("redis://127.0.0.1:1/app?raw_prefix=app:", "`raw_prefix` together"),
        ("redis-cluster://127.0.0.1:1/?db=1", "db"),
        ("redis-sentinel://127.0.0.1:1/", "`master`"),
        ("valkey://127.0.0.1:1/", "redis-cluster"),
    ] {
        let e = kv_redis::open(url).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{url}: {e}");
        assert!(e.to_string().contains(names), "{e} names {names:?}");
    }
    let rubbish = tempfile::NamedTempFile::new()?;
    std::fs::write(rubbish.path(), "no PEM")?;
    let config =
        Config::new(["127.0.0.1:1"]).tls(Tls::new().client_certificate(rubbish.path(), rubbish.path()));
    refused(config, ErrorKind::InvalidArgument, "TLS settings").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_says_what_was_tried() -> Result<(), Failure> {
    opening::unreachable(Config::new([NOBODY]).deadline(Duration::from_millis(500)).open()).await
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_told() {
    let config = Config::new(["no-such-host.invalid"]).deadline(Duration::from_millis(500));
    let e = config.open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    let said = e.to_string();
    assert!(said.contains("no-such-host.invalid") && said.contains("its name is not known"), "{said}");
    assert!(!said.contains("TLS") && !said.contains("kind:") && !said.contains('{'), "{said}");
}

/// A program that listens and is no Redis: it hangs up when it does not understand, or answers in
/// its own way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_is_asked_whether_it_is_one() -> Result<(), Failure> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for answer in ["", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "\0\0\u{6}\u{4}\0\0\0\0\0"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 1024];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let config = Config::new([address.to_string()]).deadline(Duration::from_millis(800));
        let e = config.open().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{answer:?}: {e}");
        let said = e.to_string();
        assert!(said.contains(&address.to_string()) && said.contains("is it one?"), "{answer:?}: {said}");
        assert!(!said.contains('{'), "{answer:?}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_refused() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let config = Config::new([node.address.to_string()]).database(99);
        refused(config, ErrorKind::InvalidArgument, "`db`").await?;
        kv_redis::open(&format!("redis://{}/?db=15", node.address)).await?;
    }
    Ok(())
}

/// A prefix with and without its slash is one directory; bytes are taken as they are only as
/// `raw_prefix`.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_a_directory() -> Result<(), Failure> {
    let node = single("redis").await?;
    let open = |rest: &str| {
        let url = format!("redis://{}/{rest}", node.address);
        async move { kv_redis::open(&url).await }
    };
    let (bare, slashed) = (open("app").await?, open("app/").await?);
    let mut watch = slashed.watch_tree("").await?;
    watch.event().await?;
    bare.put("color", "red").await?;
    assert!(matches!(change(&mut watch).await?, WatchEvent::Put(_)));
    let mut resp = node.resp().await?;
    assert_eq!(resp.say("GET app/color").await?, Reply::Text(b"red".into()));
    let raw = open("?raw_prefix=app:").await?;
    raw.put("color", "blue").await?;
    assert_eq!(resp.say("GET app:color").await?, Reply::Text(b"blue".into()));
    assert_eq!(raw.delete_tree("").await?, Some(1));
    assert!(bare.exists("color").await?);
    let config = Config::new([node.address.to_string()]).prefix("app").raw_prefix("app:");
    refused(config, ErrorKind::InvalidArgument, "`raw_prefix` together").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_break_a_promise_are_refused() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = with(kind, &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await?;
        let config = || Config::new([node.address.to_string()]);
        let e = refused(config(), ErrorKind::InvalidArgument, "`maxmemory-policy`").await?;
        assert!(e.to_string().contains("allkeys-lru") && e.to_string().contains("noeviction"), "{e}");
        works(config().allow_eviction(true)).await?;
        kv_redis::open(&format!("redis://{}/?allow_eviction=true", node.address)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_can_lose_is_read_from_the_server() -> Result<(), Failure> {
    for (settings, durability) in [
        (&["--appendfsync", "always"][..], Durability::Fsync),
        (&["--appendfsync", "everysec"], Durability::MayLose),
        (&["--appendonly", "no"], Durability::MayLose),
        // By this the server writes through to no disk while a child of its rewrites the file.
        (&["--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"], Durability::MayLose),
    ] {
        let node = with("redis", settings).await?;
        let kv = kv_redis::open(&format!("redis://{}/", node.address)).await?;
        assert_eq!(kv.capabilities().durability, durability, "{settings:?}");
    }
    let master = single("redis").await?;
    let replica = with("redis", &["--replicaof", &format!("127.0.0.1 {}", master.address.port())]).await?;
    let config = Config::new([replica.address.to_string()]).deadline(Duration::from_secs(1));
    let e = config.open().await.unwrap_err();
    assert!(e.to_string().contains("replica"), "{e}");
    Ok(())
}

/// A server whose replicas are away for now is not on its own: settings that name sentinels, or
/// more hosts than one, say that another server may take over.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_without_its_replicas_is_not_on_its_own() -> Result<(), Failure> {
    let master = with("redis", &["--appendfsync", "always"]).await?;
    let sentinel = Node::sentinel("redis", master.address)?;
    sentinel.start().await?;
    for config in [
        Config::sentinel([sentinel.address.to_string()], "mymaster"),
        Config::new([master.address.to_string(), NOBODY.to_owned()]),
    ] {
        let kv = config.open().await?;
        let (durability, linearizable) = (kv.capabilities().durability, kv.capabilities().linearizable);
        assert_eq!(durability, Durability::MayLose);
        assert_eq!(linearizable, Linearizable::ExceptDuringLeaderChange);
    }
    Ok(())
}

/// Providers of hosted servers remove commands.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_config_and_info_is_opened() -> Result<(), Failure> {
    let away = ["--rename-command", "CONFIG", "", "--rename-command", "INFO", ""];
    let node = with("redis", &away).await?;
    let began = Instant::now();
    let config = Config::new([node.address.to_string()]);
    works(config.clone()).await?;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(config.open().await?.capabilities().durability, Durability::MayLose);
    Ok(())
}

#[test]
fn no_secret_is_shown() {
    let config = Config::new(["h"]).user("me", Secret::new("hunter2")).sentinel_user("s", "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}
