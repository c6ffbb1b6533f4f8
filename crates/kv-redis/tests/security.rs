//! Passwords, users, TLS with client certificates, settings of the server that break a promise; and what one gets for wrong
//! ones.

mod common;

use common::{Node, Reply, single, with};
use kv_core::{Durability, Error, ErrorKind, Kv, Secret, WatchEvent};
use kv_redis::Config;
use kv_testsuite::{Failure, process::certificates};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A CA, and certificates that it signed for a server on loopback and for a client.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
        Ok(Self(folder))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server that speaks TLS on one port, plain text on another, and where it does.
    async fn server(&self, kind: &str, of_clients: &str) -> Result<(Node, String), Failure> {
        let port = kv_testsuite::process::Port::new()?;
        let number = port.address().port().to_string();
        let path = |name: &str| self.file(name).display().to_string();
        let (ca, cert, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
        let settings = ["--tls-port", &number, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert];
        let more = ["--tls-key-file", &key, "--tls-auth-clients", of_clients];
        let node = with(kind, &[&settings[..], &more[..]].concat()).await?;
        Ok((node, port.address().to_string()))
    }
}

/// Opening is refused, in this way, without waiting for the deadline.
async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    let begun = Instant::now();
    let error = match config.deadline(Duration::from_secs(30)).open().await {
        Ok(store) => return Err(format!("opened {store:?}").into()),
        Err(e) => e,
    };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(names), "{error} names {names:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "at once, not after {:?}", begun.elapsed());
    assert!(!error.is_transient(), "{error}");
    Ok(error)
}

async fn works(config: Config) -> Result<(), Failure> {
    let kv = Kv::new(config.open().await?);
    kv.put("a", "1").ttl(Duration::from_secs(60)).await?;
    assert!(kv.exists("a").await?);
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    watch.event().await?;
    kv.delete("a").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Delete { .. }));
    kv.new_lock("l").acquire().await?.release().await?;
    kv.lease(Duration::from_secs(60)).await?.revoke().await?;
    assert!(!kv.health().await?.version.is_empty());
    kv.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let (ours, theirs) = (Certificates::new()?, Certificates::new()?);
        let (_node, address) = ours.server(kind, "yes").await?;
        let config = || Config::new([&*address]).prefix("tls/");
        let certified =
            |c: &Certificates| config().client_certificate(c.file("client.pem"), c.file("client.key"));

        works(certified(&ours).ca(ours.file("ca.pem"))).await?;
        let (ca, cert, key) = (ours.file("ca.pem"), ours.file("client.pem"), ours.file("client.key"));
        let parameters = format!("ca={}&cert={}&key={}", ca.display(), cert.display(), key.display());
        let url = format!("rediss://{address}/tls/?{parameters}&server_name=localhost");
        kv_redis::open(&url).await?.get("a").await?;

        let unknown = ErrorKind::Unauthenticated;
        refused(certified(&ours).ca(theirs.file("ca.pem")), unknown, "`ca`").await?;
        refused(certified(&ours), unknown, "`ca`").await?;
        refused(config().ca(ours.file("ca.pem")), unknown, "client certificate").await?;
        refused(certified(&theirs).ca(ours.file("ca.pem")), unknown, "client certificate").await?;
        let misnamed = certified(&ours).ca(ours.file("ca.pem")).server_name("elsewhere");
        refused(misnamed, unknown, "`server_name`").await?;
    }
    Ok(())
}

/// All files are replaced, and the server restarted with its own: the open store goes on, its watches too.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let (node, address) = ours.server("redis", "yes").await?;
    let config = Config::new([&*address]).prefix("tls/").ca(ours.file("ca.pem"));
    let config = config.client_certificate(ours.file("client.pem"), ours.file("client.key"));
    let kv = Kv::new(config.open().await?);
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let mut holder = kv.lock_holder("l").watch().await?;
    holder.event().await?;
    for round in ["the first", "the second"] {
        // The server has its new certificates a moment before we have ours.
        let theirs = Certificates::new()?;
        for file in ["ca.pem", "server.pem", "server.key"] {
            std::fs::copy(theirs.file(file), ours.file(&format!("{file}.new")))?;
        }
        node.daemon.kill();
        for file in ["server.pem", "server.key"] {
            std::fs::rename(ours.file(&format!("{file}.new")), ours.file(file))?;
        }
        // The server reads its own CA for the certificates of clients from the same file.
        std::fs::rename(ours.file("ca.pem.new"), ours.file("ca.pem"))?;
        node.start().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for file in ["client.pem", "client.key"] {
            std::fs::copy(theirs.file(file), ours.file(file))?;
        }
        kv.put("a", round).await.map_err(|e| format!("{round}: {e}"))?;
        let told = async {
            loop {
                if let WatchEvent::Put(entry) = watch.event().await?
                    && entry.value == round
                {
                    return Ok::<_, Error>(());
                }
            }
        };
        kv_testsuite::failover::soon("the change", told).await??;
        let guard = kv.new_lock("l").acquire().await?;
        let told = async {
            loop {
                if let WatchEvent::Put(entry) = holder.event().await?
                    && entry.version.parts().0 == guard.token()
                {
                    return Ok::<_, Error>(());
                }
            }
        };
        kv_testsuite::failover::soon("the holder", told).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_other_kind_is_named() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let (node, address) = ours.server("redis", "no").await?;
    let config = Config::new([node.address.to_string()]).ca(ours.file("ca.pem"));
    let e = refused(config, ErrorKind::InvalidArgument, "does not speak TLS").await?;
    assert!(e.to_string().contains(&node.address.to_string()), "{e}");
    // Plain text to a port of TLS: the server hangs up, and says nothing that would tell why.
    let e = Config::new([&*address]).deadline(Duration::from_secs(1)).open().await.unwrap_err();
    assert!(e.to_string().contains(&address), "{e}");
    assert!(e.to_string().contains("TLS"), "{e}");
    Ok(())
}

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
    let config = Config::new(["127.0.0.1:1"]).client_certificate(rubbish.path(), rubbish.path());
    refused(config, ErrorKind::InvalidArgument, "TLS settings").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_says_what_was_tried() {
    let config = Config::new(["127.0.0.1:1"]).deadline(Duration::from_millis(500));
    let e = config.open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("127.0.0.1:1") && e.to_string().contains("refused"), "{e}");
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

