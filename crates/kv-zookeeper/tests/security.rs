//! TLS, client certificates, users, passwords and ACLs; and the errors for wrong ones.

mod common;

use common::{
    Node, Setup, single, start,
    tls::{server, server_on},
};
use kv_core::{Error, ErrorKind, Secret, Tls};
use kv_testsuite::{
    Certificates, Failure,
    opening::{self, DEADLINE, NOBODY},
    process::run,
    tls,
};
use kv_zookeeper::Config;
use std::time::Duration;

/// Checks that opening is refused with this kind, at once, and returns the error, which must
/// contain `names`.
async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    opening::refused(config.deadline(DEADLINE).open(), kind, names).await
}

async fn works(config: Config) -> Result<(), Failure> {
    let health = opening::works(config.deadline(Duration::from_secs(20)).open()).await?;
    assert!(!health.version.is_empty() && health.leader.is_some(), "{health:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    for kind in ["zookeeper", "zookeeper38"] {
        let node = server(&ours, kind, "need").await?;
        let config = || Config::new([node.address.to_string()]).prefix("tls/").deadline(DEADLINE);
        let open = async |tls: Tls| config().tls(tls).open().await;
        let url = async |parameters: String| {
            kv_zookeeper::open(&format!("zookeeper://{}/tls/?{parameters}", node.address)).await
        };
        tls::client_certificates(&ours, &open, &url).await?;
        let e = config().deadline(Duration::from_secs(1)).open().await.err().ok_or("it speaks TLS alone")?;
        assert!(e.to_string().contains("`ca`"), "{e}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_name_the_host() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    // The server's certificate names `localhost` and 127.0.0.1.
    let node = server_on(&ours, "zookeeper", "none", "127.0.0.2")?;
    let host = format!("127.0.0.2:{}", node.address.port());
    node.daemon.serves(|| async { tokio::net::TcpStream::connect(&host).await.is_ok() }).await?;
    refused(
        Config::new([&host]).tls(Tls::new().ca(ours.file("ca.pem"))),
        ErrorKind::Unauthenticated,
        "names it",
    )
    .await?;
    let node = server(&ours, "zookeeper", "none").await?;
    works(
        Config::new([format!("localhost:{}", node.address.port())])
            .tls(Tls::new().ca(ours.file("ca.pem")))
            .prefix("x"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_named() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let node = single("zookeeper").await?;
    let config = Config::new([node.address.to_string()]).tls(Tls::new().ca(ours.file("ca.pem")));
    let e = refused(config, ErrorKind::InvalidArgument, "does not speak TLS").await?;
    assert!(e.to_string().contains(&node.address.to_string()), "{e}");
    Ok(())
}

#[tokio::test]
async fn half_given_settings_are_refused_before_any_connection() -> Result<(), Failure> {
    for (url, names) in [
        ("zookeeper://127.0.0.1:1/?cert=c.pem", "`cert` without `key`"),
        ("zookeeper://127.0.0.1:1/?key=k.pem", "`key` without `cert`"),
        ("zookeeper://127.0.0.1:1/?cert=c.pem&key=k.pem", "without `ca`"),
        ("zookeeper://127.0.0.1:1/?tls=true", "without `ca`"),
        ("zookeeper://127.0.0.1:1/?tls=false&ca=c.pem", "`tls` is off"),
        ("zookeeper://127.0.0.1:1/?ca=/no/such/file", "/no/such/file"),
        ("zookeeper://me@127.0.0.1:1/", "without a password"),
        ("zookeeper://127.0.0.1:1/?acl=auth::r", "without a user"),
        ("zookeeper://127.0.0.1:1/?acl=world:anyone:x", "scheme:id:permissions"),
        ("zookeeper://127.0.0.1:1/a//b", "empty segment"),
        ("zookeeper://127.0.0.1:1/zookeeper/x", "/zookeeper"),
        ("zookeeper://127.0.0.1:x/", "makes no sense"),
        ("zookeeper:///prefix", "no host"),
        ("redis://127.0.0.1:1/", "\"redis\" is not the scheme of this store, which is \"zookeeper\""),
    ] {
        let e = kv_zookeeper::open(url).await.err().ok_or(url)?;
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{url}: {e}");
        assert!(e.to_string().contains(names), "{e} names {names:?}");
    }
    let rubbish = tempfile::NamedTempFile::new()?;
    std::fs::write(rubbish.path(), "no PEM")?;
    refused(
        Config::new(["127.0.0.1:1"]).tls(Tls::new().ca(rubbish.path())),
        ErrorKind::InvalidArgument,
        "TLS settings",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_says_what_was_tried() -> Result<(), Failure> {
    opening::unreachable(Config::new([NOBODY]).deadline(Duration::from_millis(500)).open()).await
}

/// Returns the ACL of a node, as `zkCli` prints it.
fn acl(node: &Node, path: &str) -> Result<String, Failure> {
    let mut command = node.zkcli();
    command.args(["getAcl", path]);
    Ok(String::from_utf8_lossy(&run(command, b"")?).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_creates_belongs_to_that_user() -> Result<(), Failure> {
    for kind in ["zookeeper", "zookeeper38"] {
        let node = single(kind).await?;
        let config = || Config::new([node.address.to_string()]).prefix("mine/");
        let kv = config().user("me", "my-word").open().await?;
        kv.put("d/k", "v").await?;
        kv.put("ttl", "v").ttl(Duration::from_secs(30)).await?;
        let guard = kv.new_lock("l").acquire().await?;
        works(config().prefix("mine/below").user("me", "my-word")).await?;

        let (wrong, nobody) = (config().user("me", "wrong-word").open().await?, config().open().await?);
        for other in [&wrong, &nobody] {
            for e in [
                other.get("d/k").await.err(),
                other.list("").await.err(),
                other.put("d/k", "w").await.err(),
                other.put("new", "w").await.err(),
                other.delete("d/k").await.err(),
                other.delete_tree("").await.err(),
                other.new_lock("l").try_acquire().await.err(),
                other.watch_tree("").await?.event().await.err(),
            ] {
                let e = e.ok_or("it was allowed")?;
                assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
                assert!(!format!("{e} {e:?} {:?}", e.cause()).contains("-word"), "{e}");
            }
        }
        assert!(guard.is_held());
        assert_eq!(kv.get("d/k").await?.ok_or("it is there")?.text(), Some("v"));
        guard.release().await?;
        // With this ACL everybody may read.
        let open =
            config().prefix("open").user("me", "my-word").acl("world:anyone:r,auth::cdrwa").open().await?;
        open.put("d/k", "v").await?;
        let printed = acl(&node, "/open/d/k")?;
        assert!(printed.contains("'world,'anyone") && printed.contains("'digest,'me:"), "{printed}");
        let reader = config().prefix("open").open().await?;
        assert_eq!(reader.get("d/k").await?.ok_or("it is there")?.text(), Some("v"));
        assert_eq!(reader.list("").await?.len(), 1);
        assert_eq!(reader.put("d/k", "w").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(reader.put("d/new", "w").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        // The barrier before reads needs no right.
        let admin = zookeeper_client::Client::connector().with_auth("digest", b"admin:admin");
        let admin = admin.connect(&node.address.to_string()).await?;
        let theirs =
            zookeeper_client::Acl::new(zookeeper_client::Permission::ALL, zookeeper_client::AuthId::authed());
        admin.set_acl("/", &[theirs], None).await?;
        assert_eq!(reader.get("d/k").await?.ok_or("it is there")?.text(), Some("v"));
        assert!(open.exists("d/k").await? && kv.new_lock("l").try_acquire().await?.is_some());
        for kv in [kv, wrong, nobody, open, reader] {
            kv.close().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let owner = Config::new([node.address.to_string()])
        .prefix("w")
        .user("me", "my-word")
        .acl("world:anyone:cdrwa")
        .open()
        .await?;
    owner.put("d/a", "1").await?;
    let reader = Config::new([node.address.to_string()]).prefix("w").open().await?;
    let mut watch = reader.watch_tree("").await?;
    for _ in ["Put", "Synced"] {
        watch.event().await?;
    }
    let tool = zookeeper_client::Client::connector().with_auth("digest", b"me:my-word");
    let tool = tool.connect(&node.address.to_string()).await?;
    tool.set_acl(
        "/w/d/a",
        &[zookeeper_client::Acl::new(zookeeper_client::Permission::ALL, zookeeper_client::AuthId::authed())],
        None,
    )
    .await?;
    // The server sends no events of nodes that the reader may not read; a watch that reads again
    // gets the reason.
    owner.put("d/a", "2").await?;
    node.daemon.kill();
    node.start().await?;
    let e =
        tokio::time::timeout(Duration::from_secs(20), watch.event()).await?.err().ok_or("it was told on")?;
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    owner.close().await?;
    Ok(reader.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_users_says_so() -> Result<(), Failure> {
    let mut setup = Setup::new("zookeeper");
    setup.flags = "-Dzookeeper.enforce.auth.enabled=true -Dzookeeper.enforce.auth.schemes=digest".into();
    let node = start(&setup).await?;
    let config = || Config::new([node.address.to_string()]).prefix("auth");
    works(config().user("me", "my-word")).await?;
    refused(config(), ErrorKind::Unauthenticated, "`user`").await?;
    Ok(())
}

/// The request holds the ACL for each created node, and a request that is too long ends the
/// connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_acl_counts_in_a_request() -> Result<(), Failure> {
    let node = single("zookeeper").await?;
    let reader = |n| format!("digest:reader{n:04}:{}:r", "x".repeat(28));
    let acl = (0..100).map(reader).fold("world:anyone:cdrwa".to_owned(), |acl, next| format!("{acl},{next}"));
    let kv = Config::new([node.address.to_string()]).prefix("long").acl(acl).open().await?;
    kv.put("k", "v").await?;
    let puts = |count| (0..count).fold(kv.transact(), |all, n| all.then(kv.put(format!("{n}"), "")));
    let e = puts(128).await.err().ok_or("the server takes it")?;
    assert_eq!(e.kind(), ErrorKind::TooLarge, "{e}");
    assert_eq!(kv.list("").await?.len(), 1, "nothing was written");
    assert!(puts(64).await?.is_committed());
    Ok(kv.close().await?)
}

#[test]
fn no_secret_is_shown() {
    let config = Config::new(["h"]).user("me", Secret::new("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}