/// Something that listens and is no Redis: it hangs up at what it does not understand, or answers in its own way.
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

/// With and without its slash a prefix is one directory; bytes are taken as they are only where one says so.
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
    assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
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
async fn a_password_for_all() -> Result<(), Failure> {
    let node = with("redis", &["--requirepass", "our-word"]).await?;
    let config = || Config::new([node.address.to_string()]).prefix("mine/");
    works(config().password("our-word")).await?;
    kv_redis::open(&format!("redis://:our-word@{}/mine/", node.address)).await?;
    let wrong =
        refused(config().password("wrong-word"), ErrorKind::Unauthenticated, "user and password").await?;
    assert!(!format!("{wrong} {wrong:?} {:?}", wrong.cause()).contains("wrong-word"));
    refused(config(), ErrorKind::Unauthenticated, "asks for a user").await?;
    Ok(())
}

/// With `me`, who may do all that is not dangerous to names below `mine/`.
async fn with_users(kind: &str) -> Result<Node, Failure> {
    let node = single(kind).await?;
    let mut resp = node.resp().await?;
    let me = "ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous";
    assert_eq!(resp.say(me).await?, Reply::Text(b"OK".into()));
    Ok(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_rights() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = with_users(kind).await?;
        let config = || Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
        works(config()).await?;
        let kv = Kv::new(config().open().await?);
        assert_eq!(kv.capabilities().durability, Durability::MayLose, "it may not be asked");
        refused(config().user("me", "wrong-word"), ErrorKind::Unauthenticated, "user and password").await?;

        let kv = Kv::new(config().prefix("yours/").open().await?);
        assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.put("a", "").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.list("").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let mut watch = kv.watch_tree("").await?;
        assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        kv.close().await?;
    }
    Ok(())
}

/// A script that is stopped half-way is not undone; so who may not do all of it may not begin.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_do_all_of_a_write_does_nothing_of_it() -> Result<(), Failure> {
    let node = with_users("redis").await?;
    let mut resp = node.resp().await?;
    let config = || Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
    for (without, names) in
        [("resetchannels", "SPUBLISH"), ("allchannels -zadd", "ZADD"), ("allchannels +zadd %R~mine/*", "")]
    {
        resp.say(&format!("ACL SETUSER me {without}")).await?;
        let kv = Kv::new(config().open().await?);
        kv.get("a").await?;
        if names.is_empty() {
            continue;
        }
        let e = kv.put("a", "1").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
        assert!(e.to_string().contains(names) && e.to_string().contains("mine/"), "{e}");
        assert!(kv.get("a").await?.is_none());
        assert_eq!(resp.say("EXISTS mine/a mine/.kv/meta mine/.kv/index").await?, Reply::Number(0));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let node = with_users("redis").await?;
    let config = Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
    let kv = Kv::new(config.open().await?);
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    for _ in ["Put", "Synced"] {
        watch.event().await?;
    }
    node.resp().await?.say("ACL SETUSER me resetkeys resetchannels").await?;
    let e = kv.list("").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
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

/// What memory is left decides whether a write begins, and never whether it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_whole_writes() -> Result<(), Failure> {
    let node = with("redis", &["--maxmemory", "8mb"]).await?;
    let kv = kv_redis::open(&format!("redis://{}/full/", node.address)).await?;
    let kv = kv.with_deadline(Duration::from_secs(2));
    let mut written = 0;
    let e = loop {
        match kv.put(format!("d/{written}"), vec![b'x'; 100_000]).await {
            Ok(_) => written += 1,
            Err(e) => break e,
        }
    };
    assert!(e.to_string().contains("maxmemory"), "{e}");
    assert_ne!(e.kind(), ErrorKind::OutcomeUnknown, "{e}");
    assert_eq!(kv.list("d").await?.len(), written);
    assert!(!kv.exists(format!("d/{written}")).await?);
    kv.delete_tree("d").await?;
    kv.put("d/again", "").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_can_lose_is_read_from_the_server() -> Result<(), Failure> {
    for (settings, durability) in [
        (["--appendfsync", "always"], Durability::Fsync),
        (["--appendfsync", "everysec"], Durability::MayLose),
        (["--appendonly", "no"], Durability::MayLose),
    ] {
        let node = with("redis", &settings).await?;
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

/// Some who run servers for others take commands away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_config_and_info_is_opened() -> Result<(), Failure> {
    let away = ["--rename-command", "CONFIG", "", "--rename-command", "INFO", ""];
    let node = with("redis", &away).await?;
    let began = Instant::now();
    let config = Config::new([node.address.to_string()]);
    works(config.clone()).await?;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(Kv::new(config.open().await?).capabilities().durability, Durability::MayLose);
    Ok(())
}

#[test]
fn no_secret_is_shown() {
    let config = Config::new(["h"]).user("me", Secret::new("hunter2")).sentinel_user("s", "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}
